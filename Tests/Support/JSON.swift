/// A JSON value as the tests look at it: numbers keep their text, an object's members may be in any order.
///
/// An own parser, because a stand-in for Flow has to be as strict as Flow: it refuses what RFC 8259 refuses, a member
/// that comes twice included, and keeps apart what Foundation's blurs (1 and true, 1 and 1.0).
public enum JSON: Sendable, Equatable {
  case null
  case bool(Bool)
  /// The text of the number as it was written.
  case number(String)
  case string(String)
  case array([JSON])
  case object([String: JSON])

  /// The value of a member; nil if there is none, or this is no object.
  public subscript(_ name: String) -> JSON? {
    if case .object(let members) = self { members[name] } else { nil }
  }

  /// The value that a path of member names leads to.
  public subscript(path names: String...) -> JSON? {
    names.reduce(Optional(self)) { value, name in value?[name] }
  }

  public var string: String? { if case .string(let text) = self { text } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var array: [JSON]? { if case .array(let items) = self { items } else { nil } }
  public var object: [String: JSON]? { if case .object(let members) = self { members } else { nil } }
  /// The number, where it is an integer in the range of `Int`.
  public var int: Int? { if case .number(let text) = self { Int(text) } else { nil } }

  /// This value after an RFC 7396 merge patch, which is how Flow reduces a connector's state.
  public func merged(with patch: JSON) -> JSON {
    guard case .object(let changes) = patch else { return patch }
    var members = object ?? [:]
    for (name, change) in changes {
      members[name] = change == .null ? nil : (members[name] ?? .null).merged(with: change)
    }
    return .object(members)
  }

  /// Compact JSON text; members sorted by name, so that equal values give equal text.
  public var text: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .number(let text): text
    case .string(let text): Self.quoted(text)
    case .array(let items): "[" + items.map(\.text).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.sorted { $0.key < $1.key }.map { Self.quoted($0.key) + ":" + $0.value.text }.joined(separator: ",")
        + "}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

// Not by nil: an assignment of nil to a dictionary's member would put a null there instead of removing it.
extension JSON: ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByStringInterpolation, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int) { self = .number(String(value)) }
  public init(stringLiteral value: String) { self = .string(value) }
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(.init(elements) { $1 }) }
  /// A number; for literals there is the literal.
  public init(_ value: Int) { self = .number(String(value)) }
}
