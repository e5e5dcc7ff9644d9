import Foundation
import Support
import Testing

/// What `source-amqp check` says about a broker behind TLS, word for word (docs/settings.md, docs/troubleshooting.md).
@Suite struct TLSTests {
  let broker: TestBroker
  let directory: String

  init() throws {
    broker = try TestBroker()
    directory = try temporaryDirectory()
  }

  private func file(_ name: String) -> String { broker.tlsDirectory + "/" + name }

  /// Runs `check` and returns the problem that it found with the broker; nil if there was none.
  private func problem(host: String = "localhost", port: Int? = nil, tls: JSON, _ options: JSON = [:]) throws -> String?
  {
    let output = try check(host: host, port: port, tls: tls, options)
    let line = try #require(output.first { $0.contains("broker \(host)") })
    let subject = "wrong  broker \(host):\(port ?? broker.tlsPort), virtual host \"/\": "
    guard line.hasPrefix("wrong") else { return nil }
    #expect(line.hasPrefix(subject))
    return String(line.dropFirst(subject.count))
  }

  private func check(host: String, port: Int?, tls: JSON, _ options: JSON) throws -> [String] {
    let config = broker.configuration(
      queue: TestBroker.uniqueName(),
      ["host": .string(host), "port": JSON(port ?? broker.tlsPort), "tls": ["enabled": true]]
    ).merged(with: ["tls": tls]).merged(with: options)
    let path = directory + "/\(TestBroker.uniqueName()).json"
    try config.text.write(toFile: path, atomically: true, encoding: .utf8)
    let (output, _) = try Command(["check", path]).finish()
    for line in output.lines + output.log { #expect(!line.contains("PRIVATE KEY")) }
    return output.lines
  }

  private func connecting(_ host: String = "localhost", _ port: Int? = nil) -> String {
    "connecting to \(host):\(port ?? broker.tlsPort): "
  }

  // MARK: The broker's certificate

  @Test(arguments: ["localhost", "127.0.0.1"])
  func `a certificate for the name or the address connects`(host: String) throws {
    #expect(try problem(host: host, tls: ["ca_cert": .string(file("ca.pem"))]) == nil)
  }

  @Test func `a certificate authority as PEM text connects like its file`() throws {
    let text = try String(contentsOfFile: file("ca.pem"), encoding: .utf8)
    #expect(try problem(tls: ["ca_cert": .string(text)]) == nil)
  }

  @Test func `a broker of an unknown authority is refused`() throws {
    let reason =
      "TLS: the broker's certificate is refused: self-signed certificate in certificate chain (depth 1, "
      + "subject "
    let other = try Certificates(in: directory)
    #expect(
      try problem(tls: ["ca_cert": .string(other.path("ca.pem"))])
        == connecting() + reason
        + "CN=source-amqp test CA). Its authority is not in tls.ca_cert, or the broker does not send its "
        + "intermediate certificates")
    #expect(
      try problem(tls: [:])
        == connecting() + reason
        + "CN=source-amqp test CA). Its authority is not in the system's store: set tls.ca_cert to the "
        + "authority's certificate")
  }

  @Test func `a name that the certificate does not have is refused, and server_name mends it`() throws {
    // Every address of 127.0.0.0/8 is the loopback; the certificate has only the first.
    let ca = file("ca.pem")
    let server = try OddServer(["-cert", file("server.pem"), "-key", file("server.key")])
    #expect(
      try problem(host: "127.0.0.1", tls: ["ca_cert": .string(ca), "server_name": "rabbit.example.com"])
        == connecting("127.0.0.1")
        + "TLS: the broker's certificate is refused: hostname mismatch (depth 0, subject CN=localhost). "
        + "It is not for \"rabbit.example.com\": set host, or tls.server_name, to a name that it is for")
    #expect(try problem(host: "127.0.0.1", tls: ["ca_cert": .string(ca), "server_name": "localhost"]) == nil)
    #expect(
      try problem(host: "127.0.0.1", port: server.port, tls: ["ca_cert": .string(ca), "server_name": "127.0.0.2"])
        == connecting("127.0.0.1", server.port)
        + "TLS: the broker's certificate is refused: IP address mismatch (depth 0, subject CN=localhost). "
        + "It is not for \"127.0.0.2\": set host, or tls.server_name, to a name that it is for")
  }

  @Test func `verify_cert false connects to whatever is there, and is warned about`() throws {
    let output = try check(
      host: "127.0.0.1", port: nil, tls: ["verify_cert": false, "server_name": "rabbit.example.com"], [:])
    #expect(output.contains("note   tls.verify_cert is false: the broker's identity is not verified."))
    #expect(output.contains { $0.hasPrefix("ok     broker 127.0.0.1:\(broker.tlsPort)") })
  }

  @Test func `an expired certificate is refused`() throws {
    let own = try Certificates(in: directory)
    try own.issue("expired", subject: "/CN=localhost", extensions: "subjectAltName=DNS:localhost", days: -1)
    let server = try OddServer(["-cert", own.path("expired.pem"), "-key", own.path("expired.key")])
    #expect(
      try problem(port: server.port, tls: ["ca_cert": .string(own.path("ca.pem"))])
        == connecting(port: server.port)
        + "TLS: the broker's certificate is refused: certificate has expired (depth 0, subject CN=localhost). "
        + "Renew it on the broker")
  }

  @Test func `a peer that has only TLS 1.1 is refused`() throws {
    let server = try OddServer([
      "-cert", file("server.pem"), "-key", file("server.key"), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0",
    ])
    let found = try #require(try problem(port: server.port, tls: ["ca_cert": .string(file("ca.pem"))]))
    #expect(
      found == connecting(port: server.port)
        + "TLS: the broker speaks no TLS 1.2 or newer (tlsv1 alert protocol version). Enable TLS 1.2 or 1.3 on the broker"
    )
  }

  private func connecting(port: Int) -> String { connecting("localhost", port) }

  // MARK: Ports and peers

  @Test func `TLS to the plain port is told apart`() throws {
    #expect(
      try problem(port: broker.port, tls: ["ca_cert": .string(file("ca.pem"))])
        == connecting(port: broker.port)
        + "TLS: the broker answered without TLS: this is its plain AMQP port. Correct port (TLS is usually on 5671), or "
        + "set tls.enabled: false")
  }

  @Test func `plain AMQP to the TLS port is told apart`() throws {
    #expect(
      try problem(tls: ["enabled": false])
        == connecting() + "the peer does not speak AMQP 0-9-1: it answered with a TLS alert; set tls.enabled")
  }

  @Test func `a peer that is silent in the handshake ends the attempt at connection_timeout`() throws {
    let peer = try SilentPeer()
    #expect(
      try problem(host: "127.0.0.1", port: peer.port, tls: [:], ["connection_timeout": .number("0.5")])
        == "connecting to 127.0.0.1:\(peer.port) (TLS handshake): no answer in time")
  }

  // MARK: Our own certificate

  private func own(_ certificate: String, _ key: String) -> JSON {
    ["ca_cert": .string(file("ca.pem")), "client_cert": .string(certificate), "client_key": .string(key)]
  }

  @Test func `a client certificate with its intermediate connects`() throws {
    #expect(try problem(tls: own(file("client-chain.pem"), file("client.key"))) == nil)
    let chain = try String(contentsOfFile: file("client-chain.pem"), encoding: .utf8)
    let key = try String(contentsOfFile: file("client.key"), encoding: .utf8)
    #expect(try problem(tls: own(chain, key)) == nil)
  }

  @Test func `the broker's refusal of our certificate is a TLS error, also after the handshake`() throws {
    let found = try #require(try problem(tls: own(file("client.pem"), file("client.key"))))
    #expect(
      found == "connecting to localhost:\(broker.tlsPort): TLS: the broker refuses the certificate in tls.client_cert "
        + "(tlsv1 alert unknown ca). It must come from an authority that the broker trusts, followed by its intermediate "
        + "certificates")
  }

  @Test func `an RSA key in either PEM form connects, and an expired client certificate is named`() throws {
    let made = try Certificates(in: directory)
    let intermediate = try String(contentsOfFile: file("intermediate.pem"), encoding: .utf8)
    for (name, days) in [("rsa", 30), ("old", -1)] {
      try made.issue(name, subject: "/CN=tls-client", days: days, rsa: name == "rsa", issuer: file("intermediate"))
    }
    try made.openssl("rsa", "-in", made.path("rsa.key"), "-traditional", "-out", made.path("pkcs1.key"))
    let chain = try made.text("rsa.pem") + intermediate
    #expect(try made.text("pkcs1.key").hasPrefix("-----BEGIN RSA"))
    #expect(try problem(tls: own(chain, made.path("rsa.key"))) == nil)
    #expect(try problem(tls: own(chain, made.path("pkcs1.key"))) == nil)
    #expect(
      try problem(tls: own(made.text("old.pem") + intermediate, made.path("old.key")))
        == connecting() + "TLS: the broker refuses the certificate in tls.client_cert: it has expired (sslv3 alert "
        + "certificate expired). Renew it")
  }

  @Test(arguments: ["-tls1_2", "-tls1_3"])
  func `a missing client certificate is asked for`(version: String) throws {
    let server = try OddServer([
      "-cert", file("server.pem"), "-key", file("server.key"), version, "-Verify", "1", "-verify_return_error",
    ])
    let found = try #require(try problem(port: server.port, tls: ["ca_cert": .string(file("ca.pem"))]))
    let alert = version == "-tls1_3" ? "tlsv13 alert certificate required" : "sslv3 alert handshake failure"
    #expect(
      found == connecting(port: server.port)
        + "TLS: the broker ended the handshake (\(alert)). It may require a client "
        + "certificate: set tls.client_cert and tls.client_key")
  }

  @Test func `certificates and keys that cannot be used are named`() throws {
    let other = try Certificates(in: directory)
    try other.openssl(
      "ec", "-in", file("client.key"), "-aes128", "-passout", "pass:secret", "-out", other.path("locked.key"))
    try "nothing".write(toFile: other.path("empty.pem"), atomically: true, encoding: .utf8)
    let chain = file("client-chain.pem")
    let key = file("client.key")
    let prefix = connecting() + "TLS: "
    #expect(
      try problem(tls: own(chain, other.path("ca.key"))) == prefix
        + "tls.client_key: is not the key of the first certificate in tls.client_cert")
    #expect(
      try problem(tls: own(chain, other.path("locked.key"))) == prefix
        + "tls.client_key: is encrypted; give it without a password (openssl pkey -in KEY -out PLAIN_KEY)")
    #expect(
      try problem(tls: own(chain, other.path("empty.pem"))) == prefix
        + "tls.client_key: holds no private key in PEM form")
    #expect(
      try problem(tls: own(other.path("empty.pem"), key)) == prefix
        + "tls.client_cert: holds no certificate in PEM form")
    #expect(
      try problem(tls: ["ca_cert": .string(other.path("empty.pem"))]) == prefix
        + "tls.ca_cert: holds no certificate in PEM form")
    #expect(
      try problem(tls: ["ca_cert": "-----BEGIN CERTIFICATE-----\nMIIB!!\n-----END CERTIFICATE-----\n"]) == prefix
        + "tls.ca_cert: certificate 1 is damaged: bad base64 decode")
    for (setting, tls) in [
      ("tls.ca_cert", ["ca_cert": "/nowhere/x.pem"] as JSON), ("tls.client_cert", own("/nowhere/x.pem", key)),
      ("tls.client_key", own(chain, "/nowhere/x.pem")),
    ] {
      #expect(
        try problem(tls: tls) == "\(setting): cannot read \"/nowhere/x.pem\": No such file or directory (errno 2)")
    }
  }

  @Test func `a key that was pasted without its first line is not shown`() throws {
    let key = "MHcCAQEEIOqw3qN1y8Yz1m7oZ0a1b2c3d4e5f6g7h8i9j0kAAAAAAAAAAAAAAAAAAAAAAAA="
    #expect(
      try problem(tls: own(file("client-chain.pem"), key))
        == "tls.client_key: cannot read the file that it names: No such file or directory (errno 2)")
  }

  // MARK: A flow

  @Test(.timeLimit(.minutes(5)))
  func `twenty thousand messages arrive whole over TLS`() throws {
    let bench = try Bench()
    try bench.publisher.publishMany(20_000, .simple(bytes: 700), routingKey: bench.queue)
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue,
        [
          "host": "localhost", "port": JSON(broker.tlsPort), "consumer": ["prefetch_count": 1000],
          "tls": ["enabled": true, "ca_cert": .string(file("ca.pem"))],
        ]))
    try runtime.start()
    try runtime.waitUntil(committedCount: 20_000)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.map(\.messageID) == (1...20_000).map { Publisher.messageID($0) })
    try bench.publisher.delete(bench.queue)
  }
}
