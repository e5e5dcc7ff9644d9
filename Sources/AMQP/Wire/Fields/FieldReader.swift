/// Reads AMQP's primitive types, all big-endian, from a part of some bytes.
///
/// It holds only its place and the end of its part; the bytes are given to every call, so that a reader can be kept
/// while the bytes stay borrowed elsewhere. No read goes past `end`, whatever the lengths in the bytes say.
struct FieldReader: Equatable, Sendable {
  /// The next byte to read.
  private(set) var index: Int
  /// The first byte that does not belong to the part; at most the count of the bytes.
  let end: Int

  /// A reader of `range`, which is cut to what `bytes` have.
  init(_ range: Range<Int>, of bytes: Span<UInt8>) {
    let range = range.clamped(to: 0..<bytes.count)
    index = range.lowerBound
    end = range.upperBound
  }

  var isAtEnd: Bool { index == end }

  /// An unsigned integer of the width of `type`.
  @inline(__always) mutating func integer<Value: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ bytes: Span<UInt8>, as type: Value.Type = Value.self
  ) throws(FieldError) -> Value {
    let width = MemoryLayout<Value>.size
    guard width <= end - index else { throw FieldError(kind: .truncated, offset: index) }
    defer { index += width }
    return bytes.bigEndian(at: index)
  }

  /// The place of the next `count` bytes.
  private mutating func skip(_ count: Int) throws(FieldError) -> Range<Int> {
    guard count <= end - index else { throw FieldError(kind: .truncated, offset: index) }
    defer { index += count }
    return index..<index + count
  }

  /// The place of the content of a short string: one octet of length.
  mutating func shortString(_ bytes: Span<UInt8>) throws(FieldError) -> Range<Int> {
    let count = try integer(bytes, as: UInt8.self)
    return try skip(Int(count))
  }

  /// The place of the content of what begins with four octets of length: long string, bytes, table, array.
  mutating func long(_ bytes: Span<UInt8>) throws(FieldError) -> Range<Int> {
    let count = try integer(bytes, as: UInt32.self)
    return try skip(Int(count))
  }

  /// A field value: an octet for its type, then the value.
  mutating func value(_ bytes: Span<UInt8>) throws(FieldError) -> FieldValue {
    let start = index
    let type = try integer(bytes, as: UInt8.self)
    switch type {
    case UInt8(ascii: "S"): return .string(try long(bytes))
    case UInt8(ascii: "T"): return .timestamp(try integer(bytes))
    case UInt8(ascii: "b"): return .integer(Int64(Int8(bitPattern: try integer(bytes))))
    case UInt8(ascii: "B"): return .integer(Int64(try integer(bytes, as: UInt8.self)))
    case UInt8(ascii: "s"): return .integer(Int64(Int16(bitPattern: try integer(bytes))))
    case UInt8(ascii: "u"): return .integer(Int64(try integer(bytes, as: UInt16.self)))
    case UInt8(ascii: "I"): return .integer(Int64(Int32(bitPattern: try integer(bytes))))
    case UInt8(ascii: "i"): return .integer(Int64(try integer(bytes, as: UInt32.self)))
    case UInt8(ascii: "l"), UInt8(ascii: "L"): return .integer(Int64(bitPattern: try integer(bytes)))
    case UInt8(ascii: "f"): return .float(Float(bitPattern: try integer(bytes)))
    case UInt8(ascii: "d"): return .double(Double(bitPattern: try integer(bytes)))
    case UInt8(ascii: "t"): return .bool(try integer(bytes, as: UInt8.self) != 0)
    case UInt8(ascii: "D"):
      let scale = try integer(bytes, as: UInt8.self)
      return .decimal(scale: scale, unscaled: Int32(bitPattern: try integer(bytes)))
    case UInt8(ascii: "F"): return .table(try long(bytes))
    case UInt8(ascii: "A"): return .array(try long(bytes))
    case UInt8(ascii: "x"): return .bytes(try long(bytes))
    case UInt8(ascii: "V"): return .void
    default: throw FieldError(kind: .unknownType(type), offset: start)
    }
  }
}

extension Span<UInt8> {
  /// The integer whose bytes, the highest first, begin at `offset`. Traps if they are not all there.
  @inline(__always) func bigEndian<Value: FixedWidthInteger & BitwiseCopyable>(
    at offset: Int, as type: Value.Type = Value.self
  ) -> Value {
    precondition(offset >= 0 && offset <= count - MemoryLayout<Value>.size, "an integer outside of the bytes")
    // Inside the span, as just checked; any bytes are an integer.
    return Value(bigEndian: unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: Value.self))
  }
}
