import Logging
import Synchronization
import Testing

@testable import AMQP
@testable import Agent

/// Credentials stay out of whatever is shown, also those that stand where none belong.
struct DisclosureTests {
  static let mark = "hunter2MARK"

  /// What credentials look like where none belong.
  static let shapes = [
    "amqp://user:\(mark)@mq", "amqp://user:\(mark)@mq:5672/vhost", "amqps://user:p@\(mark)@mq/%2F",
    "amqp://user:a/\(mark)@mq",
    "amqp://user:a?\(mark)@mq", "https://u:\(mark)@mq:15672/api?token=\(mark)", "-----BEGIN PRIVATE KEY-----\n\(mark)",
    "-----BEGIN \(mark)", "eyJ\(mark).eyJ\(mark).\(mark)", "Bearer eyJ\(mark).\(mark).\(mark)",
  ]

  /// Every text setting but those that hold secrets or are addresses of any kind.
  static let names = SettingsTable.rows.filter { row in
    if case .text(let rule) = row.setting.kind { return rule.form == .any || rule.form == .host(.host) }
    return false
  }.map(\.path)

  @Test(arguments: names, shapes)
  func `a name that looks like credentials is refused and not shown`(path: String, shape: String) {
    let problems = ConfigSupport.problems(ConfigSupport.configuration(with: .string(shape), at: path))
    #expect(problems.count == 1)
    #expect(problems.joined().contains("credentials") || problems.joined().contains("alone"), "\(problems)")
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
  }

  @Test(
    arguments: ["host", "tls.server_name"],
    ["user:\(mark)@mq", "user:\(mark)@mq:5672", "\(mark)@mq", "user:\(mark)@::1"])
  func `a host with credentials names the settings for them`(path: String, host: String) {
    let problems = ConfigSupport.problems(ConfigSupport.configuration(with: .string(host), at: path))
    let advice =
      path == "host"
      ? "alone: put the user into username, and the password into password" : "alone, without a user"
    #expect(problems == ["\(path): must be a host name or address \(advice)"])
  }

  @Test(
    arguments: SettingsTable.rows.map(\.path) + ["queue", "consumer", "journal", "bindings"],
    shapes + ["user:\(mark)@mq:5672", "user:\(mark)@q", "mq?password=\(mark)", "q?x=1&Password=\(mark)&y=2"])
  func `no setting, group or list shows credentials that were put into it`(path: String, shape: String) {
    for value: JSONValue in [
      .string(shape), .array([.string(shape)]), .object(JSONObject(members: [.init(key: shape, value: "x")])),
    ] {
      let problems = ConfigSupport.problems(ConfigSupport.configuration(with: value, at: path))
      #expect(!problems.joined().contains("hunter2"), "\(problems)")
    }
  }

  /// What is no name is shown only if it looks like what belongs there.
  @Test(
    arguments: SettingsTable.rows.filter { row in
      if case .text = row.setting.kind { return false }
      return true
    }.map(\.path), ["5672:\(mark)", "plain:\(mark)", mark, "plain \(mark)", "1\(mark)", "true\(mark)"])
  func `no number, choice or switch shows what was put in its place`(path: String, text: String) {
    let problems = ConfigSupport.problems(ConfigSupport.configuration(with: .string(text), at: path))
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
  }

  @Test(arguments: [
    ("declaring queue \"user:hunter2@q\": 404", "declaring queue \"user:(secret)@q\": 404"),
    ("resolving mq?password=hunter2&x=1: no", "resolving mq?password=(secret)&x=1: no"),
    ("rabbit@mq, a=b, x:y, 10:15@ and :p@h", "rabbit@mq, a=b, x:y, 10:15@ and :p@h"),
    ("q?token=hunter2&password=hunter2&x=1", "q?token=(secret)&password=(secret)&x=1"),
    ("queue sip:alice@example.com", "queue sip:alice@example.com"), ("TOKEN=hunter2 Token=", "TOKEN=(secret) Token="),
  ]) func `a login and an assignment are hidden in running text`(text: String, shown: String) {
    #expect(Disclosure.text(text) == shown)
  }

  @Test(
    arguments: ["password:\(mark)", "password=\(mark)", "password \(mark)", "x", "amqp://u:\(mark)@mq"],
    ["", "queue", "bindings", "tls", "consumer.nothing"])
  func `an unknown key is shown up to where a value begins in it`(key: String, group: String) {
    let file = group.isEmpty ? [key] : group == "bindings" ? [] : group.split(separator: ".").map(String.init) + [key]
    var value = ConfigSupport.configuration(with: .string(Self.mark), at: file.isEmpty ? "bindings[].x" : "queue.name")
    guard case .object(var root) = value else { return }
    if file.count == 1 { root[file[0]] = .string(Self.mark) }
    if group == "bindings" {
      root["bindings"] = [.object(JSONObject(members: [.init(key: key, value: .string(Self.mark))]))]
    }
    if group == "queue" || group == "tls" || group == "consumer.nothing" {
      let name = String(group.split(separator: ".")[0])
      var inner = JSONObject(members: [.init(key: key, value: .string(Self.mark))])
      if name == "queue" { inner["name"] = "orders" }
      root[name] = .object(inner)
    } else {
      root["queue"] = ["name": "orders"]
    }
    value = .object(root)
    let problems = ConfigSupport.problems(value)
    #expect(!problems.isEmpty)
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
    if key.hasPrefix("password") { #expect(problems.joined().contains("password"), "\(problems)") }
  }

  @Test(
    arguments: [
      #"{"amqp://u:hunter2MARK@h": 1, "amqp://u:hunter2MARK@h": 2}"#,
      "amqp://u:hunter2MARK@h: 1\namqp://u:hunter2MARK@h: 2\n",
      "queue: {name: q}\npassword:hunter2MARK: x\n", "queue: {name: q}\n{password hunter2MARK}: x",
      "queue: {name: '${file:amqp://u:hunter2MARK@h}'}", "queue: {name: '${env:amqp://u:hunter2MARK@h}'}",
      "queue: {name: '${env:MARKED}'}\nport: '${env:MARKED}'", "password: 'hunter2MARK${env:NONE}'",
      "password: 'hunter2MARK${file:none}'", "password: 'hunter2MARK${env:'", "host: '${env:URL}'\nqueue: {name: q}",
      "host: 'amqp://u:${env:MARKED}@h'\nqueue: {name: q}", "heartbeat: '${env:URL}'\nqueue: {name: '${env:URL}'}",
      "captures: {c: {endpoint: {connector: {config: 'amqp://u:hunter2MARK@h'}}}}",
      "captures: {'amqp://u:hunter2MARK@h': {endpoint: {}}}", "captures: {'amqp://u:hunter2MARK@h': {}, b: {}}",
    ], ["c.yaml", "c.json", "amqp://u:hunter2MARK@h"])
  func `a file's problems show no credentials`(text: String, name: String) {
    let inputs = ConfigSupport.inputs(
      environment: ["MARKED": Self.mark, "URL": "amqp://user:\(Self.mark)@mq"], files: [:])
    let problems = ConfigSupport.problems(file: text, name: name, inputs: inputs)
    #expect(!problems.isEmpty)
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
  }

  @Test(arguments: shapes)
  func `what the broker or the system says shows no credentials`(shape: String) throws {
    let configuration = try ConfigSupport.parse(#"{"queue": {"name": "q"}, "password": "hunter2MARK"}"#)
    let topology = Topology(configuration, name: "test")
    let kinds: [AMQPError.Kind] = [
      .nameNotResolved(text: shape), .notConnected(text: shape), .tls(text: shape), .notAMQP(hint: shape),
      .mechanismNotOffered(wanted: "PLAIN", offered: shape), .connectionClosed(code: 403, text: shape),
      .channelClosed(
        code: 406,
        text: "PRECONDITION_FAILED - inequivalent arg '\(shape)' for queue 'q' in vhost '/': "
          + "received '\(shape)' but current is '\(shape)'"),
      .channelClosed(code: 406, text: "PRECONDITION_FAILED - invalid arg '\(shape)' for queue"),
      .socket(code: 1, text: shape), .endOfStream(hint: shape), .malformed(text: shape), .unencodable(text: shape),
      .connectionClosed(code: 403, text: "wrong password \(Self.mark)"),
    ]
    for kind in kinds {
      let failure = topology.explained(AMQPError(kind, during: "binding with routing key \"\(shape)\""))
      #expect(!failure.description.contains("hunter2"), "\(failure)")
      #expect(!CaptureFailure(AMQPError(kind, during: shape)).description.contains("hunter2") || kind == kinds.last)
    }
    let made = CaptureFailure(cause: "output", description: "making directory \(shape): no", needsUser: true)
    #expect(!made.description.contains("hunter2"))
  }

  @Test(arguments: shapes, [FlowLogHandler.Style.json, .plain])
  func `a log line shows no credentials, in its message and in its fields`(shape: String, style: FlowLogHandler.Style) {
    let lines = Mutex("")
    let log = Logger(label: "test") { _ in
      FlowLogHandler(
        logLevel: .trace, style: style,
        write: { line in
          lines.withLock { $0 += String(decoding: line, as: UTF8.self) }
        })
    }
    log.info(
      "opening \(shape): no",
      metadata: [
        "path": .string(shape), "list": .array([.string(shape)]), "inner": .dictionary(["x": .string(shape)]),
      ])
    let text = lines.withLock { $0 }
    #expect(text.contains("opening"))
    #expect(!text.contains("hunter2"), "\(text)")
  }

  @Test(
    arguments: [
      ("resolving mq: no", "resolving mq: no"),
      ("at http://127.0.0.1:9090/metrics", "at http://127.0.0.1:9090/metrics"),
      ("queue \"a:b@c\"", "queue \"a:(secret)@c\""),
      ("no line with -----BEGIN either", "no line with -----BEGIN either"),
      ("eyJ is no token", "eyJ is no token"), ("to amqp://u:p@mq/x now", "to amqp://(secret)@mq/x now"),
      ("'amqp://u:p@mq'", "'amqp://(secret)@mq'"), ("amqp://mq?password=x y", "amqp://mq?(secret) y"),
      ("a -----BEGIN X-----\nk\n-----END X----- b", "a (secret) b"),
    ])
  func `everything else stays as it is`(text: String, shown: String) {
    #expect(Disclosure.text(text) == shown)
  }

  @Test func `a user name is shown up to a colon`() {
    #expect(Credentials.plain(username: "guest:hunter2", password: "x").shownUsername == "guest:…")
    #expect(Credentials.amqplain(username: "guest", password: "x").shownUsername == "guest")
    var dumped = ""
    dump(Credentials.plain(username: "guest", password: "hunter2"), to: &dumped)
    #expect(!"\(Credentials.plain(username: "guest", password: "hunter2")) \(dumped)".contains("hunter2"))
  }
}
