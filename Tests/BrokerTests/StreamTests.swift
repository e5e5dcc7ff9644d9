import Support
import Testing

/// A stream goes on after the newest captured offset: exactly once for any payload, across kills (docs/guarantees.md).
@Suite(.serialized) struct StreamTests {
  @Test(arguments: ["journaled", "committed"])
  func `a stream of messages that are all alike is captured once across kills`(mode: String) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let journal: JSON = mode == "journaled" ? ["path": .string("\(directory)/journal.db")] : [:]
    let options: JSON = [
      "queue": ["name": .string(bench.queue + "-stream"), "arguments": ["x-queue-type": "stream"]],
      "consumer": ["prefetch_count": 100, "arguments": ["x-stream-offset": "first"]],
      "journal": journal.merged(with: ["acknowledge": .string(mode)]),
    ]
    let queue = bench.queue + "-stream"
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: queue, options))
    try bench.publisher.declare(queue, arguments: ["x-queue-type": "stream"])
    var expected = 0
    for cycle in 0..<5 {
      _ = try bench.publisher.publish("all alike", routingKey: queue, count: 400)
      expected += 400
      try runtime.start()
      if cycle % 2 == 0 {
        // In the middle, with documents on their way.
        try runtime.waitUntil(documentsRead: runtime.documentsRead + 100)
        try runtime.kill()
        try runtime.start()
      }
      try runtime.waitUntil(committedCount: expected)
      try runtime.kill()
    }
    let offsets = runtime.committed.map { $0.json[path: "properties", "headers", "x-stream-offset"]?.int }
    #expect(offsets == Array(0..<expected))
    try bench.publisher.delete(queue)
  }

  /// A stream of a name of its own, with a capture of it that keeps its journal or not.
  private struct Stream {
    let bench: Bench
    let queue: String
    let runtime: FlowRuntime

    init(_ options: JSON = [:], journaled: Bool) throws {
      bench = try Bench()
      queue = bench.queue + "-stream"
      try bench.publisher.declare(queue, arguments: ["x-queue-type": "stream"])
      let journal: JSON = journaled ? ["journal": ["path": .string("\(try temporaryDirectory())/journal.db")]] : [:]
      runtime = try FlowRuntime(
        config: bench.broker.configuration(queue: queue, ["reconnect_delay": .number("0.1")]).merged(with: journal)
          .merged(with: options))
    }

    func publish(_ bodies: [String]) throws {
      for body in bodies { try bench.publisher.publish(body, routingKey: queue) }
    }

    func makeAnew() throws {
      try bench.publisher.delete(queue)
      try bench.publisher.declare(queue, arguments: ["x-queue-type": "stream"])
    }
  }

  @Test(arguments: ["passive", "none", "active"], [true, false])
  func `a stream of which the settings say nothing is read from its beginning, and on`(
    declare: String, journaled: Bool
  ) throws {
    var queue: JSON = ["declare": .string(declare)]
    if declare == "active" { queue = queue.merged(with: ["type": "stream"]) }
    let stream = try Stream(["queue": queue], journaled: journaled)
    try stream.publish(["a0", "a1"])
    for (index, bodies) in [["b0"], ["c0", "c1"], []].enumerated() {
      try stream.runtime.start()
      try stream.runtime.waitUntil(committedCount: [2, 3, 5][index])
      try stream.runtime.kill()
      try stream.publish(bodies)
    }
    #expect(stream.runtime.bodies == ["a0", "a1", "b0", "c0", "c1"])
    try stream.bench.publisher.delete(stream.queue)
  }

  @Test(arguments: [true, false], [3, 25])
  func `a stream that was made anew is read from its beginning, also if it is shorter`(
    journaled: Bool, count: Int
  ) throws {
    let stream = try Stream(["queue": ["declare": "passive"]], journaled: journaled)
    try stream.publish((0..<10).map { "old \($0)" })
    try stream.runtime.start()
    try stream.runtime.waitUntil(committedCount: 10)
    try stream.runtime.kill()
    try stream.makeAnew()
    let new = (0..<count).map { "new \($0)" }
    try stream.publish(new)
    try stream.runtime.start()
    try stream.runtime.waitForLog("that it is another one") { $0.message?.contains("made anew") == true }
    try stream.runtime.waitUntil(committedCount: 10 + count)
    #expect(Array(stream.runtime.bodies.dropFirst(10)) == new)
    #expect(try stream.runtime.terminate() == .exited(0))
    try stream.bench.publisher.delete(stream.queue)
  }

  /// The offset that is remembered is that of the newest captured message, not of one that ended the capture.
  @Test(arguments: [true, false])
  func `a message that was too large is where a stream goes on`(journaled: Bool) throws {
    let limit: JSON = ["max_bytes": 2_097_152, "oversize": "fail"]
    let stream = try Stream(["queue": ["type": "stream"], "document": limit], journaled: journaled)
    let large = String(repeating: "x", count: 3 << 20)
    try stream.publish(["a", "b", large, "c"])
    for _ in 0..<2 {
      try stream.runtime.start()
      #expect(try stream.runtime.waitForExit() == .exited(1))
    }
    stream.runtime.configuration = stream.runtime.configuration.merged(with: ["document": ["oversize": "truncate"]])
    try stream.runtime.start()
    try stream.runtime.waitUntil(committedCount: 4)
    #expect(stream.runtime.committed.map { $0.json["body_size"] } == [1, 1, JSON(large.utf8.count), 1])
    #expect(stream.runtime.bodies.map { $0.prefix(1) } == ["a", "b", "x", "c"])
    #expect(!stream.runtime.log.contains { $0.message?.contains("made anew") == true })
    #expect(try stream.runtime.terminate() == .exited(0))
    try stream.bench.publisher.delete(stream.queue)
  }

  /// Brokers before 4.0 close the connection if something is rejected to a stream.
  @Test func `a message that is too large is gone past in a stream with oversize reject`() throws {
    let limit: JSON = ["max_bytes": 2_097_152, "oversize": "reject"]
    let stream = try Stream(
      ["queue": ["type": "stream"], "document": limit, "consumer": ["prefetch_count": 1]], journaled: true)
    let large = String(repeating: "x", count: 3 << 20)
    try stream.publish([large, "a", "b", large, large, "c"])
    try stream.runtime.start()
    try stream.runtime.waitUntil(committedCount: 3)
    try stream.publish([large, "d"])
    try stream.runtime.waitUntil(committedCount: 4)
    #expect(stream.runtime.bodies == ["a", "b", "c", "d"])
    #expect(stream.runtime.log.count { $0.message?.hasPrefix("consuming from queue") == true } == 1)
    #expect(stream.runtime.log.contains { $0.message?.hasPrefix("gone past in stream") == true })
    #expect(try stream.runtime.terminate() == .exited(0))
    try stream.bench.publisher.delete(stream.queue)
  }

  @Test(arguments: [true, false])
  func `an offset that a publisher has written changes the document and nothing else`(journaled: Bool) throws {
    let stream = try Stream(["queue": ["type": "stream"]], journaled: journaled)
    let forged: [[(String, Field)]] = [
      [("x-stream-offset", .int64(1 << 62))], [("x-stream-offset", .int64(0))],
      [("x-stream-offset", .int64(3)), ("x-stream-offset", .int64(.max))],
      [("x-stream-offset", .int64(.min)), ("x-stream-offset", .int64(1 << 62)), ("a", .int64(1))],
      [("x-stream-offset", .text("first"))],
    ]
    for round in 0..<2 {
      for headers in forged {
        try stream.publish(["plain"])
        try stream.bench.publisher.publish("forged", properties: Properties(headers: headers), routingKey: stream.queue)
      }
      try stream.runtime.start()
      try stream.runtime.waitUntil(committedCount: 10 * (round + 1))
      try stream.runtime.kill()
    }
    try stream.publish(["last"])
    try stream.runtime.start()
    try stream.runtime.waitUntil(committedCount: 21)
    #expect(stream.runtime.bodies == (0..<10).flatMap { _ in ["plain", "forged"] } + ["last"])
    #expect(try stream.runtime.terminate() == .exited(0))
    try stream.bench.publisher.delete(stream.queue)
  }
}
