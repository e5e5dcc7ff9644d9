extension JSONValue {
  var isNull: Bool { self == .null }

  var stringValue: String? {
    guard case .string(let value) = self else { return nil }
    return value
  }

  /// The number as an integer: only if it is written as one (neither `1.0` nor `1e3`) and fits.
  var int64Value: Int64? {
    guard case .number(let text) = self else { return nil }
    return Int64(text)
  }

  var arrayValue: [JSONValue]? {
    guard case .array(let value) = self else { return nil }
    return value
  }

  var objectValue: JSONObject? {
    guard case .object(let value) = self else { return nil }
    return value
  }

  /// The member `key` of an object; nil also if this is no object.
  subscript(key: String) -> JSONValue? { objectValue?[key] }

  /// An integer's number.
  static func integer(_ value: some BinaryInteger) -> JSONValue { .number(String(value)) }

  /// A double's shortest number that reads back equal; NaN and infinities, which JSON cannot hold, become null.
  static func double(_ value: Double) -> JSONValue { value.isFinite ? .number(value.description) : .null }
}

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  init(nilLiteral: ()) { self = .null }
  init(booleanLiteral value: Bool) { self = .bool(value) }
  init(integerLiteral value: Int64) { self = .integer(value) }
  init(floatLiteral value: Double) { self = .double(value) }
  init(stringLiteral value: String) { self = .string(value) }
  init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  init(dictionaryLiteral elements: (String, JSONValue)...) { self = .object(JSONObject(elements)) }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Members in the order given; of a key given twice the last value counts, at the first one's place.
  init(_ members: [(String, JSONValue)]) {
    for (key, value) in members { self[key] = value }
  }

  init(dictionaryLiteral elements: (String, JSONValue)...) { self.init(elements) }

  var isEmpty: Bool { members.isEmpty }
  var keys: [String] { members.map(\.key) }
}
