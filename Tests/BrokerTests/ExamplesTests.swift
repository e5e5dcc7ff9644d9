import Foundation
import Support
import Testing

/// What lies below examples/ is what the connector takes, and does what its comments say: each file is checked against the
/// published schemas and really opened. Replaced are names and secrets alone: where the broker is, who logs in, certificates.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ExamplesTests {
  /// A catalog file on a virtual host of its own, so that its queue and exchanges can have the names that it gives them.
  struct Example {
    let broker: TestBroker
    let publisher: Publisher
    let file: String
    let config: JSON
    let stream: String
    let runtime: FlowRuntime

    var queue: String { config[path: "queue", "name"]?.string ?? "" }

    /// - Parameter prepare: Makes on the broker what the example expects to be there.
    init(_ name: String, replacing options: JSON = [:], prepare: (TestBroker, Publisher) throws -> Void = { _, _ in })
      throws
    {
      let host = TestBroker.uniqueName("examples")
      broker = try TestBroker().adding(virtualHost: host, user: host, password: "secret of \(host)")
      publisher = try Publisher(broker)
      try prepare(broker, publisher)
      file = repository + "/examples/" + name
      let checked = try JSON(
        parsing: try run(
          try pythonInterpreter(), [repository + "/scripts/lib/catalog.py", "check", try connectorBinary(), file]))
      let example = try #require(checked["config"])
      stream = try #require(checked["stream"]?.string)
      let resources = try #require(checked["resources"]?.array)
      var place: JSON = ["host": .string(broker.host), "port": JSON(broker.port), "virtual_host": .string(host)]
      if example["password"] != nil {
        place = place.merged(with: ["username": .string(broker.user), "password": .string(broker.password)])
      }
      config = example.merged(with: place).merged(with: options)
      runtime = try FlowRuntime(config: config)
      runtime.opening.bindings = resources.map {
        FlowRuntime.binding(stream: $0["stream"]?.string ?? "", resource: $0)
      }
      // As in Flow, where Apply comes before the first Open.
      #expect(try ask("validate", config, resources: resources).exit == .exited(0))
      #expect(try ask("apply", config, resources: resources).exit == .exited(0))
    }

    /// Ends the capture, checks the committed documents against the published schemas, and takes everything away.
    func finish() throws {
      try runtime.waitUntilSettled()
      #expect(try runtime.closeInput() == .exited(0))
      #expect(runtime.violations == [])
      let documents = try temporaryDirectory() + "/documents.jsonl"
      // Checking takes Python a millisecond or two each.
      let lines = try runtime.committed.prefix(200).map { try documentText($0.line) }
      try lines.joined(separator: "\n").write(toFile: documents, atomically: true, encoding: .utf8)
      let count = try run(
        "/bin/sh",
        [
          "-c", "exec \"$0\" \"$1\" documents \"$2\" \"$3\" <\"$4\"", try pythonInterpreter(),
          repository + "/scripts/lib/catalog.py", try connectorBinary(), file, documents,
        ])
      #expect(Int(count.dropLast()) == lines.count && !lines.isEmpty)
      try broker.ctl("delete_vhost", broker.virtualHost)
      try broker.ctl("delete_user", broker.user)
    }

    /// Whether the log says that what the broker sends again is recognised, as the example claims.
    func recognisesRedeliveries() throws -> Bool {
      let line = try runtime.waitForLog("the rule") { $0.message?.hasPrefix("captured ") == true }
      return line.message?.hasPrefix("captured once") == true
    }

    /// Columns of the one connection that consumes; what the publisher's own is, is not asked.
    func connection(_ columns: [String]) throws -> JSON {
      let rows = try broker.rows(
        "connections", containing: broker.virtualHost, columns + ["vhost", "client_properties"], everywhere: true)
      return try #require(rows.first { $0["client_properties"]?.text.contains("source-amqp") == true }, "\(rows)")
    }
  }

  private func text(_ broker: TestBroker, _ file: String) throws -> JSON {
    .string(try String(contentsOfFile: broker.tlsDirectory + "/" + file, encoding: .utf8))
  }

  @Test func `basic captures its queue, which it declares, and which nobody else can consume`() throws {
    let example = try Example("basic.yaml")
    try example.publisher.publish("1", routingKey: "orders", count: 3)
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(committedCount: 3)
    #expect(try example.recognisesRedeliveries())
    let queues = try example.broker.rows("queues", containing: "orders", ["name", "durable", "exclusive_consumer_tag"])
    #expect(queues.first?["durable"] == true, "\(queues)")
    #expect(queues.first?["exclusive_consumer_tag"]?.string?.hasPrefix("source-amqp") == true, "\(queues)")
    try example.finish()
  }

  @Test func `binding gets what its bindings ask for, once, and nothing else`() throws {
    let example = try Example("binding.yaml") { _, publisher in
      try publisher.declareExchange("shop.events", type: "topic", durable: true)
      try publisher.declareExchange("shop.audit", type: "headers", durable: true)
    }
    let publisher = example.publisher
    func headers(_ level: Int64) -> Properties {
      Properties(headers: [("department", .text("sales")), ("level", .int64(level))])
    }
    #expect(try publisher.publish("a", exchange: "shop.events", routingKey: "orders.eu.new") == 1)
    #expect(try publisher.publish("b", exchange: "shop.events", routingKey: "stock.de.low") == 1)
    #expect(try publisher.publish("c", exchange: "shop.events", routingKey: "stock.de.high") == 0)
    #expect(try publisher.publish("d", properties: headers(3), exchange: "shop.audit", routingKey: "any") == 1)
    #expect(try publisher.publish("e", properties: headers(2), exchange: "shop.audit", routingKey: "any") == 0)
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(committedCount: 3)
    #expect(example.runtime.bodies == ["a", "b", "d"])
    #expect(try example.recognisesRedeliveries())
    let queues = try example.broker.rows("queues", containing: "orders", ["name", "type"])
    #expect(queues.first?["type"]?.string?.contains("quorum") == true, "\(queues)")
    try example.finish()
  }

  @Test func `several captures three queues, each as its resource says`() throws {
    let example = try Example("several.yaml") { try $1.declare("shop.payments") }
    try example.runtime.start()
    try example.runtime.waitForLog("all three") { $0.message == "Capture started" }
    try example.publisher.publish("1", exchange: "amq.topic", routingKey: "orders.new", count: 3)
    try example.publisher.publish("2", routingKey: "shop.payments", count: 2)
    try example.runtime.waitUntil(committedCount: 8)
    let streams = Dictionary(grouping: example.runtime.committed, by: \.stream).mapValues(\.count)
    #expect(streams == ["orders": 3, "payments": 2, "audit": 3])
    try example.finish()
  }

  @Test func `tls captures over TLS with the authority as text`() throws {
    let broker = try TestBroker()
    let example = try Example(
      "tls.yaml",
      replacing: [
        "host": "localhost", "port": JSON(broker.tlsPort), "tls": ["ca_cert": try text(broker, "ca.pem")],
      ])
    try example.publisher.publish("over TLS", routingKey: example.queue)
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(committedCount: 1)
    #expect(try example.connection(["ssl"])["ssl"] == true)
    try example.finish()
  }

  @Test func `mutual-tls logs in with its certificate alone`() throws {
    let broker = try TestBroker()
    // The password is never used, but rabbitmqctl wants one.
    try broker.ctl("add_user", broker.tlsUser, TestBroker.uniqueName("unused"))
    defer { _ = try? broker.ctl("delete_user", broker.tlsUser) }
    let tls: JSON = [
      "ca_cert": try text(broker, "ca.pem"), "client_cert": try text(broker, "client-chain.pem"),
      "client_key": try text(broker, "client.key"),
    ]
    let example = try Example(
      "mutual-tls.yaml", replacing: ["host": "localhost", "port": JSON(broker.tlsPort), "tls": tls]
    ) { own, _ in
      try own.ctl("set_permissions", "-p", own.virtualHost, broker.tlsUser, ".*", ".*", ".*")
    }
    #expect(example.config["password"] == nil && example.config["username"] == nil)
    try example.publisher.publish("by certificate", routingKey: example.queue)
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(committedCount: 1)
    let connection = try example.connection(["ssl", "auth_mechanism", "user"])
    #expect(connection["auth_mechanism"] == "EXTERNAL" && connection["user"] == .string(broker.tlsUser))
    try example.finish()
  }

  @Test func `priority captures what is urgent first, and recognises by their ids what comes again`() throws {
    let example = try Example("priority.yaml")
    func publish(_ priorities: UInt8...) throws {
      for priority in priorities {
        var properties = Properties(messageID: "m-\(priority)")
        properties.priority = priority
        try example.publisher.publish("\(priority)", properties: properties, routingKey: "orders")
      }
    }
    try publish(0, 3, 5, 1, 9, 4)
    // A runtime that commits and is gone before it says so.
    example.runtime.policy.dropAcknowledgements = true
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(committedCount: 6)
    // Above max_priority is max_priority, where 5 came first.
    #expect(example.runtime.bodies == ["5", "9", "4", "3", "1", "0"])
    #expect(try example.recognisesRedeliveries())
    try example.runtime.kill()
    example.runtime.policy.dropAcknowledgements = false
    try publish(2)
    try example.runtime.start()
    try example.runtime.waitUntil(committedCount: 7)
    #expect(example.runtime.bodies.last == "2", "the only one that is new")
    try example.finish()
  }

  @Test func `high-throughput has its window, recognises redeliveries, and leaves body_raw out`() throws {
    let example = try Example("high-throughput.yaml")
    try example.publisher.publishMany(10_000, .simple(bytes: 300), routingKey: "orders")
    example.runtime.policy.holdCommits = true
    try example.runtime.startConsuming()
    try example.runtime.waitUntil(documentsRead: 8000)
    #expect(try example.recognisesRedeliveries())
    example.runtime.policy.holdCommits = false
    try example.runtime.waitUntil(committedCount: 10_000)
    let first = try #require(example.runtime.committed.first?.json)
    #expect(first["body"]?.object != nil && first["body_raw"] == nil)
    try example.finish()
  }
}

/// The agents of docker-compose.yaml and source-amqp.service, with their own arguments and configuration.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ExampleAgentTests {
  private func load(_ file: String) throws -> JSON {
    try JSON(
      parsing: try run(
        try pythonInterpreter(), [repository + "/scripts/lib/catalog.py", "load", repository + "/" + file]))
  }

  /// Runs `arguments` with `config` in place of the configuration's file, and another place and port.
  private func capture(
    _ arguments: [String], config file: String, directory original: String, address: String,
    _ options: JSON, environment: [String: String]
  ) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let example = try load(file)
    let place: JSON = [
      "host": .string(bench.broker.host), "port": JSON(bench.broker.port), "username": .string(bench.broker.user),
      "queue": ["name": .string(bench.queue)],
    ]
    let config = directory + "/capture.yaml"
    try example.merged(with: place).merged(with: options).text
      .write(toFile: config, atomically: true, encoding: .utf8)
    let replaced = [
      "/etc/source-amqp/capture.yaml": config, original: directory + "/captured", address: "127.0.0.1:0",
    ]
    #expect(Set(replaced.keys).isSubset(of: arguments), "\(arguments)")
    let agent = try Command(arguments.map { replaced[$0] ?? $0 }, environment: environment)
    try bench.publisher.publish("x", exchange: "", routingKey: bench.queue)
    try agent.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    #expect(agent.written.log.contains { $0.contains("metrics and health are served") })
    let file = directory + "/captured/\(bench.queue)-000001.jsonl"
    let clock = ContinuousClock()
    let deadline = clock.now + generousLimit
    while try Data(contentsOf: URL(filePath: file)).isEmpty, clock.now < deadline { _ = try run("/bin/true", []) }
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    #expect(
      try JSON(parsing: String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .newlines))["body"] == "x")
    #expect(FileManager.default.fileExists(atPath: directory + "/captured/journal.db"))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `the agent of docker-compose captures with its arguments and its configuration`() throws {
    let agent = try #require(try load("docker-compose.yaml")[path: "services", "agent"])
    let mounted = (agent["volumes"]?.array ?? []).compactMap(\.string)
    #expect(mounted == ["journal:/journal", "./examples/compose.yaml:/etc/source-amqp/capture.yaml:ro"])
    #expect(agent["ports"] == ["127.0.0.1:9090:9090"])
    let environment = (agent["environment"]?.object ?? [:]).compactMapValues(\.string)
    // The configuration has no port, since it is RabbitMQ's own.
    try capture(
      (agent["command"]?.array ?? []).compactMap(\.string), config: "examples/compose.yaml", directory: "/journal",
      address: "0.0.0.0:9090", [:], environment: environment.merging(["LOG_FORMAT": "json"]) { $1 })
  }

  @Test func `the agent of the systemd unit captures with its arguments and its configuration`() throws {
    let unit = try String(contentsOfFile: repository + "/examples/source-amqp.service", encoding: .utf8)
    let lines = unit.split(separator: "\n").map(String.init)
    let command = try #require(lines.first { $0.hasPrefix("ExecStart=") })
    let words = command.dropFirst("ExecStart=".count).split(separator: " ").map(String.init)
    #expect(words.first == "/usr/local/bin/source-amqp")
    #expect(lines.contains("LoadCredential=password:/etc/source-amqp/password"))
    #expect(lines.contains("RestartPreventExitStatus=64 78") && lines.contains("StateDirectory=source-amqp"))
    let config = try load("examples/service.yaml")
    #expect(config["password"] == "${file:/run/credentials/source-amqp.service/password}")
    let password = try temporaryDirectory() + "/password"
    try (try TestBroker().password + "\n").write(toFile: password, atomically: true, encoding: .utf8)
    try capture(
      Array(words.dropFirst()), config: "examples/service.yaml", directory: "/var/lib/source-amqp",
      address: "127.0.0.1:9090", ["password": .string("${file:\(password)}")], environment: [:])
  }
}
