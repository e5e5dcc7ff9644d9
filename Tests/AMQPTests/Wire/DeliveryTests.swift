import Support
import Testing

@testable import AMQP

/// Bytes to frames to deliveries, however the bytes arrive.
struct DeliveryTests {
  /// A connection's receiving half, without its socket.
  private struct Receiver {
    var buffer = FrameBuffer()
    var assembler = DeliveryAssembler(consumer: "tag")
    var batch = DeliveryBatch()
    var heartbeats = 0

    mutating func feed(_ bytes: ArraySlice<UInt8>) throws(AMQPError) {
      var rest = bytes
      while !rest.isEmpty {
        let taken = unsafe try buffer.fill { (room) throws(AMQPError) -> (count: Int, result: Int) in
          let part = rest.prefix(room.count)
          unsafe room.copyBytes(from: part)
          return (part.count, part.count)
        }
        rest = rest.dropFirst(taken)
        while let frame = try buffer.next() { try take(frame) }
      }
    }

    private mutating func take(_ frame: FrameBuffer.Frame) throws(AMQPError) {
      let bytes = buffer.bytes  // A reference, so that the payload does not borrow the receiver.
      let payload = bytes.span.extracting(frame.payload)
      switch frame.type {
      case .heartbeat: heartbeats += 1
      case .header: try assembler.header(payload, at: 7, into: &batch)
      case .body: try assembler.body(payload, at: 8, into: &batch)
      case .method:
        guard payload.count >= 4 else { return }
        try assembler.deliver(payload.extracting(4..<payload.count), into: &batch)
      }
    }

    mutating func takeBatch() -> DeliveryBatch {
      let offset = batch.completeBytes
      let taken = batch.split(continuingIn: DeliveryBatch())
      assembler.moved(by: offset)
      return taken
    }
  }

  private static func body(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) } }

  private static let messages: [Wire.Message] = [
    .init(tag: 1, body: []), .init(tag: 2, redelivered: true, body: [0xCE]), .init(tag: 3, body: body(99)),
    .init(tag: 4, exchange: "", routingKey: "", body: body(100)), .init(tag: 5, body: body(101)),
    .init(tag: 6, exchange: String(repeating: "x", count: 255), properties: [0x80, 0, 1, 0x61], body: body(1000)),
  ]

  @Test func `what begins as JSON, or in another encoding, is cut later`() {
    let limit = BodyLimit(largest: 500, largestJSON: 2000, kept: 100)
    func cuts(_ size: UInt64, _ beginning: [UInt8]) -> Bool { limit.cuts(size, beginning: beginning.span) }
    for beginning in ["{", "[", " \r\n\t[", "\u{FEFF}{", " "].map({ Array($0.utf8) }) + [[0xFF, 0xFE], [0, 0x7B], []] {
      #expect(!cuts(2000, beginning) && cuts(2001, beginning), "\(beginning)")
    }
    for beginning in ["x", " x", "\"", "1"].map({ Array($0.utf8) }) + [[0x1F, 0x8B]] {
      #expect(!cuts(500, beginning) && cuts(501, beginning), "\(beginning)")
    }
  }

  /// Bodies above the limit, in frames of 100 bytes: what is kept, and that nothing else changes.
  @Test(arguments: [0, 1, 100, 250, 500], [1, 64, 100_000])
  func `a body that is too large is cut, and has the digests of the whole one`(kept: Int, size: Int) throws {
    let frames = Self.messages.flatMap { Wire.delivery($0, frameBody: 100).flatMap(\.self) }
    var (whole, cut) = (Receiver(), Receiver())
    cut.assembler = DeliveryAssembler(consumer: "tag", limit: BodyLimit(largest: 500, kept: kept))
    var (wholes, cuts) = (DeliveryBatch(), [DeliveryBatch]())
    try whole.feed(frames[...])
    wholes = whole.takeBatch()
    for start in stride(from: 0, to: frames.count, by: size) {
      try cut.feed(frames[start..<min(start + size, frames.count)])
      cuts.append(cut.takeBatch())
    }
    let maker = DigestMaker()
    var index = 0
    for batch in cuts {
      for delivery in batch.deliveries {
        let other = wholes.deliveries[index]
        let body = Array(wholes.arena[other.body])
        #expect(delivery.bodySize == body.count && delivery.isCut == (body.count > 500))
        #expect(Array(batch.arena[delivery.body]) == (body.count > 500 ? Array(body.prefix(kept)) : body))
        #expect(Array(batch.arena[delivery.properties]) == Array(wholes.arena[other.properties]))
        for form in DigestForm.allCases {
          #expect(maker.digest(delivery, of: batch, form: form) == maker.digest(other, of: wholes, form: form))
        }
        index += 1
      }
    }
    #expect(index == Self.messages.count)
  }

  @Test(arguments: [1, 2, 7, 8, 64, 1000, 1 << 20])
  func `deliveries are the same in pieces of any size`(size: Int) throws {
    let frames = Self.messages.flatMap { Wire.delivery($0, frameBody: 100) }
    // A heartbeat after every frame, also between a header and its body.
    let bytes = frames.flatMap { $0 + Wire.heartbeat }
    var receiver = Receiver()
    for start in stride(from: 0, to: bytes.count, by: size) {
      try receiver.feed(bytes[start..<min(start + size, bytes.count)])
    }
    #expect(receiver.batch.messages == Self.messages)
    #expect(receiver.batch.byteCount == receiver.batch.arena.count)
    #expect(receiver.batch.deliveries.map(\.receivedAt) == [7, 8, 8, 8, 8, 8])
    #expect(receiver.heartbeats == frames.count)
    #expect(receiver.buffer.isEmpty)
    #expect(!receiver.assembler.isInside)
  }

  @Test func `a batch may be split after every frame`() throws {
    let frames = Self.messages.flatMap { Wire.delivery($0, frameBody: 40) }
    for every in 1...4 {
      var receiver = Receiver()
      var messages: [Wire.Message] = []
      for (index, frame) in frames.enumerated() {
        try receiver.feed(frame[...])
        guard index % every == 0 else { continue }
        let taken = receiver.takeBatch()
        #expect(taken.arena.count == taken.byteCount)
        messages += taken.messages
        #expect(receiver.batch.isEmpty)
      }
      messages += receiver.takeBatch().messages
      #expect(messages == Self.messages)
    }
  }

  @Test func `a header frame may be larger than the negotiated limit`() throws {
    let message = Wire.Message(tag: 1, properties: Self.body(200_000), body: Self.body(5))
    var receiver = Receiver()
    try receiver.feed(Wire.delivery(message, frameBody: 3).flatMap(\.self)[...])
    #expect(receiver.batch.messages == [message])
  }

  @Test func `a body of many large frames is whole`() throws {
    let message = Wire.Message(tag: 1, body: Self.body(3_000_000))
    var receiver = Receiver()
    try receiver.feed(Wire.delivery(message, frameBody: 131_064).flatMap(\.self)[...])
    #expect(receiver.batch.messages == [message])
  }

  private static let deliver = Wire.delivery(.init(tag: 1, body: []), frameBody: 1)[0]
  private static func header(_ size: UInt64, class number: Int = 60) -> [UInt8] {
    Wire.frame(2, Wire.integer(number, 2) + Wire.integer(0, 2) + Wire.integer(size, 8) + [0, 0])
  }
  private static func tooLarge(_ size: UInt64) -> String {
    "a body of \(size) bytes; the largest that RabbitMQ takes has 536870912"
  }
  private static func tagged(_ tag: UInt64, _ consumer: String = "tag") -> [UInt8] {
    Wire.delivery(.init(tag: tag, body: []), consumer: consumer)[0]
  }
  private static let one = Wire.frame(3, [1])

  @Test(arguments: [
    ([deliver, deliver], "a delivery began inside another"),
    ([deliver, header(1), deliver], "a delivery began inside another"),
    ([header(0)], "a content header without a delivery"),
    ([deliver, header(0), header(0)], "a content header without a delivery"),
    ([deliver, header(1), header(1)], "a content header without a delivery"),
    ([one], "a body frame without a header"), ([deliver, one], "a body frame without a header"),
    ([deliver, header(0), one], "a body frame without a header"),
    ([deliver, header(0, class: 10)], "a content header of another class than basic"),
    ([deliver, header(1), Wire.frame(3, [1, 2])], "more body than its header announced"),
    ([deliver, header(.max)], tooLarge(.max)), ([deliver, header(1 << 63)], tooLarge(1 << 63)),
    ([deliver, header(512 << 20 + 1)], tooLarge(512 << 20 + 1)),
    ([deliver, header(1)] + Array(repeating: Wire.frame(3, []), count: 1001), "an endless row of empty body frames"),
    ([tagged(0)], "a delivery with tag 0, but 1 was expected"),
    ([tagged(2)], "a delivery with tag 2, but 1 was expected"),
    ([tagged(1), header(0), tagged(1)], "a delivery with tag 1, but 2 was expected"),
    ([tagged(1), header(0), tagged(3)], "a delivery with tag 3, but 2 was expected"),
    ([tagged(1 << 63)], "a delivery with tag 9223372036854775808, but 1 was expected"),
    ([tagged(.max)], "a delivery with tag 18446744073709551615, but 1 was expected"),
    ([tagged(1, "other")], "a delivery for consumer \"other\", which is not ours"),
    ([tagged(1, "")], "a delivery for consumer \"\", which is not ours"),
    ([deliver, Wire.frame(2, [0, 60, 0, 0, 0])], "a frame that ends too early"),
    ([Wire.frame(1, Wire.method(60, 60, [200, 1]))], "a text that ends too early"),
    ([Wire.frame(1, Wire.method(60, 60))], "a frame that ends too early"),
  ])
  func `frames out of order are an error that names it`(frames: [[UInt8]], text: String) {
    let error = #expect(throws: AMQPError.self) {
      var receiver = Receiver()
      try receiver.feed(frames.flatMap(\.self)[...])
    }
    #expect(error == AMQPError(.malformed(text: text), during: "reading a delivery"))
  }

  @Test func `a delivery belongs to a consumer that runs`() throws {
    let fields = Array(Self.deliver[11..<Self.deliver.count - 1])
    var (assembler, batch) = (DeliveryAssembler(), DeliveryBatch())
    func text(_ assembler: DeliveryAssembler) -> AMQPError? {
      #expect(throws: AMQPError.self) {
        var (assembler, batch) = (assembler, DeliveryBatch())
        try assembler.deliver(fields.span, into: &batch)
      }
    }
    #expect(text(assembler)?.kind == .malformed(text: "a delivery without a consumer"))
    assembler.consumerStarted()
    #expect(text(assembler)?.kind == .malformed(text: "a delivery without a consumer"))
    assembler.consumerAsked(tag: "tag")
    #expect(text(assembler)?.kind == .malformed(text: "a delivery before consume-ok"))
    assembler.consumerStarted()
    try assembler.deliver(fields.span, into: &batch)
    assembler = DeliveryAssembler()
    assembler.consumerAsked(tag: "tag")
    assembler.consumerStarted()
    assembler.consumerEnded()
    #expect(text(assembler)?.kind == .malformed(text: "a delivery after cancel-ok"))
  }

  @Test func `an empty body frame is legal and changes nothing`() throws {
    var receiver = Receiver()
    try receiver.feed((Self.deliver + Self.header(1) + Wire.frame(3, []))[...])
    #expect(receiver.batch.isEmpty)
    #expect(receiver.assembler.isInside)
    try receiver.feed(Self.one[...])
    #expect(receiver.batch.messages.map(\.body) == [[1]])
  }

  @Test(
    arguments: [
      ([0, 0, 0, 0, 0, 0, 0], "a frame of unknown type 0"), ([4, 0, 1, 0, 0, 0, 0], "a frame of unknown type 4"),
      ([1, 0, 0, 0, 0x40, 0, 1], "a frame of 4194305 bytes"),
      ([1, 0, 0, 255, 255, 255, 255], "a frame of 4294967295 bytes"),
      ([8, 0, 0, 0, 0, 0, 0, 0xCD], "a frame without its end octet"),
      ([8, 0, 0, 0, 0, 0, 1], "a heartbeat with 1 bytes"),
    ] as [([UInt8], String)])
  func `bytes that are no frame are an error`(bytes: [UInt8], text: String) {
    let error = #expect(throws: AMQPError.self) {
      var receiver = Receiver()
      try receiver.feed(bytes[...])
    }
    #expect(error == AMQPError(.malformed(text: text), during: "reading a frame"))
  }

  @Test(arguments: 0..<200 as Range<UInt64>)
  func `damaged frames are deliveries or errors, never a trap`(seed: UInt64) {
    var random = Seeded(seed)
    var bytes = Self.messages.flatMap { Wire.delivery($0, frameBody: 100) }.flatMap(\.self)
    for _ in 0..<Int.random(in: 1...10, using: &random) {
      let index = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<3, using: &random) {
      case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes.remove(at: index)
      default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
      }
    }
    var receiver = Receiver()
    try? receiver.feed(bytes[...])
    // What counts as whole lies inside the arena.
    for delivery in receiver.batch.deliveries { #expect(delivery.body.upperBound <= receiver.batch.byteCount) }
    #expect(receiver.batch.byteCount <= receiver.batch.arena.count)
  }
}
