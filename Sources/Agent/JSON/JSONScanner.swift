internal import Glibc

/// Reads the tokens of JSON (RFC 8259, strictly) from bytes.
///
/// This is the grammar's one implementation: ``JSONValue`` builds trees with it for the control plane, ``JSONChecker``
/// checks message bodies with it. The functions that throw take the bytes and an index, read one token that begins at
/// the index and leave the index behind it. Each has a twin that does not throw, for the checker, which cannot afford an
/// error's indirect result on each token: it returns where the token ends, or where and why it is none.
///
/// Nothing here allocates, unless an error is made, and no input can trap: the bytes are a bounds-checked span,
/// loads of words are guarded by the count.
///
/// Stricter than most readers on purpose: strings are valid UTF-8 without lone surrogates, whether raw (`ED A0 80`) or
/// escaped (`\ud800`). What passes here is accepted by every reader downstream.
enum JSONScanner {
  /// Deepest nesting of arrays and objects that is read; one more is an error.
  static let maxDepth = 100

  /// What a token came to.
  enum Outcome: Equatable {
    /// A string without escapes, or a number that a double can hold.
    case plain
    /// A string with escapes: the bytes between its quotes are not what it means.
    case escaped
    /// A number whose magnitude no double holds: `1e400` is a number, and yet no reader's.
    case beyondDouble
    /// No such token.
    case fault(Fault)
  }

  /// Why bytes are no token.
  enum Fault: String {
    case unterminated = "a string without its end"
    case control = "a control character in a string"
    case invalidUTF8 = "invalid UTF-8"
    case unknownEscape = "an unknown escape"
    case noHexadecimal = "\\u without four hexadecimal digits"
    case loneSurrogate = "a lone surrogate"
    case noDigits = "a number without digits"
    case leadingZeros = "a number with leading zeros"
  }

  /// The byte at `index`, or zero after the last: no token begins or goes on with a zero, so that the end need not be
  /// told from it.
  @inline(__always) static func byte(_ bytes: Span<UInt8>, _ index: Int) -> UInt8 {
    // One comparison for both bounds, which the checked subscript would repeat.
    UInt(bitPattern: index) < UInt(bitPattern: bytes.count) ? unsafe bytes[unchecked: index] : 0
  }

  static func skipWhitespace(_ bytes: Span<UInt8>, _ index: inout Int) {
    while index < bytes.count {
      switch bytes[index] {
      case 0x20, 0x0A, 0x0D, 0x09: index += 1
      default: return
      }
    }
  }

  // MARK: - Strings

  /// Reads a string whose opening quote is at `index`.
  ///
  /// - Returns: Whether it holds escapes; without any, the bytes between the quotes are the string.
  static func string(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) -> Bool {
    let (end, outcome) = restOfString(bytes, index + 1)
    index = end
    if case .fault(let fault) = outcome { throw JSONSyntaxError(offset: end, reason: fault.rawValue) }
    return outcome == .escaped
  }

  /// Reads on in a string, from any place in it that is not inside of a character or an escape.
  ///
  /// - Returns: The index after the closing quote, and whether there were escapes from `start` on; or where a fault is.
  @inline(never) static func restOfString(_ bytes: Span<UInt8>, _ start: Int) -> (end: Int, outcome: Outcome) {
    var index = start
    var outcome = Outcome.plain
    while true {
      index = endOfPlainText(bytes, index)
      guard index < bytes.count else { return (index, .fault(.unterminated)) }
      let byte = bytes[index]
      if byte == UInt8(ascii: "\"") { return (index + 1, outcome) }
      if byte >= 0x80 {
        // Text beyond ASCII comes in runs.
        repeat {
          let length = utf8Length(bytes, index)
          guard length > 0 else { return (index, .fault(.invalidUTF8)) }
          index += length
        } while index < bytes.count && bytes[index] >= 0x80
      } else if byte == UInt8(ascii: "\\") {
        outcome = .escaped
        let (length, fault) = escape(bytes, index)
        if let fault { return (index, .fault(fault)) }
        index += length
      } else {
        return (index, .fault(.control))
      }
    }
  }

  /// The length of the escape whose backslash is at `index`; a high surrogate takes its low one along.
  private static func escape(_ bytes: Span<UInt8>, _ index: Int) -> (length: Int, fault: Fault?) {
    guard index + 1 < bytes.count else { return (0, .unterminated) }
    switch bytes[index + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return (2, nil)
    case UInt8(ascii: "u"):
      guard let unit = codeUnit(bytes, index) else { return (0, .noHexadecimal) }
      switch unit {
      case 0xD800..<0xDC00:
        guard let low = codeUnit(bytes, index + 6), (0xDC00..<0xE000).contains(low) else { return (0, .loneSurrogate) }
        return (12, nil)
      case 0xDC00..<0xE000:
        return (0, .loneSurrogate)
      default:
        return (6, nil)
      }
    default:
      return (0, .unknownEscape)
    }
  }

  /// The UTF-16 code unit of a `\uXXXX` at `index`, nil if there is none.
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

  // MARK: - Numbers and literals

  /// Reads a number that begins at `index`.
  ///
  /// - Returns: Whether a double can hold its magnitude.
  static func number(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) -> Bool {
    let (end, outcome) = restOfNumber(bytes, index)
    index = end
    if case .fault(let fault) = outcome { throw JSONSyntaxError(offset: end, reason: fault.rawValue) }
    return outcome == .plain
  }

  /// Reads a number whose first byte, a digit or the minus sign, is at `start`.
  ///
  /// - Returns: The index after it, and whether it is plain or beyond a double; or where a fault is.
  @inline(__always) static func restOfNumber(_ bytes: Span<UInt8>, _ start: Int) -> (end: Int, outcome: Outcome) {
    let integer = byte(bytes, start) == UInt8(ascii: "-") ? start &+ 1 : start
    var index = endOfDigits(bytes, integer)
    guard index > integer else { return (index, .fault(.noDigits)) }
    if index > integer &+ 1, byte(bytes, integer) == UInt8(ascii: "0") { return (integer, .fault(.leadingZeros)) }
    if byte(bytes, index) == UInt8(ascii: ".") {
      let fraction = index &+ 1
      index = endOfDigits(bytes, fraction)
      guard index > fraction else { return (index, .fault(.noDigits)) }
    }
    var exponentDigits = 0
    if byte(bytes, index) | 0x20 == UInt8(ascii: "e") {
      index &+= 1
      if byte(bytes, index) == UInt8(ascii: "+") || byte(bytes, index) == UInt8(ascii: "-") { index &+= 1 }
      let exponent = index
      index = endOfDigits(bytes, exponent)
      exponentDigits = index &- exponent
      guard exponentDigits > 0 else { return (index, .fault(.noDigits)) }
    }
    // At most 200 digits and an exponent below 100: below 1e300. Doubles reach 1.8e308.
    if index &- start <= 200, exponentDigits <= 2 { return (index, .plain) }
    return (index, isFinite(bytes, start..<index) ? .plain : .beyondDouble)
  }

  @inline(never) private static func isFinite(_ bytes: Span<UInt8>, _ number: Range<Int>) -> Bool {
    Double(text(bytes, number)).map(\.isFinite) ?? false
  }

  @inline(__always) private static func endOfDigits(_ bytes: Span<UInt8>, _ start: Int) -> Int {
    var index = start
    while byte(bytes, index) &- 0x30 <= 9 { index &+= 1 }
    return index
  }

  /// The bytes at `range` as a string; what is not UTF-8 becomes U+FFFD.
  static func text(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
    // The pointer is read only inside the closure.
    unsafe bytes.extracting(range).withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
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
