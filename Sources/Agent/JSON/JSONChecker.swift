/// Decides whether bytes are one JSON value that every strict reader downstream accepts, without building it.
///
/// Refused, beside what RFC 8259 refuses: invalid UTF-8, lone surrogates, a byte order mark, nesting deeper than
/// ``JSONScanner/maxDepth``, numbers whose magnitude no double holds, and an object with a key that occurs twice. RFC
/// 8259 leaves the meaning of the last to the reader: some keep the first value, some the last, some refuse, so that
/// passing it on would mean something else in each destination. Objects with more than ``JSONKeys/limit`` keys open at
/// a time are refused as well, because remembering them would not be bounded.
///
/// A checker keeps memory for keys; use one for many texts.
struct JSONChecker {
  private var keys = JSONKeys()

  /// What ``check(_:)`` found out about a valid value.
  struct Value: Equatable {
    /// The value without the white space around it.
    var range: Range<Int>
    /// An object or array, not a scalar.
    var isContainer: Bool
    /// There is a line break between its tokens. (Inside a string it would be invalid.)
    var hasLineBreaks: Bool
  }

  /// - Throws: Where and why the bytes are not such a value.
  mutating func check(_ bytes: Span<UInt8>) throws(JSONSyntaxError) -> Value {
    keys.removeAll()
    var index = 0
    var ignored = false
    Self.skipWhitespace(bytes, &index, &ignored)
    guard index < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a value is missing") }
    let start = index
    let isContainer = bytes[index] == UInt8(ascii: "{") || bytes[index] == UInt8(ascii: "[")
    var hasLineBreaks = false
    try value(bytes, &index, depth: 1, &hasLineBreaks)
    let end = index
    Self.skipWhitespace(bytes, &index, &ignored)
    guard index == bytes.count else { throw JSONSyntaxError(offset: index, reason: "text after the value") }
    return Value(range: start..<end, isContainer: isContainer, hasLineBreaks: hasLineBreaks)
  }

  /// Reads the value that begins at `index`, where no white space is.
  private mutating func value(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int, _ breaks: inout Bool
  ) throws(JSONSyntaxError) {
    guard index < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a value is missing") }
    switch bytes[index] {
    case UInt8(ascii: "\""):
      _ = try JSONScanner.string(bytes, &index)
    case UInt8(ascii: "-"), 0x30...0x39:
      let start = index
      guard try JSONScanner.number(bytes, &index) else {
        throw JSONSyntaxError(offset: start, reason: "a number beyond the range of a double")
      }
    case UInt8(ascii: "{"):
      try object(bytes, &index, depth: depth, &breaks)
    case UInt8(ascii: "["):
      try array(bytes, &index, depth: depth, &breaks)
    case UInt8(ascii: "t"):
      try JSONScanner.literal("true", bytes, &index)
    case UInt8(ascii: "f"):
      try JSONScanner.literal("false", bytes, &index)
    default:
      try JSONScanner.literal("null", bytes, &index)
    }
  }

  private mutating func array(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int, _ breaks: inout Bool
  ) throws(JSONSyntaxError) {
    try open(bytes, &index, depth: depth, &breaks)
    if index < bytes.count, bytes[index] == UInt8(ascii: "]") {
      index += 1
      return
    }
    repeat {
      Self.skipWhitespace(bytes, &index, &breaks)
      try value(bytes, &index, depth: depth + 1, &breaks)
    } while try goesOn(bytes, &index, until: UInt8(ascii: "]"), &breaks)
  }

  private mutating func object(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int, _ breaks: inout Bool
  ) throws(JSONSyntaxError) {
    let start = index
    try open(bytes, &index, depth: depth, &breaks)
    if index < bytes.count, bytes[index] == UInt8(ascii: "}") {
      index += 1
      return
    }
    let mark = keys.mark
    repeat {
      Self.skipWhitespace(bytes, &index, &breaks)
      guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else {
        throw JSONSyntaxError(offset: index, reason: "a key is missing")
      }
      guard keys.hasRoom else { throw JSONSyntaxError(offset: index, reason: "too many keys") }
      let key = index + 1
      let escaped = try JSONScanner.string(bytes, &index)
      keys.append(key..<index - 1, escaped: escaped, in: bytes)
      Self.skipWhitespace(bytes, &index, &breaks)
      guard index < bytes.count, bytes[index] == UInt8(ascii: ":") else {
        throw JSONSyntaxError(offset: index, reason: "a colon is missing after a key")
      }
      index += 1
      Self.skipWhitespace(bytes, &index, &breaks)
      try value(bytes, &index, depth: depth + 1, &breaks)
    } while try goesOn(bytes, &index, until: UInt8(ascii: "}"), &breaks)
    guard keys.close(from: mark, in: bytes) else {
      throw JSONSyntaxError(offset: start, reason: "an object with a key that occurs twice")
    }
  }

  /// Reads an opening bracket and the white space behind it.
  private func open(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int, _ breaks: inout Bool
  ) throws(JSONSyntaxError) {
    guard depth <= JSONScanner.maxDepth else {
      throw JSONSyntaxError(offset: index, reason: "nested deeper than 100 levels")
    }
    index += 1
    Self.skipWhitespace(bytes, &index, &breaks)
  }

  /// Reads what follows an element: true for a comma, false for the closing bracket.
  private func goesOn(
    _ bytes: Span<UInt8>, _ index: inout Int, until bracket: UInt8, _ breaks: inout Bool
  ) throws(JSONSyntaxError) -> Bool {
    Self.skipWhitespace(bytes, &index, &breaks)
    guard index < bytes.count, bytes[index] == UInt8(ascii: ",") || bytes[index] == bracket else {
      throw JSONSyntaxError(offset: index, reason: "a comma or a closing bracket is missing")
    }
    defer { index += 1 }
    return bytes[index] != bracket
  }

  @inline(__always) private static func skipWhitespace(
    _ bytes: Span<UInt8>, _ index: inout Int, _ breaks: inout Bool
  ) {
    while index < bytes.count, bytes[index] <= 0x20 {
      switch bytes[index] {
      case 0x20, 0x09: break
      case 0x0A, 0x0D: breaks = true
      default: return
      }
      index += 1
    }
  }

  /// Appends the valid value at `range` without the white space between its tokens; all else is copied as it stands.
  static func appendCompact(_ bytes: Span<UInt8>, _ range: Range<Int>, to out: inout [UInt8]) {
    forEachTokenRun(bytes, range) { out.append(copying: bytes.extracting($0)) }
  }

  /// How many bytes ``appendCompact(_:_:to:)`` would append.
  static func compactCount(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
    var count = 0
    forEachTokenRun(bytes, range) { count += $0.count }
    return count
  }

  /// Calls `body` with each longest piece of the valid value that has no white space outside of its strings.
  private static func forEachTokenRun(_ bytes: Span<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
    var index = range.lowerBound
    while index < range.upperBound {
      let start = index
      while index < range.upperBound, bytes[index] > 0x20 {
        if bytes[index] == UInt8(ascii: "\"") {
          index = endOfString(bytes, index, range.upperBound)
        } else {
          index += 1
        }
      }
      body(start..<index)
      while index < range.upperBound, bytes[index] <= 0x20 { index += 1 }
    }
  }

  /// Behind the closing quote of the valid string whose opening one is at `start`.
  private static func endOfString(_ bytes: Span<UInt8>, _ start: Int, _ end: Int) -> Int {
    var index = start + 1
    while index < end {
      index = JSONScanner.endOfPlainRun(bytes, index)
      guard index < end else { break }
      if bytes[index] == UInt8(ascii: "\"") { return index + 1 }
      index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
    }
    return end
  }
}
