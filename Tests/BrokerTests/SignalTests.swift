import Foundation
import Support
import Testing

/// Every signal that someone may send has a meaning, in both modes, at any time of the agent's life.
@Suite(.serialized) struct SignalTests {
  private func agent(_ bench: Bench, _ directory: String, executable: String? = nil, _ before: [String] = []) throws
    -> Command
  {
    let config = try RunTests.configuration(bench, in: directory)
    return try Command(before + ["run", config, "--output", directory + "/out"], executable: executable)
  }

  private func file(_ bench: Bench, _ directory: String, _ number: Int = 1) -> String {
    directory + "/out/\(bench.queue)-00000\(number).jsonl"
  }

  @Test(arguments: [SIGUSR1, SIGUSR2]) func `what means nothing stops nothing, and the log says so`(number: Int32)
    throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try agent(bench, directory)
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try waitForLines(5, in: file(bench, directory))
    agent.child.signal(number)
    try agent.wait("the word") { $0.log.contains { $0.contains("means nothing here, and is ignored") } }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    try waitForLines(10, in: file(bench, directory))
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))

    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue))
    try runtime.start()
    runtime.signal(number)
    try bench.publisher.publish("x", routingKey: bench.queue)
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.terminate() == .exited(0))
    #expect(runtime.log.contains { $0.message?.contains("means nothing here, and is ignored") == true })
    try bench.publisher.delete(bench.queue)
  }

  @Test func `SIGQUIT ends it at once, with a word, and nothing is lost`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let first = try agent(bench, directory)
    try bench.publisher.publishMany(20, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try waitForLines(20, in: file(bench, directory))
    first.child.signal(SIGQUIT)
    let (output, exit) = try first.end()
    #expect(exit == .exited(128 + SIGQUIT))
    #expect(logMessage(output.log.last ?? "") == "SIGQUIT: ending at once")
    #expect(!output.log.contains { $0.contains("Thread 0") }, "no backtrace")
    try bench.publisher.publishMany(20, .simple(bytes: 20), start: 21, routingKey: bench.queue)
    let second = try agent(bench, directory)
    try waitForLines(40, in: file(bench, directory))
    second.child.signal(SIGTERM)
    #expect(try second.end().exit == .exited(0))
    let lines = String(decoding: FileManager.default.contents(atPath: file(bench, directory)) ?? Data(), as: UTF8.self)
      .split(separator: "\n")
    #expect(lines.count == 40)

    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue))
    try runtime.start()
    runtime.signal(SIGQUIT)
    #expect(try runtime.waitForExit() == .exited(128 + SIGQUIT))
    try bench.publisher.delete(bench.queue)
  }

  /// As if the journal's `-shm`, which SQLite has mapped, could not be read.
  @Test func `SIGBUS ends it with a word about the disk, and no dump`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try agent(bench, directory)
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try waitForLines(5, in: file(bench, directory))
    agent.child.signal(SIGBUS)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(1))
    #expect(output.log.last?.contains("the journal's -shm, since its disk is full or fails") == true)
    try bench.publisher.delete(bench.queue)
  }

  /// Whether a process holds SIGTERM: then its `main` has begun.
  private func holdsSignals(_ pid: pid_t) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("SigBlk:") }),
      let mask = UInt64(line.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16)
    else { return false }
    return mask & 1 << UInt64(SIGTERM - 1) != 0
  }

  /// From the first moment that a program of its own can answer, it does. Before that the kernel's default ends it, and it has done
  /// nothing.
  @Test(arguments: [SIGTERM, SIGINT]) func `a signal while it starts is answered, not obeyed without a word`(
    number: Int32
  ) throws {
    let bench = try Bench()
    var answered = 0
    for round in 0..<12 {
      let directory = try temporaryDirectory()
      let agent = try agent(bench, directory)
      if round.isMultiple(of: 2) {
        while !holdsSignals(agent.child.pid), agent.child.exitStatus == nil {}
      } else {
        for _ in 0..<round * 20 { _ = holdsSignals(agent.child.pid) }
      }
      let held = holdsSignals(agent.child.pid)
      agent.child.signal(number)
      let (output, exit) = try agent.end()
      if held { #expect(exit == .exited(0), "round \(round)") }
      if exit == .exited(0) {
        answered += 1
        #expect(output.log.contains { $0.contains(": stopping") }, "round \(round)")
      } else {
        #expect(exit == .signalled(number) && output.log.isEmpty, "round \(round)")
      }
    }
    #expect(answered >= 6)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `what it was started to ignore stays ignored`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try agent(
      bench, directory, executable: "/bin/sh", ["-c", "trap '' HUP; exec \"$0\" \"$@\"", try connectorBinary()])
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try waitForLines(5, in: file(bench, directory))
    agent.child.signal(SIGHUP)
    agent.child.signal(SIGUSR1)
    // The thread takes them in turn.
    try agent.wait("the word") { $0.log.contains { $0.contains("means nothing here") } }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    try waitForLines(10, in: file(bench, directory))
    #expect(!FileManager.default.fileExists(atPath: file(bench, directory, 2)))
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
