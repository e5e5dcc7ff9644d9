import Glibc
import Platform

/// A release of RabbitMQ, for what one does differently from another.
public struct BrokerRelease: Sendable, Comparable {
  public let major: Int
  public let minor: Int

  public static let v40 = BrokerRelease(major: 4, minor: 0)
  public static let v43 = BrokerRelease(major: 4, minor: 3)

  public static func < (left: BrokerRelease, right: BrokerRelease) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}

/// The private broker that scripts/test started for this run.
public struct TestBroker: Sendable {
  public let host: String
  public let port: Int
  public private(set) var user: String
  public private(set) var password: String
  public private(set) var virtualHost: String
  /// The port of the TLS listener.
  public let tlsPort: Int
  /// Where `scripts/broker` put the test certificates.
  public let tlsDirectory: String
  /// The common name of the client certificate there. No such user exists until a test adds it.
  public let tlsUser: String
  /// What `scripts/broker` knows the broker by.
  public let directory: String
  public let release: BrokerRelease
  /// Where it speaks the stream protocol; empty if it does not.
  private let streamPort: String
  /// Signs tokens; empty if it takes none.
  private let tokenKey: String

  /// Reads the variables that scripts/test exports.
  ///
  /// - Throws: If one is missing. A test that needs a broker fails without one: a silent skip would look like success.
  public init() throws { try self.init(processEnvironment()) }

  /// A broker of the test's own, started below a new directory, for tests that stop, kill or reconfigure it.
  ///
  /// Takes some seconds to start; `remove` ends it.
  ///
  /// - Parameter streams: It speaks the stream protocol, too.
  /// - Parameter oauth: It takes tokens (``token(expiresIn:)``) as passwords, too.
  public static func own(streams: Bool = false, oauth: Bool = false) throws -> TestBroker {
    let beside = try TestBroker().directory.split(separator: "/").dropLast().joined(separator: "/")
    let directory = "/\(beside)/own-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    _ = try script(["start", directory] + (streams ? ["--streams"] : []) + (oauth ? ["--oauth"] : []))
    var variables: [String: String] = [:]
    for line in try script(["env", directory]).split(separator: "\n") {
      let pair = line.dropFirst("export ".count).split(separator: "=", maxSplits: 1)
      guard pair.count == 2 else { throw SupportError("odd line in the broker's environment: \(line)") }
      variables[String(pair[0])] = String(pair[1])
    }
    return try TestBroker(variables)
  }

  private init(_ variables: [String: String]) throws {
    func value(_ name: String) throws -> String {
      guard let value = variables["SOURCE_AMQP_TEST_\(name)"] else {
        throw SupportError("SOURCE_AMQP_TEST_\(name) is not set: run scripts/test")
      }
      return value
    }
    host = try value("HOST")
    guard let port = Int(try value("PORT")) else { throw SupportError("SOURCE_AMQP_TEST_PORT is no number") }
    self.port = port
    user = try value("USER")
    password = try value("PASSWORD")
    virtualHost = try value("VHOST")
    guard let tlsPort = Int(try value("TLS_PORT")) else { throw SupportError("SOURCE_AMQP_TEST_TLS_PORT is no number") }
    self.tlsPort = tlsPort
    tlsDirectory = try value("TLS_DIR")
    tlsUser = try value("TLS_USER")
    directory = try value("BROKER_DIR")
    let numbers = try value("RELEASE").split(separator: ".").compactMap { Int($0) }
    streamPort = variables["SOURCE_AMQP_TEST_STREAM_PORT"] ?? ""
    tokenKey = variables["SOURCE_AMQP_TEST_OAUTH_KEY"] ?? ""
    guard numbers.count == 2 else { throw SupportError("SOURCE_AMQP_TEST_RELEASE is no release") }
    release = BrokerRelease(major: numbers[0], minor: numbers[1])
  }

  /// The variables that the publisher and the scripts need to reach this broker.
  var environment: [String: String] {
    [
      "SOURCE_AMQP_TEST_HOST": host, "SOURCE_AMQP_TEST_PORT": String(port), "SOURCE_AMQP_TEST_USER": user,
      "SOURCE_AMQP_TEST_PASSWORD": password, "SOURCE_AMQP_TEST_VHOST": virtualHost,
      "SOURCE_AMQP_TEST_STREAM_PORT": streamPort,
    ]
  }

  /// A name that nothing else on the broker has.
  public static func uniqueName(_ prefix: String = "test") -> String {
    "\(prefix)-\(getpid())-\(String(UInt64.random(in: 0...UInt64.max), radix: 36))"
  }

  /// The endpoint configuration for a queue of this broker; `extra` members are merged over it.
  public func configuration(queue: String, _ extra: JSON = [:]) -> JSON {
    let base: JSON = [
      "host": .string(host), "port": JSON(port), "virtual_host": .string(virtualHost), "username": .string(user),
      "password": .string(password), "queue": ["name": .string(queue)],
    ]
    return base.merged(with: extra)
  }

  /// Runs rabbitmqctl (about half a second) and returns what it printed.
  @discardableResult
  public func ctl(_ arguments: String...) throws -> String {
    try ctl(arguments)
  }

  /// The same with a list.
  @discardableResult
  public func ctl(_ arguments: [String]) throws -> String {
    try Self.script(["ctl", directory] + arguments)
  }

  /// The same broker, seen by a new user with all permissions on a new virtual host.
  public func adding(virtualHost: String, user: String, password: String) throws -> TestBroker {
    var broker = self
    (broker.virtualHost, broker.user, broker.password) = (virtualHost, user, password)
    try ctl("add_vhost", virtualHost)
    try ctl("add_user", user, password)
    try ctl("set_permissions", "-p", virtualHost, user, ".*", ".*", ".*")
    return broker
  }

  /// The rows of `rabbitmqctl list_WHAT` that contain `text`, with the columns as members. An argument table is an array
  /// of `[name, type, value]`; one line of rabbitmqctl is one row, and others than these are not looked at.
  ///
  /// - Parameter everywhere: Not by virtual host: connections.
  public func rows(
    _ what: String, containing text: String, _ columns: [String], everywhere: Bool = false
  ) throws -> [JSON] {
    let place = everywhere ? [] : ["-p", virtualHost]
    let output = try ctl(["list_" + what, "--formatter", "json"] + place + columns)
    return try output.split(separator: "\n").filter { $0.contains(text) }.map { line in
      try JSON(parsing: String(line.first == "," ? line.dropFirst() : line))
    }
  }

  /// Ready and unacknowledged messages of a queue. RabbitMQ gathers these numbers when it is asked, but a queue's
  /// process counts an ack only once it arrived: after a consumer's exit, ask until the number is there.
  public func queueDepth(_ queue: String) throws -> (ready: Int, unacknowledged: Int) {
    let output = try ctl(
      "list_queues", "-p", virtualHost, "--no-table-headers", "name", "messages_ready", "messages_unacknowledged")
    for line in output.split(separator: "\n") {
      let columns = line.split(separator: "\t")
      if columns.count == 3, columns[0] == queue, let ready = Int(columns[1]), let unacknowledged = Int(columns[2]) {
        return (ready, unacknowledged)
      }
    }
    throw SupportError("no queue \(queue) in: \(output)")
  }

  /// Ends every client connection on the broker, publishers included, as an administrator would.
  public func closeConnections(reason: String = "test") throws {
    try ctl("close_all_connections", reason)
  }

  /// Ends the connections of one user.
  public func closeConnections(of user: String) throws {
    for line in try ctl("list_connections", "--no-table-headers", "pid", "user").split(separator: "\n") {
      let columns = line.split(separator: "\t")
      if columns.count == 2, columns[1] == user { try ctl("close_connection", String(columns[0]), "test") }
    }
  }

  /// A token for the user `agent`, who may do everything.
  public func token(expiresIn seconds: Int) throws -> String {
    try run(try pythonInterpreter(), [repository + "/scripts/lib/oauth.py", tokenKey, "\(seconds)"])
  }

  /// Orderly stop; `start` brings it back on the same port with the same data.
  public func stop() throws { _ = try Self.script(["stop", directory]) }
  /// Starts a stopped or killed broker again.
  public func start() throws { _ = try Self.script(["start", directory]) }
  /// SIGKILL.
  public func kill() throws { _ = try Self.script(["kill", directory]) }
  /// SIGSTOP: sockets stay open, nothing is answered.
  public func freeze() throws { _ = try Self.script(["stop-process", directory]) }
  /// SIGCONT.
  public func thaw() throws { _ = try Self.script(["cont-process", directory]) }
  /// Ends a broker made with `own` and deletes its data.
  public func remove() throws {
    try stop()
    _ = try run("/bin/rm", ["-rf", directory])
  }

  private static func script(_ arguments: [String]) throws -> String {
    try run(repository + "/scripts/broker", arguments)
  }
}

/// The Python that has pika and prometheus_client.
public func pythonInterpreter() throws -> String {
  guard let python = processEnvironment()["SOURCE_AMQP_TEST_PYTHON"] else {
    throw SupportError("SOURCE_AMQP_TEST_PYTHON is not set: run scripts/test")
  }
  return python
}

/// Runs a program to its end and returns what it wrote to stdout.
///
/// - Throws: If it does not exit with 0, with what it wrote to stderr.
@discardableResult
public func run(_ executable: String, _ arguments: [String], atMost limit: Duration = generousLimit) throws -> String {
  struct Collected {
    var output: [UInt8] = []
    var error: [UInt8] = []
    var ended = 0
  }
  let collected = Monitor(Collected())
  let child = try ChildProcess(executable, arguments) { event in
    collected.update {
      switch event {
      case .line(let line): $0.output += line + [0x0A]
      case .end(let torn):
        $0.output += torn
        $0.ended += 1
      }
    }
  } onError: { event in
    collected.update {
      switch event {
      case .line(let line): $0.error += line + [0x0A]
      case .end(let torn):
        $0.error += torn
        $0.ended += 1
      }
    }
  }
  child.closeInput()
  let status = try child.waitForExit(atMost: limit)
  // A daemon that the program left behind must not hold the pipes; where one does, this says so instead of hanging.
  guard let result = collected.wait(atMost: limit, until: { $0.ended == 2 ? $0 : nil }) else {
    throw SupportError("\(executable) ended, but its output stays open")
  }
  guard status == .exited(0) else {
    let error = String(decoding: result.error, as: UTF8.self)
    throw SupportError("\(executable) \(arguments.joined(separator: " ")): \(status)\n\(error)")
  }
  return String(decoding: result.output, as: UTF8.self)
}
