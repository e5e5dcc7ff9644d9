import Foundation
import Support
import Testing

/// Limits of the process are errors with words, never a trap (docs/troubleshooting.md). Memory is another thing: what Swift cannot allocate ends a
/// process by a signal.
@Suite struct LimitTests {
  @Test func `a soft limit of descriptors is raised as far as the hard one allows`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    for (hard, wanted) in [(16384, "8192"), (100, "100")] {
      let output = "\(directory)/\(hard)"
      let command =
        "ulimit -Sn 20; ulimit -Hn \(hard); exec '\(try connectorBinary())' run '\(config)' --output '\(output)'"
      let agent = try Command(["-c", command], executable: "/bin/bash")
      try bench.publisher.publishMany(1, .simple(bytes: 20), start: 1, routingKey: bench.queue)
      try waitForLines(1, in: "\(output)/\(bench.queue)-000001.jsonl")
      let limits = try String(contentsOfFile: "/proc/\(agent.child.pid)/limits", encoding: .utf8)
      let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max open files") })
      #expect(line.split(separator: " ")[3] == wanted[...], "\(line)")
      agent.child.signal(SIGTERM)
      #expect(try agent.end().exit == .exited(0))
    }
    try bench.publisher.delete(bench.queue)
  }

  /// From too few descriptors for anything to enough for all; nothing listens on the port, so that each run comes to its end.
  @Test(arguments: ["", "--listen 127.0.0.1:0"])
  func `a process with too few descriptors says so and ends`(option: String) throws {
    let directory = try temporaryDirectory()
    let config: JSON = ["host": "127.0.0.1", "port": 1, "queue": ["name": "q"], "max_reconnect_attempts": 1]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    let binary = try connectorBinary()
    for limit in 6...28 {
      let command =
        "ulimit -n \(limit); exec '\(binary)' run '\(directory)/c.yaml' --output '\(directory)/\(limit)' \(option)"
      let (output, exit) = try Command(["-c", command], executable: "/bin/bash").finish()
      #expect(exit == .exited(1), "ulimit -n \(limit)")
      #expect(output.log.last?.isEmpty == false, "ulimit -n \(limit)")
    }
  }
}
