internal import Platform

/// Makes digests of deliveries: SHA-256, cut to 128 bits, over a canonical encoding.
///
/// The encoding: a version; exchange and routing key; the property flags and the properties as they stand, but for the
/// headers; the headers sorted by key, integers of any width as 64 bits; the body. Every part of variable length is
/// preceded by its length, so that no two messages have one encoding.
///
/// It covers what the publisher sent and nothing else. A broker that delivers a message again from a quorum queue writes
/// how often it did so into the headers, and gives the message a header table, with its property flag, if it had none. So
/// an empty table counts as none, and ``DigestForm`` says whether the broker's names count.
///
/// A digest that changes between two deliveries of one message costs a duplicate, never a loss. What cannot be decoded is
/// taken as it stands.
///
/// Belongs to one thread.
public final class DigestMaker {
  private static let version: UInt8 = 1
  /// Headers that differ between deliveries of one message.
  private static let volatileHeaders: [[UInt8]] = ["x-delivery-count", "x-acquired-count", "x-stream-offset"]
    .map { Array($0.utf8) }
  /// Tables nested deeper than this are taken as they stand.
  private static let depth = 32

  private let hash = DigestHash()
  private var kept: [FieldTable.Field] = []

  public init() {}

  /// The digest of one delivery of `batch`.
  ///
  /// - Parameter properties: Its property block, decoded; nil if that is malformed.
  public func digest(
    _ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch, properties: BasicProperties?,
    form: DigestForm = .withoutBrokers
  ) -> DeliveryDigest {
    // A body that was not kept has been hashed on its way.
    if delivery.isCut, let digest = batch.cutDigests[delivery.tag]?[form] { return digest }
    begin(hash, delivery, of: batch, properties: properties, form: form)
    hash.update(batch.arena.span.extracting(delivery.body))
    return DeliveryDigest(ending: hash)
  }

  /// Lets `hash` begin with all but the body.
  func begin(
    _ hash: DigestHash, _ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch,
    properties: BasicProperties?,
    form: DigestForm
  ) {
    unsafe withUnsafeTemporaryAllocation(byteCount: ScratchBytes.stackBytes, alignment: 16) { scratch in
      var canonical = unsafe ScratchBytes(scratch)
      encode(delivery, of: batch, properties: properties, form: form, to: &canonical)
      hash.begin(canonical)
    }
  }

  /// Appends all of a message that its digest is made of, but for the body, which follows untouched.
  func encode(
    _ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch, properties: BasicProperties?,
    form: DigestForm = .withoutBrokers, to canonical: inout ScratchBytes
  ) {
    let bytes = batch.arena.span
    canonical.append(Self.version)
    canonical.append(counted: bytes, delivery.exchange)
    canonical.append(counted: bytes, delivery.routingKey)
    append(properties, bytes.extracting(delivery.properties), form, to: &canonical)
    canonical.append(count: delivery.bodySize)
  }

  /// The same digest, with the property block decoded here.
  func digest(
    _ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch, form: DigestForm = .withoutBrokers
  ) -> DeliveryDigest {
    digest(
      delivery, of: batch, properties: try? BasicProperties(block: batch.arena.span.extracting(delivery.properties)),
      form: form)
  }

  private func append(
    _ properties: BasicProperties?, _ block: Span<UInt8>, _ form: DigestForm, to canonical: inout ScratchBytes
  ) {
    guard let headers = properties?.headers else { return canonical.append(counted: block, 0..<block.count) }
    if form != .first && hasNoField(headers, of: block, form) {
      return appendWithoutHeaders(headers, of: block, to: &canonical)
    }
    // Flags, then what stands before the headers and after them; their own length of 4 bytes is left out.
    canonical.append(counted: block, 0..<headers.lowerBound - 4)
    canonical.append(counted: block, headers.upperBound..<block.count)
    append(table: headers, of: block, depth: 0, skipping: form != .complete, to: &canonical)
  }

  /// The block as it would stand without its header table: also the table's flag and length are left out.
  private func appendWithoutHeaders(
    _ headers: Range<Int>, of block: Span<UInt8>, to canonical: inout ScratchBytes
  ) {
    let front = headers.lowerBound - 4
    canonical.append(count: front + block.count - headers.upperBound)
    // The first two bytes are flags, the headers' is bit 13 of them (AMQP 0-9-1 §4.2.6.1).
    canonical.append(block[0] & ~0x20)
    canonical.append(copying: block.extracting(1..<front))
    canonical.append(copying: block.extracting(headers.upperBound..<block.count))
  }

  /// True if the table is empty, but for what `form` leaves out. One that does not decode is not.
  private func hasNoField(_ headers: Range<Int>, of block: Span<UInt8>, _ form: DigestForm) -> Bool {
    var table = FieldTable(headers, of: block)
    do throws(FieldError) {
      while let field = try table.next(block) {
        if form == .complete || !Self.isVolatile(block, field.key) { return false }
      }
      return true
    } catch {
      return false
    }
  }

  /// Fields sorted by their key's bytes; equal keys keep their order.
  ///
  /// - Parameter skipping: Whether the broker's names are left out, at depth 0.
  private func append(
    table range: Range<Int>, of block: Span<UInt8>, depth: Int, skipping: Bool, to canonical: inout ScratchBytes
  ) {
    // The list that is kept for its memory, or a new one inside of a nested table.
    var fields: [FieldTable.Field] = []
    swap(&fields, &kept)
    defer {
      fields.removeAll(keepingCapacity: fields.capacity <= 1024)
      swap(&fields, &kept)
    }
    var table = FieldTable(range, of: block)
    do throws(FieldError) {
      while let field = try table.next(block) {
        if skipping && Self.isVolatile(block, field.key) { continue }
        if fields.count == Self.few {
          return appendMany(range, of: block, depth: depth, skipping: skipping, to: &canonical)
        }
        fields.append(field)
      }
    } catch {
      return canonical.append(counted: block, range)
    }
    Self.sort(&fields, block)
    canonical.append(count: fields.count)
    for field in fields {
      canonical.append(counted: block, field.key)
      append(field.value, of: block, depth: depth, to: &canonical)
    }
  }

  /// Fields up to this count are kept while they are sorted.
  private static let few = 16

  /// The same for a table of more fields. There may be millions, so of each only its place is kept.
  private func appendMany(
    _ range: Range<Int>, of block: Span<UInt8>, depth: Int, skipping: Bool, to canonical: inout ScratchBytes
  ) {
    // A property block is in one frame, whose size is a number of 32 bits.
    var places: [UInt32] = []
    var table = FieldTable(range, of: block)
    do throws(FieldError) {
      while let field = try table.next(block) {
        if skipping && Self.isVolatile(block, field.key) { continue }
        // Before the key is its length.
        places.append(UInt32(truncatingIfNeeded: field.key.lowerBound - 1))
      }
    } catch {
      return canonical.append(counted: block, range)
    }
    func key(_ place: UInt32) -> Range<Int> {
      let start = Int(place) + 1
      return start..<start + Int(block[Int(place)])
    }
    places.sort { Self.precedes(block, key($0), key($1)) ?? ($0 < $1) }
    canonical.append(count: places.count)
    for place in places {
      var one = FieldTable(Int(place)..<range.upperBound, of: block)
      // It was read just now.
      guard let field = try? one.next(block) else { continue }
      canonical.append(counted: block, field.key)
      append(field.value, of: block, depth: depth, to: &canonical)
    }
  }

  /// By insertion, which leaves equal keys in their order and allocates nothing.
  private static func sort(_ fields: inout [FieldTable.Field], _ block: Span<UInt8>) {
    var sorted = 1
    while sorted < fields.count {
      var index = sorted
      while index > 0, precedes(block, fields[index].key, fields[index - 1].key) == true {
        fields.swapAt(index, index - 1)
        index -= 1
      }
      sorted += 1
    }
  }

  private func append(
    _ value: FieldValue, of block: Span<UInt8>, depth: Int, to canonical: inout ScratchBytes
  ) {
    switch value {
    case .void: canonical.append(0)
    case .bool(let flag): canonical.append(tag: 1, flag ? 1 : 0)
    case .integer(let integer): canonical.append(tag: 2, UInt64(bitPattern: integer))
    case .float(let float): canonical.append(tag: 3, UInt64(float.bitPattern))
    case .double(let double): canonical.append(tag: 4, double.bitPattern)
    case .decimal(let scale, let unscaled):
      canonical.append(tag: 5, UInt64(scale))
      canonical.append(tag: 5, UInt64(bitPattern: Int64(unscaled)))
    case .timestamp(let seconds): canonical.append(tag: 6, seconds)
    case .string(let range):
      canonical.append(7)
      canonical.append(counted: block, range)
    case .bytes(let range):
      canonical.append(8)
      canonical.append(counted: block, range)
    case .table(let range):
      canonical.append(9)
      if depth < Self.depth {
        append(table: range, of: block, depth: depth + 1, skipping: false, to: &canonical)
      } else {
        canonical.append(counted: block, range)
      }
    case .array(let range):
      canonical.append(10)
      append(array: range, of: block, depth: depth, to: &canonical)
    }
  }

  private func append(
    array range: Range<Int>, of block: Span<UInt8>, depth: Int, to canonical: inout ScratchBytes
  ) {
    guard depth < Self.depth else { return canonical.append(counted: block, range) }
    let mark = canonical.count
    var array = FieldArray(range, of: block)
    do throws(FieldError) {
      while let value = try array.next(block) { append(value, of: block, depth: depth + 1, to: &canonical) }
    } catch {
      canonical.removeAll(from: mark)
      return canonical.append(counted: block, range)
    }
    canonical.append(11)
  }

  private static func isVolatile(_ block: Span<UInt8>, _ key: Range<Int>) -> Bool {
    // All of them begin alike, and hardly any other does.
    guard key.count >= 15, block[key.lowerBound] == UInt8(ascii: "x") else { return false }
    return volatileHeaders.contains { isEqual(block, key, $0) }
  }

  private static func isEqual(_ block: Span<UInt8>, _ range: Range<Int>, _ name: [UInt8]) -> Bool {
    guard range.count == name.count else { return false }
    for (offset, byte) in name.enumerated() where block[range.lowerBound + offset] != byte { return false }
    return true
  }

  /// Byte order; nil if the keys are equal.
  private static func precedes(_ block: Span<UInt8>, _ left: Range<Int>, _ right: Range<Int>) -> Bool? {
    for (one, other) in zip(left, right) where block[one] != block[other] { return block[one] < block[other] }
    return left.count == right.count ? nil : left.count < right.count
  }
}
