import Platform
import Support
import Testing

@testable import AMQP

/// Several channels on one connection, with a broker that interleaves their frames.
struct ChannelsTests {
  /// Bytes that have arrived, and what was written, as the broker would see it.
  private final class Played: ByteStream {
    private var rest: ArraySlice<UInt8> = []
    private(set) var written: [UInt8] = []
    /// Bytes of one read at the most.
    var most = Int.max
    var descriptor: Int32 { -1 }

    func play(_ bytes: [UInt8]) { rest += bytes }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Socket.Progress {
      guard !rest.isEmpty else { return .wouldBlock }
      let count = min(buffer.count, rest.count, most)
      unsafe buffer.copyBytes(from: rest.prefix(count))
      rest = rest.dropFirst(count)
      return .bytes(count)
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(AMQPError) -> Socket.Progress {
      unsafe written.append(contentsOf: bytes)
      // A goodbye is answered when it was said.
      let goodbye = Wire.method(10, 50)
      if bytes.indices.contains(where: { unsafe bytes[$0...].starts(with: goodbye) }) {
        play(Wire.frame(1, Wire.method(10, 51), channel: 0))
      }
      return .bytes(bytes.count)
    }

    func interest(in events: Int16) -> Int16 { events }
    func wait(for events: Int16, until deadline: Instant) -> Bool { true }

    /// The frames that were written since: channel, class and method.
    func takeMethods() -> [[UInt16]] {
      var methods: [[UInt16]] = []
      var bytes = written[...]
      if bytes.starts(with: Array("AMQP".utf8)) { bytes = bytes.dropFirst(8) }
      func number(_ offset: Int) -> UInt16 {
        UInt16(bytes[bytes.startIndex + offset]) << 8 | UInt16(bytes[bytes.startIndex + offset + 1])
      }
      while bytes.count >= 8 {
        let size = Int(number(3)) << 16 | Int(number(5))
        if bytes.first == 1 { methods.append([number(1), number(7), number(9)]) }
        bytes = bytes.dropFirst(8 + size)
      }
      written = []
      return methods
    }
  }

  private static func onChannel(_ channel: Int, _ classID: Int, _ methodID: Int, _ fields: [UInt8]...) -> [UInt8] {
    Wire.frame(1, Wire.method(classID, methodID, fields.flatMap(\.self)), channel: channel)
  }
  private static func opened(_ channel: Int) -> [UInt8] { onChannel(channel, 20, 11, Wire.integer(0, 4)) }
  private static func consumeOk(_ channel: Int) -> [UInt8] { onChannel(channel, 60, 21, Wire.short("tag\(channel)")) }

  /// A connection with consumers on channels 1 to `count`.
  private static func consuming(_ count: Int, max: UInt16 = 2047) throws -> (Played, Connection, [AMQPChannel]) {
    let stream = Played()
    stream.play(Wire.start() + Wire.tune(channels: max) + Wire.openOk + opened(1))
    var settings = ConnectionSettings(
      nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"), timeout: .seconds(60))
    settings.channels = UInt16(count)
    let connection = try Connection(settings, over: stream, to: settings.nodes[0], deadline: .distantFuture)
    var channels: [AMQPChannel] = []
    for number in 1...count {
      // The first is opened with the connection.
      stream.play((number == 1 ? [] : opened(number)) + consumeOk(number))
      let channel = try connection.openChannel()
      try channel.consume(Consumption(queue: "q\(number)"), tag: "tag\(number)")
      channels.append(channel)
    }
    // An answer that is there is read before what is written goes out.
    try connection.flush()
    _ = stream.takeMethods()
    return (stream, connection, channels)
  }

  private static func delivery(_ tag: UInt64, on channel: Int, body: [UInt8], frameBody: Int = 7) -> [[UInt8]] {
    Wire.delivery(.init(tag: tag, body: body), frameBody: frameBody, consumer: "tag\(channel)", channel: channel)
  }

  /// One who then waited for the socket would wait with a whole message in hand.
  @Test func `a read that was broken off says that there is more`() throws {
    let (stream, connection, channels) = try Self.consuming(1)
    stream.most = 8
    let body = [UInt8](repeating: 1, count: 500)
    stream.play(Self.delivery(1, on: 1, body: body, frameBody: 4096).flatMap(\.self))
    var results: [Connection.Received] = []
    while results.last != .drained {
      results.append(try connection.receive(deliveries: 10, bytes: 1 << 20))
    }
    #expect(results == [.more, .drained])
    #expect(channels[0].batch.messages == [.init(tag: 1, body: body)])
  }

  @Test(arguments: 0..<60 as Range<UInt64>)
  func `frames of channels interleave, and each gets its own deliveries whole`(seed: UInt64) throws {
    var random = Seeded(seed)
    let count = Int.random(in: 1...5, using: &random)
    let (stream, connection, channels) = try Self.consuming(count)
    var wanted = [[Wire.Message]](repeating: [], count: count)
    var queues = (0..<count).map { index -> [[UInt8]] in
      (1...UInt64.random(in: 1...20, using: &random)).flatMap { tag -> [[UInt8]] in
        let body = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        wanted[index].append(.init(tag: tag, body: body))
        return Self.delivery(tag, on: index + 1, body: body)
      }
    }
    var found = [[Wire.Message]](repeating: [], count: count)
    stream.most = Int.random(in: 1...300, using: &random)
    while queues.contains(where: { !$0.isEmpty }) {
      // Some frames, of any channel each.
      for _ in 0..<Int.random(in: 1...10, using: &random) {
        let index = Int.random(in: 0..<count, using: &random)
        if let frame = queues[index].first {
          queues[index].removeFirst()
          stream.play(frame + (Bool.random(using: &random) ? Wire.heartbeat : []))
        }
      }
      _ = try connection.receive(deliveries: Int.random(in: 1...9, using: &random), bytes: 1 << 20)
      for (index, channel) in channels.enumerated() where Bool.random(using: &random) {
        found[index] += channel.takeBatch(refilling: DeliveryBatch()).messages
      }
    }
    while try connection.receive(deliveries: 1000, bytes: 1 << 20) != .drained {}
    for (index, channel) in channels.enumerated() {
      #expect(!channel.isArriving)
      found[index] += channel.takeBatch(refilling: DeliveryBatch()).messages
    }
    #expect(found == wanted)
  }

  @Test func `a batch is full when all channels together have so much`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    for tag in 1...3 as ClosedRange<UInt64> {
      for channel in 1...2 { stream.play(Self.delivery(tag, on: channel, body: [1]).flatMap(\.self)) }
    }
    #expect(try connection.receive(deliveries: 4, bytes: .max) == .full)
    #expect(channels.map(\.batch.deliveries.count) == [2, 2])
    _ = channels[0].takeBatch(refilling: DeliveryBatch())
    #expect(try connection.receive(deliveries: 4, bytes: .max) == .full)
    #expect(channels.map(\.batch.deliveries.count) == [1, 3])
  }

  @Test func `a channel that the broker closes ends its own consumer only`() throws {
    let (stream, connection, channels) = try Self.consuming(3)
    let half = Self.delivery(1, on: 2, body: [1, 2, 3])
    stream.play(
      Self.delivery(1, on: 1, body: [1]).flatMap(\.self) + half[0] + half[1]
        + Wire.channelClose(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out", channel: 2)
        + Self.delivery(1, on: 3, body: [3]).flatMap(\.self))
    #expect(try connection.receive(deliveries: 10, bytes: .max) == .drained)
    #expect(stream.takeMethods() == [[2, 20, 41]])
    try channels[0].check()
    try channels[2].check()
    let error = #expect(throws: AMQPError.self) { try channels[1].check() }
    #expect(
      error?.kind
        == .channelClosed(code: 406, text: "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out"))
    // It is told once.
    try channels[1].check()
    #expect(channels.map(\.batch.deliveries.count) == [1, 0, 1])
    #expect(!channels[1].isArriving)
    // The others go on, and so does this one once it is open again, with tags from 1 on.
    stream.play(Self.opened(2) + Self.consumeOk(2) + Self.delivery(1, on: 2, body: [9]).flatMap(\.self))
    try channels[1].reopen()
    try channels[1].consume(Consumption(queue: "q2"), tag: "tag2")
    stream.play(Self.delivery(2, on: 1, body: [2]).flatMap(\.self))
    #expect(try connection.receive(deliveries: 10, bytes: .max) == .drained)
    #expect(channels[1].batch.messages == [.init(tag: 1, body: [9])])
    #expect(channels[0].batch.messages == [.init(tag: 1, body: [1]), .init(tag: 2, body: [2])])
    try channels[0].acknowledge(2, multiple: true)
    #expect(stream.takeMethods() == [[2, 20, 10], [2, 60, 20], [1, 60, 80]])
  }

  @Test func `what comes for others while one waits for an answer is there afterwards`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(
      Self.delivery(1, on: 1, body: [1]).flatMap(\.self) + Wire.channelClose(404, "NOT_FOUND", channel: 1)
        + Self.delivery(1, on: 2, body: [2]).flatMap(\.self) + Self.onChannel(2, 60, 31, Wire.short("tag2")))
    try channels[1].cancel(tag: "tag2")
    #expect(channels.map(\.batch.deliveries.count) == [1, 1])
    #expect(throws: AMQPError(.channelClosed(code: 404, text: "NOT_FOUND"), during: "using the channel")) {
      try channels[0].check()
    }
    _ = connection
  }

  @Test func `a call on the channel that is closed says why`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(Wire.channelClose(404, "NOT_FOUND - no queue", channel: 2))
    #expect(
      throws: AMQPError(
        .channelClosed(code: 404, text: "NOT_FOUND - no queue"), during: "looking for queue \"missing\"")
    ) { try channels[1].declareQueue(QueueDeclaration(name: "missing"), passive: true) }
    try channels[0].check()
    _ = connection
  }

  @Test func `an answer for another channel than the one that asks is an error`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(Self.onChannel(1, 60, 31, Wire.short("tag2")))
    let error = #expect(throws: AMQPError.self) { try channels[1].cancel(tag: "tag2") }
    #expect(error?.description.contains("an unexpected answer") == true, "\(String(describing: error))")
    _ = connection
  }

  @Test(arguments: [3, 4, 200])
  func `what comes on a channel that was not opened is an error`(number: Int) throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(Self.delivery(1, on: number, body: []).flatMap(\.self))
    let error = #expect(throws: AMQPError.self) { try connection.receive(deliveries: 1, bytes: .max) }
    #expect(error?.description.contains("basic.deliver on channel \(number)") == true, "\(String(describing: error))")
    _ = channels
  }

  @Test func `each channel's queue is asked for on a channel of its own`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    for (index, channel) in channels.enumerated() { try channel.ask(for: "q\(index + 1)") }
    #expect(stream.takeMethods() == [[3, 20, 10], [4, 20, 10]])
    let status = { (channel: Int) in
      Self.onChannel(channel, 50, 11, Wire.short("q"), Wire.integer(channel, 4), Wire.integer(1, 4))
    }
    stream.play(Self.opened(4) + Self.opened(3))
    _ = try connection.receive(deliveries: 1, bytes: .max)
    stream.play(status(4) + Wire.channelClose(404, "NOT_FOUND", channel: 3))
    _ = try connection.receive(deliveries: 1, bytes: .max)
    #expect(channels[0].takeAnswer() == .refused(code: 404, text: "NOT_FOUND"))
    #expect(channels[1].takeAnswer() == .status(QueueStatus(name: "q", messages: 4, consumers: 1)))
    for channel in channels { try channel.check() }
  }

  @Test(
    arguments: [
      (2, 0, 4), (2, 2047, 4), (2, 4, 4), (2, 3, 2), (2, 2, 2), (1, 1, 1), (200, 2047, 400), (200, 300, 200),
    ] as [(Int, UInt16, UInt16)])
  func `as many channels are agreed on as are needed`(consumers: Int, offered: UInt16, agreed: UInt16) throws {
    let stream = Played()
    stream.play(Wire.start() + Wire.tune(channels: offered) + Wire.openOk + Self.opened(1))
    var settings = ConnectionSettings(
      nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"), heartbeatSeconds: 0)
    settings.channels = UInt16(consumers)
    let connection = try Connection(settings, over: stream, to: settings.nodes[0], deadline: .distantFuture)
    try connection.flush()
    let tuneOk = Wire.frame(
      1, Wire.method(10, 31, Wire.integer(agreed, 2), Wire.integer(131_072, 4), [0, 0]), channel: 0)
    #expect(stream.written.indices.contains { stream.written[$0...].starts(with: tuneOk) })
    #expect(connection.allowsProbe == (Int(agreed) == 2 * consumers))
  }

  /// Else the end of the connection would be the reason.
  @Test(arguments: [
    Wire.close(320, "CONNECTION_FORCED"), Wire.frame(1, Wire.method(99, 99)), [9, 9, 9, 9, 9, 9, 9, 9],
  ])
  func `why a channel was closed is told before what came after it`(after: [UInt8]) throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(Wire.channelClose(406, "PRECONDITION_FAILED - timed out", channel: 1) + after)
    #expect(try connection.receive(deliveries: 10, bytes: .max) == .drained)
    let error = #expect(throws: AMQPError.self) { try channels[0].check() }
    #expect(error?.kind == .channelClosed(code: 406, text: "PRECONDITION_FAILED - timed out"))
    #expect(throws: AMQPError.self) { try connection.receive(deliveries: 10, bytes: .max) }
    // The same if someone waits for an answer there.
    let (other, second, others) = try Self.consuming(2)
    other.play(Wire.channelClose(404, "NOT_FOUND", channel: 2) + after)
    let refusal = #expect(throws: AMQPError.self) { try others[1].cancel(tag: "tag2") }
    #expect(refusal?.kind == .channelClosed(code: 404, text: "NOT_FOUND"))
    _ = second
  }

  @Test func `nothing is sent on a channel that the broker has closed`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    stream.play(Wire.channelClose(404, "NOT_FOUND", channel: 2))
    _ = try connection.receive(deliveries: 1, bytes: .max)
    _ = stream.takeMethods()
    let refused = AMQPError.Kind.channelClosed(code: 404, text: "NOT_FOUND")
    func expect(_ body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation) {
      let error = #expect(throws: AMQPError.self, sourceLocation: sourceLocation) { try body() }
      #expect(error?.kind == refused, sourceLocation: sourceLocation)
    }
    expect { try channels[1].acknowledge(1, multiple: true) }
    expect { try channels[1].reject(1) }
    expect { try channels[1].cancel(tag: "tag2") }
    expect { try channels[1].askInOrder(for: "q") }
    expect { _ = try channels[1].declareQueue(QueueDeclaration(name: "q"), passive: true) }
    try channels[0].acknowledge(1, multiple: true)
    #expect(stream.takeMethods() == [[1, 60, 80]])
  }

  @Test func `a channel that is opened again has nothing of before`() throws {
    let (stream, connection, channels) = try Self.consuming(2)
    try channels[1].askInOrder(for: "q2")
    stream.play(
      Self.onChannel(2, 50, 11, Wire.short("q"), Wire.integer(1, 4), Wire.integer(1, 4))
        + Self.delivery(1, on: 2, body: [1]).flatMap(\.self) + Self.delivery(2, on: 2, body: [2]).flatMap(\.self)
        + Self.onChannel(2, 60, 30, Wire.short("tag2"), [1]) + Wire.channelClose(404, "NOT_FOUND", channel: 2))
    _ = try connection.receive(deliveries: 10, bytes: .max)
    #expect(throws: AMQPError.self) { try channels[1].check() }
    stream.play(Self.opened(2) + Self.consumeOk(2) + Self.delivery(1, on: 2, body: [9]).flatMap(\.self))
    try channels[1].reopen()
    #expect(channels[1].takeEvents().isEmpty)
    #expect(channels[1].takeOrderedAnswer() == nil)
    try channels[1].consume(Consumption(queue: "q2"), tag: "tag2")
    _ = try connection.receive(deliveries: 10, bytes: .max)
    #expect(channels[1].batch.messages == [.init(tag: 1, body: [9])])
  }

  @Test func `a channel that the broker closes meanwhile got no goodbye`() throws {
    // Both at once: RabbitMQ answers ours all the same.
    for answers in [[], Self.onChannel(2, 20, 41)] {
      let (stream, connection, channels) = try Self.consuming(3)
      stream.play(
        Self.onChannel(1, 20, 41) + Wire.channelClose(406, "TIMED OUT", channel: 2) + answers
          + Self.onChannel(3, 20, 41))
      let error = #expect(throws: AMQPError.self) { try connection.close() }
      #expect(error?.kind == .channelClosed(code: 406, text: "TIMED OUT"))
      try connection.flush()
      #expect(stream.takeMethods() == [[1, 20, 40], [2, 20, 40], [3, 20, 40], [2, 20, 41], [0, 10, 50]])
      _ = channels
    }
  }

  @Test func `others may deliver as much as they like while one waits`() throws {
    let (stream, connection, channels) = try Self.consuming(3)
    let large = [UInt8](repeating: 7, count: 20 << 20)
    stream.play(
      Self.delivery(1, on: 1, body: large, frameBody: 1 << 20).flatMap(\.self)
        + Self.delivery(1, on: 2, body: large, frameBody: 1 << 20).flatMap(\.self)
        + Self.onChannel(3, 60, 31, Wire.short("tag3")))
    try channels[2].cancel(tag: "tag3")
    #expect(channels.map(\.batch.deliveries.count) == [1, 1, 0])
    _ = connection
  }

  @Test func `goodbye is said on each channel that is open`() throws {
    let (stream, connection, channels) = try Self.consuming(3)
    stream.play(Wire.channelClose(404, "NOT_FOUND", channel: 2))
    _ = try connection.receive(deliveries: 1, bytes: .max)
    #expect(throws: AMQPError.self) { try channels[1].check() }
    _ = stream.takeMethods()
    stream.play(
      Self.delivery(1, on: 3, body: [1]).flatMap(\.self) + Self.onChannel(1, 20, 41)
        + Self.delivery(2, on: 3, body: [1]).flatMap(\.self) + Self.onChannel(3, 20, 41))
    // Of the second no one knows what the broker has handled.
    #expect(throws: AMQPError(.channelClosed(code: 404, text: "NOT_FOUND"), during: "using the channel")) {
      try connection.close()
    }
    try connection.flush()
    #expect(stream.takeMethods() == [[1, 20, 40], [3, 20, 40], [0, 10, 50]])
    _ = channels
  }

  @Test func `a flood of cancellations is one channel's`() throws {
    let (stream, connection, channels) = try Self.consuming(200)
    // All queues are deleted at once.
    for number in 1...200 { stream.play(Self.onChannel(number, 60, 30, Wire.short("tag\(number)"), [1])) }
    #expect(try connection.receive(deliveries: 1, bytes: .max) == .drained)
    #expect(
      channels.enumerated().allSatisfy { $0.element.takeEvents() == [.consumerCancelled(tag: "tag\($0.offset + 1)")] })
  }
}
