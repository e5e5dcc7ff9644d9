import Support

@testable import Agent

/// The rules of ``JSONChecker`` once more, byte by byte and without any care for time: what the fast one is held against.
///
/// It shares nothing with the code under test: UTF-8 is left to the standard library, keys to a set.
struct JSONReference {
  /// The text is no such value.
  struct Refusal: Error {}

  private let bytes: [UInt8]
  private var index = 0
  private var depth = 0
  private var hasLineBreaks = false
  private let anyMagnitude: Bool

  /// - Parameter anyMagnitude: Accept numbers that no double holds, as ``JSONValue`` does.
  static func check(_ bytes: [UInt8], anyMagnitude: Bool = false) -> JSONChecker.Value? {
    var reference = JSONReference(bytes: bytes, anyMagnitude: anyMagnitude)
    return try? reference.text()
  }

  private init(bytes: [UInt8], anyMagnitude: Bool) {
    self.bytes = bytes
    self.anyMagnitude = anyMagnitude
  }

  private mutating func text() throws -> JSONChecker.Value {
    skipWhitespace()
    hasLineBreaks = false
    let start = index
    try value()
    let (end, breaks) = (index, hasLineBreaks)
    skipWhitespace()
    if index < bytes.count { throw Refusal() }
    return JSONChecker.Value(
      range: start..<end, isContainer: "{[".utf8.contains(bytes[start]), hasLineBreaks: breaks)
  }

  private var byte: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func accept(_ text: String) -> Bool {
    guard bytes[index...].starts(with: text.utf8) else { return false }
    index += text.utf8.count
    return true
  }

  private mutating func expect(_ text: String) throws { if !accept(text) { throw Refusal() } }

  private mutating func skipWhitespace() {
    while let byte, " \t\r\n".utf8.contains(byte) {
      if "\r\n".utf8.contains(byte) { hasLineBreaks = true }
      index += 1
    }
  }

  private mutating func value() throws {
    if accept("true") || accept("false") || accept("null") { return }
    switch byte {
    case UInt8(ascii: "\""): _ = try string()
    case UInt8(ascii: "["): try elements("[", "]") { reference in try reference.value() }
    case UInt8(ascii: "{"):
      var keys: Set<[UInt8]> = []
      try elements("{", "}") { reference in
        guard keys.insert(try reference.string()).inserted else { throw Refusal() }
        reference.skipWhitespace()
        try reference.expect(":")
        reference.skipWhitespace()
        try reference.value()
      }
    default: try number()
    }
  }

  private mutating func elements(
    _ open: String, _ close: String, _ element: (inout JSONReference) throws -> Void
  ) throws {
    try expect(open)
    depth += 1
    if depth > 100 { throw Refusal() }
    skipWhitespace()
    if !accept(close) {
      repeat {
        skipWhitespace()
        try element(&self)
        skipWhitespace()
      } while accept(",")
      try expect(close)
    }
    depth -= 1
  }

  private mutating func number() throws {
    let start = index
    _ = accept("-")
    if !accept("0") { try digits() }
    if accept(".") { try digits() }
    if accept("e") || accept("E") {
      if !accept("+") { _ = accept("-") }
      try digits()
    }
    let value = Double(String(decoding: bytes[start..<index], as: UTF8.self))
    guard anyMagnitude || value.map(\.isFinite) == true else { throw Refusal() }
  }

  private mutating func digits() throws {
    let start = index
    while let byte, (0x30...0x39).contains(byte) { index += 1 }
    if index == start { throw Refusal() }
  }

  /// What the string means, in UTF-8.
  private mutating func string() throws -> [UInt8] {
    try expect("\"")
    var content: [UInt8] = []
    while !accept("\"") {
      guard let byte, byte >= 0x20 else { throw Refusal() }
      index += 1
      if byte == UInt8(ascii: "\\") { content += try escape() } else { content.append(byte) }
    }
    guard String(validating: content, as: UTF8.self) != nil else { throw Refusal() }
    return content
  }

  private mutating func escape() throws -> [UInt8] {
    if accept("u") {
      var units = [try codeUnit()]
      if UTF16.isLeadSurrogate(units[0]) {
        try expect("\\u")
        units.append(try codeUnit())
      }
      guard let text = String(validating: units, as: UTF16.self) else { throw Refusal() }
      return Array(text.utf8)
    }
    for (name, byte) in zip("\"\\/bfnrt", [0x22, 0x5C, 0x2F, 0x08, 0x0C, 0x0A, 0x0D, 0x09] as [UInt8]) {
      if accept(String(name)) { return [byte] }
    }
    throw Refusal()
  }

  private mutating func codeUnit() throws -> UInt16 {
    guard index + 4 <= bytes.count, bytes[index..<index + 4].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let unit = UInt16(String(decoding: bytes[index..<index + 4], as: UTF8.self), radix: 16)
    else { throw Refusal() }
    index += 4
    return unit
  }
}

/// Random JSON texts, most of them valid, of all that a fast reader treats in a way of its own: short and long keys,
/// strings and numbers, escapes, text beyond ASCII, white space, objects with the same keys again and with many keys.
struct JSONTexts {
  var random: Seeded
  /// Of ten places where white space may be, how many have some.
  private var whitespace = 0
  private var longestKey = 0

  init(seed: UInt64) { random = Seeded(seed) }

  mutating func text() -> [UInt8] {
    whitespace = pick([0, 0, 2, 8])
    longestKey = pick([3, 9, 24])
    return space() + value(depth: 0) + space()
  }

  /// The text with one to three bytes replaced, flipped, removed or inserted.
  mutating func mutated(_ text: [UInt8]) -> [UInt8] {
    var bytes = text
    for _ in 0..<pick([1, 1, 2, 3]) where !bytes.isEmpty {
      let at = below(bytes.count)
      switch below(5) {
      case 0: bytes[at] = UInt8(below(256))
      case 1: bytes[at] ^= 1 << UInt8(below(8))
      case 2: bytes.remove(at: at)
      case 3: bytes.insert(pick(text), at: at)
      default: bytes.insert(pick(Array("\"\\{}[]:,0e.- \n\u{1}é".utf8)), at: at)
      }
    }
    return bytes
  }

  mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }
  mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

  private mutating func space() -> [UInt8] {
    if below(10) >= whitespace { return [] }
    return (0...below(20)).map { _ in pick([0x20, 0x20, 0x20, 0x20, 0x09, 0x0A, 0x0D]) }
  }

  private mutating func value(depth: Int) -> [UInt8] {
    switch below(depth > 4 ? 4 : 8) {
    case 0: return string(longest: pick([7, 9, 70]))
    case 1, 2: return number()
    case 3: return Array(pick(["true", "false", "null"]).utf8)
    case 4: return list("[", "]", below(4)) { texts, _ in texts.value(depth: depth + 1) }
    case 5:
      let (count, again) = (below(4), below(4))
      return list("[", "]", again) { texts, _ in texts.object(count, depth: 5) }
    default: return object(below(30) == 0 ? below(90) : below(5), depth: depth + 1)
    }
  }

  private mutating func object(_ count: Int, depth: Int) -> [UInt8] {
    list("{", "}", count) { texts, place in
      var key = texts.string(longest: texts.longestKey)
      // Without a number it may be a key that the object has already.
      if texts.below(15 * max(count / 4, 1)) != 0 {
        key.insert(contentsOf: "\(place)k".utf8, at: texts.pick([1, key.count - 1]))
      }
      return key + texts.space() + [UInt8(ascii: ":")] + texts.space() + texts.value(depth: depth)
    }
  }

  private mutating func list(
    _ open: String, _ close: String, _ count: Int, _ element: (inout JSONTexts, Int) -> [UInt8]
  ) -> [UInt8] {
    var bytes = Array(open.utf8) + space()
    for place in 0..<count {
      if place > 0 { bytes += space() + [UInt8(ascii: ",")] + space() }
      bytes += element(&self, place)
    }
    return bytes + space() + Array(close.utf8)
  }

  private mutating func number() -> [UInt8] {
    if below(40) == 0 { return Array(pick(["00", "01", "1.", "-", "1e", "1e309", "-01.5", "0x1", "9.9.9"]).utf8) }
    let digits = (0..<pick([1, 2, 6, 7, 8, 12])).map { _ in "\(below(10))" }.joined()
    let integer = digits.first == "0" ? "0" : digits
    let fraction = below(2) == 0 ? "" : ".\(below(pick([10, 10_000, 1_000_000_000])))"
    let exponent = below(6) == 0 ? pick(["e5", "E-5", "e+10", "e-400"]) : ""
    return Array((pick(["", "", "-"]) + integer + fraction + exponent).utf8)
  }

  private mutating func string(longest: Int) -> [UInt8] {
    var bytes: [UInt8] = [UInt8(ascii: "\"")]
    let plain = below(3) > 0
    for _ in 0..<below(longest + 1) {
      if !plain, below(4) == 0 {
        let odd = ["é", "中", "😀", "\u{800}", "\u{10FFFF}", "\u{7F}", #"\n"#, #"\""#, #"\\"#, #"\/"#, #"\u0061"#]
        bytes += Array(pick(odd + [#"\u0000"#, #"\ud83d\ude00"#]).utf8)
      } else {
        bytes.append(pick(Array("abcABC 019-_!#[]{}:,'~".utf8)))
      }
    }
    return bytes + [UInt8(ascii: "\"")]
  }
}
