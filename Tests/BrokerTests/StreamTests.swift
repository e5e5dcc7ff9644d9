import Support
import Testing

/// A stream goes on behind the newest captured offset: exactly once for any payload, across kills (SPEC §4).
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
}
