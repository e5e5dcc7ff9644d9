internal import Glibc

/// Reads the tokens of JSON (RFC 8259, strictly) from bytes.
///
/// This is the grammar's one implementation: ``JSONValue`` builds trees with it for the control plane, ``JSONChecker``
/// checks message bodies with it. Every function takes the bytes and an index, reads one token that begins at the index
/// and leaves the index behind it. Nothing here allocates, except where an error is made, and no input can trap: the
/// bytes are a bounds-checked span, loads of eight bytes are guarded by the count.
///
/// Stricter than most readers on purpose: strings are valid UTF-8 without lone surrogates, whether raw (`ED A0 80`) or
/// escaped (`\ud800`). What passes here is accepted by every reader downstream.
enum JSONScanner {
  /// Deepest nesting of arrays and objects that is read; one more is an error.
  static let maxDepth = 100

  static func skipWhitespace(_ bytes: Span<UInt8>, _ index: inout Int) {
    while index < bytes.count {
      switch bytes[index] {
      case 0x20, 0x0A, 0x0D, 0x09: index += 1
      default: return
      }
    }
  }

  /// Reads a string whose opening quote is at `index`.
  ///
  /// - Returns: Whether it holds escapes; without any, the bytes between the quotes are the string.
  static func string(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) -> Bool {
    var escaped = false
    index += 1
    while true {
      index = try endOfText(bytes, index)
      guard index < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a string without its end") }
      switch bytes[index] {
      case UInt8(ascii: "\""):
        index += 1
        return escaped
      case UInt8(ascii: "\\"):
        escaped = true
        try escape(bytes, &index)
      default:
        throw JSONSyntaxError(offset: index, reason: "a control character in a string")
      }
    }
  }

  /// The first index from `start` on that holds a quote, a backslash or a control character, with UTF-8 before it.
  private static func endOfText(_ bytes: Span<UInt8>, _ start: Int) throws(JSONSyntaxError) -> Int {
    var index = start
    let raw = unsafe bytes.bytes  // Bytes are plain data.
    while true {
      if index + 8 <= bytes.count {
        // Inside the span, as just checked; any bytes are a UInt64.
        let word = unsafe raw.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self).littleEndian
        let stops = bytesToEscape(in: word) | word & 0x8080_8080_8080_8080
        if stops == 0 {
          index += 8
          continue
        }
        index += stops.trailingZeroBitCount / 8
      }
      guard index < bytes.count else { return index }
      let byte = bytes[index]
      if byte >= 0x80 {
        let length = utf8Length(bytes, index)
        guard length > 0 else { throw JSONSyntaxError(offset: index, reason: "invalid UTF-8") }
        index += length
      } else if byte == 0x22 || byte == 0x5C || byte < 0x20 {
        return index
      } else {
        index += 1
      }
    }
  }

  /// The first index from `start` on that holds a quote, a backslash or a control character.
  static func endOfPlainRun(_ bytes: Span<UInt8>, _ start: Int) -> Int {
    var index = start
    let raw = unsafe bytes.bytes  // Bytes are plain data.
    while index + 8 <= bytes.count {
      // Inside the span, as just checked; any bytes are a UInt64.
      let word = unsafe raw.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
      let stops = bytesToEscape(in: word.littleEndian)
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

  /// Marks the quotes, backslashes and control characters among the eight bytes of `word`.
  ///
  /// - Returns: Zero without any. Otherwise the lowest bit set is the high bit of the first such byte; further bits
  ///   can be wrong, because a borrow from a marked byte can reach the next one.
  @inline(__always) static func bytesToEscape(in word: UInt64) -> UInt64 {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let quote = word ^ (ones &* 0x22)
    let slash = word ^ (ones &* 0x5C)
    return (((quote &- ones) & ~quote) | ((slash &- ones) & ~slash) | ((word &- (ones &* 0x20)) & ~word))
      & (ones &* 0x80)
  }

  /// Length of the UTF-8 sequence of two to four bytes at `index`; 0 where there is none (Unicode 15, table 3-7).
  static func utf8Length(_ bytes: Span<UInt8>, _ index: Int) -> Int {
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

  /// Whether all of `bytes` are UTF-8.
  static func isUTF8(_ bytes: Span<UInt8>) -> Bool {
    let raw = unsafe bytes.bytes  // Bytes are plain data.
    var index = 0
    while index < bytes.count {
      if index + 8 <= bytes.count {
        // Inside the span, as just checked.
        let word = unsafe raw.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
        if word & 0x8080_8080_8080_8080 == 0 {
          index += 8
          continue
        }
      }
      if bytes[index] < 0x80 {
        index += 1
      } else {
        let length = utf8Length(bytes, index)
        guard length > 0 else { return false }
        index += length
      }
    }
    return true
  }

  /// Reads an escape whose backslash is at `index`; a high surrogate takes its low one along.
  private static func escape(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) {
    let start = index
    guard index + 1 < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a string without its end") }
    switch bytes[index + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      index += 2
    case UInt8(ascii: "u"):
      guard let unit = codeUnit(bytes, index) else {
        throw JSONSyntaxError(offset: start, reason: "\\u without four hexadecimal digits")
      }
      index += 6
      switch unit {
      case 0xD800..<0xDC00:
        guard let low = codeUnit(bytes, index), (0xDC00..<0xE000).contains(low) else {
          throw JSONSyntaxError(offset: start, reason: "a lone surrogate")
        }
        index += 6
      case 0xDC00..<0xE000:
        throw JSONSyntaxError(offset: start, reason: "a lone surrogate")
      default:
        break
      }
    default:
      throw JSONSyntaxError(offset: start, reason: "an unknown escape")
    }
  }

  /// The UTF-16 code unit of a `\uXXXX` at `index`, nil where there is none.
  private static func codeUnit(_ bytes: Span<UInt8>, _ index: Int) -> UInt32? {
    guard index + 6 <= bytes.count, bytes[index] == UInt8(ascii: "\\"), bytes[index + 1] == UInt8(ascii: "u") else {
      return nil
    }
    var unit: UInt32 = 0
    for offset in 2..<6 {
      let digit: UInt8
      switch bytes[index + offset] {
      case let byte where (0x30...0x39).contains(byte): digit = byte - 0x30
      case let byte where (0x41...0x46).contains(byte): digit = byte - 0x41 + 10
      case let byte where (0x61...0x66).contains(byte): digit = byte - 0x61 + 10
      default: return nil
      }
      unit = unit << 4 | UInt32(digit)
    }
    return unit
  }

  /// Appends what a string means, whose content (without quotes) ``string(_:_:)`` has accepted at `range`.
  static func appendUnescaped(_ bytes: Span<UInt8>, _ range: Range<Int>, to out: inout [UInt8]) {
    var index = range.lowerBound
    while index < range.upperBound {
      let byte = bytes[index]
      guard byte == UInt8(ascii: "\\"), index + 1 < range.upperBound else {
        out.append(byte)
        index += 1
        continue
      }
      switch bytes[index + 1] {
      case UInt8(ascii: "b"): out.append(0x08)
      case UInt8(ascii: "f"): out.append(0x0C)
      case UInt8(ascii: "n"): out.append(0x0A)
      case UInt8(ascii: "r"): out.append(0x0D)
      case UInt8(ascii: "t"): out.append(0x09)
      case UInt8(ascii: "u"):
        var scalar = codeUnit(bytes, index) ?? 0xFFFD
        index += 6
        if (0xD800..<0xDC00).contains(scalar), let low = codeUnit(bytes, index), low >= 0xDC00 {
          scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
          index += 6
        }
        out.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf8)
        continue
      case let plain: out.append(plain)
      }
      index += 2
    }
  }

  /// Reads a number that begins at `index`.
  ///
  /// - Returns: Whether a double can hold its magnitude: `1e400` is a number, and yet no reader's.
  static func number(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) -> Bool {
    let start = index
    if bytes[index] == UInt8(ascii: "-") { index += 1 }
    let integerStart = index
    digits(bytes, &index)
    guard index > integerStart else { throw JSONSyntaxError(offset: index, reason: "a number without digits") }
    if bytes[integerStart] == UInt8(ascii: "0"), index > integerStart + 1 {
      throw JSONSyntaxError(offset: integerStart, reason: "a number with leading zeros")
    }
    if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
      index += 1
      let fraction = index
      digits(bytes, &index)
      guard index > fraction else { throw JSONSyntaxError(offset: index, reason: "a number without digits") }
    }
    var exponentDigits = 0
    if index < bytes.count, bytes[index] | 0x20 == UInt8(ascii: "e") {
      index += 1
      if index < bytes.count, bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-") { index += 1 }
      let exponent = index
      digits(bytes, &index)
      exponentDigits = index - exponent
      guard exponentDigits > 0 else { throw JSONSyntaxError(offset: index, reason: "a number without digits") }
    }
    // At most 200 digits and an exponent below 100: below 1e300. Doubles reach 1.8e308.
    if index - start <= 200, exponentDigits <= 2 { return true }
    return Double(text(bytes, start..<index)).map(\.isFinite) ?? false
  }

  /// The bytes at `range` as a string; what is not UTF-8 becomes U+FFFD.
  static func text(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
    // The pointer is read only inside the closure.
    unsafe bytes.extracting(range).withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
  }

  private static func digits(_ bytes: Span<UInt8>, _ index: inout Int) {
    while index < bytes.count, (0x30...0x39).contains(bytes[index]) { index += 1 }
  }

  /// Reads exactly `word` (`true`, `false` or `null`) at `index`.
  static func literal(
    _ word: StaticString, _ bytes: Span<UInt8>, _ index: inout Int
  ) throws(JSONSyntaxError) {
    guard matches(word, bytes, index) else {
      throw JSONSyntaxError(offset: index, reason: "neither a value nor a literal")
    }
    index += word.utf8CodeUnitCount
  }

  /// Whether the bytes at `index` are those of `word`.
  static func matches(_ word: StaticString, _ bytes: Span<UInt8>, _ index: Int) -> Bool {
    let count = word.utf8CodeUnitCount
    guard bytes.count - index >= count else { return false }
    // Inside the span, as just checked; a static string's bytes live for ever.
    return unsafe bytes.extracting(index..<index + count).withUnsafeBytes {
      unsafe memcmp($0.baseAddress!, word.utf8Start, count) == 0
    }
  }
}
