/// Decides whether bytes are one JSON value that every strict reader downstream accepts, without building it.
///
/// Refused, beside what RFC 8259 refuses: invalid UTF-8, lone surrogates, a byte order mark, nesting deeper than
/// ``JSONScanner/maxDepth``, numbers whose magnitude no double holds, and an object with a key that occurs twice. RFC
/// 8259 leaves the meaning of the last to the reader: some keep the first value, some the last, some refuse, so that
/// passing it on would mean something else in each destination. Objects with more than ``JSONKeys/limit`` keys open at
/// a time are refused as well, because remembering them would not be bounded.
///
/// Tokens are read by ``JSONScanner``, unless one or two words tell that they are short, plain and valid. What
/// tokens make a value is said twice, here and in `JSONValue.parse`: each message pays for it, and one loop takes a third
/// of the time of functions that call each other and throw. Tests hold the two against each other, and against a third
/// that looks at each byte by itself.
///
/// A checker keeps memory for keys; use one for many texts.
struct JSONChecker {
  private var keys = JSONKeys()
  /// For each array and object that is open during a scan, at most ``JSONScanner/maxDepth``, what `level` was around it.
  private var outer = InlineArray<100, Int>(repeating: noKeys)

  /// What ``check(_:)`` found out about a valid value.
  struct Value: Equatable {
    /// The value without the white space around it.
    var range: Range<Int>
    /// An object or array, not a scalar.
    var isContainer: Bool
    /// There is a line break between its tokens. (Inside a string it would be invalid.)
    var hasLineBreaks: Bool
  }

  /// - Throws: If and why the bytes are not such a value.
  mutating func check(_ bytes: Span<UInt8>) throws(JSONSyntaxError) -> Value {
    var start = 0
    JSONScanner.skipWhitespace(bytes, &start)
    let first = JSONScanner.byte(bytes, start)
    let (end, hasLineBreaks, fault) = keys.withMemory {
      Self.scan(bytes, from: start, &outer, &$0, &$1)
    } hadTooLittle: {
      $0.fault == .tooManyKeys
    }
    if let fault { throw JSONSyntaxError(offset: end, reason: fault.reason) }
    var rest = end
    JSONScanner.skipWhitespace(bytes, &rest)
    guard rest == bytes.count else { throw JSONSyntaxError(offset: rest, reason: "text after the value") }
    return Value(
      range: start..<end, isContainer: first == UInt8(ascii: "{") || first == UInt8(ascii: "["),
      hasLineBreaks: hasLineBreaks)
  }

  /// Why bytes are not a value.
  private enum Fault: Equatable {
    case token(JSONScanner.Fault)
    case noValue, noKey, noColon, noBracket, noLiteral, beyondDouble, tooDeep, tooManyKeys, sameKeys

    var reason: String {
      switch self {
      case .token(let fault): fault.rawValue
      case .noValue: "a value is missing"
      case .noKey: "a key is missing"
      case .noColon: "a colon is missing after a key"
      case .noBracket: "a comma or a closing bracket is missing"
      case .noLiteral: "neither a value nor a literal"
      case .beyondDouble: "a number beyond the range of a double"
      case .tooDeep: "nested deeper than \(JSONScanner.maxDepth) levels"
      case .tooManyKeys: "too many keys"
      case .sameKeys: "an object with a key that occurs twice"
      }
    }
  }

  /// Stands for the keys of an array.
  private static var noKeys: Int { -1 }

  /// Reads the value that begins at `start`, where no white space is.
  ///
  /// A loop instead of recursion, and faults instead of errors: both for speed, see above.
  ///
  /// - Returns: The index after the value, or where the fault is.
  @inline(never) private static func scan(
    _ bytes: Span<UInt8>, from start: Int, _ outer: inout InlineArray<100, Int>,
    _ memory: inout MutableSpan<JSONKeys.Key>, _ open: inout JSONKeys.Open
  ) -> (end: Int, hasLineBreaks: Bool, fault: Fault?) {
    var index = start
    var breaks = false
    // Arrays and objects that are open.
    var depth = 0
    // Where the keys of the innermost one start, or `noKeys`.
    var level = noKeys
    var byte = JSONScanner.byte(bytes, index)
    while true {
      if level != noKeys {
        guard byte == UInt8(ascii: "\"") else { return (index, breaks, .noKey) }
        guard open.count < memory.count else { return (index, breaks, .tooManyKeys) }
        let (end, fault) = key(bytes, index &+ 1, &memory, &open)
        index = end
        if let fault { return (index, breaks, .token(fault)) }
        guard next(bytes, &index, &breaks) == UInt8(ascii: ":") else { return (index, breaks, .noColon) }
        index &+= 1
        byte = next(bytes, &index, &breaks)
      }
      if byte == UInt8(ascii: "\"") {
        let (end, fault) = string(bytes, index &+ 1)
        index = end
        if let fault { return (index, breaks, .token(fault)) }
      } else if byte &- 0x30 <= 9 || byte == UInt8(ascii: "-") {
        let length = shortNumber(bytes, index, byte)
        if length > 0 {
          index &+= length
        } else {
          let (end, outcome) = JSONScanner.restOfNumber(bytes, index)
          if case .fault(let fault) = outcome { return (end, breaks, .token(fault)) }
          if outcome == .beyondDouble { return (index, breaks, .beyondDouble) }
          index = end
        }
      } else if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") {
        guard depth < JSONScanner.maxDepth else { return (index, breaks, .tooDeep) }
        let bracket = byte
        index &+= 1
        byte = next(bytes, &index, &breaks)
        // A closing bracket's code is that of the opening one and two.
        if byte != bracket &+ 2 {
          outer[depth] = level
          depth &+= 1
          level = bracket == UInt8(ascii: "{") ? open.count : noKeys
          continue
        }
        index &+= 1
      } else {
        let length = literal(bytes, index)
        guard length > 0 else { return (index, breaks, index < bytes.count ? .noLiteral : .noValue) }
        index &+= length
      }
      // What follows an element: closing brackets, then a comma, unless it was the whole value.
      while true {
        if depth == 0 { return (index, breaks, nil) }
        byte = next(bytes, &index, &breaks)
        if byte == UInt8(ascii: ",") { break }
        if level == noKeys {
          guard byte == UInt8(ascii: "]") else { return (index, breaks, .noBracket) }
        } else {
          guard byte == UInt8(ascii: "}") else { return (index, breaks, .noBracket) }
          guard JSONKeys.close(from: level, in: bytes, &memory, &open) else { return (index, breaks, .sameKeys) }
        }
        index &+= 1
        depth &-= 1
        level = outer[depth]
      }
      index &+= 1
      byte = next(bytes, &index, &breaks)
    }
  }

  /// The length of the number at `index`, if it has at most fifteen bytes, neither sign nor exponent, and is valid;
  /// otherwise 0, which says nothing.
  ///
  /// - Parameter first: Its first byte, a digit or the minus sign.
  @inline(__always) private static func shortNumber(_ bytes: Span<UInt8>, _ index: Int, _ first: UInt8) -> Int {
    guard index &+ 17 <= bytes.count else { return 0 }
    // From the seventeenth byte on there are no digits, so that no more than these are looked at.
    let noDigits = JSONScanner.noDigits(bytes, index)
    var length = noDigits.trailingZeroBitCount
    if first == 0x30, length > 1 { return 0 }
    // Inside the span, as just checked; so below.
    var after = unsafe bytes[unchecked: index &+ length]
    if after == UInt8(ascii: ".") {
      let fraction = ((noDigits &>> UInt32(truncatingIfNeeded: length)) &>> 1).trailingZeroBitCount
      if fraction == 0 { return 0 }
      length &+= 1 &+ fraction
      after = unsafe bytes[unchecked: index &+ length]
    }
    return length > 15 || after | 0x20 == UInt8(ascii: "e") ? 0 : length
  }

  /// Reads and remembers the key whose content begins at `start`: the index after its closing quote. There is room.
  @inline(__always) private static func key(
    _ bytes: Span<UInt8>, _ start: Int, _ memory: inout MutableSpan<JSONKeys.Key>, _ open: inout JSONKeys.Open
  ) -> (end: Int, fault: JSONScanner.Fault?) {
    if start &+ 17 <= bytes.count {
      if let count = JSONKeys.appendRepeated(bytes, start: start, to: &memory, &open) {
        return (start &+ count &+ 1, nil)
      }
      let stops = JSONScanner.bytesToLookAt(bytes, start)
      let count = stops.trailingZeroBitCount
      if stops != 0, unsafe bytes[unchecked: start &+ count] == UInt8(ascii: "\"") {
        JSONKeys.append(bytes, start: start, count: count, to: &memory, &open)
        return (start &+ count &+ 1, nil)
      }
    }
    return longKey(bytes, start, &memory, &open)
  }

  @inline(never) private static func longKey(
    _ bytes: Span<UInt8>, _ start: Int, _ memory: inout MutableSpan<JSONKeys.Key>, _ open: inout JSONKeys.Open
  ) -> (end: Int, fault: JSONScanner.Fault?) {
    let (end, outcome) = JSONScanner.restOfString(bytes, start)
    if case .fault(let fault) = outcome { return (end, fault) }
    JSONKeys.append(start..<end - 1, escaped: outcome == .escaped, in: bytes, to: &memory, &open)
    return (end, nil)
  }

  /// Reads the string whose content begins at `start`: the index after its closing quote.
  @inline(__always) private static func string(
    _ bytes: Span<UInt8>, _ start: Int
  ) -> (end: Int, fault: JSONScanner.Fault?) {
    if start &+ 16 <= bytes.count {
      let stops = JSONScanner.bytesToLookAt(bytes, start)
      let count = stops.trailingZeroBitCount
      // Inside the span: `count` is less than sixteen.
      if stops != 0, unsafe bytes[unchecked: start &+ count] == UInt8(ascii: "\"") { return (start &+ count &+ 1, nil) }
    }
    let (end, outcome) = JSONScanner.restOfString(bytes, start)
    if case .fault(let fault) = outcome { return (end, fault) }
    return (end, nil)
  }

  /// The length of the literal at `index`; 0 if there is none.
  private static func literal(_ bytes: Span<UInt8>, _ index: Int) -> Int {
    if JSONScanner.matches("true", bytes, index) || JSONScanner.matches("null", bytes, index) { return 4 }
    return JSONScanner.matches("false", bytes, index) ? 5 : 0
  }

  /// Moves `index` over white space, and returns the byte there.
  @inline(__always) private static func next(_ bytes: Span<UInt8>, _ index: inout Int, _ breaks: inout Bool) -> UInt8 {
    let byte = JSONScanner.byte(bytes, index)
    // Most bodies have none, or one space after each colon and comma.
    if byte > 0x20 { return byte }
    if byte == 0x20 {
      let second = JSONScanner.byte(bytes, index &+ 1)
      if second > 0x20 {
        index &+= 1
        return second
      }
    }
    let (end, hasLineBreaks) = skipWhitespace(bytes, index)
    if hasLineBreaks { breaks = true }
    index = end
    return JSONScanner.byte(bytes, index)
  }

  /// The index after the white space at `start`, and whether there are line breaks in it.
  @inline(never) private static func skipWhitespace(_ bytes: Span<UInt8>, _ start: Int) -> (end: Int, breaks: Bool) {
    var index = start
    var breaks = false
    while index &+ 16 <= bytes.count {
      let (count, hasLineBreaks) = JSONScanner.whitespace(bytes, index)
      if hasLineBreaks { breaks = true }
      index &+= count
      if count < 16 { return (index, breaks) }
    }
    while true {
      switch JSONScanner.byte(bytes, index) {
      case 0x20, 0x09: break
      case 0x0A, 0x0D: breaks = true
      default: return (index, breaks)
      }
      index &+= 1
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

  /// After the closing quote of the valid string whose opening one is at `start`.
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
