import Support
import Testing

/// Exchanges route as bound, queue types work, and `queue.declare` does what it says.
@Suite(.timeLimit(.minutes(5))) struct TopologyTests {
  let broker: TestBroker
  let publisher: Publisher
  let queue = TestBroker.uniqueName("topology")

  init() throws {
    broker = try TestBroker()
    publisher = try Publisher(broker)
  }

  private func runtime(_ settings: JSON = [:]) throws -> FlowRuntime {
    try FlowRuntime(config: broker.configuration(queue: queue, settings))
  }

  /// Stops, and takes the queue away.
  private func finish(_ runtime: FlowRuntime) throws {
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  // MARK: Bindings

  @Test func `several bindings route what each type of exchange is asked for, and nothing else`() throws {
    var exchanges: [String: String] = [:]
    for type in ["direct", "topic", "fanout", "headers"] {
      exchanges[type] = "\(queue)-\(type)"
      try publisher.declareExchange("\(queue)-\(type)", type: type)
    }
    func binding(_ type: String, _ key: String? = nil, _ arguments: JSON? = nil) -> JSON {
      var binding: [String: JSON] = ["exchange": .string(exchanges[type]!)]
      binding["routing_key"] = key.map { .string($0) }
      binding["arguments"] = arguments
      return .object(binding)
    }
    let runtime = try runtime([
      "bindings": [
        binding("direct", "orders.*"), binding("direct", "two"), binding("topic", "orders.*.new"), binding("fanout"),
        binding("headers", "", ["x-match": "all", "kind": "order", "size": 5]),
        binding("headers", "", ["x-match": "any", "urgent": true, "lost": true]),
      ]
    ])
    try runtime.startConsuming()
    let all: [(String, Field)] = [("kind", .text("order")), ("size", .int64(5))]
    /// Exchange, routing key, headers, and whether it arrives.
    let messages: [(type: String, key: String, headers: [(String, Field)], arrives: Bool)] = [
      ("direct", "orders.*", [], true), ("direct", "orders.x", [], false), ("direct", "two", [], true),
      ("topic", "orders.eu.new", [], true), ("topic", "orders.new", [], false), ("topic", "orders.eu.x.new", [], false),
      ("fanout", "anything", [], true), ("fanout", "", [], true), ("headers", "", all, true),
      // RabbitMQ compares integers by value, not by width.
      ("headers", "", [("kind", .text("order")), ("size", .int32(5))], true),
      ("headers", "", [("kind", .text("order"))], false), ("headers", "", [("size", .text("5")), all[0]], false),
      ("headers", "", [("urgent", .bool(true))], true), ("headers", "", [("lost", .bool(true)), ("x", .void)], true),
      ("headers", "", [("urgent", .bool(false))], false), ("headers", "x", [], false),
    ]
    for (index, message) in messages.enumerated() {
      let routed = try publisher.publish(
        String(index), properties: Properties(headers: message.headers), exchange: exchanges[message.type]!,
        routingKey: message.key)
      #expect((routed == 1) == message.arrives, "message \(index), \(message)")
    }
    let expected = messages.enumerated().filter(\.element.arrives)
    try runtime.waitUntil(committedCount: expected.count)
    #expect(runtime.bodies == expected.map { String($0.offset) })
    #expect(
      runtime.committed.map { $0.json[path: "delivery", "exchange"]?.string }
        == expected.map { exchanges[$0.element.type] })
    #expect(
      runtime.committed.map { $0.json[path: "delivery", "routing_key"]?.string } == expected.map(\.element.key))
    // A message that several bindings match comes once.
    try publisher.publish(
      "once", properties: Properties(headers: all + [("urgent", .bool(true))]), exchange: exchanges["headers"]!,
      routingKey: "")
    try publisher.publish("last", routingKey: queue)
    try runtime.waitUntil(committedCount: expected.count + 2)
    #expect(runtime.bodies.suffix(2) == ["once", "last"])
    try finish(runtime)
    for name in exchanges.values { try publisher.deleteExchange(name) }
  }

  // MARK: Types of queues

  @Test func `a quorum queue is captured, with its count of deliveries`() throws {
    let runtime = try runtime(["queue": ["arguments": ["x-queue-type": "quorum"]]])
    runtime.policy.holdCommits = true
    try runtime.startConsuming()
    #expect(try broker.rows("queues", containing: queue, ["name", "type"]).first?["type"] == "quorum")
    for number in 1...3 { try publisher.publish("\(number)", routingKey: queue) }
    try runtime.waitUntil(documentsRead: 3)
    try runtime.kill()
    runtime.policy.holdCommits = false
    try runtime.startConsuming()
    try runtime.waitUntil(committedCount: 3)
    #expect(runtime.bodies == ["1", "2", "3"])
    for document in runtime.committed {
      #expect(document.json[path: "properties", "headers", "x-delivery-count"] == 1)
      #expect(document.redelivered == true)
    }
    try runtime.waitUntilSettled()
    try broker.waitForDepth(queue, ready: 0, unacknowledged: 0)
    try finish(runtime)
  }

  @Test func `a stream is captured from the offset that consumer arguments ask for`() throws {
    let arguments: JSON = ["queue": ["arguments": ["x-queue-type": "stream"]]]
    #expect(try ask("apply", broker.configuration(queue: queue, arguments)).exit == .exited(0))
    for number in 0..<20 { try publisher.publish("\(number)", routingKey: queue) }
    let runtime = try runtime(arguments.merged(with: ["consumer": ["arguments": ["x-stream-offset": "first"]]]))
    try runtime.startConsuming()
    try runtime.waitUntil(committedCount: 20)
    #expect(
      runtime.committed.map { $0.json[path: "properties", "headers", "x-stream-offset"]?.int } == Array(0..<20))
    #expect(runtime.bodies == (0..<20).map(String.init))
    #expect(try runtime.terminate() == .exited(0))
    // An integer stays one: RabbitMQ takes a text as a point in time. Another capture has no state, and begins there.
    let other = try self.runtime(arguments.merged(with: ["consumer": ["arguments": ["x-stream-offset": 15]]]))
    try other.startConsuming()
    try other.waitUntil(committedCount: 5)
    #expect(other.bodies == (15..<20).map(String.init))
    #expect(try other.terminate() == .exited(0))

    let place = "queue '\(queue)' in vhost '/'"
    let (unlimited, automatic) =
      broker.release < .v40
      ? ("'\(place)'", "stream queues \(place)") : ("stream \(place)", "stream \(place)")
    let refused: [(settings: JSON, cause: String)] = [
      (
        ["consumer": ["prefetch_count": 0]],
        "consuming from queue \"\(queue)\": the broker closed the channel: 406 PRECONDITION_FAILED - consumer prefetch "
          + "count is not set for \(unlimited). A stream needs a limit: set consumer.prefetch_count to 1 or more"
      ),
      (
        // Where the configuration names the type it is refused as such; not so if someone else declares the queue.
        ["consumer": ["no_ack": true], "queue": ["declare": "passive"]],
        "consuming from queue \"\(queue)\": the broker closed the connection: 540 NOT_IMPLEMENTED - automatic "
          + "acknowledgement not supported by \(automatic). Queues of this type cannot do that: check consumer.no_ack, consumer.exclusive and queue.arguments"
      ),
    ]
    for (settings, cause) in refused {
      runtime.configuration = broker.configuration(queue: queue, arguments.merged(with: settings))
      let end = try runtime.startAndFail()
      #expect(end.exit == .exited(1))
      #expect(end.cause == cause)
    }
    try publisher.delete(queue)
  }

  // MARK: queue.declare

  @Test func `passive uses a queue as it is and binds nothing, and says so`() throws {
    try publisher.declare(queue, durable: false, arguments: ["x-max-length": 7])
    let runtime = try runtime([
      "queue": ["declare": "passive"], "message_ttl": 5, "bindings": [["exchange": "amq.fanout"]],
    ])
    try runtime.startConsuming()
    #expect(
      runtime.messages(level: "warn") == ["queue.declare is passive: bindings are checked, but not made."])
    let bindings = try broker.rows("bindings", containing: queue, ["source_name", "destination_name"])
    #expect(bindings.map { $0["source_name"] } == [""])
    try publisher.publish("as it is", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    try finish(runtime)
  }

  @Test func `passive and none create no queue, and say what to do where there is none`() throws {
    for (mode, operation) in [("passive", "looking for"), ("none", "consuming from")] {
      let runtime = try runtime(["queue": ["declare": .string(mode)]])
      let end = try runtime.startAndFail()
      #expect(end.exit == .exited(1))
      let expected =
        "\(operation) queue \"\(queue)\": the broker closed the channel: 404 NOT_FOUND - no queue '\(queue)' in vhost '/'. "
        + "Create the queue, correct queue.name, or set queue.declare: active"
      #expect(end.cause == expected)
    }
    #expect(try publisher.queueInfo(queue) == nil)
  }

  @Test func `none just consumes`() throws {
    try publisher.declare(queue, durable: false, autoDelete: true, arguments: ["x-max-length": 7])
    let runtime = try runtime(["queue": ["declare": "none"]])
    try runtime.startConsuming()
    try publisher.publish("consumed", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    // It was declared to go with its last consumer.
    #expect(try publisher.queueInfo(queue) == nil)
  }

  @Test func `a queue of another client with arguments of other widths is the same queue`() throws {
    // pika sends these as signed 32-bit integers, we as 64-bit.
    try publisher.declare(queue, arguments: ["x-message-ttl": 60000, "x-max-priority": 5, "x-max-length": 100])
    let runtime = try runtime([
      "message_ttl": 60000, "max_priority": 5, "queue": ["arguments": ["x-max-length": 100]],
    ])
    #expect(try ask("validate", runtime.configuration).exit == .exited(0))
    try runtime.startConsuming()
    let arguments = try broker.rows("queues", containing: queue, ["name", "arguments"]).first?["arguments"]?.array
    // RabbitMQ 4 adds the queue's type, a text.
    let ours = (arguments ?? []).filter { $0.array?[0] != "x-queue-type" }
    #expect(ours.count == 3 && Set(ours.compactMap { $0.array?[1].string }) == ["signedint"])
    try publisher.publish("x", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    try finish(runtime)
  }
}
