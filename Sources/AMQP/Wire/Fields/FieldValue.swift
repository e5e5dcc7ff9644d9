/// One decoded value of an AMQP field table or array.
///
/// Composite values and strings are ranges into the bytes that were decoded; nothing is copied. All integer types fit in
/// a signed 64-bit integer: RabbitMQ reads both `l` and `L` as signed, so that an unsigned 64-bit integer does not exist
/// (https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3, `rabbit_binary_parser:parse_table/1`).
public enum FieldValue: Equatable, Sendable {
  /// `V`: no value.
  case void
  /// `t`: any octet but zero is true.
  case bool(Bool)
  /// `b` `B` `s` `u` `I` `i` `l` `L`: signed and unsigned integers of 8, 16, 32 bits, and signed ones of 64 bits.
  case integer(Int64)
  /// `f`
  case float(Float)
  /// `d`
  case double(Double)
  /// `D`: `unscaled` divided by ten to the power of `scale`.
  ///
  /// The protocol's grammar has an unsigned number here, but the clients of RabbitMQ write and read it as signed (Java's
  /// `ValueWriter.writeDecimal`, pika's `encode_value`, amqp091-go's `Decimal`).
  case decimal(scale: UInt8, unscaled: Int32)
  /// `T`: seconds since 1970, by the specification; some publishers send milliseconds.
  case timestamp(UInt64)
  /// `S`: text by convention, any bytes in practice.
  case string(Range<Int>)
  /// `x`
  case bytes(Range<Int>)
  /// `F`: the content of a table, for ``FieldTable``.
  case table(Range<Int>)
  /// `A`: the content of an array, for ``FieldArray``.
  case array(Range<Int>)
}

/// Where and why bytes are not what AMQP 0-9-1 prescribes.
public struct FieldError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong.
  public enum Kind: Equatable, Sendable {
    /// A length or a fixed-size value reaches beyond the end.
    case truncated
    /// A field type that RabbitMQ does not know.
    case unknownType(UInt8)
    /// Property flags that class `basic` does not define.
    case unknownFlags
    /// Bytes after the last property.
    case trailingBytes
  }
  /// What is wrong.
  public let kind: Kind
  /// Offset into the decoded bytes, from 0.
  public let offset: Int

  public var description: String {
    switch kind {
    case .truncated: "ends too early at byte \(offset)"
    case .unknownType(let type): "unknown field type \(type) at byte \(offset)"
    case .unknownFlags: "unknown property flags at byte \(offset)"
    case .trailingBytes: "bytes after the last property at byte \(offset)"
    }
  }
}
