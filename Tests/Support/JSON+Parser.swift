extension JSON {
  /// Parses exactly one value, with blanks around it allowed.
  public init(parsing text: some Sequence<UInt8>) throws {
    var parser = JSONParser(bytes: Array(text))
    self = try parser.document()
  }

  /// Parses exactly one value from text.
  public init(parsing text: String) throws {
    try self.init(parsing: text.utf8)
  }
}

/// A strict RFC 8259 reader.
private struct JSONParser {
  let bytes: [UInt8]
  var position = 0

  init(bytes: [UInt8]) {
    self.bytes = bytes
  }

  func failure(_ what: String) -> SupportError {
    let start = max(0, position - 40)
    let around = String(decoding: bytes[start..<min(bytes.count, position + 40)], as: UTF8.self)
    return SupportError("not JSON: \(what) at byte \(position), near: \(around)")
  }

  /// The byte at the position; 0, which no JSON has outside a string, at the end.
  var current: UInt8 { position < bytes.count ? bytes[position] : 0 }

  mutating func skipBlanks() {
    while current == 0x20 || current == 0x0A || current == 0x0D || current == 0x09 { position += 1 }
  }

  mutating func expect(_ text: StaticString) throws {
    for scalar in String(describing: text).utf8 {
      guard current == scalar else { throw failure("expected \(text)") }
      position += 1
    }
  }

  mutating func document() throws -> JSON {
    let result = try value(depth: 0)
    skipBlanks()
    guard position == bytes.count else { throw failure("something after the value") }
    return result
  }

  mutating func value(depth: Int) throws -> JSON {
    // serde_json, which Flow reads with, stops at 128 as well.
    guard depth < 128 else { throw failure("nested too deeply") }
    skipBlanks()
    switch current {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "n"):
      try expect("null")
      return .null
    case UInt8(ascii: "t"):
      try expect("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try expect("false")
      return .bool(false)
    default: return .number(try number())
    }
  }

  mutating func object(depth: Int) throws -> JSON {
    var members: [String: JSON] = [:]
    try expect("{")
    skipBlanks()
    if current == UInt8(ascii: "}") {
      position += 1
      return .object(members)
    }
    while true {
      skipBlanks()
      let name = try string()
      skipBlanks()
      try expect(":")
      guard members.updateValue(try value(depth: depth + 1), forKey: name) == nil else {
        throw failure("member \(name) twice")
      }
      skipBlanks()
      if current == UInt8(ascii: "}") { break }
      try expect(",")
    }
    position += 1
    return .object(members)
  }

  mutating func array(depth: Int) throws -> JSON {
    var items: [JSON] = []
    try expect("[")
    skipBlanks()
    if current == UInt8(ascii: "]") {
      position += 1
      return .array(items)
    }
    while true {
      items.append(try value(depth: depth + 1))
      skipBlanks()
      if current == UInt8(ascii: "]") { break }
      try expect(",")
    }
    position += 1
    return .array(items)
  }

  mutating func digits() throws {
    let start = position
    while current >= 0x30 && current <= 0x39 { position += 1 }
    guard position > start else { throw failure("expected a value") }
  }

  mutating func number() throws -> String {
    let start = position
    if current == UInt8(ascii: "-") { position += 1 }
    if current == UInt8(ascii: "0") { position += 1 } else { try digits() }
    if current == UInt8(ascii: ".") {
      position += 1
      try digits()
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      position += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
      try digits()
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    // A number beyond a double's range is a syntax error to serde_json.
    guard let value = Double(text), value.isFinite else { throw failure("number out of range") }
    return text
  }

  mutating func string() throws -> String {
    try expect("\"")
    var start = position
    var result: [UInt8] = []
    while true {
      guard position < bytes.count else { throw failure("string without end") }
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") { break }
      guard byte >= 0x20 else { throw failure("control character in a string") }
      position += 1
      if byte == UInt8(ascii: "\\") {
        result += bytes[start..<(position - 1)]
        result += try escape()
        start = position
      }
    }
    result += bytes[start..<position]
    position += 1
    guard let text = String(validating: result, as: UTF8.self) else { throw failure("string is no UTF-8") }
    return text
  }

  /// The octets of the escape whose backslash has just been read.
  mutating func escape() throws -> [UInt8] {
    let byte = current
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var unit = try hexadecimal()
      if unit & 0xFC00 == 0xD800 {
        try expect("\\u")
        let low = try hexadecimal()
        guard low & 0xFC00 == 0xDC00 else { throw failure("lone surrogate") }
        unit = 0x10000 + ((unit & 0x3FF) << 10) + (low & 0x3FF)
      }
      guard let scalar = Unicode.Scalar(unit) else { throw failure("lone surrogate") }
      return Array(String(Character(scalar)).utf8)
    default: throw failure("unknown escape")
    }
  }

  mutating func hexadecimal() throws -> UInt32 {
    guard position + 4 <= bytes.count,
      let value = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
    else { throw failure("bad \\u escape") }
    position += 4
    return value
  }
}
