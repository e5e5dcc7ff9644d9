import Support
import Testing

/// Messages whose documents would exceed `document.max_bytes` (docs/documents.md).
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

  /// More than twice the limit is not even kept while it arrives.
  @Test(arguments: [3, 7])
  func `truncate captures the beginning of the body, in a document that fits`(mebibytes: Int) throws {
    let bench = try Bench()
    // Characters of three bytes: a cut may come within one.
    let text = Array(repeatElement("€", count: mebibytes << 20 / 3).joined().utf8)
    let binary = [UInt8](repeating: 0xFF, count: mebibytes << 20)
    try bench.publisher.publish(text, routingKey: bench.queue)
    try bench.publisher.publish(binary, routingKey: bench.queue)
    try bench.publisher.publish("after", routingKey: bench.queue)
    let texts = try bench.capture(3, Self.options("truncate"))
    for (text, original) in zip(texts, [text, binary]) {
      #expect((Self.limit - 100...Self.limit).contains(text.utf8.count))
      let document = try JSON(parsing: text)
      #expect(document["body_truncated"] == true)
      #expect((document["body_encoding"] == "base64") == (original == binary))
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

  /// What is above twice the limit is not kept, whatever becomes of it (`BrokenBrokerTests` looks at the memory).
  @Test(arguments: ["fail", "reject", "truncate"])
  func `a body that is far too large is treated as one that is a little too large`(policy: String) throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, Self.options(policy)))
    try runtime.start()
    try bench.publisher.publish([UInt8](repeating: UInt8(ascii: "x"), count: 15 << 20), routingKey: bench.queue)
    if policy == "fail" {
      #expect(try runtime.waitForExit() == .exited(1))
      #expect(runtime.log.last?.message?.contains("\(15 << 20) bytes") == true)
    } else {
      try bench.publisher.publish("after", routingKey: bench.queue)
      try runtime.waitUntil(committedCount: policy == "reject" ? 1 : 2)
      if policy == "truncate" { #expect(runtime.committed[0].json["body_size"] == JSON(15 << 20)) }
      #expect(try runtime.terminate() == .exited(0))
    }
    try bench.publisher.delete(bench.queue)
  }

  /// JSON is written without its white space, so what is large may still fit.
  @Test(arguments: ["fail", "truncate"])
  func `indented JSON of which most is white space is no large document`(policy: String) throws {
    let bench = try Bench()
    let body = "{\"a\":[0" + String(repeating: ",\n" + String(repeating: " ", count: 60) + "1", count: 90_000) + "]}"
    #expect(body.utf8.count > 5 << 20)
    try bench.publisher.publish(body, routingKey: bench.queue)
    let options = Self.options(policy).merged(with: ["document": ["body_raw": "never"]])
    let document = try JSON(parsing: try #require(try bench.capture(1, options).first))
    #expect(document["body"]?["a"]?.array?.count == 90_001)
    #expect(document["body_size"] == JSON(body.utf8.count) && document["body_truncated"] == nil)
    try bench.publisher.delete(bench.queue)
  }

  /// Recognised by the digest of what was not kept.
  @Test func `a message that was cut comes again after a kill and is captured once`() throws {
    let bench = try Bench()
    let options = Self.options("truncate").merged(with: ["consumer": ["exclusive": true]])
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, options))
    for number in 0..<3 {
      try bench.publisher.publish(Self.large + Self.large + Array("\(number)".utf8), routingKey: bench.queue)
    }
    for _ in 0..<3 {
      try runtime.start()
      try runtime.waitUntil(committedCount: 3)
      try runtime.kill()
    }
    try bench.publisher.publish("after", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 4)
    #expect(runtime.committed.map { $0.json["body_size"] } == [6_291_457, 6_291_457, 6_291_457, 5])
    #expect(try runtime.terminate() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
