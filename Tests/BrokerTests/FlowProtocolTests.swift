import Support
import Testing

/// Unary requests of the Flow capture protocol against the real process and the real broker: Spec comes first, one line
/// each, exit 0 at the end of stdin, and the last line on stderr is the cause of another exit.
@Suite struct FlowProtocolTests {
  /// What Validate asks for.
  private static func validate(_ config: JSON, streams: [String] = ["orders"]) -> JSON {
    let bindings = streams.map { stream -> JSON in
      ["resourceConfig": ["stream": .string(stream)], "collection": ["name": .string("acmeCo/" + stream)]]
    }
    return [
      "validate": [
        "name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": config, "bindings": .array(bindings),
      ]
    ]
  }

  private static func apply(_ config: JSON) -> JSON {
    [
      "apply": [
        "capture": [
          "name": "acmeCo/source-amqp", "connectorType": "LOCAL", "config": config,
          "bindings": [FlowRuntime.binding(stream: "orders")],
        ],
        "version": "0123456789abcdef",
      ]
    ]
  }

  /// The cause that the runtime shows: the message of the last line on stderr. Every line must be a log of Flow's.
  @discardableResult
  private func cause(_ result: UnaryResult, status: Int32, sourceLocation: SourceLocation = #_sourceLocation) -> String
  {
    #expect(result.exit == .exited(status), sourceLocation: sourceLocation)
    let messages = result.log.map { logMessage($0, sourceLocation: sourceLocation) }
    return messages.last.flatMap(\.self) ?? ""
  }

  @Test func `Spec publishes both schemas without looking at the configuration`() throws {
    let result = try unary([["spec": ["connectorType": "IMAGE", "config": ["sops": ["mac": "x"], "port": "no"]]]])
    #expect(result.exit == .exited(0))
    #expect(result.responses.count == 2)
    #expect(result.responses.first == result.responses.last)
    let spec = try #require(result.responses.first?["spec"])
    #expect(spec["protocol"]?.int == 3_032_023)
    #expect(spec["documentationUrl"]?.string?.hasPrefix("https://") == true)
    #expect(spec["resourcePathPointers"] == ["/stream"])
    #expect(spec["resourceConfigSchema"]?["properties"]?["stream"]?["type"] == "string")
    let config = try #require(spec["configSchema"])
    #expect(config["properties"]?["password"]?["secret"] == true)
    // The root must stay open: encryption adds a `sops` property.
    #expect(config["additionalProperties"] == nil)
    // Each resource may name a queue of its own.
    #expect(config["required"] == nil)
  }

  @Test func `Discover offers the queue as the one binding`() throws {
    let broker = try TestBroker()
    let queue = TestBroker.uniqueName("discover")
    let result = try unary([["discover": ["connectorType": "LOCAL", "config": broker.configuration(queue: queue)]]])
    cause(result, status: 0)
    let bindings = try #require(result.responses.last?["discovered"]?["bindings"]?.array)
    #expect(bindings.count == 1)
    #expect(bindings[0]["recommendedName"] == .string(queue))
    #expect(bindings[0]["resourceConfig"] == ["stream": .string(queue)])
    #expect(bindings[0]["key"] == ["/session_id", "/sequence"])
    #expect(bindings[0]["isFallbackKey"] == true)
    #expect(bindings[0]["documentSchema"]?["x-infer-schema"] == true)
    #expect(try Publisher(broker).queueInfo(queue) == nil, "Discover has no side effects")
  }

  @Test func `Discover says what is wrong with the connection`() throws {
    let config = try TestBroker().configuration(queue: "q", ["password": "wrong-secret"])
    let result = try unary([["discover": ["config": config]]])
    #expect(cause(result, status: 1).contains("ACCESS_REFUSED"))
    #expect(result.responses.count == 1)
  }

  @Test func `Validate accepts what is there or will be declared, and changes nothing`() throws {
    let bench = try Bench()
    let exchange = bench.queue + "-exchange"
    try bench.publisher.declareExchange(exchange)
    for queue in [bench.queue, bench.queue + "-new"] {
      let config = bench.broker.configuration(queue: queue, ["bindings": [["exchange": .string(exchange)]]])
      let result = try unary([Self.validate(config)])
      cause(result, status: 0)
      #expect(result.responses.dropFirst() == [["validated": ["bindings": [["resourcePath": ["orders"]]]]]])
    }
    #expect(try bench.publisher.queueInfo(bench.queue + "-new") == nil)
    let bindings = try bench.broker.ctl("list_bindings", "-p", bench.broker.virtualHost, "source_name")
    #expect(!bindings.contains(exchange))
    let none = try unary([Self.validate(bench.broker.configuration(queue: bench.queue), streams: [])])
    cause(none, status: 0)
    #expect(none.responses.last == ["validated": ["bindings": []]])
    try bench.publisher.deleteExchange(exchange)
    try bench.publisher.delete(bench.queue)
  }

  @Test(
    arguments: [
      (["password": "wrong-secret"], ["403", "ACCESS_REFUSED", "password"]),
      (["virtual_host": "nowhere"], ["530", "nowhere", "virtual_host"]),
      (["port": 1], ["127.0.0.1", "Check host and port"]),
      (["host": "host.invalid"], ["host.invalid", "Check host"]),
    ] as [(JSON, [String])])
  func `Validate names what is wrong with the connection, and never the password`(change: JSON, words: [String]) throws
  {
    let config = try TestBroker().configuration(queue: "q", change)
    let result = try unary([Self.validate(config)], environment: ["LOG_LEVEL": "trace"])
    let text = cause(result, status: 1)
    for word in words { #expect(text.contains(word), "\(text)") }
    #expect(result.responses.count == 1, "only Spec is answered")
    #expect(!result.log.joined().contains("wrong-secret"))
  }

  @Test(arguments: ["classic", "quorum", "stream"])
  func `Validate and Discover find out that the user may not read`(type: String) throws {
    let bench = try Bench(arguments: ["x-queue-type": .string(type)])
    try bench.publisher.publish("x", routingKey: bench.queue)
    let user = TestBroker.uniqueName("user")
    try bench.broker.ctl("add_user", user, "secret")
    try bench.broker.ctl("set_permissions", "-p", bench.broker.virtualHost, user, "", "", "nothing")
    let config = bench.broker.configuration(
      queue: bench.queue, ["username": .string(user), "password": "secret", "queue": ["declare": "passive"]])
    for request in [Self.validate(config), ["discover": ["connectorType": "LOCAL", "config": config]]] as [JSON] {
      let text = cause(try unary([request]), status: 1)
      #expect(text.contains("403") && text.contains(bench.queue) && text.contains(user), "\(text)")
    }
    // With the permission both pass, and the message is as it was.
    try bench.broker.ctl("set_permissions", "-p", bench.broker.virtualHost, user, "", "", ".*")
    for request in [Self.validate(config), ["discover": ["connectorType": "LOCAL", "config": config]]] as [JSON] {
      cause(try unary([request]), status: 0)
    }
    if type != "stream" {
      #expect(try bench.publisher.take(from: bench.queue).map(\.redelivered) == [false])
    }
    try bench.broker.ctl("delete_user", user)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `Validate warns about what works and is probably not meant`() throws {
    let bench = try Bench()
    func warnings(_ config: JSON, key: JSON = ["/session_id", "/sequence"]) throws -> [String] {
      let request: JSON = [
        "validate": [
          "name": "acmeCo/source-amqp", "connectorType": "IMAGE", "config": config,
          "bindings": [["resourceConfig": ["stream": "s"], "collection": ["name": "acmeCo/s", "key": key]]],
        ]
      ]
      let result = try unary([request])
      cause(result, status: 0)
      return try result.log.map { try JSON(parsing: $0) }.filter { $0["level"] == "warn" }
        .compactMap { $0["message"]?.string }
    }
    let config = bench.broker.configuration(queue: bench.queue)
    #expect(try warnings(config) == [])
    let key = try warnings(config, key: ["/properties/message_id"])
    #expect(key.count == 1 && key[0].contains("acmeCo/s") && key[0].contains("/properties/message_id"))
    let missing = try warnings(bench.broker.configuration(queue: bench.queue + "-new"))
    #expect(missing.count == 1 && missing[0].contains("nothing is bound to it"))
    let journal = config.merged(with: ["journal": ["path": .string(try temporaryDirectory() + "/journal.db")]])
    #expect(try warnings(journal).contains { $0.contains("journal.acknowledge: journaled") })
    let runtime = try FlowRuntime(config: config)
    try runtime.start()
    try runtime.waitForLog("the consumer") { $0.message == "Capture started" }
    let exclusive = try warnings(config.merged(with: ["consumer": ["exclusive": true]]))
    #expect(exclusive.count == 1 && exclusive[0].contains("others consume it (1)"))
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `Validate reports every problem at once`() throws {
    let broker = try TestBroker()
    let names = (0..<3).map { TestBroker.uniqueName("missing\($0)") }
    let config = broker.configuration(
      queue: names[0],
      [
        "queue": ["declare": "passive"],
        "bindings": [["exchange": .string(names[1])], ["exchange": .string(names[2])]],
      ])
    let text = cause(try unary([Self.validate(config)]), status: 1)
    for name in names { #expect(text.contains(name), "\(text)") }
  }

  @Test(
    arguments: [
      (["message_ttl": 60000], ["x-message-ttl", "60000", "1000", "Change message_ttl"]),
      (["queue": ["durable": false]], ["durable", "false", "true", "Change queue.durable"]),
      (
        ["message_ttl": 1000, "queue": ["arguments": ["x-max-length": 5]]],
        ["x-max-length", "5", "none", "Change queue.arguments.x-max-length"]
      ),
    ] as [(JSON, [String])])
  func `a queue with other properties is named with argument, values and setting`(
    change: JSON, words: [String]
  ) throws {
    let bench = try Bench(arguments: ["x-message-ttl": 1000])
    let config = bench.broker.configuration(queue: bench.queue, change)
    for request in [Self.validate(config), Self.apply(config)] {
      let text = cause(try unary([request]), status: 1)
      for word in words + [bench.queue, "queue.declare: passive"] { #expect(text.contains(word), "\(text)") }
    }
    // As that advice says.
    let passive = config.merged(with: ["queue": ["declare": "passive"]])
    cause(try unary([Self.validate(passive)]), status: 0)
    try bench.publisher.delete(bench.queue)
  }

  @Test(
    arguments: [
      (["prot": 1], "did you mean \"port\"?"), (["port": 70000], "port: 70000 is out of range"),
      (["heartbeat": "x"], "heartbeat: must be"), (["queue": ["name": ""]], "queue.name"),
      (["port": 0, "message_ttl": -1, "colour": 1], "colour"),
    ] as [(JSON, String)])
  func `a wrong configuration exits with 78 and names the setting`(change: JSON, words: String) throws {
    let config = try TestBroker().configuration(queue: "q", change.merged(with: ["password": "the-secret"]))
    for request in [["discover": ["config": config]], Self.validate(config), Self.apply(config)] as [JSON] {
      let result = try unary([request])
      let text = cause(result, status: 78)
      #expect(text.contains(words), "\(text)")
      for key in change.object?.keys ?? [:].keys { #expect(text.contains(key), "\(text)") }
      #expect(!result.log.joined().contains("the-secret"))
    }
  }

  @Test func `more than one binding is refused, and so is one without a stream`() throws {
    let config = try TestBroker().configuration(queue: "q")
    let two = cause(try unary([Self.validate(config, streams: ["a", "b"])]), status: 78)
    #expect(two.contains("bindings[1].resource.queue.name: is the queue of bindings[0].resource too"), "\(two)")
    let none = cause(try unary([Self.validate(config, streams: [""])]), status: 78)
    #expect(none.contains("stream"), "\(none)")
  }

  @Test func `Apply declares queue and bindings, says so, and may be repeated`() throws {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    let queue = TestBroker.uniqueName("apply")
    let exchange = queue + "-exchange"
    try publisher.declareExchange(exchange)
    let config = broker.configuration(
      queue: queue,
      [
        "message_ttl": 60000, "queue": ["arguments": ["x-max-length": 1000]],
        "bindings": [
          ["exchange": .string(exchange), "routing_key": "a.*", "arguments": ["k": 1]],
          ["exchange": .string(exchange)],
        ],
      ])
    for _ in 0..<2 {
      let result = try unary([Self.apply(config)])
      cause(result, status: 0)
      let answer = try #require(result.responses.last?["applied"]?.object)
      #expect(Array(answer.keys) == ["actionDescription"], "a state would make the runtime apply again")
      #expect(
        answer["actionDescription"]
          == .string(
            "Declared queue \"\(queue)\" (durable), bound it to exchange \"\(exchange)\" with routing key \"a.*\", "
              + "bound it to exchange \"\(exchange)\" with routing key \"#\"."))
    }
    let queues = try broker.ctl(
      "list_queues", "-p", broker.virtualHost, "--no-table-headers", "name", "durable", "auto_delete", "arguments")
    let row = try #require(queues.split(separator: "\n").first { $0.hasPrefix(queue + "\t") })
    #expect(row.contains("\ttrue\tfalse\t"))
    #expect(row.contains("{\"x-message-ttl\",60000}") || row.contains("{<<\"x-message-ttl\">>,60000}"), "\(row)")
    let bindings = try broker.ctl(
      "list_bindings", "-p", broker.virtualHost, "--no-table-headers", "source_name", "destination_name", "routing_key")
    let mine = bindings.split(separator: "\n").filter { $0.hasPrefix(exchange + "\t") }.sorted()
    #expect(mine == ["\(exchange)\t\(queue)\t#", "\(exchange)\t\(queue)\ta.*"])
    try publisher.deleteExchange(exchange)
    try publisher.delete(queue)
  }

  @Test func `Apply of a passive queue changes nothing, and a missing exchange is named`() throws {
    let bench = try Bench()
    let passive = bench.broker.configuration(queue: bench.queue, ["queue": ["declare": "passive"]])
    let result = try unary([Self.apply(passive)])
    cause(result, status: 0)
    #expect(result.responses.last == ["applied": ["actionDescription": ""]])
    let missing = bench.broker.configuration(queue: bench.queue, ["bindings": [["exchange": "nowhere"]]])
    let text = cause(try unary([Self.apply(missing)]), status: 1)
    #expect(text.contains("nowhere") && text.contains("bindings[].exchange"), "\(text)")
    try bench.publisher.delete(bench.queue)
  }

  // MARK: Input as it may come

  @Test(
    arguments: [
      ("hello\n", "a request is"), ("[]\n", "not a JSON object"), ("{}\n", "holds none"), ("\n", "a request is"),
      (#"{"spec":{},"discover":{}}"# + "\n", "spec and discover"), (#"{"spec":1}"# + "\n", "spec is not"),
      (#"{"acknowledge":{"checkpoints":1}}"# + "\n", "acknowledge came before open"),
      (#"{"open":{}}"# + "\n", "open.capture is missing"), (#"{"spec":{}}"#, "ended inside a request"),
      (#"{"validate":{"bindings":1}}"# + "\n", "not a list"), ("\u{0}\n", "a request is"),
    ])
  func `a wrong request ends with status 1 and its cause`(input: String, words: String) throws {
    let (output, exit) = try Command().finish([Array(input.utf8)])
    #expect(exit == .exited(1))
    #expect(output.lines.isEmpty && output.torn.isEmpty)
    let text = output.log.map { logMessage($0) }.last.flatMap(\.self) ?? ""
    #expect(text.contains("protocol error") && text.contains(words), "\(text)")
  }

  @Test func `the end of stdin before any request is a good end`() throws {
    let (output, exit) = try Command().finish()
    #expect(exit == .exited(0))
    #expect(output.lines.isEmpty && output.torn.isEmpty)
  }

  @Test func `requests may come octet by octet or glued together`() throws {
    let config = try TestBroker().configuration(queue: TestBroker.uniqueName("glued"))
    let requests: [JSON] = [["spec": [:]], Self.validate(config), ["discover": ["config": config]], ["spec": [:]]]
    let input = Array(requests.map { $0.text + "\n" }.joined().utf8)
    let whole = try Command().finish([input])
    let split = try Command().finish(input.map { [$0] })
    #expect(whole.exit == .exited(0) && split.exit == .exited(0))
    #expect(whole.output.lines.count == 4)
    #expect(whole.output.lines == split.output.lines)
    #expect(whole.output.torn.isEmpty && split.output.torn.isEmpty)
  }
}
