/// A JSON value that keeps what a document said: members in order, numbers as their text.
///
/// It serves the control plane (configuration, requests, state), where trees are small. Message bodies never become
/// one; they are checked and copied as bytes.
enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  /// The number's text exactly as it was written, for example `12345678901234567890` or `1e3`.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)
}

/// The members of a JSON object, in order, each key once.
struct JSONObject: Equatable, Sendable {
  struct Member: Equatable, Sendable {
    var key: String
    var value: JSONValue
  }
  var members: [Member] = []

  subscript(key: String) -> JSONValue? {
    get { members.first { $0.key == key }?.value }
    set {
      if let index = members.firstIndex(where: { $0.key == key }) {
        if let newValue { members[index].value = newValue } else { members.remove(at: index) }
      } else if let newValue {
        members.append(Member(key: key, value: newValue))
      }
    }
  }
}

/// Where and why a text is not JSON.
struct JSONSyntaxError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Offset of the offending byte, from 0.
  var offset: Int
  /// What was wrong there, without quoting the text.
  var reason: String

  var description: String { "not valid JSON at byte \(offset): \(reason)" }
}
