import Glibc
import Support
import Testing

/// Where the broker is, and how long it is tried: `host`, `port`, `virtual_host`, `connection_timeout`, `reconnect_delay`
/// and `max_reconnect_attempts`.
@Suite(.timeLimit(.minutes(5))) struct SettingsConnectionTests {
  let broker: TestBroker

  init() throws { broker = try TestBroker() }

  private func runtime(_ queue: String, _ settings: JSON, name: String = "acmeCo/source-amqp") throws -> FlowRuntime {
    try FlowRuntime(config: broker.configuration(queue: queue, settings), name: name)
  }

  /// Numbers of the reports of failed attempts so far.
  private func failures(_ runtime: FlowRuntime) -> [String] {
    // An outage is told once; each attempt is there at the level of debugging.
    runtime.log.compactMap(\.message).filter { $0.hasPrefix("not consuming: ") }
  }

  @Test func `a host may be an IPv6 address, which messages show in brackets`() throws {
    let free = try HeldPort(silent: false).number
    let listener = "begin {ok, _} = rabbit_networking:start_tcp_listener({\"::1\", \(free), inet6}, 10), ok end."
    let alternative = "rabbit_networking:start_tcp_listener({\"::1\", \(free)}, 10)."
    do { try broker.ctl("eval", listener) } catch { try broker.ctl("eval", alternative) }
    let queue = TestBroker.uniqueName()
    let runtime = try runtime(queue, ["host": "::1", "port": JSON(free), "queue": ["auto_delete": true]])
    try runtime.startConsuming()
    try Publisher(broker).publish("over IPv6", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    #expect(runtime.bodies == ["over IPv6"])
    #expect(try runtime.terminate() == .exited(0))

    let held = try HeldPort(silent: false)
    runtime.configuration = broker.configuration(
      queue: queue, ["host": "::1", "port": JSON(held.number), "max_reconnect_attempts": 0])
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    #expect(end.cause?.contains("connecting to [::1]:\(held.number): no connection: ") == true, "\(end.cause ?? "")")
  }

  @Test(arguments: ["/a", "%2F", "//", "settings", ""])
  func `a virtual host is taken literally, so a name like another's is not that one`(name: String) throws {
    let runtime = try runtime(TestBroker.uniqueName(), ["virtual_host": .string(name)])
    if name.isEmpty {
      #expect(try ask("validate", runtime.configuration).exit == .exited(78))
      return
    }
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    let advice =
      name == "%2F"
      ? "Set virtual_host: / for the default virtual host: the setting is taken literally, and %2F stands for / only in an "
        + "amqp:// address" : "Check virtual_host, and that the user may use it"
    let expected =
      "opening virtual host \"\(name)\": the broker closed the connection: 530 NOT_ALLOWED - vhost \(name) not found. "
      + advice
    #expect(end.cause == expected)
  }

  @Test func `one attempt goes through host and hosts, whatever is wrong with all but one of them`() throws {
    let (dead, silent) = (try HeldPort(silent: false), try HeldPort(silent: true))
    let queue = TestBroker.uniqueName()
    let publisher = try Publisher(broker)
    try publisher.declare(queue)
    let runtime = try runtime(
      queue,
      [
        "host": "[::1]", "port": JSON(dead.number), "max_reconnect_attempts": 0, "connection_timeout": 10,
        "hosts": [
          .string("127.0.0.1:\(silent.number)"), .string("[::1]:\(dead.number)"), "no-such-host.invalid",
          .string("\(broker.host):\(broker.port)"),
        ],
      ])
    // The order is drawn anew by each attempt.
    for count in 1...4 {
      try runtime.startConsuming()
      try publisher.publish("\(count)", routingKey: queue)
      try runtime.waitUntil(committedCount: count)
      #expect(try runtime.terminate() == .exited(0))
    }
    #expect(runtime.bodies == ["1", "2", "3", "4"])
    #expect(failures(runtime).isEmpty)
    let validated = try ask("validate", runtime.configuration)
    #expect(validated.exit == .exited(0), "\(validated.cause ?? "")")
    try publisher.delete(queue)
  }

  @Test func `an attempt that no node answers names them all and counts once`() throws {
    let (first, second) = (try HeldPort(silent: false), try HeldPort(silent: false))
    let runtime = try runtime(
      "q",
      [
        "host": "127.0.0.1", "port": JSON(first.number), "hosts": [.string("localhost:\(second.number)")],
        "max_reconnect_attempts": 2, "reconnect_delay": 0,
      ])
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    let cause = try #require(end.cause)
    #expect(cause.hasPrefix("gave up after 2 failed attempts in a row (max_reconnect_attempts): connecting to any of "))
    #expect(cause.contains("connecting to 127.0.0.1:\(first.number): no connection: 127.0.0.1 port \(first.number): "))
    #expect(cause.contains("connecting to localhost:\(second.number): no connection: "))
    #expect(cause.hasSuffix(". Check host, hosts and port, and that the broker listens there"))
  }

  @Test(arguments: [0, 1, 3])
  func `a dead port is tried as often as max_reconnect_attempts says, and then the capture fails`(limit: Int) throws {
    let port = try HeldPort(silent: false)
    let runtime = try runtime(
      "q",
      [
        "host": "127.0.0.1", "port": JSON(port.number), "max_reconnect_attempts": JSON(limit),
        "reconnect_delay": .number("0.01"),
      ])
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    let attempts = max(limit, 1)
    #expect(failures(runtime).count == attempts - 1)
    let expected =
      "gave up after \(attempts) failed attempt\(attempts == 1 ? "" : "s") in a row (max_reconnect_attempts): "
      + "connecting to 127.0.0.1:\(port.number): no connection: 127.0.0.1 port \(port.number): Connection refused. "
      + "Check host and port, and that the broker listens there"
    #expect(end.cause == expected)
  }

  @Test func `without a limit a dead port is tried for ever, and a stop is heard meanwhile`() throws {
    let port = try HeldPort(silent: false)
    let runtime = try runtime(
      "q", ["host": "127.0.0.1", "port": JSON(port.number), "reconnect_delay": .number("0.01")])
    try runtime.start()
    var seen = 0
    try runtime.waitForLog("the twentieth failure") {
      if $0.message?.hasPrefix("not consuming: ") == true { seen += 1 }
      return seen == 20
    }
    #expect(try runtime.terminate() == .exited(0))
  }

  @Test func `reconnect_delay is the time between attempts, give or take a tenth, and a stop ends it`() throws {
    let port = try HeldPort(silent: false)
    let settings: JSON = ["host": "127.0.0.1", "port": JSON(port.number), "reconnect_delay": 1000]
    var delays: [Double] = []
    for _ in 0..<8 {
      let runtime = try runtime("q", settings)
      try runtime.start()
      let line = try runtime.waitForLog("the wait") { $0.message?.contains("next attempt in ") == true }
      let words = try #require(line.message).split(separator: " ")
      delays.append(try #require(Double(words[words.count - 2])))
      #expect(try runtime.terminate() == .exited(0))
    }
    #expect(delays.allSatisfy { 900...1100 ~= $0 }, "\(delays)")
    #expect(Set(delays).count > 1)
  }

  @Test func `a consumer that runs again resets the count of attempts`() throws {
    let queue = TestBroker.uniqueName()
    let publisher = try Publisher(broker)
    let runtime = try runtime(
      queue, ["max_reconnect_attempts": 1, "reconnect_delay": .number("0.01"), "queue": ["auto_delete": false]],
      name: queue)
    try runtime.startConsuming()
    for generation in 2...4 {
      let connections = try broker.ctl("list_connections", "pid", "client_properties").split(separator: "\n")
      let ours = try #require(connections.first { $0.contains("\"source-amqp \(queue)\"") })
      try broker.ctl("close_connection", String(ours.split(separator: "\t")[0]), "maintenance")
      try runtime.waitUntilConsuming(generation: generation)
    }
    try publisher.publish("still here", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test func `a port that accepts and says nothing is given up after connection_timeout`() throws {
    let port = try HeldPort(silent: true)
    let settings: JSON = [
      "host": "127.0.0.1", "port": JSON(port.number), "connection_timeout": .number("0.3"), "max_reconnect_attempts": 2,
      "reconnect_delay": 0,
    ]
    let runtime = try runtime("q", settings)
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    #expect(
      end.cause
        == "gave up after 2 failed attempts in a row (max_reconnect_attempts): connecting to 127.0.0.1:\(port.number): "
        + "no answer in time")
    // Validate and Discover are bound by it as well.
    let validated = try ask("validate", broker.configuration(queue: "q", settings))
    #expect(validated.exit == .exited(1))
    #expect(validated.cause == "connecting to 127.0.0.1:\(port.number): no answer in time")
  }

  @Test func `the password and a wrong one are never shown`() throws {
    let wrong = "wr0ng-\(TestBroker.uniqueName())"
    let runtime = try runtime("q", ["password": .string(wrong)])
    let end = try runtime.startAndFail()
    #expect(end.exit == .exited(1))
    #expect(end.cause?.contains("Check username, password and auth_type") == true, "\(end.cause ?? "")")
    #expect(!runtime.log.contains { $0.text.contains(wrong) })
  }
}
