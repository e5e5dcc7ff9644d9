import Foundation
import Support
import Testing

/// The three mechanisms, captured with the real connector and seen from the broker's side (docs/settings.md `auth_type`).
@Suite(.serialized) struct AuthenticationTests {
  let bench: Bench
  var broker: TestBroker { bench.broker }

  init() throws { bench = try Bench() }

  private func file(_ name: String) -> String { broker.tlsDirectory + "/" + name }

  private func tls() -> JSON {
    ["host": "localhost", "port": JSON(broker.tlsPort), "tls": ["enabled": true, "ca_cert": .string(file("ca.pem"))]]
  }

  /// EXTERNAL: the certificate is all that says who we are.
  private func external() -> JSON {
    tls().merged(with: [
      "auth_type": "external", "username": .null, "password": .null,
      "tls": ["client_cert": .string(file("client-chain.pem")), "client_key": .string(file("client.key"))],
    ])
  }

  /// Captures one message and returns how the broker saw the connection of `user` meanwhile, by column.
  private func connection(of user: String, _ options: JSON) throws -> [String] {
    let runtime = try FlowRuntime(config: broker.configuration(queue: bench.queue, options))
    try bench.publisher.publish("x", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 1)
    let list = try broker.ctl(
      "list_connections", "--no-table-headers", "user", "auth_mechanism", "ssl", "ssl_protocol", "peer_cert_subject",
      "ssl_cipher")
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    let rows = list.split(separator: "\n").map { line in
      line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    }
    return try #require(rows.first { $0.first == user }, "no connection of \(user) in \(list)")
  }

  @Test(arguments: [
    ("plain", "PLAIN", false), ("amqplain", "AMQPLAIN", false), ("plain", "PLAIN", true),
    ("amqplain", "AMQPLAIN", true),
  ])
  func `user and password capture`(type: String, mechanism: String, encrypted: Bool) throws {
    let user = TestBroker.uniqueName("user")
    try broker.ctl("add_user", user, "pass word")
    try broker.ctl("set_permissions", user, ".*", ".*", ".*")
    let options: JSON = ["auth_type": .string(type), "username": .string(user), "password": "pass word"]
    let row = try connection(of: user, encrypted ? tls().merged(with: options) : options)
    #expect(row.prefix(3) == [user, mechanism, encrypted ? "true" : "false"])
    #expect(row[3] == (encrypted ? "tlsv1.3" : ""))
    // TLS 1.3 knows only authenticated ciphers; which of them is the broker's choice.
    #expect(encrypted ? row[5].contains("gcm") || row[5].contains("poly1305") : row[5].isEmpty)
    try broker.ctl("delete_user", user)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a client certificate captures, and its user needs to exist and to have permission`() throws {
    let user = broker.tlsUser
    #expect(
      try problem(external())
        == "authenticating with EXTERNAL: the broker closed the connection: 403 ACCESS_REFUSED - Login was refused using "
        + "authentication mechanism EXTERNAL. For details see the broker logfile. The broker takes the user name from the "
        + "certificate in tls.client_cert, and must have such a user")
    // The password is never used, but rabbitmqctl wants one.
    try broker.ctl("add_user", user, TestBroker.uniqueName("unused"))
    #expect(
      try problem(external())
        == "opening virtual host \"/\": the broker closed the connection: 530 NOT_ALLOWED - access to vhost '/' refused for "
        + "user '\(user)'. Check virtual_host, and that the user may use it")
    try broker.ctl("set_permissions", user, ".*", ".*", ".*")
    let row = try connection(of: user, external())
    #expect(row.prefix(5) == [user, "EXTERNAL", "true", "tlsv1.3", "CN=\(user)"])
    try broker.ctl("delete_user", user)
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: ["plain", "amqplain"])
  func `a wrong password is named and not shown`(type: String) throws {
    let password = TestBroker.uniqueName("wrong")
    let found = try #require(
      try problem(["auth_type": .string(type), "password": .string(password)], secret: password))
    #expect(
      found
        == "authenticating as \"guest\" with \(type.uppercased()): the broker closed the connection: 403 ACCESS_REFUSED - "
        + "Login was refused using authentication mechanism \(type.uppercased()). For details see the broker logfile. "
        + "Check username, password and auth_type")
    try bench.publisher.delete(bench.queue)
  }

  /// What `source-amqp check` finds wrong with the broker; nil if nothing is.
  private func problem(_ options: JSON, secret: String? = nil) throws -> String? {
    let path = try temporaryDirectory() + "/capture.json"
    try broker.configuration(queue: bench.queue, options).text.write(toFile: path, atomically: true, encoding: .utf8)
    let (output, _) = try Command(["check", path]).finish()
    if let secret {
      for line in output.lines + output.log { #expect(!line.contains(secret)) }
    }
    let line = try #require(output.lines.first { $0.contains(" broker ") }, "\(output.lines)")
    guard line.hasPrefix("wrong"), let start = line.range(of: "virtual host \"/\": ") else { return nil }
    return String(line[start.upperBound...])
  }
}
