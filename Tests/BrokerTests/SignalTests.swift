import Foundation
import Glibc
import Support
import Testing

/// What signals do to a running process.
@Suite(.serialized) struct SignalTests {
  @Test(arguments: [[SIGHUP], [SIGTERM, SIGTERM], [SIGINT, SIGTERM], [SIGHUP, SIGHUP]])
  func `a capture in Flow stops in order, also if the wish comes twice at once`(signals: [Int32]) throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue))
    try bench.publisher.publishMany(20, .simple(bytes: 20), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 20)
    for number in signals { runtime.signal(number) }
    #expect(try runtime.waitForExit() == .exited(0))
    try runtime.waitForLog("the stop") { $0.message?.hasSuffix(": stopping") == true }
    try bench.publisher.delete(bench.queue)
  }

  @Test func `SIGHUP begins the next file, and the agent goes on`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try Command(["run", config, "--output", directory])
    for number in 1...2 {
      try bench.publisher.publish("\(number)", routingKey: bench.queue)
      let file = directory + "/\(bench.queue)-00000\(number).jsonl"
      let clock = ContinuousClock()
      let deadline = clock.now + generousLimit
      while (try? String(contentsOfFile: file, encoding: .utf8))?.hasSuffix("\n") != true, clock.now < deadline {
        _ = try run("/bin/true", [])
      }
      #expect(try String(contentsOfFile: file, encoding: .utf8).contains("\"body\":\"\(number)\""))
      agent.child.signal(number == 1 ? SIGHUP : SIGTERM)
    }
    #expect(try agent.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
