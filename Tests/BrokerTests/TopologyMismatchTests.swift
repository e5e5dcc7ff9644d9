import Support
import Testing

/// What Validate, Apply and the capture say about a queue that is not as wanted, and that they leave no trace.
@Suite(.timeLimit(.minutes(5))) struct TopologyMismatchTests {
  let broker: TestBroker
  let publisher: Publisher
  let queue = TestBroker.uniqueName("mismatch")

  init() throws {
    broker = try TestBroker()
    publisher = try Publisher(broker)
  }

  struct Mismatch: Sendable, CustomTestStringConvertible {
    let argument: String
    let wanted: String
    let found: String
    let setting: String
    /// What our configuration says.
    let settings: JSON
    /// What is there.
    var durable = true
    var autoDelete = false
    var arguments: JSON = [:]

    var testDescription: String { argument }
  }

  static let mismatches = [
    Mismatch(
      argument: "durable", wanted: "true", found: "false", setting: "queue.durable", settings: [:], durable: false),
    Mismatch(
      argument: "auto_delete", wanted: "true", found: "false", setting: "queue.auto_delete",
      settings: ["queue": ["auto_delete": true]]),
    Mismatch(
      argument: "exclusive", wanted: "true", found: "false", setting: "queue.exclusive",
      settings: ["queue": ["exclusive": true]]),
    Mismatch(
      argument: "x-message-ttl", wanted: "60000", found: "1000", setting: "message_ttl",
      settings: ["message_ttl": 60000], arguments: ["x-message-ttl": 1000]),
    Mismatch(
      argument: "x-message-ttl", wanted: "none", found: "1000", setting: "message_ttl", settings: [:],
      arguments: ["x-message-ttl": 1000]),
    Mismatch(
      argument: "x-max-priority", wanted: "9", found: "none", setting: "max_priority", settings: ["max_priority": 9]),
    Mismatch(
      argument: "x-queue-type", wanted: "quorum", found: "classic", setting: "queue.type",
      settings: ["queue": ["arguments": ["x-queue-type": "quorum"]]], arguments: ["x-queue-type": "classic"]),
    Mismatch(
      argument: "x-dead-letter-exchange", wanted: "none", found: "''",
      setting: "queue.arguments.x-dead-letter-exchange", settings: [:], arguments: ["x-dead-letter-exchange": ""]),
  ]

  @Test(arguments: mismatches)
  func `a mismatch names argument, both values and the setting, and passive works as advised`(mismatch: Mismatch) throws
  {
    try publisher.declare(
      queue, durable: mismatch.durable, autoDelete: mismatch.autoDelete, arguments: mismatch.arguments)
    let configuration = broker.configuration(queue: queue, mismatch.settings)
    let advice =
      ". The queue exists with another \(mismatch.argument): \(mismatch.found) there, \(mismatch.wanted) wanted. Change "
      + "\(mismatch.setting), delete the queue, or set queue.declare: passive to use it as it is"
    let start =
      "declaring queue \"\(queue)\": the broker closed the channel: 406 PRECONDITION_FAILED - inequivalent arg "
    func check(_ exit: ChildProcess.Exit, _ cause: String?) {
      #expect(exit == .exited(1))
      #expect(
        cause?.hasPrefix(start + "'\(mismatch.argument)'") == true && cause?.hasSuffix(advice) == true, "\(cause ?? "")"
      )
    }
    let validated = try ask("validate", configuration)
    check(validated.exit, validated.cause)
    if mismatch.argument != "exclusive" {
      let applied = try ask("apply", configuration)
      check(applied.exit, applied.cause)
    }
    let runtime = try FlowRuntime(config: configuration)
    let end = try runtime.startAndFail()
    check(end.exit, end.cause)

    runtime.configuration = configuration.merged(with: ["queue": ["declare": "passive"]])
    #expect(try ask("validate", runtime.configuration).exit == .exited(0))
    try runtime.start()
    try runtime.waitForLog("consuming") { $0.message?.hasPrefix("consuming from queue") == true }
    try publisher.publish("as it is", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test func `a text that the broker cut off for a long name still gives argument and setting`() throws {
    let name = queue + String(repeating: "n", count: 255 - queue.utf8.count)
    try publisher.declare(name, durable: false)
    let validated = try ask("validate", broker.configuration(queue: name))
    #expect(validated.exit == .exited(1))
    let advice =
      "... The queue exists with another durable. Change queue.durable, delete the queue, or set queue.declare: passive "
      + "to use it as it is"
    #expect(validated.cause?.hasSuffix(advice) == true, "\(validated.cause ?? "")")
    try publisher.delete(name)
  }

  @Test(
    arguments: [
      (
        ["queue": ["arguments": ["x-queue-type": "stream", "x-dead-letter-exchange": ""]]],
        "invalid arg 'x-dead-letter-exchange' for queue 'QUEUE' in vhost '/' of queue type rabbit_stream_queue. The broker does not "
          + "take this value, or not for this type of queue: change queue.arguments.x-dead-letter-exchange"
      ),
      (
        ["queue": ["arguments": ["x-queue-type": "nonsense"]]],
        "invalid arg 'x-queue-type' for queue 'QUEUE' in vhost '/': \"unsupported queue type 'nonsense'\". The broker does "
          + "not take this value, or not for this type of queue: change queue.type"
      ),
      (
        ["queue": ["durable": false, "arguments": ["x-queue-type": "quorum"]]],
        "invalid property 'non-durable' for queue 'QUEUE' in vhost '/'. Queues of this type cannot have that: change "
          + "queue.durable"
      ),
      (
        ["queue": ["exclusive": true, "arguments": ["x-queue-type": "quorum"]]],
        "invalid property 'exclusive-owner' for queue 'QUEUE' in vhost '/'. Queues of this type cannot have that: change "
          + "queue.exclusive"
      ),
    ] as [(JSON, String)])
  func `what the broker refuses for any queue of the type ends the capture with the setting`(
    settings: JSON, text: String
  ) throws {
    let parts = text.split(separator: "QUEUE").map(String.init)
    let runtime = try FlowRuntime(config: broker.configuration(queue: queue, settings))
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    let expected = "declaring queue \"\(queue)\": the broker closed the channel: 406 PRECONDITION_FAILED - "
    #expect(end.cause == expected + parts.joined(separator: queue))
    #expect(try publisher.queueInfo(queue) == nil)
  }

  @Test func `Validate reports every problem at once and changes nothing`() throws {
    try publisher.declare(queue, durable: false)
    let missing = [queue + "-a", queue + "-b"]
    let result = try ask(
      "validate",
      broker.configuration(
        queue: queue,
        [
          "bindings": [
            ["exchange": .string(missing[0])], ["exchange": "amq.topic"], ["exchange": .string(missing[1])],
            ["exchange": .string(missing[0]), "routing_key": "again"],
          ]
        ]))
    #expect(result.exit == .exited(1))
    #expect(result.responses.count == 1, "no response but that to Spec")
    let cause = try #require(result.cause)
    let problems = cause.split(separator: "; ").map(String.init)
    try #require(problems.count == 3, "\(cause)")
    #expect(problems[0].hasPrefix("declaring queue \"\(queue)\": ") && problems[0].contains("durable"))
    for (problem, exchange) in zip(problems.dropFirst(), missing) {
      let expected =
        "looking for exchange \"\(exchange)\": the broker closed the channel: 404 NOT_FOUND - no exchange '\(exchange)' in "
        + "vhost '/'. The connector never declares an exchange: create it, or correct bindings[].exchange"
      #expect(problem == expected)
    }
    #expect(try broker.rows("bindings", containing: queue, ["source_name", "destination_name"]).count == 1)
    try publisher.delete(queue)
  }

  @Test func `Validate declares and binds nothing, Apply does both, more than once`() throws {
    let configuration = broker.configuration(
      queue: queue, ["message_ttl": 5000, "bindings": [["exchange": "amq.topic", "routing_key": "a.*"]]])
    #expect(try ask("validate", configuration).exit == .exited(0))
    #expect(try publisher.queueInfo(queue) == nil)
    for _ in 1...2 {
      let applied = try ask("apply", configuration)
      #expect(applied.exit == .exited(0))
      #expect(
        applied.responses.last?[path: "applied", "actionDescription"]?.string
          == "Declared queue \"\(queue)\" (durable), bound it to exchange \"amq.topic\" with routing key \"a.*\".")
    }
    let bindings = try broker.rows("bindings", containing: queue, ["source_name", "destination_name", "routing_key"])
    #expect(bindings.compactMap { $0["source_name"]?.string }.sorted() == ["", "amq.topic"])
    #expect(try publisher.queueInfo(queue)?.consumers == 0)
    try publisher.delete(queue)
  }

  @Test func `a permission that is missing ends the capture, also where the queue's name has the word exclusive`()
    throws
  {
    let user = TestBroker.uniqueName("user")
    let queue = queue + "-in-exclusive-use"
    try broker.ctl("add_user", user, "secret")
    try broker.ctl("set_permissions", "-p", broker.virtualHost, user, ".*", ".*", "^$")
    let runtime = try FlowRuntime(
      config: broker.configuration(queue: queue, ["username": .string(user), "password": "secret"]))
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    let access = broker.release < .v40 ? "access" : "read access"
    let expected =
      "consuming from queue \"\(queue)\": the broker closed the channel: 403 ACCESS_REFUSED - \(access) to queue '\(queue)' in "
      + "vhost '/' refused for user '\(user)'. The user lacks a permission: capturing needs read on the queue and on bound "
      + "exchanges, and with queue.declare: active also configure and write on the queue"
    #expect(end.cause == expected)
    try broker.ctl("delete_user", user)
    try publisher.delete(queue)
  }
}
