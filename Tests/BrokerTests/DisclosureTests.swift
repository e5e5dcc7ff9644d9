import Foundation
import Support
import Testing

/// Secrets appear nowhere, whatever goes wrong with a broker: in no output of any command, no status, no metric, no page
/// and no file.
@Suite(.serialized) struct DisclosureTests {
  static let mark = "hunter2MARK"
  private static let address = "amqp://user:\(mark)@mq"

  /// A configuration with a marked secret, or with one in a place where none belongs; and what is said of it.
  struct Mistake: Sendable, CustomTestStringConvertible {
    var change: JSON
    var says: String
    var testDescription: String { change.text }

    init(_ change: JSON, _ says: String) { (self.change, self.says) = (change, says) }
  }

  private static let pem = "-----BEGIN PRIVATE KEY-----\n\(mark)\n-----END PRIVATE KEY-----\n"
  private static let secret: JSON = ["password": .string(mark)]

  static let mistakes: [Mistake] = [
    Mistake(["host": "user:\(mark)@mq"], "host"),
    Mistake(["host": .string(address)], "host"),
    Mistake(["host": "\(mark)@localhost"], "host"),
    Mistake(["port": "user:\(mark)@mq:5672"], "port"),
    Mistake(["port": "5672:\(mark)"], "port"),
    Mistake(["host": "mq?password=\(mark)"], "host"),
    Mistake(["auth_type": "plain:\(mark)"], "auth_type"),
    Mistake(["queue": ["name": "user:\(mark)@q"]], "queue.name"),
    Mistake(["virtual_host": .string(address)], "virtual_host"),
    Mistake(["username": .string(address)], "username"),
    Mistake(["username": "guest:\(mark)"], "403"),
    Mistake(["queue": ["name": .string(address)]], "queue.name"),
    Mistake(["bindings": [["exchange": .string(address)]]], "exchange"),
    Mistake(["bindings": [["exchange": "nowhere", "routing_key": .string(address)]]], "nowhere"),
    Mistake(["bindings": [["exchange": "nowhere", "arguments": ["x": .string(address)]]]], "nowhere"),
    Mistake(["queue": ["arguments": ["x-dead-letter-exchange": .string(address)]]], "x-dead-letter-exchange"),
    Mistake(["queue": ["arguments": ["x-message-ttl": .string(address)]]], "message_ttl"),
    Mistake(["password:\(mark)": 1], "password"),
    Mistake([address: 1], "unknown key"),
    Mistake(["passwort": .string(mark)], "passwort"),
    Mistake(["password": [.string(mark)]], "password"),
    Mistake(["password": "\(mark)\0"], "password"),
    Mistake(secret, "403"),
    Mistake(secret.merged(with: ["auth_type": "amqplain"]), "403"),
    Mistake(secret.merged(with: ["port": 1]), "Connection refused"),
    Mistake(secret.merged(with: ["host": "nowhere.invalid"]), "resolving nowhere.invalid"),
    Mistake(secret.merged(with: ["tls": ["enabled": true]]), "TLS"),
    Mistake(secret.merged(with: ["auth_type": "external"]), "external"),
    Mistake(["virtual_host": "nowhere"], "530"),
    Mistake(["tls": ["enabled": true, "ca_cert": .string(pem)]], "tls.ca_cert"),
    Mistake(["tls": ["enabled": true, "ca_cert": .string(address)]], "tls.ca_cert"),
    Mistake(["tls": ["enabled": true, "client_cert": .string(pem), "client_key": .string(pem)]], "tls.client_cert"),
    Mistake(["tls": ["enabled": true, "client_cert": "c.pem", "client_key": .string(mark)]], "tls.client_cert"),
    Mistake(["tls": ["enabled": true, "server_name": "user:\(mark)@mq"]], "tls.server_name"),
    Mistake(["journal": ["path": .string(address + "/journal.db")]], "journal.path"),
  ]

  private func expectNoMark(_ lines: [String], _ place: String, sourceLocation: SourceLocation = #_sourceLocation) {
    for line in lines { #expect(!line.contains("hunter2"), "\(place)", sourceLocation: sourceLocation) }
  }

  @Test(arguments: mistakes)
  func `no command and no request shows it, and all say what is wrong`(mistake: Mistake) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    // Everything ends by itself: a capture that never ran gives up at what a user must mend, and else at once.
    let config = bench.broker.configuration(
      queue: bench.queue, mistake.change.merged(with: ["max_reconnect_attempts": 1, "reconnect_delay": 0]))
    let path = directory + "/capture.json"
    try config.text.write(toFile: path, atomically: true, encoding: .utf8)
    for arguments in [["check", path], ["run", path, "--output", directory + "/out", "--listen", "127.0.0.1:0"]] {
      let (output, exit) = try Command(arguments).finish()
      #expect(exit != .exited(0))
      #expect((output.lines + output.log).joined().contains(mistake.says), "\(output)")
      expectNoMark(output.lines + output.log, arguments[0])
    }
    for request in ["validate", "apply"] {
      let result = try ask(request, config)
      expectNoMark(result.log + result.responses.map(\.text), request)
    }
    let discovered = try unary([["discover": ["connectorType": "LOCAL", "config": config]]])
    expectNoMark(discovered.log + discovered.responses.map(\.text), "discover")
    let runtime = try FlowRuntime(config: config)
    try runtime.start(awaitOpened: false)
    #expect(try runtime.waitForExit() != .exited(0))
    expectNoMark(runtime.log.map(\.text), "open")
    try expectNoMark(in: directory + "/out")
    try bench.publisher.delete(bench.queue)
  }

  /// Every file below, and its name.
  private func expectNoMark(in directory: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
    for name in FileManager.default.enumerator(atPath: directory) ?? .init() {
      let data = FileManager.default.contents(atPath: "\(directory)/\(name)") ?? Data()
      #expect(data.firstRange(of: Data("hunter2".utf8)) == nil && !"\(name)".contains("hunter2"), "\(name)")
    }
  }

  @Test func `a capture that runs and loses its broker shows its password nowhere`() throws {
    let user = TestBroker.uniqueName("user")
    let bench = try Bench()
    try bench.broker.ctl("add_user", user, Self.mark)
    try bench.broker.ctl("set_permissions", user, ".*", ".*", ".*")
    let directory = try temporaryDirectory()
    let options: JSON = ["username": .string(user), "password": .string(Self.mark), "reconnect_delay": 1]
    let config = try RunTests.configuration(bench, options, in: directory)
    let output = directory + "/out"
    let agent = try ListeningAgent([config, "--output", output])
    try bench.publisher.publishMany(5, .simple(bytes: 10), routingKey: bench.queue)
    var page = try agent.page("metrics") { $0["acknowledged_messages_total"] == 5 }
    expectNoMark([page.body], "metrics")
    try bench.broker.ctl("change_password", user, "another")
    try bench.broker.ctl("close_all_user_connections", user, "password \(Self.mark) is no longer valid")
    page = try agent.page("metrics") { $0[#"reconnects_total{cause="connection_closed_403"}"#] ?? 0 > 0 }
    expectNoMark([page.body], "metrics")
    for path in ["", "healthz", "readyz"] { expectNoMark([try Page(agent.url + path).body], path) }
    agent.command.child.signal(SIGTERM)
    let written = try agent.command.end().output
    #expect(written.log.contains { $0.contains("is no longer valid") })
    expectNoMark(written.lines + written.log, "run")
    try expectNoMark(in: output)
    try bench.broker.ctl("delete_user", user)
    let publisher = try Publisher(bench.broker)
    try publisher.delete(bench.queue)
  }
}
