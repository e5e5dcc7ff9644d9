import Platform
import Support
import Testing

@testable import AMQP

/// The client's side of a conversation, and its words for peers that are no broker.
@Suite(.timeLimit(.minutes(1))) struct ConnectionTests {
  static let start = Wire.start()
  private static func tune(_ heartbeat: UInt16) -> [UInt8] { Wire.tune(heartbeat: heartbeat) }
  private static let openOk = Wire.openOk
  private static let channelOk = Wire.channelOk

  /// The whole way to an open channel.
  static func opened(_ heartbeat: UInt16 = 0) -> [ScriptedPeer.Step] {
    [
      .readHeader, .send(start), .readFrame, .send(tune(heartbeat)), .readFrame, .readFrame, .send(openOk), .readFrame,
      .send(channelOk),
    ]
  }

  /// The whole way to a consumer.
  private static func consuming() -> [ScriptedPeer.Step] { opened() + [.readFrame, .send(Wire.consumeOk())] }

  /// Unowned by its channel, so both are kept.
  private struct Consuming {
    let connection: Connection
    let channel: AMQPChannel
  }

  private static func consume(_ port: Int) throws(AMQPError) -> Consuming {
    let connection = try connect(port)
    let channel = try connection.openChannel()
    try channel.consume(Consumption(queue: "q"), tag: "tag")
    return Consuming(connection: connection, channel: channel)
  }

  private static func connect(
    _ port: Int, host: String = "127.0.0.1", credentials: Credentials = .plain(username: "me", password: "s3cret"),
    heartbeat: UInt16 = 0, timeout: Duration = .seconds(30)
  ) throws(AMQPError) -> Connection {
    try Connection.open(
      ConnectionSettings(
        nodes: [BrokerNode(host: host, port: port)], virtualHost: "v", credentials: credentials,
        heartbeatSeconds: heartbeat,
        timeout: timeout))
  }

  @Test(arguments: [
    (
      Array("AMQP".utf8) + [3, 1, 0, 0],
      "it speaks AMQP 1.0, as Azure Service Bus, Event Hubs, ActiveMQ and Artemis do, and source-amqp speaks AMQP 0-9-1"
    ),
    (Array("AMQP".utf8) + [0, 0, 9, 0], "it answered with protocol header 0.0.9.0; AMQP 0-9-1 is 0.0.9.1"),
    (Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), "it answered with HTTP; is this the management port?"),
    ([0x15, 3, 3, 0, 2, 2, 0x46], "it answered with a TLS alert; set tls.enabled"),
    (Array("220 mail.example.com\r\n".utf8), "a frame of unknown type 50"),
    ([1, 0, 0, 0xFF, 0, 0, 0], "a frame of 4278190080 bytes"),
    (Wire.frame(1, [0, 10, 0, 10, 0], channel: 0), "connection.start with fields that do not decode"),
  ])
  func `a peer that speaks something else is named`(answer: [UInt8], hint: String) throws {
    let peer = try ScriptedPeer([.readHeader, .send(answer), .drain])
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port) }
    #expect(
      error?.description
        == "connecting to 127.0.0.1:\(peer.port): the peer does not speak AMQP 0-9-1: \(hint)")
  }

  private static let credentialsStep = #"authenticating as "me" with PLAIN: "#
  private static let vhostStep = #"opening virtual host "v": "#
  static func refusal(_ code: UInt16, _ text: String) -> [UInt8] {
    Wire.frame(1, Wire.method(10, 50, Wire.integer(code, 2), Wire.short(text), [0, 0, 0, 0]), channel: 0)
  }

  @Test(
    arguments: [
      (
        [.readHeader, .send(start), .readFrame, .send(refusal(403, "ACCESS_REFUSED - Login was refused")), .drain],
        .connectionClosed(code: 403, text: "ACCESS_REFUSED - Login was refused"),
        credentialsStep + "the broker closed the connection: 403 ACCESS_REFUSED - Login was refused"
      ),
      (
        [
          .readHeader, .send(start), .readFrame, .send(tune(60)), .readFrame, .readFrame,
          .send(refusal(530, "NOT_ALLOWED - vhost v not found")), .drain,
        ], .connectionClosed(code: 530, text: "NOT_ALLOWED - vhost v not found"),
        vhostStep + "the broker closed the connection: 530 NOT_ALLOWED - vhost v not found"
      ),
      (
        [.readHeader, .send(start), .readFrame],
        .endOfStream(hint: "during the handshake; the broker's log tells why"),
        credentialsStep + "the broker closed the TCP connection: during the handshake; the broker's log tells why"
      ),
      (
        [.readHeader, .send(start), .readFrame, .reset],
        .endOfStream(hint: "during the handshake; the broker's log tells why"),
        credentialsStep + "the broker closed the TCP connection: during the handshake; the broker's log tells why"
      ),
      (
        [.readHeader, .send(start), .readFrame, .send(openOk), .drain],
        .malformed(text: "an unexpected answer, openOk"),
        credentialsStep + "the broker sent what is no AMQP 0-9-1: an unexpected answer, openOk"
      ),
    ] as [([ScriptedPeer.Step], AMQPError.Kind, String)])
  func `an end during the handshake tells the step and the broker's reason`(
    steps: [ScriptedPeer.Step], kind: AMQPError.Kind, text: String
  ) throws {
    let peer = try ScriptedPeer(steps)
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port) }
    #expect(error?.kind == kind)
    #expect(error?.description == text)
  }

  @Test(arguments: [[.readHeader], [.readHeader, .reset]] as [[ScriptedPeer.Step]])
  func `a peer that closes before it said anything gets a hint`(steps: [ScriptedPeer.Step]) throws {
    let peer = try ScriptedPeer(steps)
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port) }
    #expect(
      error?.description
        == "connecting to 127.0.0.1:\(peer.port): the broker closed the TCP connection: before it said anything; is "
        + "this a TLS port, or is a proxy in between?")
  }

  @Test func `a silent peer is given up at the deadline`() throws {
    let peer = try ScriptedPeer([.drain])
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port, timeout: .milliseconds(50)) }
    #expect(error == AMQPError(.timedOut, during: "connecting to 127.0.0.1:\(peer.port)"))
    let later = try ScriptedPeer([.readHeader, .send(Self.start), .drain])
    let second = #expect(throws: AMQPError.self) { _ = try Self.connect(later.port, timeout: .milliseconds(200)) }
    #expect(second?.kind == .timedOut)
  }

  @Test func `a mechanism that is not offered is not tried`() throws {
    let peer = try ScriptedPeer([.readHeader, .send(Self.start), .drain])
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port, credentials: .external) }
    #expect(
      error?.description
        == "authenticating with EXTERNAL: the broker does not offer the authentication mechanism EXTERNAL; it offers "
        + "AMQPLAIN, PLAIN")
  }

  @Test func `nobody listening is no connection`() throws {
    // The port of a peer that has come and gone.
    let peer = try ScriptedPeer([.readHeader])
    _ = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port) }
    let error = #expect(throws: AMQPError.self) { _ = try Self.connect(peer.port) }
    #expect(
      error?.description
        == "connecting to 127.0.0.1:\(peer.port): no connection: 127.0.0.1 port \(peer.port): Connection refused")
  }

  @Test(
    arguments: [
      (0, 0, 0), (60, 0, 60), (0, 60, 0), (60, 10, 10), (10, 60, 10), (65_535, 65_535, 65_535), (65_535, 0, 65_535),
    ] as [(UInt16, UInt16, UInt16)])
  func `the lower wish of both sides is the heartbeat interval`(ours: UInt16, theirs: UInt16, both: UInt16) throws {
    let peer = try ScriptedPeer(Self.opened(theirs))
    let connection = try Self.connect(peer.port, heartbeat: ours)
    _ = try connection.openChannel()
    #expect(connection.heartbeatSeconds == both)
    #expect(connection.server == ServerIdentity(product: "Peer"))
    let tuneOk = Wire.frame(1, Wire.method(10, 31, [0, 2, 0, 2, 0, 0], Wire.integer(both, 2)), channel: 0)
    #expect(peer.readings[0] == Array("AMQP".utf8) + [0, 0, 9, 1])
    #expect(peer.readings[2] == tuneOk)
    #expect(peer.readings[3] == Wire.frame(1, Wire.method(10, 40, Wire.short("v"), [0], [0]), channel: 0))
    #expect(peer.readings[4] == Wire.frame(1, Wire.method(20, 10, [0])))
  }

  @Test(
    arguments: [
      (0, 1 << 20), (4096, 4096), (131_072, 131_072), (1 << 20, 1 << 20), (4 << 20, 1 << 20), (64 << 20, 1 << 20),
      (.max, 1 << 20),
    ] as [(UInt32, UInt32)])
  func `no frame limit is agreed to that our buffer does not hold`(theirs: UInt32, agreed: UInt32) throws {
    var steps = Self.opened()
    steps[3] = .send(Wire.tune(frame: theirs))
    let peer = try ScriptedPeer(steps)
    _ = try Self.connect(peer.port).openChannel()
    let tuneOk = Wire.frame(1, Wire.method(10, 31, [0, 2], Wire.integer(agreed, 4), [0, 0]), channel: 0)
    #expect(peer.readings[2] == tuneOk)
  }

  @Test func `a method that the broker's frame limit does not allow is not sent`() throws {
    var steps = Self.opened()
    steps[3] = .send(Wire.tune(frame: 4096))
    let peer = try ScriptedPeer(steps + [.drain])
    let connection = try Self.connect(peer.port)
    let arguments: ArgumentTable = ["x": .string(String(repeating: "y", count: 4096))]
    let error = #expect(throws: AMQPError.self) {
      try connection.openChannel().consume(Consumption(queue: "q", arguments: arguments), tag: "t")
    }
    #expect(
      error?.description
        == #"consuming from queue "q": cannot be sent: basic.consume takes 4118 bytes, and the broker's frame_max leaves 4088"#
    )
  }

  /// Receives until `count` deliveries are there, or the connection fails.
  private static func receive(_ count: Int, on consuming: Consuming) throws(AMQPError) {
    let wakeup = Wakeup()
    while consuming.channel.batch.deliveries.count < count {
      let received = try consuming.connection.receive(deliveries: count, bytes: .max)
      try consuming.channel.check()
      if received == .drained {
        try consuming.connection.wait(until: Instant.now + .seconds(30), wakeup: wakeup, reading: true)
      }
    }
  }

  @Test func `deliveries arrive byte by byte, with heartbeats between`() throws {
    let messages = (1...3).map { Wire.Message(tag: $0, body: [UInt8](repeating: UInt8($0), count: Int($0) - 1)) }
    let bytes = messages.flatMap { Wire.delivery($0, frameBody: 1).flatMap { $0 + Wire.heartbeat } }
    let peer = try ScriptedPeer(Self.consuming() + [.dribble(bytes), .drain])
    let consuming = try Self.consume(peer.port)
    try Self.receive(3, on: consuming)
    #expect(consuming.channel.batch.messages == messages)
  }

  @Test func `a close between header and body is the broker's reason`() throws {
    let frames = Wire.delivery(.init(tag: 1, body: [1]), frameBody: 1)
    let close = Self.refusal(320, "CONNECTION_FORCED - broker forced connection closure")
    let peer = try ScriptedPeer(Self.consuming() + [.send(frames[0] + frames[1] + close), .readFrame, .drain])
    let consuming = try Self.consume(peer.port)
    let error = #expect(throws: AMQPError.self) { try Self.receive(1, on: consuming) }
    #expect(
      error?.kind == .connectionClosed(code: 320, text: "CONNECTION_FORCED - broker forced connection closure"))
    #expect(consuming.channel.batch.isEmpty)
  }

  @Test func `after a channel's end a new channel starts clean`() throws {
    let frames = Wire.delivery(.init(tag: 1, body: [1]), frameBody: 1)
    let close = Wire.frame(1, Wire.method(20, 40, Wire.integer(404, 2), Wire.short("NOT_FOUND"), [0, 0, 0, 0]))
    let peer = try ScriptedPeer(
      Self.consuming() + [
        .send(frames[0] + close), .readFrame, .readFrame, .send(Self.channelOk), .readFrame,
        .send(Wire.consumeOk() + frames.flatMap(\.self)), .drain,
      ])
    let consuming = try Self.consume(peer.port)
    let error = #expect(throws: AMQPError.self) { try Self.receive(1, on: consuming) }
    #expect(error == AMQPError(.channelClosed(code: 404, text: "NOT_FOUND"), during: "using the channel"))
    try consuming.channel.reopen()
    try consuming.channel.consume(Consumption(queue: "q"), tag: "tag")
    try Self.receive(1, on: consuming)
    #expect(consuming.channel.batch.messages == [.init(tag: 1, body: [1])])
  }

  @Test func `what a broker tells unasked becomes events in order`() throws {
    let told =
      Wire.frame(1, Wire.method(10, 60, Wire.short("memory")), channel: 0)
      + Wire.frame(1, Wire.method(10, 61), channel: 0) + Wire.frame(1, Wire.method(60, 30, Wire.short("tag"), [1]))
    let last = Wire.Message(tag: 1, body: [])
    let peer = try ScriptedPeer(
      Self.consuming() + [.send(told + Wire.delivery(last, frameBody: 1).flatMap(\.self)), .drain])
    let consuming = try Self.consume(peer.port)
    try Self.receive(1, on: consuming)
    #expect(consuming.connection.takeEvents() == [.blocked(reason: "memory"), .unblocked])
    #expect(consuming.connection.takeEvents().isEmpty)
    #expect(consuming.channel.takeEvents() == [.consumerCancelled(tag: "tag")])
    #expect(consuming.channel.takeEvents().isEmpty)
  }

  private static func onProbe(_ payload: [UInt8]) -> [UInt8] { Wire.frame(1, payload, channel: 2) }
  private static let declareOk = onProbe(
    Wire.method(50, 11, Wire.short("q"), Wire.integer(7, 4), Wire.integer(2, 4)))

  @Test func `a queue is asked for beside the consumer, more than once, and also after a refusal`() throws {
    let opened = Self.onProbe(Wire.method(20, 11, Wire.integer(0, 4)))
    let peer = try ScriptedPeer(
      Self.consuming() + [
        .readFrame, .send(opened), .readFrame, .send(Self.declareOk),
        .readFrame, .send(Wire.delivery(.init(tag: 1, body: [])).flatMap(\.self) + Self.declareOk),
        .readFrame, .send(Wire.channelClose(404, "NOT_FOUND", channel: 2)), .readFrame,
        .readFrame, .send(opened), .readFrame, .send(Self.declareOk), .drain,
      ])
    let consuming = try Self.consume(peer.port)
    func answer() throws -> QueueAnswer {
      let wakeup = Wakeup()
      try consuming.channel.ask(for: "q")
      // Asking again while the question is open changes nothing.
      try consuming.channel.ask(for: "q")
      while true {
        _ = try consuming.connection.receive(deliveries: 10, bytes: 1000)
        if let answer = consuming.channel.takeAnswer() { return answer }
        try consuming.connection.wait(until: Instant.now + .seconds(30), wakeup: wakeup, reading: true)
      }
    }
    let status = QueueAnswer.status(QueueStatus(name: "q", messages: 7, consumers: 2))
    #expect(try answer() == status)
    #expect(try answer() == status)
    #expect(consuming.channel.batch.messages == [.init(tag: 1, body: [])])
    #expect(try answer() == .refused(code: 404, text: "NOT_FOUND"))
    #expect(try answer() == status)
    let passive = Wire.method(50, 10, [0, 0], Wire.short("q"), [0b0011], Wire.integer(0, 4))
    #expect(peer.readings[7...8] == [Self.onProbe(passive), Self.onProbe(passive)])
  }

  @Test func `with one channel no queue is asked for`() throws {
    var steps = Self.opened()
    steps[3] = .send(Wire.tune(channels: 1))
    let peer = try ScriptedPeer(steps + [.drain])
    let connection = try Self.connect(peer.port)
    let channel = try connection.openChannel()
    try channel.ask(for: "q")
    #expect(peer.readings[2] == Wire.frame(1, Wire.method(10, 31, [0, 1, 0, 2, 0, 0, 0, 0]), channel: 0))
    #expect(channel.takeAnswer() == nil)
  }

  @Test func `each mechanism has its answer`() {
    #expect(Credentials.plain(username: "ü", password: "p").response == [0, 0xC3, 0xBC, 0, 0x70])
    #expect(
      Credentials.amqplain(username: "u", password: "").response
        == Wire.short("LOGIN") + Array("S".utf8) + Wire.long("u") + Wire.short("PASSWORD") + Array("S".utf8)
        + Wire.long(""))
    #expect(Credentials.external.response.isEmpty)
  }

  @Test(arguments: [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("2001:db8::5", "2001:db8::5")])
  func `an address resolves to itself`(host: String, text: String) throws {
    let addresses = try Resolver.addresses(host: host, port: 5672, deadline: Instant.now + .seconds(30))
    #expect(addresses.map(\.text) == [text])
  }

  @Test func `a name that cannot exist is not resolved`() {
    // A label of a name has at most 63 bytes, so no name server has to be asked. https://www.rfc-editor.org/rfc/rfc1035
    let host = String(repeating: "x", count: 64) + ".invalid"
    let error = #expect(throws: AMQPError.self) {
      _ = try Resolver.addresses(host: host, port: 5672, deadline: Instant.now + .seconds(30))
    }
    guard case .nameNotResolved = error?.kind else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(error?.operation == "resolving \(host)")
  }
}
