import Foundation
import Support
import Testing

/// Several queues in one capture, with the real process and broker.
@Suite struct SeveralQueuesTests {
  /// Queues of every type, empty, deleted afterwards.
  private final class Queues {
    let names: [String: String]
    private let publisher: Publisher

    init(_ publisher: Publisher) throws {
      self.publisher = publisher
      names = ["classic", "quorum", "stream"].reduce(into: [:]) { $0[$1] = TestBroker.uniqueName($1) }
      for (type, name) in names { try publisher.declare(name, arguments: ["x-queue-type": .string(type)]) }
    }

    deinit { for name in names.values { try? publisher.delete(name) } }

    subscript(_ type: String) -> String { names[type]! }

    /// The resource of the queue of a type, whose stream has the type's name.
    func resource(_ type: String, _ more: JSON = [:]) -> JSON {
      let own: JSON = ["queue": ["name": .string(self[type]), "type": .string(type)]]
      return own.merged(with: more)
    }
  }

  private static let types = ["classic", "quorum", "stream"]

  /// Not every broker takes every message for a stream.
  private static func kind(_ type: String, _ seed: Int) -> Publisher.Kind {
    type == "stream" ? .simple(bytes: 300) : .mixed(seed: seed)
  }

  private func ids(_ documents: [FlowRuntime.Document], _ stream: String) -> [String] {
    documents.filter { $0.stream == stream }.compactMap(\.messageID)
  }

  private func ids(_ count: ClosedRange<Int>, prefix: String) -> [String] {
    count.map { Publisher.messageID($0, prefix: prefix) }
  }

  @Test(arguments: [nil, "journaled"] as [String?])
  func `each binding gets its own queue's messages once and in order, through kills, and as bindings come and go`(
    mode: String?
  ) throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let queues = try Queues(publisher)
    var settings: JSON = ["queue": .null, "consumer": ["deduplicate": "assert"]]
    if mode != nil {
      settings = [
        "queue": .null, "consumer": ["deduplicate": "assert"],
        "journal": ["path": .string(try temporaryDirectory() + "/j.db")],
      ]
    }
    let runtime = try FlowRuntime(config: broker.configuration(queue: "", settings))
    func bind(_ types: [String]) {
      runtime.opening.bindings = types.map { FlowRuntime.binding(stream: $0, resource: queues.resource($0)) }
    }
    func publish(_ count: Int, from start: Int, to types: [String]) throws {
      for type in types {
        try publisher.publishMany(
          count, Self.kind(type, start), prefix: type, start: start, routingKey: queues[type])
      }
    }
    bind(Self.types)
    try runtime.start()
    try publish(200, from: 1, to: Self.types)
    try runtime.waitUntil(committedCount: 100)
    try runtime.kill()
    // The other way round: a binding's place is not its identity.
    bind(Self.types.reversed())
    try runtime.start()
    try publish(200, from: 201, to: Self.types)
    try runtime.waitUntil(committedCount: 1200)
    #expect(try runtime.closeInput() == .exited(0))
    for type in Self.types { #expect(ids(runtime.committed, type) == ids(1...400, prefix: type)) }
    // One goes, and another of them goes on.
    bind(["stream", "classic"])
    try runtime.start()
    try publish(50, from: 401, to: Self.types)
    try runtime.waitUntil(committedCount: 1300)
    try runtime.kill()
    bind(["quorum", "classic", "stream"])
    try runtime.start()
    try runtime.waitUntil(committedCount: 1350)
    // Settled, each by itself.
    for type in ["classic", "quorum"] { try broker.waitForDepth(queues[type], ready: 0, unacknowledged: 0) }
    #expect(try runtime.closeInput() == .exited(0))
    for type in Self.types {
      #expect(ids(runtime.committed, type) == ids(1...450, prefix: type))
      let documents = runtime.committed.filter { $0.stream == type }
      #expect(Set(documents.map { $0.json["queue"]?.string }) == [queues[type]])
    }
    #expect(runtime.violations.isEmpty)
    // Documents of two subscriptions in one collection are told apart.
    let keys = runtime.committed.map { "\($0.sessionID ?? "") \($0.sequence ?? 0)" }
    #expect(Set(keys).count == keys.count)
  }

  @Test func `apply says what it did for each binding, what is wrong with each, and what stays of those that are gone`()
    throws
  {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let (one, two, gone) = (TestBroker.uniqueName("one"), TestBroker.uniqueName("two"), TestBroker.uniqueName("gone"))
    func apply(_ resources: [JSON], inactive: [JSON]) throws -> UnaryResult {
      try unary([
        [
          "apply": [
            "capture": [
              "name": "acmeCo/source-amqp", "connectorType": "LOCAL",
              "config": broker.configuration(queue: "", ["queue": .null]),
              "bindings": .array(
                resources.map { FlowRuntime.binding(stream: $0["stream"]?.string ?? "", resource: $0) }),
              "inactiveBindings": .array(
                inactive.map { FlowRuntime.binding(stream: $0["stream"]?.string ?? "", resource: $0) }),
            ], "version": "1", "lastVersion": "",
          ]
        ]
      ])
    }
    let resources: [JSON] = [
      ["stream": "one", "queue": ["name": .string(one)]],
      ["stream": "two", "queue": ["name": .string(two)], "bindings": [["exchange": "amq.topic", "routing_key": "a"]]],
    ]
    // One that is no resource any more, and one whose queue another binding has by now, say nothing.
    let inactive: [JSON] = [
      [
        "stream": "gone", "queue": ["name": .string(gone)],
        "bindings": [["exchange": "amq.topic", "routing_key": "b"]],
      ],
      ["stream": "renamed", "queue": ["name": .string(one)]], ["stream": "odd", "queue": ["nmae": "x"]],
    ]
    let applied = try apply(resources, inactive: inactive)
    #expect(applied.exit == .exited(0))
    #expect(
      applied.responses.last?[path: "applied", "actionDescription"]?.string == """
        Declared queue "\(one)" (durable). Declared queue "\(two)" (durable), bound it to exchange "amq.topic" with routing key "a". \
        Queue "\(gone)" of stream "gone" is not captured any more, and stays, bound to "amq.topic": what is published to it fills it \
        until it is unbound or deleted.
        """)
    let wrong = try apply(
      resources.map { $0.merged(with: ["bindings": [["exchange": "is-missing"]]]) }, inactive: [])
    #expect(wrong.exit == .exited(1))
    #expect(wrong.cause?.contains("stream \"one\": ") == true && wrong.cause?.contains("stream \"two\": ") == true)
    for queue in [one, two] { try publisher.delete(queue) }
  }

  private func lines(_ directory: String, _ stream: String) -> [String] {
    BrokerTests.lines("\(directory)/\(stream)-000001.jsonl")
  }

  private func configuration(_ broker: TestBroker, _ settings: JSON, _ resources: [JSON]) throws -> String {
    let path = try temporaryDirectory() + "/c.json"
    try broker.configuration(
      queue: "", (["queue": .null, "resources": .array(resources)] as JSON).merged(with: settings)
    ).text
      .write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  @Test func `an agent writes a series of files for each queue, once and in order, through kills`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let queues = try Queues(publisher)
    let path = try configuration(
      broker, ["consumer": ["deduplicate": "assert"]],
      Self.types.map { queues.resource($0).merged(with: ["stream": .string($0)]) })
    let output = try temporaryDirectory()
    for round in 1...4 {
      let agent = try Command(["run", path, "--output", output])
      for type in Self.types {
        try publisher.publishMany(
          300, Self.kind(type, round), prefix: type, start: 300 * (round - 1) + 1, routingKey: queues[type])
      }
      // In the middle of what is on its way, but for the last.
      let count = round < 4 ? 300 * round - 150 : 1200
      for type in Self.types { try wait(for: count, in: "\(output)/\(type)-000001.jsonl", agent) }
      if round < 4 {
        agent.child.signal(SIGKILL)
        _ = try agent.child.waitForExit()
      } else {
        agent.child.signal(SIGTERM)
        #expect(try agent.child.waitForExit() == .exited(0))
      }
    }
    for type in Self.types {
      let documents = try lines(output, type).map { try JSON(parsing: Array($0.utf8)) }
      #expect(documents.compactMap { $0[path: "properties", "message_id"]?.string } == ids(1...1200, prefix: type))
    }
    for type in ["classic", "quorum"] { try broker.waitForDepth(queues[type], ready: 0, unacknowledged: 0) }
  }

  @Test func `a stream that gets another name after a kill goes on in files of that name, once`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let queue = TestBroker.uniqueName("renamed")
    try publisher.declare(queue)
    let output = try temporaryDirectory()
    let names = ["one", "two", "one", "three"]
    for (round, stream) in names.enumerated() {
      let path = try configuration(
        broker, ["consumer": ["deduplicate": "assert"]],
        [["stream": .string(stream), "queue": ["name": .string(queue)]]])
      let agent = try Command(["run", path, "--output", output])
      try publisher.publishMany(400, .mixed(seed: round), start: 400 * round + 1, routingKey: queue)
      let isLast = round == names.count - 1
      let clock = ContinuousClock()
      let deadline = clock.now + generousLimit
      while Set(names).reduce(0, { $0 + lines(output, $1).count }) < (isLast ? 1600 : 400 * round + 200) {
        guard clock.now < deadline, agent.written.ended < 2 else {
          throw SupportError("\(stream): \(agent.written.log.suffix(3))")
        }
        _ = try run("/bin/true", [])
      }
      agent.child.signal(isLast ? SIGTERM : SIGKILL)
      _ = try agent.child.waitForExit()
    }
    let documents = try ["one", "two", "three"].flatMap {
      try lines(output, $0).map { try JSON(parsing: Array($0.utf8)) }
    }
    #expect(
      documents.compactMap { $0[path: "properties", "message_id"]?.string }.sorted() == ids(1...1600, prefix: "m"))
    try publisher.delete(queue)
  }

  /// A delivery of it counts, and of all that is on its way with it.
  @Test func `a message that is refused is not delivered to its end, and is captured past once it is gone`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let (queue, other) = (TestBroker.uniqueName("limited"), TestBroker.uniqueName("other"))
    try publisher.declare(queue, arguments: ["x-queue-type": "quorum", "x-delivery-limit": 3])
    try publisher.declare(other)
    let path = try configuration(
      broker, ["reconnect_delay": .number("0.1"), "document": ["max_bytes": 2_097_152]],
      [
        ["stream": "limited", "queue": ["name": .string(queue), "declare": "passive"]],
        ["stream": "other", "queue": ["name": .string(other)]],
      ])
    try publisher.publish("a", routingKey: queue, count: 10)
    try publisher.publish([UInt8](repeating: 0x78, count: 3_000_000), routingKey: queue)
    try publisher.publish("b", routingKey: queue, count: 50)
    let output = try temporaryDirectory()
    let agent = try Command(["run", path, "--output", output], environment: ["LOG_LEVEL": "debug"])
    // More looks than the limit has deliveries.
    try agent.wait("looks at the queue") { output in
      output.log.count { $0.contains("not consuming") && $0.contains("\"stream\":\"limited\"") } > 4
    }
    #expect(lines(output, "limited").count == 10)
    #expect(try #require(try publisher.queueInfo(queue)).ready == 51)
    // Someone takes it away.
    _ = try publisher.take(from: queue, .reject)
    try wait(for: 60, in: "\(output)/limited-000001.jsonl", agent)
    agent.child.signal(SIGTERM)
    #expect(try agent.child.waitForExit() == .exited(0))
    for queue in [queue, other] { try publisher.delete(queue) }
  }

  @Test func `a queue that floods the journal waits alone, and goes on once there is room`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let (flood, quiet) = (TestBroker.uniqueName("flood"), TestBroker.uniqueName("quiet"))
    for queue in [flood, quiet] { try publisher.declare(queue) }
    let runtime = try FlowRuntime(
      config: broker.configuration(
        queue: "",
        [
          "queue": .null, "consumer": ["prefetch_count": 20],
          "journal": [
            "path": .string(try temporaryDirectory() + "/j.db"), "acknowledge": "journaled", "max_bytes": 16_777_216,
          ],
        ]))
    runtime.opening.bindings = [("flood", flood), ("quiet", quiet)].map { stream, queue in
      FlowRuntime.binding(stream: stream, resource: ["queue": ["name": .string(queue)]])
    }
    runtime.policy.holdCommits = true
    try runtime.start()
    try publisher.publish([UInt8](repeating: 0x61, count: 100_000), routingKey: flood, count: 200)
    try runtime.waitForLog("the pause") {
      $0.message?.hasPrefix("Intake is paused: \"flood\" (1 of 2 queues): the queue has more than its share") == true
    }
    let before = runtime.documentsRead
    try publisher.publish("x", routingKey: quiet, count: 20)
    try runtime.waitUntil(documentsRead: before + 20)
    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: 220)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.count { $0.stream == "flood" } == 200)
    for queue in [flood, quiet] { try publisher.delete(queue) }
  }

  /// What is wrong with a queue: it is missing, someone else's, not to be read, or has a message that is too large.
  @Test func `what is wrong with one queue is told with its name, and the others go on`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let holder = try Publisher(broker)
    func name(_ stream: String) -> String { "several-\(stream)-\(suffix)" }
    let suffix = TestBroker.uniqueName("q")
    for stream in ["fine", "poisoned"] { try publisher.declare(name(stream)) }
    try holder.declare(name("locked"), exclusive: true)
    let streams = ["fine", "missing", "locked", "poisoned"]
    let path = try configuration(
      broker, ["reconnect_delay": .number("0.2"), "document": ["max_bytes": 2_097_152]],
      streams.map { stream in
        [
          "stream": .string(stream),
          "queue": ["name": .string(name(stream)), "declare": stream == "missing" ? "passive" : "none"],
        ]
      })
    let output = try temporaryDirectory()
    let agent = try Command(["run", path, "--output", output, "--listen", "127.0.0.1:0"])
    try agent.wait("the listener") { $0.log.contains { $0.contains("metrics and health") } }
    let log = agent.written.log.compactMap { try? JSON(parsing: Array($0.utf8)) }
    let url = log.compactMap { $0[path: "fields", "url"]?.string }.first ?? "none"
    func health() throws -> String {
      try run("/usr/bin/curl", ["-s", url.replacingOccurrences(of: "/metrics", with: "/healthz")])
    }
    let large = [UInt8](repeating: 0x78, count: 3_000_000)
    try publisher.publish("before", routingKey: name("poisoned"), count: 3)
    try publisher.publish(large, routingKey: name("poisoned"))
    try publisher.publish("after", routingKey: name("poisoned"))
    try publisher.publish("x", routingKey: name("fine"), count: 100)
    try wait(for: 100, in: "\(output)/fine-000001.jsonl", agent)
    try wait(for: 3, in: "\(output)/poisoned-000001.jsonl", agent)
    func lost(_ stream: String) throws {
      try agent.wait("\(stream) to be told") { output in
        output.log.contains { $0.contains("not consuming") && $0.contains("\"stream\":\"\(stream)\"") }
      }
    }
    for stream in ["missing", "locked", "poisoned"] { try lost(stream) }
    let report = try health()
    #expect(report.contains("\"fine\", queue \"\(name("fine"))\": consuming"), "\(report)")
    #expect(report.contains("\"missing\", queue \"\(name("missing"))\": Not consuming"), "\(report)")
    // Each comes back by itself once it is mended.
    try publisher.declare(name("missing"))
    try publisher.publish("x", routingKey: name("missing"))
    try holder.closeConnection()
    try publisher.declare(name("locked"))
    try publisher.publish("x", routingKey: name("locked"))
    try publisher.publish("x", routingKey: name("fine"), count: 100)
    try wait(for: 1, in: "\(output)/missing-000001.jsonl", agent)
    try wait(for: 1, in: "\(output)/locked-000001.jsonl", agent)
    try wait(for: 200, in: "\(output)/fine-000001.jsonl", agent)
    // Nothing of it was acknowledged.
    agent.child.signal(SIGTERM)
    #expect(try agent.child.waitForExit() == .exited(0))
    try broker.waitForDepth(name("poisoned"), ready: 2, unacknowledged: 0)
    #expect(lines(output, "poisoned").count == 3)
    // What is in the journal is shown by streams.
    let journal = output + "/journal.db"
    let status = try JSON(parsing: try Command(["journal", "status", journal, "--json"]).finish().output.lines[0])
    #expect(status["streams"]?.array?.compactMap { $0["stream"]?.string } == streams)
    #expect(try Command(["journal", "export", journal, "--stream", "poisoned"]).finish().exit == .exited(0))
    let unknown = try Command(["journal", "pending", journal, "--stream", "other"]).finish()
    #expect(unknown.exit == .exited(1) && unknown.output.log.last?.contains("it has \\\"fine\\\"") == true)
    for stream in streams { try publisher.delete(name(stream)) }
  }
}
