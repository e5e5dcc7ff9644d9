import Support
import Testing

@testable import AMQP

/// A broker of several nodes: which are tried, for how long, and what is said when none can be used.
@Suite(.timeLimit(.minutes(1))) struct NodeTests {
  private static let nodes = ["a", "b", "c"].map { BrokerNode(host: $0, port: 1) }
  private static let gone = AMQPError(.notConnected(text: "x"), during: "connecting to a:1")
  private static let refused = AMQPError(.connectionClosed(code: 403, text: "x"), during: "authenticating")

  @Test func `every node is tried, and has its share of the time that is left`() {
    var walk = NodeWalk(Self.nodes)
    var goesOn = true
    #expect(walk.left == [0, 1, 2])
    #expect(walk.share(until: 30, at: 0) == 10)
    goesOn = walk.failed(1, Self.gone)
    #expect(goesOn)
    #expect(walk.left == [0, 2])
    #expect(walk.share(until: 30, at: 10) == 20)
    goesOn = walk.failed(0, Self.gone)
    #expect(goesOn)
    #expect(walk.share(until: 30, at: 20) == 30)
    goesOn = walk.failed(2, Self.gone)
    #expect(!goesOn)
    #expect(walk.left.isEmpty)
  }

  @Test func `a refused login is refused by all`() {
    var walk = NodeWalk(Self.nodes)
    var goesOn = true
    goesOn = walk.failed(0, Self.gone)
    #expect(goesOn)
    goesOn = walk.failed(1, Self.refused)
    #expect(!goesOn)
    #expect(
      walk.error.description
        == "connecting to any of a:1, b:1, c:1: connecting to a:1: no connection: x; authenticating at b:1: the broker "
        + "closed the connection: 403 x")
  }

  @Test func `the only node's failure is its own`() {
    var walk = NodeWalk([Self.nodes[0]])
    let goesOn = walk.failed(0, Self.refused)
    #expect(!goesOn)
    #expect(walk.error == Self.refused)
  }

  private static func connect(_ ports: [Int], timeout: Duration = .seconds(30)) throws(AMQPError) -> Connection {
    try Connection.open(
      ConnectionSettings(
        nodes: ports.map { BrokerNode(host: "127.0.0.1", port: $0) },
        credentials: .plain(username: "me", password: "s3cret"), timeout: timeout))
  }

  @Test(
    arguments: [
      [.readHeader], [.readHeader, .send(ConnectionTests.start), .readFrame, .reset], [.drain],
      // It has no channel to give: it says so, or nothing.
      ConnectionTests.opened().dropLast() + [
        .send(Wire.close(530, "NOT_ALLOWED - number of channels opened on node is too high"))
      ],
      ConnectionTests.opened().dropLast() + [.drain],
    ] as [[ScriptedPeer.Step]])
  func `a node that fails after it was reached is followed by the next`(steps: [ScriptedPeer.Step]) throws {
    let ill = try ScriptedPeer(steps)
    let well = try ScriptedPeer(ConnectionTests.opened())
    let connection = try Self.connect([ill.port, well.port], timeout: .seconds(2))
    #expect(connection.node.port == well.port)
  }

  @Test func `a node that nobody listens at, or whose name is none, is followed by the next`() throws {
    let gone = try ScriptedPeer([.readHeader])
    _ = #expect(throws: AMQPError.self) { _ = try Self.connect([gone.port]) }
    let well = try ScriptedPeer(ConnectionTests.opened())
    let connection = try Connection.open(
      ConnectionSettings(
        nodes: [
          BrokerNode(host: "no-such-host.invalid", port: 1), BrokerNode(host: "127.0.0.1", port: gone.port),
          BrokerNode(host: "127.0.0.1", port: well.port),
        ], credentials: .plain(username: "me", password: "s3cret")))
    #expect(connection.node.port == well.port)
  }

  @Test func `the failure of all names each`() throws {
    let gone = try ScriptedPeer([.readHeader])
    _ = #expect(throws: AMQPError.self) { _ = try Self.connect([gone.port]) }
    let other = try ScriptedPeer([.readHeader, .send(Array("HTTP/1.1 400 Bad Request".utf8)), .drain])
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect([gone.port, other.port]) }
    #expect(
      error?.description
        == "connecting to any of 127.0.0.1:\(gone.port), 127.0.0.1:\(other.port): connecting to 127.0.0.1:\(gone.port): "
        + "no connection: 127.0.0.1 port \(gone.port): Connection refused; connecting to 127.0.0.1:\(other.port): the peer "
        + "does not speak AMQP 0-9-1: it answered with HTTP; is this the management port?")
  }

  @Test func `a node is verified by its own name, unless there is one for all`() {
    #expect(TLSVerification(TLSSettings(), host: "mq2").name == "mq2")
    #expect(TLSVerification(TLSSettings(serverName: "mq"), host: "mq2").name == "mq")
  }
}
