internal import CVector
internal import Glibc

/// Bytes looked at eight or sixteen at a time: each function finds bytes that are not plain.
///
/// Words of eight are plain arithmetic on `UInt64`, loaded little-endian, so that the lowest bits are the first byte. No
/// operation of SIMD in Swift turns a comparison of sixteen bytes into bits: that is in C.
extension JSONScanner {
  /// Eight times the byte.
  @inline(__always) private static func eight(_ byte: UInt8) -> UInt64 { UInt64(byte) &* 0x0101_0101_0101_0101 }

  /// The eight bytes at `index`, the first in the lowest bits.
  ///
  /// The caller has made sure that `index + 8` is at most the count.
  @inline(__always) static func word(_ bytes: Span<UInt8>, _ index: Int) -> UInt64 {
    assert(index >= 0 && index + 8 <= bytes.count)
    // Inside the span, as the caller promises; any bytes are a UInt64.
    return unsafe bytes.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self).littleEndian
  }

  /// Leaves the high bit of each byte of `word` that is neither a quote, a backslash nor a control character, provided
  /// that it is ASCII.
  @inline(__always) private static func plain(in word: UInt64) -> UInt64 {
    let low = word & eight(0x7F)  // So that no sum reaches the next byte.
    // The bit swaps quote and space, "!" and "#": then the quote follows the control characters, and one sum finds both.
    let afterQuote = (low ^ eight(0x02)) &+ eight(0x80 - 0x21)
    let noBackslash = (low ^ eight(0x5C)) &+ eight(0x7F)
    return afterQuote & noBackslash
  }

  /// The high bit of each byte of `word` that is a quote, a backslash or a control character.
  @inline(__always) static func bytesToEscape(in word: UInt64) -> UInt64 { ~(plain(in: word) | word) & eight(0x80) }

  /// The sixteen bytes at `index`.
  ///
  /// The caller has made sure that `index + 16` is at most the count.
  @inline(__always) static func sixteen(_ bytes: Span<UInt8>, _ index: Int) -> SIMD16<UInt8> {
    assert(index >= 0 && index + 16 <= bytes.count)
    // Inside the span, as the caller promises; any bytes are such a vector.
    return unsafe bytes.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: SIMD16<UInt8>.self)
  }

  /// Of the sixteen bytes at `index`, bit n is set for each that is a quote, a backslash, a control character or not ASCII.
  @inline(__always) static func bytesToLookAt(_ bytes: Span<UInt8>, _ index: Int) -> UInt32 {
    cvector_to_look_at(sixteen(bytes, index))
  }

  /// Of the sixteen bytes at `index`, bit n is set for each that is no digit; so are all higher bits.
  @inline(__always) static func noDigits(_ bytes: Span<UInt8>, _ index: Int) -> UInt32 {
    ~cvector_digits(sixteen(bytes, index))
  }

  /// How many of the sixteen bytes at `index` are white space, up to the first that is not, and whether there are line
  /// breaks among them.
  @inline(__always) static func whitespace(
    _ bytes: Span<UInt8>, _ index: Int
  ) -> (count: Int, hasLineBreaks: Bool) {
    let sixteen = sixteen(bytes, index)
    let others = ~cvector_white_space(sixteen)
    // The bits up to the first one of others, which is no line break.
    let before = others ^ (others &- 1)
    return (others.trailingZeroBitCount, cvector_line_breaks(sixteen) & before != 0)
  }

  /// The high bit of each byte of `word` that is a quote, a backslash, a control character or not ASCII.
  @inline(__always) static func bytesToLookAt(in word: UInt64) -> UInt64 { ~(plain(in: word) & ~word) & eight(0x80) }

  /// The index from `start` on that holds the first quote, backslash, control character or byte beyond ASCII, or the
  /// count.
  @inline(__always) static func endOfPlainText(_ bytes: Span<UInt8>, _ start: Int) -> Int {
    var index = start
    // Twice sixteen, which do not wait for each other.
    while index &+ 32 <= bytes.count {
      let stops = bytesToLookAt(bytes, index) | bytesToLookAt(bytes, index &+ 16) &<< 16
      if stops != 0 { return index &+ stops.trailingZeroBitCount }
      index &+= 32
    }
    while index &+ 8 <= bytes.count {
      let stops = bytesToLookAt(in: word(bytes, index))
      if stops != 0 { return index &+ stops.trailingZeroBitCount / 8 }
      index &+= 8
    }
    while index < bytes.count {
      let byte = byte(bytes, index)
      if byte == 0x22 || byte == 0x5C || byte < 0x20 || byte >= 0x80 { break }
      index &+= 1
    }
    return index
  }

  /// The first index from `start` on that holds a quote, a backslash or a control character.
  static func endOfPlainRun(_ bytes: Span<UInt8>, _ start: Int) -> Int {
    var index = start
    while index &+ 8 <= bytes.count {
      let stops = bytesToEscape(in: word(bytes, index))
      if stops != 0 { return index + stops.trailingZeroBitCount / 8 }
      index += 8
    }
    while index < bytes.count {
      let byte = bytes[index]
      if byte == 0x22 || byte == 0x5C || byte < 0x20 { break }
      index += 1
    }
    return index
  }

  /// Length of the UTF-8 sequence of two to four bytes at `index`; 0 if there is none (Unicode 15, table 3-7).
  @inline(__always) static func utf8Length(_ bytes: Span<UInt8>, _ index: Int) -> Int {
    let first = bytes[index]
    let left = bytes.count - index
    func continues(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> Bool {
      range.contains(bytes[index + offset])
    }
    switch first {
    case 0xC2...0xDF:
      return left >= 2 && continues(1) ? 2 : 0
    case 0xE0...0xEF:
      // No overlong forms, no surrogates.
      let second: ClosedRange<UInt8> = first == 0xE0 ? 0xA0...0xBF : first == 0xED ? 0x80...0x9F : 0x80...0xBF
      return left >= 3 && continues(1, second) && continues(2) ? 3 : 0
    case 0xF0...0xF4:
      let second: ClosedRange<UInt8> = first == 0xF0 ? 0x90...0xBF : first == 0xF4 ? 0x80...0x8F : 0x80...0xBF
      return left >= 4 && continues(1, second) && continues(2) && continues(3) ? 4 : 0
    default:
      return 0
    }
  }

  /// Whether all of `bytes` are UTF-8, and none is NUL: text that goes into a document. PostgreSQL, BigQuery and others refuse
  /// U+0000 even as an escape. https://www.postgresql.org/docs/current/datatype-json.html
  static func isText(_ bytes: Span<UInt8>) -> Bool { isUTF8(bytes) && find(0, bytes, from: 0) == nil }

  /// Whether the valid JSON at `range` says U+0000 in a key or a string.
  static func hasEscapedNUL(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    let json = bytes.extracting(range)
    var index = 0
    // Backslashes stand in strings only, each at the beginning of an escape.
    while let escape = find(UInt8(ascii: "\\"), json, from: index) {
      if matches("\\u0000", json, escape) { return true }
      index = escape + 2
    }
    return false
  }

  /// Where `byte` comes first from `start` on; nil if it does not.
  private static func find(_ byte: UInt8, _ bytes: Span<UInt8>, from start: Int) -> Int? {
    guard start < bytes.count else { return nil }
    // The pointer is read only during the call, inside of the span.
    return unsafe bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return nil }
      return unsafe memchr(base + start, Int32(byte), bytes.count - start).map { unsafe UnsafeRawPointer($0) - base }
    }
  }

  /// Whether all of `bytes` are UTF-8.
  static func isUTF8(_ bytes: Span<UInt8>) -> Bool {
    do {
      _ = try UTF8Span(validating: bytes)
      return true
    } catch {
      return false
    }
  }

  /// Whether the word stands anywhere in the text.
  static func contains(_ word: StaticString, _ text: Span<UInt8>) -> Bool {
    unsafe text.withUnsafeBytes {
      guard let base = $0.baseAddress else { return false }
      return unsafe memmem(base, $0.count, word.utf8Start, word.utf8CodeUnitCount) != nil
    }
  }
}
