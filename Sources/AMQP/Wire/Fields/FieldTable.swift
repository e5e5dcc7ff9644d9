/// The fields of an AMQP table, one after the other, in wire order.
///
/// A table is a list of pairs, not a dictionary: an empty key, a key that occurs twice and a key that is not UTF-8 all
/// come from real publishers, pass the broker, and are simply fields here.
///
/// ```swift
/// var fields = FieldTable(range, of: block)
/// while let field = try fields.next(block) { … }
/// ```
public struct FieldTable: Sendable {
  /// One field: the place of its key's bytes (0 to 255 of them), and its value.
  public struct Field: Equatable, Sendable {
    /// Where its name lies.
    public var key: Range<Int>
    /// Its value.
    public var value: FieldValue
  }

  private var reader: FieldReader

  /// - Parameters:
  ///   - content: The table without its length, as ``FieldValue/table(_:)`` or ``BasicProperties/headers`` give it.
  ///   - bytes: The bytes that `content` is a range of; every call of ``next(_:)`` must be given the same.
  public init(_ content: Range<Int>, of bytes: Span<UInt8>) {
    reader = FieldReader(content, of: bytes)
  }

  /// The next field, nil at the end.
  ///
  /// A nested table or array is skipped by its length; its content is looked at only when it is read itself. After an
  /// error the rest of the table cannot be read.
  public mutating func next(_ bytes: Span<UInt8>) throws(FieldError) -> Field? {
    if reader.isAtEnd { return nil }
    let key = try reader.shortString(bytes)
    return Field(key: key, value: try reader.value(bytes))
  }
}

/// The values of an AMQP array, one after the other; used like ``FieldTable``.
public struct FieldArray: Sendable {
  private var reader: FieldReader

  /// - Parameters:
  ///   - content: The array without its length, as ``FieldValue/array(_:)`` gives it.
  ///   - bytes: The bytes that `content` is a range of; every call of ``next(_:)`` must be given the same.
  public init(_ content: Range<Int>, of bytes: Span<UInt8>) {
    reader = FieldReader(content, of: bytes)
  }

  /// The next value, nil at the end; after an error the rest cannot be read.
  public mutating func next(_ bytes: Span<UInt8>) throws(FieldError) -> FieldValue? {
    reader.isAtEnd ? nil : try reader.value(bytes)
  }
}
