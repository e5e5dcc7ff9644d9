extension JSONValue {
  /// Reads exactly one JSON value, with white space around it allowed.
  ///
  /// Strict RFC 8259. Also errors: nesting deeper than ``JSONScanner/maxDepth``, a key that occurs twice in an object
  /// (compared by bytes), invalid UTF-8, lone surrogates, a byte order mark.
  static func parse(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONValue {
    try parse(bytes.span)
  }

  /// The same for text that is at hand as a string.
  static func parse(_ text: String) throws(JSONSyntaxError) -> JSONValue {
    try parse(Array(text.utf8).span)
  }

  /// The same for bytes that someone else holds.
  static func parse(_ bytes: Span<UInt8>) throws(JSONSyntaxError) -> JSONValue {
    var index = 0
    let value = try value(bytes, &index, depth: 0)
    JSONScanner.skipWhitespace(bytes, &index)
    guard index == bytes.count else { throw JSONSyntaxError(offset: index, reason: "text after the value") }
    return value
  }

  private static func value(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int
  ) throws(JSONSyntaxError) -> JSONValue {
    JSONScanner.skipWhitespace(bytes, &index)
    guard index < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a value is missing") }
    switch bytes[index] {
    case UInt8(ascii: "{"):
      return .object(try object(bytes, &index, depth: depth + 1))
    case UInt8(ascii: "["):
      return .array(try array(bytes, &index, depth: depth + 1))
    case UInt8(ascii: "\""):
      return .string(try string(bytes, &index))
    case UInt8(ascii: "-"), 0x30...0x39:
      let start = index
      _ = try JSONScanner.number(bytes, &index)
      return .number(JSONScanner.text(bytes, start..<index))
    case UInt8(ascii: "t"):
      try JSONScanner.literal("true", bytes, &index)
      return .bool(true)
    case UInt8(ascii: "f"):
      try JSONScanner.literal("false", bytes, &index)
      return .bool(false)
    case UInt8(ascii: "n"):
      try JSONScanner.literal("null", bytes, &index)
      return .null
    default:
      throw JSONSyntaxError(offset: index, reason: "neither a value nor a literal")
    }
  }

  private static func array(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int
  ) throws(JSONSyntaxError) -> [JSONValue] {
    try checkDepth(depth, index)
    index += 1
    var values: [JSONValue] = []
    JSONScanner.skipWhitespace(bytes, &index)
    if index < bytes.count, bytes[index] == UInt8(ascii: "]") {
      index += 1
      return values
    }
    while true {
      values.append(try value(bytes, &index, depth: depth))
      if try ends(bytes, &index, with: UInt8(ascii: "]")) { return values }
    }
  }

  private static func object(
    _ bytes: Span<UInt8>, _ index: inout Int, depth: Int
  ) throws(JSONSyntaxError) -> JSONObject {
    try checkDepth(depth, index)
    index += 1
    var object = JSONObject()
    // Bytes, not strings: two keys that are only canonically equivalent are two keys.
    var keys: Set<[UInt8]> = []
    JSONScanner.skipWhitespace(bytes, &index)
    if index < bytes.count, bytes[index] == UInt8(ascii: "}") {
      index += 1
      return object
    }
    while true {
      JSONScanner.skipWhitespace(bytes, &index)
      let start = index
      guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else {
        throw JSONSyntaxError(offset: index, reason: "a key is missing")
      }
      let key = try string(bytes, &index)
      guard keys.insert(Array(key.utf8)).inserted else {
        throw JSONSyntaxError(offset: start, reason: "the key \"\(key)\" occurs twice")
      }
      JSONScanner.skipWhitespace(bytes, &index)
      guard index < bytes.count, bytes[index] == UInt8(ascii: ":") else {
        throw JSONSyntaxError(offset: index, reason: "a colon is missing after a key")
      }
      index += 1
      object.members.append(JSONObject.Member(key: key, value: try value(bytes, &index, depth: depth)))
      if try ends(bytes, &index, with: UInt8(ascii: "}")) { return object }
    }
  }

  /// Reads what follows an element: true for the closing bracket, false for a comma.
  private static func ends(
    _ bytes: Span<UInt8>, _ index: inout Int, with bracket: UInt8
  ) throws(JSONSyntaxError) -> Bool {
    JSONScanner.skipWhitespace(bytes, &index)
    guard index < bytes.count else { throw JSONSyntaxError(offset: index, reason: "a closing bracket is missing") }
    let byte = bytes[index]
    guard byte == bracket || byte == UInt8(ascii: ",") else {
      throw JSONSyntaxError(offset: index, reason: "a comma or a closing bracket is missing")
    }
    index += 1
    return byte == bracket
  }

  private static func string(_ bytes: Span<UInt8>, _ index: inout Int) throws(JSONSyntaxError) -> String {
    let start = index + 1
    let escaped = try JSONScanner.string(bytes, &index)
    guard escaped else { return JSONScanner.text(bytes, start..<index - 1) }
    var content: [UInt8] = []
    JSONScanner.appendUnescaped(bytes, start..<index - 1, to: &content)
    return String(decoding: content, as: UTF8.self)
  }

  private static func checkDepth(_ depth: Int, _ index: Int) throws(JSONSyntaxError) {
    guard depth <= JSONScanner.maxDepth else {
      throw JSONSyntaxError(offset: index, reason: "nested deeper than \(JSONScanner.maxDepth) levels")
    }
  }
}
