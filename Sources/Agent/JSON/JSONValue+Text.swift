extension JSONValue {
  /// The value as compact JSON: members in order, no white space, numbers as their text.
  var text: String {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Appends the value as compact JSON. It is one line: a line break inside a string is escaped.
  func append(to out: inout [UInt8]) {
    switch self {
    case .null:
      out.append(contentsOf: "null".utf8)
    case .bool(let value):
      out.append(contentsOf: (value ? "true" : "false").utf8)
    case .number(let text):
      out.append(contentsOf: text.utf8)
    case .string(let text):
      appendJSONString(text, to: &out)
    case .array(let values):
      out.append(UInt8(ascii: "["))
      for (index, value) in values.enumerated() {
        if index > 0 { out.append(UInt8(ascii: ",")) }
        value.append(to: &out)
      }
      out.append(UInt8(ascii: "]"))
    case .object(let object):
      object.append(to: &out)
    }
  }
}

extension JSONObject {
  /// Appends the object as compact JSON, members in order.
  func append(to out: inout [UInt8]) {
    out.append(UInt8(ascii: "{"))
    for (index, member) in members.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      appendJSONString(member.key, to: &out)
      out.append(UInt8(ascii: ":"))
      member.value.append(to: &out)
    }
    out.append(UInt8(ascii: "}"))
  }
}
