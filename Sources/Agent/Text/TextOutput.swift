import Platform

/// Where text is appended to: a document's array, or scratch memory that small pieces are put together in.
protocol TextOutput: ~Copyable {
  /// Lets `body` append at most `most` bytes.
  mutating func append(addingCapacity most: Int, _ body: (inout OutputSpan<UInt8>) -> Void)
  mutating func append(_ byte: UInt8)
  /// Appends the UTF-8 of a literal.
  mutating func append(text: StaticString)
}

extension [UInt8]: TextOutput {
  @inline(__always) mutating func append(addingCapacity most: Int, _ body: (inout OutputSpan<UInt8>) -> Void) {
    append(addingCapacity: most, initializingWith: body)
  }
}

extension ScratchBytes: TextOutput {}

extension TextOutput where Self: ~Copyable {
  /// Appends `value` in decimal.
  @inline(__always) mutating func append(decimal value: some FixedWidthInteger) {
    if value >= 0 && value < 10 {
      append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value))
    } else {
      append(addingCapacity: 20) { $0.append(decimal: value) }
    }
  }
}
