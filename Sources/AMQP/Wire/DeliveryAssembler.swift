/// Makes deliveries out of the frames of one channel.
///
/// A delivery is a `basic.deliver` method, a content header and as many body frames as its size asks for, in this order
/// and with nothing of the same channel between. Frames of channel 0 may come between any two.
/// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2.6
///
/// A value without I/O: frames in, deliveries in the batch, an error for what does not fit.
///
/// Invariants
///   - A delivery is taken only between `basic.consume-ok` and `basic.cancel-ok`, and for our consumer.
///   - Delivery tags count the deliveries of the channel: 1, 2, 3 … So no tag that a broker makes up reaches a sum.
struct DeliveryAssembler {
  /// The one consumer of the channel.
  private enum Consumer {
    /// Leaves by `consumerAsked`.
    case none
    /// `basic.consume` was sent. Leaves by `consumerStarted`.
    case asked(tag: [UInt8])
    /// The broker has confirmed it. Leaves by `consumerEnded`.
    case running(tag: [UInt8])
    /// The broker has confirmed its end. Final for the channel, save for another consumer.
    case ended
  }

  private enum State {
    /// Between two deliveries. Leaves by `basic.deliver`.
    case idle
    /// Method seen. Leaves by the content header.
    case header(DeliveryBatch.Delivery)
    /// Header seen, `missing` bytes of the body (at least 1) still to come. Leaves by the last of them.
    case body(DeliveryBatch.Delivery, missing: UInt64)
    /// The same of a body that is cut.
    case cutBody(DeliveryBatch.Delivery, missing: UInt64, BodyDigests)
  }
  private let limit: BodyLimit
  private var state = State.idle
  private var consumer = Consumer.none
  /// The newest delivery's tag.
  private var newestTag: UInt64
  /// Body frames without a byte in the delivery that arrives.
  private var emptyFrames = 0

  /// RabbitMQ takes no larger message, whatever its `max_message_size` says.
  /// https://www.rabbitmq.com/docs/configure (`max_message_size`)
  static let largestBody: UInt64 = 512 << 20
  /// No one has a reason to send body frames without a byte; a few harm no one.
  private static let emptyFrameLimit = 1000

  /// A channel that has just been opened, or one on which a consumer runs and had deliveries up to `newestTag`.
  init(consumer tag: String? = nil, newestTag: UInt64 = 0, limit: BodyLimit = .none) {
    self.limit = limit
    if let tag { consumer = .running(tag: Array(tag.utf8)) }
    self.newestTag = newestTag
  }

  /// True if a delivery has begun to arrive and is not whole yet.
  var isInside: Bool {
    switch state {
    case .idle: false
    case .header, .body, .cutBody: true
    }
  }

  /// `basic.consume` goes out.
  mutating func consumerAsked(tag: String) { consumer = .asked(tag: Array(tag.utf8)) }

  /// `basic.consume-ok` has come.
  mutating func consumerStarted() {
    if case .asked(let tag) = consumer { consumer = .running(tag: tag) }
  }

  /// `basic.cancel-ok` has come.
  mutating func consumerEnded() { consumer = .ended }

  /// A `basic.deliver` method frame; `fields` is the payload after class and method number.
  mutating func deliver(_ fields: Span<UInt8>, into batch: inout DeliveryBatch) throws(AMQPError) {
    guard case .idle = state else { throw Self.malformed("a delivery began inside another") }
    var reader = Reader()
    try check(consumer: fields, try reader.shortString(in: fields))
    let tag = try reader.integer(in: fields, as: UInt64.self)
    guard tag == newestTag + 1 else {
      throw Self.malformed("a delivery with tag \(tag), but \(newestTag + 1) was expected")
    }
    let redelivered = try reader.integer(in: fields, as: UInt8.self) & 1 == 1
    let exchange = try reader.shortString(in: fields)
    let routingKey = try reader.shortString(in: fields)
    let start = batch.arena.count
    batch.arena.append(fields, exchange)
    batch.arena.append(fields, routingKey)
    newestTag = tag
    emptyFrames = 0
    state = .header(
      DeliveryBatch.Delivery(
        tag: tag, redelivered: redelivered, receivedAt: 0, start: start, exchangeCount: exchange.count,
        routingKeyCount: routingKey.count, propertiesCount: 0, bodyCount: 0, bodySize: 0))
  }

  /// A content header frame: class, weight, body size, property block.
  mutating func header(_ payload: Span<UInt8>, at now: Int64, into batch: inout DeliveryBatch) throws(AMQPError) {
    guard case .header(var delivery) = state else { throw Self.malformed("a content header without a delivery") }
    var reader = Reader()
    guard try reader.integer(in: payload, as: UInt16.self) == 60 else {
      throw Self.malformed("a content header of another class than basic")
    }
    _ = try reader.integer(in: payload, as: UInt16.self)  // Weight: unused, always 0.
    let size = try reader.integer(in: payload, as: UInt64.self)
    guard size <= Self.largestBody else {
      throw Self.malformed("a body of \(size) bytes; the largest that RabbitMQ takes has \(Self.largestBody)")
    }
    let properties = reader.offset..<payload.count
    batch.arena.append(payload, properties)
    delivery.propertiesCount = properties.count
    delivery.bodySize = Int(size)
    if size == 0 {
      finish(delivery, at: now, in: &batch)
    } else {
      // In one step for ordinary bodies; a large one grows with what really arrives.
      batch.arena.reserveAtLeast(batch.arena.count + Int(min(size, 1 << 20)))
      state = .body(delivery, missing: size)
    }
  }

  /// A body frame.
  mutating func body(_ payload: Span<UInt8>, at now: Int64, into batch: inout DeliveryBatch) throws(AMQPError) {
    let (missing, digests): (UInt64, BodyDigests?)
    var delivery: DeliveryBatch.Delivery
    switch state {
    case .body(let begun, let rest):
      let isCut = begun.bodyCount == 0 && limit.cuts(UInt64(begun.bodySize), beginning: payload)
      (delivery, missing, digests) = (begun, rest, isCut ? BodyDigests(begun, of: batch) : nil)
    case .cutBody(let begun, let rest, let hashes): (delivery, missing, digests) = (begun, rest, hashes)
    case .idle, .header: throw Self.malformed("a body frame without a header")
    }
    guard UInt64(payload.count) <= missing else { throw Self.malformed("more body than its header announced") }
    if payload.isEmpty {
      emptyFrames += 1
      guard emptyFrames <= Self.emptyFrameLimit else { throw Self.malformed("an endless row of empty body frames") }
    }
    let kept = digests == nil ? payload.count : min(payload.count, max(0, limit.kept - delivery.bodyCount))
    batch.arena.append(payload, 0..<kept)
    delivery.bodyCount += kept
    digests?.update(payload)
    if UInt64(payload.count) == missing {
      if let digests { batch.cutDigests[delivery.tag] = digests.finish() }
      finish(delivery, at: now, in: &batch)
    } else if let digests {
      state = .cutBody(delivery, missing: missing - UInt64(payload.count), digests)
    } else {
      state = .body(delivery, missing: missing - UInt64(payload.count))
    }
  }

  /// A delivery is ours, or an error says whose it is.
  private func check(consumer fields: Span<UInt8>, _ name: Range<Int>) throws(AMQPError) {
    switch consumer {
    case .none: throw Self.malformed("a delivery without a consumer")
    case .asked: throw Self.malformed("a delivery before consume-ok")
    case .ended: throw Self.malformed("a delivery after cancel-ok")
    case .running(let tag):
      if fields.extracting(name).isEqual(to: tag.span) { return }
      var text: [UInt8] = []
      text.append(fields, name)
      throw Self.malformed("a delivery for consumer \"\(String(decoding: text, as: UTF8.self))\", which is not ours")
    }
  }

  /// The batch was split: what had begun to arrive now starts at the front of the new one.
  mutating func moved(by offset: Int) {
    switch state {
    case .idle: break
    case .header(var delivery):
      delivery.start -= offset
      state = .header(delivery)
    case .body(var delivery, let missing):
      delivery.start -= offset
      state = .body(delivery, missing: missing)
    case .cutBody(var delivery, let missing, let digests):
      delivery.start -= offset
      state = .cutBody(delivery, missing: missing, digests)
    }
  }

  private mutating func finish(_ delivery: DeliveryBatch.Delivery, at now: Int64, in batch: inout DeliveryBatch) {
    var delivery = delivery
    delivery.receivedAt = now
    batch.deliveries.append(delivery)
    batch.completeBytes = batch.arena.count
    state = .idle
  }

  @inline(never) private static func malformed(_ text: String) -> AMQPError {
    AMQPError(.malformed(text: text), during: "reading a delivery")
  }

  /// Reads big-endian fields of a span, one after the other, never past its end.
  private struct Reader {
    private(set) var offset = 0

    @inline(__always) mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(
      in bytes: Span<UInt8>, as type: Value.Type = Value.self
    ) throws(AMQPError) -> Value {
      let width = MemoryLayout<Value>.size
      guard bytes.count - offset >= width else { throw DeliveryAssembler.malformed("a frame that ends too early") }
      defer { offset += width }
      return bytes.bigEndian(at: offset)
    }

    @inline(__always) mutating func shortString(in bytes: Span<UInt8>) throws(AMQPError) -> Range<Int> {
      let count = Int(try integer(in: bytes, as: UInt8.self))
      guard bytes.count - offset >= count else { throw DeliveryAssembler.malformed("a text that ends too early") }
      defer { offset += count }
      return offset..<offset + count
    }
  }
}

extension Span<UInt8> {
  /// Whether both have the same bytes.
  func isEqual(to other: Span<UInt8>) -> Bool {
    guard count == other.count else { return false }
    for index in 0..<count where self[index] != other[index] { return false }
    return true
  }
}

extension [UInt8] {
  /// Copies the `range` of `span` to the end.
  mutating func append(_ span: Span<UInt8>, _ range: Range<Int>) {
    unsafe span.extracting(range).withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
  }

  /// Grows by doubling as appending does, so that reserving per delivery does not cost a copy per delivery.
  mutating func reserveAtLeast(_ count: Int) {
    if count > capacity { reserveCapacity(Swift.max(count, capacity * 2)) }
  }
}
