internal import CVector

/// Appends `text` as a JSON string, quotes included.
func appendJSONString(_ text: String, to out: inout [UInt8]) {
  appendJSONString(text.utf8Span.span, to: &out)
}

/// Appends `bytes` as a JSON string, quotes included.
///
/// - Parameter bytes: Valid UTF-8; anything else would be copied as it is and make the output invalid.
func appendJSONString<Output: TextOutput & ~Copyable>(_ bytes: Span<UInt8>, to out: inout Output) {
  out.append(UInt8(ascii: "\""))
  appendJSONStringContent(bytes, to: &out)
  out.append(UInt8(ascii: "\""))
}

/// The same for bytes at a pointer, which is read only during the call.
func appendJSONString(_ bytes: UnsafeRawBufferPointer, to out: inout [UInt8]) {
  // Any memory may be read as bytes, and the caller vouches for the pointer.
  unsafe appendJSONString(bytes.assumingMemoryBound(to: UInt8.self).span, to: &out)
}

/// Appends `bytes`, valid UTF-8, escaped for the inside of a JSON string.
///
/// Escapes what must be escaped (`"`, `\`, U+0000–U+001F) and nothing else.
func appendJSONStringContent<Output: TextOutput & ~Copyable>(
  _ bytes: Span<UInt8>, to out: inout Output, by tables: EscapeTables = .shared
) {
  // In chunks, so that room for the worst case (six bytes for one) stays small.
  let chunk = 1024
  var index = 0
  while index < bytes.count {
    let end = min(bytes.count, index + chunk)
    // Up to sixteen bytes are stored for eight, and eight for one, whatever they take.
    out.append(addingCapacity: 6 * (end - index) + 2) { output in
      unsafe output.withUnsafeMutableBufferPointer { buffer, count in
        guard let target = buffer.baseAddress else { return }
        unsafe count = escape(bytes, index..<end, to: target, count, tables)
      }
    }
    index = end
  }
}

/// Copies the bytes at `range`, escaped, to `target` at offset `start`.
///
/// Dense JSON has a quote in every five bytes or so, in no order that a processor would foresee. So eight bytes are put
/// in their new places in one step, without a branch, if the processor can; one by one, by table, if it cannot.
///
/// - Parameter target: Has room for six bytes for each byte of the range, and two more, after the offset.
/// - Returns: The offset after what was written.
@inline(never) private func escape(
  _ bytes: Span<UInt8>, _ range: Range<Int>, to target: UnsafeMutablePointer<UInt8>, _ start: Int,
  _ tables: EscapeTables
) -> Int {
  var index = range.lowerBound
  var offset = start
  func one() {
    // The table has an entry for each byte.
    let escape = unsafe tables.escapes[Int(bytes[index])]
    unsafe UnsafeMutableRawPointer(target).storeBytes(of: escape.littleEndian, toByteOffset: offset, as: UInt64.self)
    offset &+= Int(truncatingIfNeeded: escape &>> 56)
    index &+= 1
  }
  if range.count >= 16 {
    let end = index &+ range.count & ~15
    if let orders = unsafe tables.orders {
      // Inside the span; the pointer is used only during the call.
      unsafe bytes.withUnsafeBufferPointer {
        unsafe offset &+= cvector_escape(
          target + offset, $0.baseAddress! + index, end - index, orders, tables.escapes)
      }
      index = end
    }
    while index < end {
      let sixteen = JSONScanner.sixteen(bytes, index)
      if cvector_to_escape(sixteen) == 0 {
        unsafe UnsafeMutableRawPointer(target).storeBytes(of: sixteen, toByteOffset: offset, as: SIMD16<UInt8>.self)
        offset &+= 16
        index &+= 16
      } else {
        for _ in 0..<16 { one() }
      }
    }
  }
  if range.upperBound &- index >= 8 {
    let word = JSONScanner.word(bytes, index)
    if JSONScanner.bytesToEscape(in: word) == 0 {
      unsafe UnsafeMutableRawPointer(target).storeBytes(of: word.littleEndian, toByteOffset: offset, as: UInt64.self)
      offset &+= 8
      index &+= 8
    }
  }
  while index < range.upperBound { one() }
  return offset
}

/// What the escaping looks bytes up in; see `cvector_escape`. Pointers to what is made once, never freed or changed.
@safe struct EscapeTables: @unchecked Sendable {
  static let shared = EscapeTables(ordering: cvector_can_escape())

  /// For each of the 256 bytes what it becomes, the first byte in the lowest bits, and in the highest eight how many
  /// there are.
  fileprivate let escapes: UnsafePointer<UInt64>
  /// For each set of bytes to be escaped among eight, where the bytes of their text come from; nil if the processor
  /// cannot put bytes in order.
  fileprivate let orders: UnsafePointer<UInt8>?

  /// - Parameter ordering: The processor can put bytes in order.
  init(ordering: Bool) {
    let escapes = UnsafeMutablePointer<UInt64>.allocate(capacity: 256)
    for byte in UInt8.min...UInt8.max {
      var text: [UInt8] = [byte]
      if escapeCount(of: byte) > 1 { text = [UInt8(ascii: "\\"), shortEscape(of: byte)] }
      if escapeCount(of: byte) > 2 {
        let digit = byte & 0x0F
        text += [0x30, 0x30, 0x30 + byte >> 4, digit < 10 ? 0x30 + digit : UInt8(ascii: "a") + digit - 10]
      }
      let count = UInt64(text.count) << (56 - 8 * text.count)
      unsafe (escapes + Int(byte)).initialize(to: text.reversed().reduce(count) { $0 << 8 | UInt64($1) })
    }
    unsafe self.escapes = UnsafePointer(escapes)
    guard ordering else {
      unsafe orders = nil
      return
    }
    let orders = UnsafeMutablePointer<UInt8>.allocate(capacity: 256 * 16)
    unsafe orders.initialize(repeating: 0, count: 256 * 16)
    for marks in 0..<256 {
      var place = 16 * marks
      for byte in UInt8(0)..<8 {
        if marks >> Int(byte) & 1 != 0 {
          unsafe orders[place] = 8
          place += 1
        }
        unsafe orders[place] = byte
        place += 1
      }
    }
    unsafe self.orders = UnsafePointer(orders)
  }
}

/// What follows the backslash for a quote, a backslash or a control character; `u` if that is a number.
private func shortEscape(of byte: UInt8) -> UInt8 {
  switch byte {
  case 0x08: UInt8(ascii: "b")
  case 0x09: UInt8(ascii: "t")
  case 0x0A: UInt8(ascii: "n")
  case 0x0C: UInt8(ascii: "f")
  case 0x0D: UInt8(ascii: "r")
  case 0x00..<0x20: UInt8(ascii: "u")
  default: byte
  }
}

/// How many bytes ``appendJSONStringContent(_:to:)`` would append, found without writing them.
func jsonStringContentCount(_ bytes: Span<UInt8>) -> Int {
  var count = bytes.count
  var index = 0
  while true {
    index = JSONScanner.endOfPlainRun(bytes, index)
    guard index < bytes.count else { return count }
    count += escapeCount(of: bytes[index]) - 1
    index += 1
  }
}

/// The longest prefix of `bytes`, valid UTF-8, that ends between characters and takes at most `limit` bytes escaped.
func jsonStringContentPrefix(_ bytes: Span<UInt8>, limit: Int) -> Int {
  var count = 0
  var end = 0
  var index = 0
  while index < bytes.count {
    let byte = bytes[index]
    // The end of a character is known when the next one begins.
    if byte & 0xC0 != 0x80 { end = index }
    count += escapeCount(of: byte)
    if count > limit { return end }
    index += 1
  }
  return bytes.count
}

/// Bytes that one byte takes in a JSON string.
private func escapeCount(of byte: UInt8) -> Int {
  switch byte {
  case UInt8(ascii: "\""), UInt8(ascii: "\\"): 2
  case 0x00..<0x20: shortEscape(of: byte) == UInt8(ascii: "u") ? 6 : 2
  default: 1
  }
}

extension [UInt8] {
  /// Appends the UTF-8 of a literal.
  mutating func append(text: StaticString) {
    // A static string's bytes live for ever.
    unsafe append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// Appends a copy of `bytes`.
  mutating func append(copying bytes: Span<UInt8>) {
    // The pointer is read only during the call.
    unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
  }
}

/// Into memory that was made sure of before: if many small pieces follow each other, asking for room once is most of
/// the gain. Each of these traps if there is less room than it needs.
extension OutputSpan<UInt8> {
  /// Appends the UTF-8 of a literal.
  @inline(__always) mutating func append(text: StaticString) {
    // A static string's bytes live for ever.
    unsafe append(bytes: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// Appends a copy of `bytes`.
  @inline(__always) mutating func append(copying bytes: Span<UInt8>) {
    // The pointer is read only during the call.
    unsafe bytes.withUnsafeBytes { unsafe append(bytes: $0) }
  }

  @inline(__always) private mutating func append(bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    unsafe withUnsafeMutableBufferPointer { buffer, count in
      precondition(bytes.count <= buffer.count - count, "no room")
      // Inside the buffer, as just checked, and the source is other memory.
      unsafe UnsafeMutableRawPointer(buffer.baseAddress! + count).copyMemory(from: base, byteCount: bytes.count)
      count += bytes.count
    }
  }

  /// Appends `value` in decimal: at most 20 bytes.
  mutating func append(decimal value: some FixedWidthInteger) {
    // Digits come from the right; 20 of them hold any 64-bit integer, sign or not.
    var digits: InlineArray<20, UInt8> = InlineArray(repeating: 0)
    var rest = UInt64(value.magnitude)
    var start = digits.count
    repeat {
      start -= 1
      let (quotient, remainder) = rest.quotientAndRemainder(dividingBy: 10)
      digits[start] = UInt8(ascii: "0") + UInt8(remainder)
      rest = quotient
    } while rest > 0
    if value < 0 { append(UInt8(ascii: "-")) }
    for index in start..<digits.count { append(digits[index]) }
  }

  /// Appends the last `width` (at most 8) decimal digits of `value`, 0 or more, with leading zeros.
  @inline(__always) mutating func append(decimal value: Int, width: Int) {
    // Division by a constant is a multiplication; by a variable power of ten it would cost most of a document.
    var digits: InlineArray<8, UInt8> = InlineArray(repeating: UInt8(ascii: "0"))
    var rest = UInt32(truncatingIfNeeded: value)
    for index in (8 - width..<8).reversed() {
      digits[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
      rest /= 10
    }
    for index in 8 - width..<8 { append(digits[index]) }
  }
}

/// How many bytes `value` takes in decimal, sign included.
func decimalCount(_ value: some FixedWidthInteger) -> Int {
  var count = value < 0 ? 2 : 1
  var rest = value.magnitude
  while rest >= 10 {
    rest /= 10
    count += 1
  }
  return count
}
