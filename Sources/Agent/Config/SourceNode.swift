/// A value of a configuration file, from JSON or YAML, with the places that it was written at.
struct SourceNode: Sendable, Equatable {
  enum Content: Sendable, Equatable {
    /// Anything but an array or an object.
    case scalar(JSONValue)
    case array([SourceNode])
    /// In order, each key once.
    case object([Member])
  }

  struct Member: Sendable, Equatable {
    let key: String
    /// Where the key stands; that of the value may be a line below.
    let location: TextLocation?
    var value: SourceNode
  }

  var content: Content
  /// Where it starts; nil in JSON.
  var location: TextLocation?

  /// A JSON value, without places.
  init(_ value: JSONValue) {
    switch value {
    case .null, .bool, .number, .string:
      content = .scalar(value)
    case .array(let elements):
      content = .array(elements.map { SourceNode($0) })
    case .object(let object):
      content = .object(object.members.map { Member(key: $0.key, location: nil, value: SourceNode($0.value)) })
    }
    location = nil
  }

  init(_ content: Content, at location: TextLocation?) {
    self.content = content
    self.location = location
  }

  /// The same as plain JSON.
  var value: JSONValue {
    switch content {
    case .scalar(let value): value
    case .array(let elements): .array(elements.map(\.value))
    case .object(let members):
      .object(JSONObject(members: members.map { .init(key: $0.key, value: $0.value.value) }))
    }
  }

  /// The member's value, or nil if this is no object or lacks it.
  subscript(key: String) -> SourceNode? {
    members?.first { $0.key == key }?.value
  }

  /// The members of an object, or nil.
  var members: [Member]? {
    guard case .object(let members) = content else { return nil }
    return members
  }

  /// The text of a string, or nil.
  var text: String? {
    guard case .scalar(.string(let text)) = content else { return nil }
    return text
  }

  /// The places of everything below, by the path that problems use.
  func locations(under path: String = "") -> [String: TextLocation] {
    var result: [String: TextLocation] = [:]
    collect(into: &result, path: path)
    return result
  }

  private func collect(into result: inout [String: TextLocation], path: String) {
    switch content {
    case .scalar:
      break
    case .array(let elements):
      for (index, element) in elements.enumerated() {
        let path = "\(path)[\(index)]"
        result[path] = element.location
        element.collect(into: &result, path: path)
      }
    case .object(let members):
      for member in members {
        let path = SettingsTable.join(path, member.key)
        result[path] = member.location
        member.value.collect(into: &result, path: path)
      }
    }
  }
}
