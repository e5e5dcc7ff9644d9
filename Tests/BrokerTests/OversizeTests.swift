import Support
import Testing

/// Messages whose documents would exceed `document.max_bytes` (SPEC §3.3).
@Suite struct OversizeTests {
  /// The smallest that a configuration may give.
  private static let limit = 2 << 20
  private static let large = [UInt8](repeating: UInt8(ascii: "x"), count: 3 << 20)

  private static func options(_ policy: String) -> JSON {
    ["document": ["max_bytes": JSON(limit), "oversize": .string(policy)]]
  }

  @Test func `fail ends the capture, names message and setting, and leaves the message in the queue`() throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, Self.options("fail")))
    try bench.publisher.publish("before", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 1)
    try runtime.waitUntilSettled()
    try bench.publisher.publish(Self.large, routingKey: bench.queue)
    #expect(try runtime.waitForExit() == .exited(1))
    let cause = try #require(runtime.log.last?.message)
    for word in ["3145728 bytes", "routing key \"\(bench.queue)\"", "document.max_bytes", "document.oversize"] {
      #expect(cause.contains(word), "\(cause)")
    }
    try bench.broker.waitForDepth(bench.queue, ready: 1, unacknowledged: 0)
    // With another policy the capture goes on where it stopped.
    runtime.configuration = bench.broker.configuration(queue: bench.queue, Self.options("truncate"))
    try runtime.start()
    try runtime.waitUntil(committedCount: 2)
    #expect(runtime.committed[1].json["body_truncated"] == true)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `reject sends the message to the dead-letter exchange and goes on`() throws {
    let dead = TestBroker.uniqueName("dead")
    let bench = try Bench(arguments: ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(dead)])
    try bench.publisher.declare(dead)
    try bench.publisher.publish("before", routingKey: bench.queue)
    try bench.publisher.publish(Self.large, properties: Properties(messageID: "large"), routingKey: bench.queue)
    try bench.publisher.publish("after", routingKey: bench.queue)
    var options = Self.options("reject")
    options = options.merged(with: ["queue": ["declare": "passive"]])
    let documents = try bench.capture(2, options).map { try JSON(parsing: $0) }
    #expect(documents.map { $0["body"] } == ["before", "after"])
    #expect(documents.map { $0["sequence"] } == [1, 2])
    try bench.publisher.waitForReady(dead) { $0 == 1 }
    let message = try #require(try bench.publisher.take(1, from: dead).first)
    #expect(message.messageID == "large")
    #expect(message.body == Self.large)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try bench.publisher.delete(bench.queue)
    try bench.publisher.delete(dead)
  }

  @Test func `truncate captures the beginning of the body, in a document that fits`() throws {
    let bench = try Bench()
    let binary = [UInt8](repeating: 0xFF, count: Self.large.count)
    try bench.publisher.publish(Self.large, routingKey: bench.queue)
    try bench.publisher.publish(binary, routingKey: bench.queue)
    try bench.publisher.publish("after", routingKey: bench.queue)
    let texts = try bench.capture(3, Self.options("truncate"))
    for (text, original) in zip(texts, [Self.large, binary]) {
      #expect((Self.limit - 100...Self.limit).contains(text.utf8.count))
      let document = try JSON(parsing: text)
      #expect(document["body_truncated"] == true)
      #expect(document["body_raw"] == nil)
      #expect(document["body_size"]?.int == original.count)
      let body = try #require(document["body"]?.string)
      let beginning =
        document["body_encoding"] == "base64" ? try #require(decoded(base64: body)) : Array(body.utf8)
      #expect(beginning.count > 1 << 20)
      #expect(original.starts(with: beginning))
    }
    #expect(try JSON(parsing: texts[2])["body"] == "after")
    try bench.publisher.delete(bench.queue)
  }
}
