import Support
import Testing

/// What repeats messages is rhythm as much as kills: a queue that rests is settled, a full window looks like a rest, and a
/// network that loses one direction loses acknowledgements. The short form of scripts/crash with --aim and --rhythms.
@Suite(.serialized) struct RhythmTests {
  struct Case: CustomTestStringConvertible {
    var queue: String
    var mode: String
    var testDescription: String { "\(queue), \(mode)" }
  }

  /// Runs scripts/crash, whose exit status says whether anything was lost or repeated.
  private func crash(_ run: Case, _ arguments: String...) throws {
    let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
    let seed = UInt64.random(in: 1_000...999_999_999)
    print("scripts/crash, seed \(seed): \(run.testDescription), \(arguments.joined(separator: " "))")
    let output = try Support.run(
      "/usr/bin/env",
      [
        "SOURCE_AMQP_BINARY=\(try connectorBinary())", root + "/scripts/crash", "--seed", "\(seed)", "--queue",
        run.queue,
        "--mode", run.mode,
      ] + arguments, atMost: .seconds(400))
    #expect(output.contains("       0 lost\n") && output.contains("       0 duplicated\n"), "\(output)")
  }

  @Test(arguments: [Case(queue: "classic", mode: "committed"), Case(queue: "quorum", mode: "journaled")])
  func `a kill within milliseconds of a step of a settling repeats nothing`(run: Case) throws {
    try crash(run, "--cycles", "6", "--aim", "--commit-time", "0.3")
  }

  @Test(arguments: [Case(queue: "classic", mode: "journaled"), Case(queue: "quorum", mode: "committed")])
  func `nothing is repeated whatever the rhythm of messages and commits`(run: Case) throws {
    try crash(run, "--cycles", "8", "--rhythms", "--kill", "agent,deaf,reset,term")
  }

  /// A window that is full of what the runtime has not committed looks like a queue that rests.
  @Test func `a full window is no rest`() throws {
    try crash(
      Case(queue: "classic", mode: "committed"), "--cycles", "4", "--rhythms", "--commit-time", "1", "--burst", "400")
  }
}
