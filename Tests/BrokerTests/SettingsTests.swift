import Support
import Testing

/// Each setting of docs/settings.md that the broker can be asked about, with its default and with another value, as the broker
/// itself reports it. Three captures run side by side and the broker is looked at once; each row below then is a test.
@Suite(.timeLimit(.minutes(5))) struct SettingsTests {
  /// Which of the captures.
  enum Scene: String, CaseIterable, Sendable {
    /// No setting but host, port and the queue's name.
    case bare
    /// Most settings at another value than the default.
    case set
    /// What does not go together with those of `set`.
    case rare
  }

  /// Where rabbitmqctl shows a setting.
  enum List: String, CaseIterable, Sendable {
    case queues, consumers, connections
  }

  struct Row: Sendable, CustomTestStringConvertible {
    let setting: String
    let list: List
    /// A column; after a slash the name of an argument, which gives its type and value.
    let column: String
    let expected: [Scene: JSON]

    init(_ setting: String, _ list: List, _ column: String, _ expected: [Scene: JSON]) {
      (self.setting, self.list, self.column, self.expected) = (setting, list, column, expected)
    }

    var testDescription: String { "\(setting): \(list.rawValue) \(column)" }
  }

  static let virtualHost = TestBroker.uniqueName("settings") + "/%2F"
  static let user = TestBroker.uniqueName("captor")

  /// RabbitMQ 4 writes the type of a queue that was declared without one into its arguments.
  private static let noArguments: JSON =
    (try? TestBroker().release >= .v40) == true ? [["x-queue-type", "longstr", "classic"]] : []

  static let rows: [Row] = [
    Row("virtual_host", .connections, "vhost", [.bare: "/", .set: .string(virtualHost)]),
    Row("username", .connections, "user", [.bare: "guest", .set: .string(user)]),
    // The broker knows a password by letting its user in.
    Row("password", .connections, "state", [.bare: "running", .set: "running"]),
    Row("auth_type", .connections, "auth_mechanism", [.bare: "PLAIN", .set: "AMQPLAIN"]),
    Row("heartbeat", .connections, "timeout", [.bare: 60, .set: 7, .rare: 0]),
    Row(
      "(the capture's name)", .connections, "client_properties/connection_name",
      [.set: ["longstr", "source-amqp set"], .rare: ["longstr", "source-amqp rare"]]),
    Row("(consumer cancellation)", .connections, "client_properties/product", [.set: ["longstr", "source-amqp"]]),
    Row("queue.durable", .queues, "durable", [.bare: true, .set: false, .rare: false]),
    Row("queue.exclusive", .queues, "exclusive", [.bare: false, .set: false, .rare: true]),
    Row("queue.auto_delete", .queues, "auto_delete", [.bare: false, .set: true]),
    Row("queue.arguments: none", .queues, "arguments", [.bare: noArguments, .rare: noArguments]),
    Row("queue.arguments: integer", .queues, "arguments/x-max-length", [.set: ["long", 1000]]),
    Row("queue.arguments: text", .queues, "arguments/x-dead-letter-exchange", [.set: ["longstr", ""]]),
    Row("queue.arguments: boolean", .queues, "arguments/x-flag", [.set: ["bool", true]]),
    Row("queue.arguments: number", .queues, "arguments/x-fraction", [.set: ["double", .number("2.5")]]),
    Row(
      "queue.arguments: nested", .queues, "arguments/x-nested",
      [
        .set: [
          "table",
          [
            [
              "array", "array",
              [
                "long": .number("-9223372036854775808"), "longstr": "a", "table": [["b", "bool", false]],
                "void": "undefined",
              ],
            ],
            ["table", "table", []],
          ],
        ]
      ]),
    Row("message_ttl", .queues, "arguments/x-message-ttl", [.bare: .null, .set: ["long", .number("4294967295")]]),
    Row("max_priority", .queues, "arguments/x-max-priority", [.bare: .null, .set: ["long", 10]]),
    Row("consumer.prefetch_count", .consumers, "prefetch_count", [.bare: 100, .set: 7, .rare: 0]),
    Row("consumer.no_ack", .consumers, "ack_required", [.bare: true, .set: true, .rare: false]),
    Row("consumer.priority", .consumers, "arguments/x-priority", [.bare: .null, .set: ["long", 255]]),
    Row("consumer.arguments", .consumers, "arguments/x-custom", [.bare: .null, .set: ["table", [["n", "long", 1]]]]),
    Row("(the consumer works)", .consumers, "active", [.bare: true, .set: true, .rare: true]),
  ]

  /// What the broker said, and the log of each capture.
  struct View: Sendable {
    var rows: [List: [Scene: JSON]] = [:]
    var exclusiveTag: [Scene: JSON] = [:]
    var tags: [Scene: JSON] = [:]
    var bindings: [JSON] = []
    var log: [Scene: [FlowRuntime.LogLine]] = [:]
  }

  static let view = Result { try look() }

  static func look() throws -> View {
    let broker = try TestBroker()
    let other = try broker.adding(virtualHost: virtualHost, user: user, password: "pä:ss wörd\"")
    let prefix = TestBroker.uniqueName("settings")
    func name(_ scene: Scene) -> String { prefix + "-" + scene.rawValue }
    let configurations: [Scene: JSON] = [
      .bare: ["host": .string(broker.host), "port": JSON(broker.port), "queue": ["name": .string(name(.bare))]],
      .set: other.configuration(
        queue: name(.set),
        [
          "auth_type": "amqplain", "message_ttl": .number("4294967295"), "max_priority": 10, "heartbeat": 7,
          "queue": [
            "durable": false, "auto_delete": true,
            "arguments": [
              "x-max-length": 1000, "x-dead-letter-exchange": "", "x-flag": true, "x-fraction": .number("2.5"),
              "x-nested": ["array": [.number("-9223372036854775808"), "a", ["b": false], .null], "table": [:]],
            ],
          ],
          "bindings": [
            ["exchange": "amq.direct", "routing_key": "literal.*"], ["exchange": "amq.topic"],
            [
              "exchange": "amq.headers", "routing_key": "",
              "arguments": ["x-match": "any", "n": 5, "flag": true, "text": "a"],
            ],
          ],
          "consumer": [
            "prefetch_count": 7, "exclusive": true, "priority": 255, "arguments": ["x-custom": ["n": 1]],
          ],
        ]),
      .rare: broker.configuration(
        queue: name(.rare),
        [
          "queue": ["exclusive": true, "durable": false], "consumer": ["prefetch_count": 0, "no_ack": true],
          "heartbeat": 0,
        ]),
    ]
    var runtimes: [Scene: FlowRuntime] = [:]
    for (scene, configuration) in configurations {
      // The capture's name is in the connection's, so that the broker's list shows whose it is.
      runtimes[scene] = try FlowRuntime(config: configuration, name: scene == .bare ? prefix : scene.rawValue)
    }
    for runtime in runtimes.values { try runtime.startConsuming() }
    var view = View()
    for (scene, runtime) in runtimes {
      let broker = scene == .set ? other : broker
      let queue = try broker.rows(
        "queues", containing: name(scene),
        ["name", "durable", "exclusive", "auto_delete", "arguments", "exclusive_consumer_tag"])
      let consumer = try broker.rows(
        "consumers", containing: name(scene),
        ["queue_name", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments"])
      try #require(queue.count == 1 && consumer.count == 1)
      view.rows[.queues, default: [:]][scene] = queue[0]
      view.rows[.consumers, default: [:]][scene] = consumer[0]
      view.exclusiveTag[scene] = queue[0]["exclusive_consumer_tag"]
      view.tags[scene] = consumer[0]["consumer_tag"]
      view.log[scene] = runtime.log
      let label = scene == .bare ? prefix : scene.rawValue
      let connections = try broker.rows(
        "connections", containing: "\"source-amqp \(label)\"",
        ["vhost", "user", "state", "timeout", "client_properties", "auth_mechanism"], everywhere: true)
      try #require(connections.count == 1)
      view.rows[.connections, default: [:]][scene] = connections[0]
    }
    view.bindings = try other.rows(
      "bindings", containing: name(.set), ["source_name", "destination_name", "routing_key", "arguments"])
    for runtime in runtimes.values { #expect(try runtime.terminate() == .exited(0)) }
    try Publisher(broker).delete(name(.bare))
    return view
  }

  @Test(arguments: rows)
  func `the broker has the setting, with its default and with another value`(row: Row) throws {
    let view = try Self.view.get()
    for (scene, expected) in row.expected {
      #expect(Self.found(try #require(view.rows[row.list]?[scene]), row.column) == expected, "\(scene)")
    }
  }

  /// The value of a column, or type and value of an argument; null if there is none.
  private static func found(_ row: JSON, _ column: String) -> JSON {
    let path = column.split(separator: "/", maxSplits: 1).map(String.init)
    guard path.count == 2 else { return row[column] ?? .null }
    let entry = row[path[0]]?.array?.first { $0.array?.first?.string == path[1] }
    return entry?.array.map { .array(Array($0.dropFirst())) } ?? .null
  }

  @Test func `consumer.exclusive makes the consumer the queue's exclusive one`() throws {
    let view = try Self.view.get()
    #expect(view.exclusiveTag[.set] == view.tags[.set])
    #expect(view.exclusiveTag[.bare] == "")
  }

  @Test func `consumer tags are unique over sessions and connections`() throws {
    let tags = try Self.view.get().tags.values.compactMap(\.string)
    #expect(Set(tags).count == 3)
    for tag in tags { #expect(tag.hasPrefix("source-amqp-") && tag.hasSuffix("-1")) }
  }

  @Test func `every binding is there with its routing key and its typed arguments`() throws {
    let found = try Self.view.get().bindings.filter { $0["source_name"] != "" }
    #expect(found.count == 3)
    let expected: [(String, String, [JSON])] = [
      ("amq.direct", "literal.*", []), ("amq.topic", "#", []),
      (
        "amq.headers", "",
        [["flag", "bool", true], ["n", "long", 5], ["text", "longstr", "a"], ["x-match", "longstr", "any"]]
      ),
    ]
    for (exchange, key, arguments) in expected {
      let binding = try #require(found.first { $0["source_name"] == .string(exchange) })
      #expect(binding["routing_key"] == .string(key))
      // RabbitMQ keeps them in an order of its own.
      #expect(Set((binding["arguments"]?.array ?? []).map(\.text)) == Set(arguments.map(\.text)))
    }
  }

  @Test func `what costs a guarantee is warned about, and nothing else`() throws {
    func warnings(_ scene: Scene) throws -> [String] {
      try #require(Self.view.get().log[scene]).filter { $0.level == "warn" }.compactMap(\.message)
    }
    #expect(try warnings(.bare) == [])
    let set = try warnings(.set)
    #expect(set.count == 1 && set[0].hasPrefix("x-message-ttl, x-max-length: the broker dead-letters"), "\(set)")
    #expect(
      try warnings(.rare) == ["consumer.no_ack is true: messages in flight are lost when the connection breaks."])
  }
}
