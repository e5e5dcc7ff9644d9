import Platform
import Support
import Testing

@testable import AMQP

/// Brokers that break the protocol: each ends in an error that names what was wrong, in bounded memory and time.
@Suite(.timeLimit(.minutes(2))) struct BrokenBrokerTests {
  /// What a broker sends, from memory; without end if it repeats, else up to the end of the stream.
  private final class PlayedStream: ByteStream {
    private var rest: ArraySlice<UInt8>
    private let repeated: [UInt8]
    /// How much of the repeated was sent.
    private(set) var flood = 0
    private(set) var sent = 0

    init(_ bytes: [UInt8], then repeated: [UInt8] = []) {
      rest = bytes[...]
      self.repeated = repeated
    }

    var descriptor: Int32 { -1 }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Socket.Progress {
      if rest.isEmpty {
        if repeated.isEmpty { return .endOfStream }
        rest = repeated[...]
        flood += repeated.count
      }
      let part = rest.prefix(buffer.count)
      unsafe buffer.copyBytes(from: part)
      rest = rest.dropFirst(part.count)
      return .bytes(part.count)
    }

    func write(_ buffer: UnsafeRawBufferPointer) throws(AMQPError) -> Socket.Progress {
      sent += buffer.count
      return .bytes(buffer.count)
    }

    func interest(in events: Int16) -> Int16 { events }
    func wait(for events: Int16, until deadline: Instant) -> Bool { true }
  }

  /// Connects, consumes, and receives until the error that ends it all. Batches are taken as the capture takes them.
  private static func converse(
    _ stream: PlayedStream, timeout: Duration = 30, cancelAfter turns: Int = .max
  ) -> (error: AMQPError, messages: [Wire.Message]) {
    let settings = ConnectionSettings(
      nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"),
      timeout: timeout)
    var messages: [Wire.Message] = []
    var opened: (connection: Connection, channel: AMQPChannel)?
    do throws(AMQPError) {
      let connection = try Connection(
        settings, over: stream, to: settings.nodes[0], deadline: Instant.now + timeout)
      let channel = try connection.openChannel()
      opened = (connection, channel)
      try channel.setPrefetch(100)
      try channel.consume(Consumption(queue: "q"), tag: "tag")
      for turn in 0... {
        if turn == turns { try channel.cancel(tag: "tag") }
        _ = try connection.receive(deliveries: 1000, bytes: 1 << 20)
        try channel.check()
        messages += channel.takeBatch(refilling: DeliveryBatch()).messages
        _ = connection.takeEvents() + channel.takeEvents()
      }
    } catch {
      return (error, messages + (opened?.channel.batch.messages ?? []))
    }
    return (AMQPError(.timedOut, during: "never"), messages)
  }

  private static let handshake = Wire.start() + Wire.tune() + Wire.openOk + Wire.channelOk
  private static let consuming = handshake + Wire.qosOk + Wire.consumeOk()
  private static func one(_ tag: UInt64 = 1, consumer: String = "tag", channel: Int = 1) -> [UInt8] {
    Wire.delivery(.init(tag: tag, body: [1]), consumer: consumer, channel: channel).flatMap(\.self)
  }
  private static let other = Wire.method(60, 60, Wire.short("tag"), Wire.integer(1, 8), [0], [0], [0])

  @Test(
    arguments: [
      (handshake + Wire.qosOk + one(), "a delivery before consume-ok"),
      (handshake + one(), "a delivery without a consumer"),
      (Wire.start() + one(), "basic.deliver on channel 1, which is not open"),
      (one(), "basic.deliver on channel 1, which is not open"),
      (consuming + one(consumer: "x"), #"a delivery for consumer "x", which is not ours"#),
      (consuming + one(2), "a delivery with tag 2, but 1 was expected"),
      (consuming + one() + one(), "a delivery with tag 1, but 2 was expected"),
      (consuming + one(0), "a delivery with tag 0, but 1 was expected"),
      (consuming + one(1 << 63), "a delivery with tag 9223372036854775808, but 1 was expected"),
      (consuming + one(channel: 2), "basic.deliver on channel 2, which is not open"),
      (consuming + one(channel: 0), "basic.deliver on channel 0, which is not open"),
      (consuming + Wire.frame(2, [], channel: 0), "a header frame on channel 0, which is not open"),
      (consuming + Wire.frame(3, [1], channel: 65_535), "a body frame on channel 65535, which is not open"),
      (consuming + Wire.frame(8, [], channel: 1), "a heartbeat frame on channel 1 instead of 0"),
      (
        consuming + Wire.frame(1, Wire.method(10, 50, [0, 1, 0, 0, 0, 0, 0])),
        "connection.close on channel 1 instead of 0"
      ),
      (consuming + Wire.channelClose(404, "x", channel: 3), "channel.close on channel 3, which is not open"),
      (
        consuming + Wire.frame(1, Wire.method(50, 21), channel: 2), "queue.bind-ok on channel 2, which is not open"
      ),
      (consuming + Wire.frame(1, []), "a method frame of 0 bytes"),
      (consuming + Wire.frame(1, Wire.method(99, 99)), "method 99.99 out of turn"),
      (consuming + Wire.frame(1, Wire.method(50, 10)), "queue.declare out of turn"),
      (
        consuming + Wire.frame(1, Wire.method(60, 30, Wire.short("x"), [1])),
        #"basic.cancel of consumer "x", which is not ours"#
      ),
      (consuming + [9, 0, 0, 0, 0, 0, 0, 0xCE], "a frame of unknown type 9"),
      (consuming + Wire.heartbeat.dropLast() + [0], "a frame without its end octet"),
      (handshake + Wire.qosOk + Wire.consumeOk("x"), #"an unexpected answer, consumeOk(tag: "x")"#),
      (Wire.start() + Wire.channelClose(404, "x"), "channel.close on channel 1, which is not open"),
      (Wire.start() + Wire.tune(frame: 1), "connection.tune with frame_max 1; the least is 4096"),
      (
        Wire.start() + Wire.tune() + Wire.tune(),
        "an unexpected answer, tune(channelMax: 2047, frameMax: 131072, heartbeatSeconds: 0)"
      ),
      (Wire.start() + Wire.frame(1, Wire.method(10, 20, Wire.long("?")), channel: 0), "an unexpected answer, secure"),
    ] as [([UInt8], String)])
  func `what breaks the protocol is named`(bytes: [UInt8], text: String) {
    let stream = PlayedStream(bytes)
    let kind = Self.converse(stream).error.kind
    // Before connection.start the peer may be anything.
    #expect(kind == .malformed(text: text) || kind == .notAMQP(hint: text))
  }

  @Test func `a delivery after cancel-ok is none of ours, one before it is`() {
    let (error, messages) = Self.converse(
      PlayedStream(Self.consuming + Self.one(1) + Wire.cancelOk() + Self.one(2)), cancelAfter: 0)
    #expect(error.kind == .malformed(text: "a delivery after cancel-ok"))
    #expect(messages == [.init(tag: 1, body: [1])])
  }

  /// Things without end, with the error that ends them and the bytes that may be read until then.
  @Test(
    arguments: [
      (consuming, Wire.blocked("x"), "a flood of connection.blocked, connection.unblocked or basic.cancel"),
      (Wire.start(), Wire.blocked("x"), "a flood of connection.blocked, connection.unblocked or basic.cancel"),
      (handshake + Wire.qosOk, Wire.start(), nil),
      (consuming + one().prefix(one().count - 9), Wire.frame(3, []), "an endless row of empty body frames"),
    ] as [([UInt8], [UInt8], String?)])
  func `a flood ends in an error`(first: [UInt8], flood: [UInt8], text: String?) {
    let stream = PlayedStream(first, then: flood)
    let error = Self.converse(stream).error
    guard case .malformed(let found) = error.kind else {
      Issue.record("\(error)")
      return
    }
    if let text { #expect(found == text) }
    #expect(stream.flood < 1 << 20)
  }

  @Test(arguments: [[], Wire.start(), handshake, handshake + Wire.qosOk])
  func `heartbeats without end are no answer, and the time limit holds`(first: [UInt8]) {
    #expect(Self.converse(PlayedStream(first, then: Wire.heartbeat), timeout: 0.05).error.kind == .timedOut)
  }

  @Test func `heartbeats without end do not keep the caller`() throws {
    let stream = PlayedStream(Self.handshake, then: Wire.heartbeat)
    let settings = ConnectionSettings(
      nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"))
    let connection = try Connection(settings, over: stream, to: settings.nodes[0], deadline: .distantFuture)
    _ = try connection.openChannel()
    #expect(try connection.receive(deliveries: 1, bytes: 1) == .more)
  }

  @Test func `deliveries without end are no answer to a cancel`() throws {
    let stream = PlayedStream(
      Self.consuming
        + (1...140_000).flatMap {
          Wire.delivery(.init(tag: $0, exchange: "", routingKey: "", body: [])).flatMap(\.self)
        })
    let error = Self.converse(stream, cancelAfter: 0).error
    #expect(
      error
        == AMQPError(
          .malformed(text: "deliveries without end instead of an answer"), during: "cancelling the consumer"))
  }

  @Test func `what a server says of itself is bounded, whatever it says`() throws {
    let nested = (0..<20_000).reduce(into: [UInt8]()) { table, _ in
      if table.count < 120_000 { table = [0] + Array("F".utf8) + Wire.long(table) }
    }
    let tables = [
      Wire.long(nested), Wire.long([UInt8](repeating: 0, count: 0)),
      Wire.long((0..<60_000).flatMap { _ in [0] + Array("V".utf8) }),
      Wire.table(("product", String(repeating: "x", count: 100_000))),
    ]
    for table in tables {
      let stream = PlayedStream(Wire.start(properties: table) + Self.handshake.dropFirst(Wire.start().count))
      let settings = ConnectionSettings(
        nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"))
      let connection = try Connection(settings, over: stream, to: settings.nodes[0], deadline: .distantFuture)
      #expect(connection.server.product.utf8.count <= 255)
    }
    for table in [Wire.long([5, 1]), Wire.long([0, 0x21]), [0, 0, 1, 0, 1]] {
      let error = Self.converse(PlayedStream(Wire.start(properties: table))).error
      #expect(error.kind == .notAMQP(hint: "connection.start with fields that do not decode"))
    }
  }

  /// The frames of a conversation that a fuzzed broker cuts, repeats, exchanges and damages.
  private static let script: [[UInt8]] =
    [Wire.start(), Wire.tune(heartbeat: 60), Wire.openOk, Wire.channelOk, Wire.qosOk, Wire.consumeOk(), Wire.heartbeat]
    + (1...4).flatMap { Wire.delivery(.init(tag: $0, body: [UInt8](repeating: 7, count: Int($0) * 40)), frameBody: 50) }
    + [Wire.blocked("memory"), Wire.cancelOk()]
    + Wire.delivery(.init(tag: 5, body: [])) + [Wire.channelClose(404, "NOT_FOUND"), Wire.close(320, "bye")]

  @Test(arguments: 0..<40 as Range<UInt64>)
  func `a broker that does anything ends in an error, never in a trap`(seed: UInt64) {
    var random = Seeded(seed)
    for _ in 0..<50 {
      var frames = Self.script
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: 0..<frames.count, using: &random)
        let other = Int.random(in: 0..<frames.count, using: &random)
        switch Int.random(in: 0..<7, using: &random) {
        case 0: frames.swapAt(index, other)
        case 1: frames.insert(frames[index], at: other)
        case 2 where frames.count > 1: frames.remove(at: index)
        case 3: frames[index] = Array(frames[index].prefix(Int.random(in: 0...frames[index].count, using: &random)))
        default:
          guard !frames[index].isEmpty else { continue }
          let place = Int.random(in: 0..<frames[index].count, using: &random)
          frames[index][place] = [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &random)]
            .randomElement(using: &random)!
        }
      }
      let stream = PlayedStream(frames.flatMap(\.self))
      let (error, messages) = Self.converse(stream, cancelAfter: Int.random(in: 0...2, using: &random))
      #expect(error.operation != "never")
      // Whatever was damaged, tags count what came.
      #expect(messages.map(\.tag) == (0..<messages.count).map { UInt64($0) + 1 })
      #expect(stream.sent < 10_000)
    }
  }
}
