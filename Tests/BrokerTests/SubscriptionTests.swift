import Foundation
import Support
import Testing

/// What a resource says of its queue (docs/settings.md, Resources), with the real process and broker.
@Suite struct SubscriptionTests {
  @Test func `a binding's resource names, declares and binds a queue, and consumes as it says`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let (queue, exchange) = (TestBroker.uniqueName("own"), TestBroker.uniqueName("x"))
    try publisher.declareExchange(exchange)
    // The endpoint has no queue, and a prefetch count that the resource does not take.
    let config = broker.configuration(
      queue: "", ["queue": .null, "consumer": ["prefetch_count": 7, "exclusive": true]])
    let runtime = try FlowRuntime(
      config: config, stream: "refunds",
      resource: [
        "queue": ["name": .string(queue), "arguments": ["x-max-length": 1000]],
        "bindings": [["exchange": .string(exchange), "routing_key": "refund.*"]], "consumer": ["prefetch_count": 11],
      ])
    try runtime.start()
    try runtime.waitForLog("the consumer") { $0.message?.hasPrefix("consuming from queue") == true }
    try publisher.publish("1", exchange: exchange, routingKey: "refund.a", count: 2)
    try runtime.waitUntil(committedCount: 2)
    #expect(Set(runtime.committed.map { $0.json["queue"]?.string }) == [queue])
    let consumers = try broker.ctl("list_consumers", "-p", broker.virtualHost, "queue_name", "prefetch_count")
    #expect(consumers.contains("\(queue)\t11"), "\(consumers)")
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(throws: Publisher.Refusal.self) { try publisher.declare(queue) }
    try publisher.delete(queue)
  }

  @Test func `check tells the problems of all queues, each with its stream`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let good = TestBroker.uniqueName("good")
    try publisher.declare(good)
    let resources: JSON = [
      ["stream": "a", "queue": ["name": .string(good)]],
      ["stream": "b", "queue": ["name": "is-missing", "declare": "passive"]],
      ["stream": "c", "queue": ["name": "is-new"], "bindings": [["exchange": "no-exchange"]]],
      [
        "stream": "d", "queue": ["name": .string(good + "-2"), "durable": false],
        "bindings": [["exchange": "amq.topic"]],
      ],
    ]
    let path = try temporaryDirectory() + "/c.json"
    try broker.configuration(queue: "", ["queue": .null, "resources": resources]).text
      .write(toFile: path, atomically: true, encoding: .utf8)
    let (output, exit) = try Command(["check", path]).finish()
    #expect(exit == .exited(1))
    func expect(_ beginning: String, sourceLocation: SourceLocation = #_sourceLocation) {
      #expect(
        output.lines.contains { $0.hasPrefix(beginning) }, "\(output.lines.joined(separator: "\n"))",
        sourceLocation: sourceLocation)
    }
    expect(#"ok     stream "a", queue "\#(good)": exists, 0 messages ready"#)
    expect(#"wrong  stream "b", queue "is-missing": "#)
    expect(#"ok     stream "c", queue "is-new": does not exist yet"#)
    expect(#"wrong  stream "c", exchange "no-exchange": "#)
    expect(#"ok     stream "d", queue "\#(good)-2": does not exist yet"#)
    expect(#"ok     stream "d", exchange "amq.topic": exists"#)
    try publisher.delete(good)
  }

  private func documents(_ directory: String, _ stream: String) -> [JSON] {
    let text = FileManager.default.contents(atPath: "\(directory)/\(stream)-000001.jsonl") ?? Data()
    return text.split(separator: 0x0A).compactMap { try? JSON(parsing: Array($0)) }
  }

  private func agent(_ broker: TestBroker, _ resource: JSON, _ output: String) throws -> Command {
    let path = try temporaryDirectory() + "/c.json"
    try broker.configuration(queue: "", ["queue": .null, "resources": [resource]]).text
      .write(toFile: path, atomically: true, encoding: .utf8)
    return try Command(["run", path, "--output", output])
  }

  /// The second queue's numbers are not its positions.
  @Test func `a journal that was another queue's captures this one whole, and lets the broker forget it`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let output = try temporaryDirectory() + "/captured"
    for (number, count) in [60, 100].enumerated() {
      let queue = TestBroker.uniqueName("q\(number)")
      try publisher.declare(queue)
      try publisher.publishMany(count, .mixed(seed: 1), routingKey: queue)
      for round in 1...2 {
        let agent = try agent(
          broker,
          [
            "stream": "s\(number)", "queue": ["name": .string(queue)],
            "consumer": ["prefetch_count": 20, "exclusive": true],
          ],
          output)
        try broker.waitForDepth(queue, atMost: 8)
        try wait(for: count, in: "\(output)/s\(number)-000001.jsonl", agent)
        if round == 1 { try agent.child.kill() }
        if round == 2 {
          try broker.waitForDepth(queue, ready: 0, unacknowledged: 0)
          agent.child.signal(SIGTERM)
          #expect(try agent.end().exit == .exited(0))
        }
      }
      let found = documents(output, "s\(number)")
      #expect(found.map { $0[path: "properties", "message_id"]?.string } == (1...count).map { Publisher.messageID($0) })
      #expect(found.map { $0["sequence"]?.int } == Array(1...count))
      try publisher.delete(queue)
    }
  }

  /// `next` would leave out what was published meanwhile.
  @Test func `a resource with another name goes on in the stream that it captured`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let (queue, output) = (TestBroker.uniqueName("stream"), try temporaryDirectory() + "/captured")
    let arguments: JSON = ["x-queue-type": "stream"]
    try publisher.declare(queue, arguments: arguments)
    for (number, stream) in ["before", "after"].enumerated() {
      let agent = try agent(
        broker,
        [
          "stream": .string(stream), "queue": ["name": .string(queue), "arguments": arguments],
          "consumer": ["stream_offset": "next"],
        ], output)
      try agent.wait("the consumer") { $0.log.contains { $0.contains("consuming from queue") } }
      try publisher.publish("\(number)", routingKey: queue, count: 2)
      try wait(for: 2 + 3 * number, in: "\(output)/\(stream)-000001.jsonl", agent)
      agent.child.signal(SIGTERM)
      #expect(try agent.end().exit == .exited(0))
      if number == 0 { try publisher.publish("meanwhile", routingKey: queue, count: 3) }
    }
    #expect(documents(output, "after").map { $0["body"]?.string } == ["meanwhile", "meanwhile", "meanwhile", "1", "1"])
    try publisher.delete(queue)
  }

  /// The newest captured message comes again at a start, and is all that a prefetch count of 1 lets through.
  @Test(arguments: [false, true])
  func `a stream goes on by the runtime's commits, one message at a time`(hasJournal: Bool) throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let queue = TestBroker.uniqueName("stream")
    let arguments: JSON = ["x-queue-type": "stream"]
    try publisher.declare(queue, arguments: arguments)
    let journal: JSON =
      hasJournal
      ? ["acknowledge": "committed", "path": .string(try temporaryDirectory() + "/journal.db")]
      : ["acknowledge": "committed"]
    var runtime = try FlowRuntime(
      config: broker.configuration(
        queue: queue,
        [
          "queue": ["name": .string(queue), "arguments": arguments], "consumer": ["prefetch_count": 1],
          "journal": journal,
        ]))
    var state: JSON = [:]
    for round in 0...1 {
      if round == 1 { runtime = try FlowRuntime(config: runtime.configuration, state: state) }
      try publisher.publish("\(round)", routingKey: queue, count: 3)
      try runtime.start()
      try runtime.waitUntil(committedCount: 3)
      state = runtime.committedState
      #expect(try runtime.closeInput() == .exited(0))
      #expect(runtime.committed.map { $0.json["body"]?.string } == ["\(round)", "\(round)", "\(round)"])
    }
    try publisher.delete(queue)
  }

  @Test func `Discover without a queue is an error, and no empty answer`() throws {
    let broker = try TestBroker()
    let result = try unary([["discover": ["config": broker.configuration(queue: "", ["queue": .null])]]])
    #expect(result.exit == .exited(78))
    #expect(result.log.last?.contains("nothing can be discovered without queue.name") == true)
    #expect(result.responses.allSatisfy { $0["discovered"] == nil })
  }
}
