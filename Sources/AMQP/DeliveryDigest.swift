internal import COpenSSL

/// What a message looks like, in 128 bits: equal for every delivery of the same message, and for messages that are
/// alike. It says "equal", never "the same".
public struct DeliveryDigest: Hashable, Sendable {
  public var high: UInt64
  public var low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
}

/// Makes digests of deliveries: SHA-256, cut to 128 bits, over a canonical encoding.
///
/// Version 1 of the encoding: the version; exchange and routing key; the property flags without the headers' bit and the
/// properties behind them as they stand; the headers sorted by key, without those that a broker adds when it delivers
/// again (`x-delivery-count`, `x-acquired-count`, `x-stream-offset`), integers of any width as 64 bits; the body. Every
/// part of variable length is preceded by its length, so that no two messages have one encoding.
///
/// A digest that changes between two deliveries of one message costs a duplicate, never a loss. What cannot be decoded is
/// taken as it stands.
///
/// Belongs to one thread. Safe: the context is private, made and freed here.
@safe public final class DigestMaker {
  private static let version: UInt8 = 1
  /// Headers that differ between deliveries of one message.
  private static let volatileHeaders: [[UInt8]] = ["x-delivery-count", "x-acquired-count", "x-stream-offset"]
    .map { Array($0.utf8) }
  /// Tables nested deeper than this are taken as they stand.
  private static let depth = 32

  private let context: OpaquePointer
  private let algorithm: OpaquePointer
  private var canonical: [UInt8] = []

  public init() {
    guard let context = unsafe EVP_MD_CTX_new(), let algorithm = unsafe EVP_MD_fetch(nil, "SHA256", nil) else {
      fatalError("OpenSSL has no SHA-256")
    }
    unsafe self.context = context
    unsafe self.algorithm = algorithm
  }

  deinit {
    unsafe EVP_MD_CTX_free(context)
    unsafe EVP_MD_free(algorithm)
  }

  /// The digest of one delivery of `batch`.
  public func digest(_ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch) -> DeliveryDigest {
    let bytes = batch.arena.span
    canonical.removeAll(keepingCapacity: true)
    canonical.append(Self.version)
    append(bytes, delivery.exchange)
    append(bytes, delivery.routingKey)
    appendProperties(bytes.extracting(delivery.properties))
    append(count: delivery.body.count)
    var hash = [UInt8](repeating: 0, count: 32)
    var written: UInt32 = 0
    let done = unsafe bytes.extracting(delivery.body).withUnsafeBytes { body in
      unsafe EVP_DigestInit_ex2(context, algorithm, nil) == 1
        && EVP_DigestUpdate(context, canonical, canonical.count) == 1
        && EVP_DigestUpdate(context, body.baseAddress, body.count) == 1
        && EVP_DigestFinal_ex(context, &hash, &written) == 1
    }
    precondition(done, "OpenSSL could not compute SHA-256")
    func word(_ from: Int) -> UInt64 { hash[from..<from + 8].reduce(0) { $0 << 8 | UInt64($1) } }
    return DeliveryDigest(high: word(0), low: word(8))
  }

  private func append(count: Int) {
    for shift in stride(from: 56, through: 0, by: -8) { canonical.append(UInt8(truncatingIfNeeded: count >> shift)) }
  }

  private func append(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    append(count: range.count)
    canonical.append(bytes, range)
  }

  private func appendProperties(_ block: Span<UInt8>) {
    guard let properties = try? BasicProperties(block: block), let headers = properties.headers, block.count >= 2 else {
      return append(block, 0..<block.count)
    }
    // Flags, then what stands in front of the headers and behind them; their own length of 4 bytes is left out.
    append(block, 0..<headers.lowerBound - 4)
    append(block, headers.upperBound..<block.count)
    append(table: headers, of: block, depth: 0)
  }

  /// Fields sorted by their key's bytes; equal keys keep their order.
  private func append(table range: Range<Int>, of block: Span<UInt8>, depth: Int) {
    var fields: [FieldTable.Field] = []
    var table = FieldTable(range, of: block)
    do throws(FieldError) {
      while let field = try table.next(block) { fields.append(field) }
    } catch {
      return append(block, range)
    }
    if depth == 0 {
      fields.removeAll { field in
        Self.volatileHeaders.contains { name in Self.isEqual(block, field.key, name) }
      }
    }
    let order = fields.indices.sorted { left, right in
      Self.precedes(block, fields[left].key, fields[right].key) ?? (left < right)
    }
    append(count: fields.count)
    for index in order {
      append(block, fields[index].key)
      append(fields[index].value, of: block, depth: depth)
    }
  }

  private func append(_ value: FieldValue, of block: Span<UInt8>, depth: Int) {
    func tagged(_ tag: UInt8, _ number: UInt64) {
      canonical.append(tag)
      append(count: Int(truncatingIfNeeded: number))
    }
    switch value {
    case .void: canonical.append(0)
    case .bool(let flag): tagged(1, flag ? 1 : 0)
    case .integer(let integer): tagged(2, UInt64(bitPattern: integer))
    case .float(let float): tagged(3, UInt64(float.bitPattern))
    case .double(let double): tagged(4, double.bitPattern)
    case .decimal(let scale, let unscaled):
      tagged(5, UInt64(scale))
      tagged(5, UInt64(bitPattern: Int64(unscaled)))
    case .timestamp(let seconds): tagged(6, seconds)
    case .string(let range):
      canonical.append(7)
      append(block, range)
    case .bytes(let range):
      canonical.append(8)
      append(block, range)
    case .table(let range):
      canonical.append(9)
      if depth < Self.depth { append(table: range, of: block, depth: depth + 1) } else { append(block, range) }
    case .array(let range):
      canonical.append(10)
      append(array: range, of: block, depth: depth)
    }
  }

  private func append(array range: Range<Int>, of block: Span<UInt8>, depth: Int) {
    guard depth < Self.depth else { return append(block, range) }
    let mark = canonical.count
    var array = FieldArray(range, of: block)
    do throws(FieldError) {
      while let value = try array.next(block) { append(value, of: block, depth: depth + 1) }
    } catch {
      canonical.removeLast(canonical.count - mark)
      return append(block, range)
    }
    canonical.append(11)
  }

  private static func isEqual(_ block: Span<UInt8>, _ range: Range<Int>, _ name: [UInt8]) -> Bool {
    guard range.count == name.count else { return false }
    for (offset, byte) in name.enumerated() where block[range.lowerBound + offset] != byte { return false }
    return true
  }

  /// Byte order; nil where the keys are equal.
  private static func precedes(_ block: Span<UInt8>, _ left: Range<Int>, _ right: Range<Int>) -> Bool? {
    for (one, other) in zip(left, right) where block[one] != block[other] { return block[one] < block[other] }
    return left.count == right.count ? nil : left.count < right.count
  }
}

/// What tells deliveries of one message apart, or their order wrong.
public struct DeliveryMarks: Equatable, Sendable {
  /// The message's priority; nil where it has none.
  public var priority: UInt8?
  /// How often a quorum queue has taken the message back: `x-acquired-count`, else `x-delivery-count`. Nil on others.
  public var returns: Int64?
  /// True where the publisher gave the message a `message_id` that is not empty.
  public var hasMessageID = false
  /// Where in a stream the message is: `x-stream-offset`. Nil on other queues, unless a publisher made it up.
  public var streamOffset: Int64?

  public init(priority: UInt8? = nil, returns: Int64? = nil, hasMessageID: Bool = false) {
    self.priority = priority
    self.returns = returns
    self.hasMessageID = hasMessageID
  }

  /// Reads them from a property block; one that does not decode has none.
  public init(block: Span<UInt8>) {
    guard let properties = try? BasicProperties(block: block) else { return }
    priority = properties.priority
    hasMessageID = properties.messageID?.isEmpty == false
    guard let headers = properties.headers else { return }
    var table = FieldTable(headers, of: block)
    var counts: [Int64?] = [nil, nil, nil]
    while let field = (try? table.next(block)) ?? nil {
      guard case .integer(let count) = field.value else { continue }
      for (index, name) in Self.countHeaders.enumerated() where field.key.count == name.count {
        if zip(field.key, name).allSatisfy({ block[$0] == $1 }) { counts[index] = count }
      }
    }
    returns = counts[0] ?? counts[1]
    streamOffset = counts[2]
  }

  private static let countHeaders = ["x-acquired-count", "x-delivery-count", "x-stream-offset"]
    .map { Array($0.utf8) }
}
