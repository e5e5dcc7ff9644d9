/// Replaces `${env:NAME}` and `${file:PATH}` in the strings of a standalone configuration.
///
/// A reference may be a whole value or a part of a string. `$${` stands for `${`; `${NAME}`, which shells, Compose and other tools
/// have for a variable, is a problem that says how to write it here; any other `$` is literal. What comes in is not looked at again. A file's one trailing line break is
/// dropped; its path is relative to the configuration file. If the setting is a number or a boolean, the text of a
/// value that is one whole reference is read as such. Keys are left alone.
struct SecretReferences {
  /// Paths whose values came from outside, so that no message shows them.
  private(set) var hidden: Set<String> = []
  private(set) var problems: [ConfigurationProblem] = []
  /// The files that values came from, by the values' paths; and what was in them, by file.
  private(set) var files: [String: Set<String>] = [:]
  private(set) var contents: [String: Result<String, ConfigurationInputs.UnreadableFile>] = [:]

  private let inputs: ConfigurationInputs
  /// Directory that files are relative to; ends in `/` unless empty.
  private var directory: String
  /// Where the resource stands that is expanded, if one is.
  private var resource: String?

  init(inputs: ConfigurationInputs, directory: String) {
    self.inputs = inputs
    self.directory = directory
  }

  /// Those in a catalog's resource, but for its stream, which Flow takes as it stands.
  ///
  /// - Parameters:
  ///   - path: Of `node`, as in problems.
  ///   - directory: What files are relative to.
  mutating func expand(resource node: SourceNode, path: String, directory: String) -> SourceNode {
    let outer = self.directory
    (self.directory, resource) = (directory, path)
    defer { (self.directory, resource) = (outer, nil) }
    guard let members = node.members else { return expand(node, path: path) }
    var result = node
    result.content = .object(
      members.map { member in
        guard member.key != "stream" else { return member }
        var expanded = member
        expanded.value = expand(member.value, path: SettingsTable.join(path, member.key))
        return expanded
      })
    return result
  }

  /// - Parameter path: Of `node`, as in problems.
  mutating func expand(_ node: SourceNode, path: String = "") -> SourceNode {
    var result = node
    switch node.content {
    case .scalar(.string(let text)):
      if text.utf8.contains(UInt8(ascii: "$")) { result.content = .scalar(expand(text, at: path)) }
    case .scalar:
      break
    case .array(let elements):
      var expanded: [SourceNode] = []
      for (index, element) in elements.enumerated() {
        expanded.append(expand(element, path: "\(path)[\(index)]"))
      }
      result.content = .array(expanded)
    case .object(let members):
      var expanded: [SourceNode.Member] = []
      for var member in members {
        member.value = expand(member.value, path: SettingsTable.join(path, member.key))
        expanded.append(member)
      }
      result.content = .object(expanded)
    }
    return result
  }

  /// References in a configuration that comes complete, as Flow's does: no one resolves them there.
  static func unresolved(in value: JSONValue, path: String = "") -> [ConfigurationProblem] {
    switch value {
    case .string(let text):
      guard let scheme = Scheme.allCases.first(where: { text.contains($0.rawValue) }) else { return [] }
      return [
        ConfigurationProblem(
          path: path,
          message:
            "\(scheme.rawValue)…} is not replaced within Flow, only by `source-amqp run`: give the value itself; flowctl encrypts "
            + "secrets when the specification is published")
      ]
    case .array(let values):
      return values.enumerated().flatMap { unresolved(in: $0.element, path: "\(path)[\($0.offset)]") }
    case .object(let object):
      return object.members.filter { path != "" || $0.key != "sops" }.flatMap {
        unresolved(in: $0.value, path: SettingsTable.join(path, $0.key))
      }
    case .null, .bool, .number: return []
    }
  }

  private enum Part {
    case literal(Substring)
    case reference(Scheme, Substring)
    /// Without its closing brace.
    case open
    /// As shells write a variable.
    case foreign(Substring)
  }

  private enum Scheme: String, CaseIterable {
    case env = "${env:"
    case file = "${file:"
  }

  private mutating func expand(_ text: String, at path: String) -> JSONValue {
    let parts = SecretReferences.parts(of: text)
    var result = ""
    for part in parts {
      switch part {
      case .literal(let literal):
        result += literal
      case .reference(let scheme, let name):
        hidden.insert(path)
        result += look(up: String(name), scheme, at: path) ?? ""
      case .open:
        report(path, "has a reference without its closing brace")
      case .foreign(let name):
        // Between other text it may be a part of a secret that was meant literally.
        let isWhole = parts.count == 1
        let shown = isWhole ? String(name) : "NAME"
        report(
          path,
          "has \(isWhole ? "${\(name)}" : "a ${…}"), which means nothing here: write ${env:\(shown)} for a variable of the "
            + "environment, ${file:PATH} for a file, or $${ in place of ${ if it is meant as it stands")
      }
    }
    guard parts.count == 1, case .reference = parts[0] else { return .string(result) }
    return typed(result, at: path)
  }

  private static func parts(of text: String) -> [Part] {
    var parts: [Part] = []
    var rest = text[...]
    var literal = rest.startIndex
    func flush(until end: String.Index) {
      if literal < end { parts.append(.literal(text[literal..<end])) }
    }
    while let dollar = rest.firstIndex(of: "$") {
      rest = rest[dollar...]
      let next = rest.dropFirst()
      if next.hasPrefix("${") {
        // Without the first dollar; the second is part of the literal that follows.
        flush(until: dollar)
        literal = next.startIndex
        rest = next.dropFirst()
      } else if let scheme = Scheme.allCases.first(where: { rest.hasPrefix($0.rawValue) }) {
        flush(until: dollar)
        let body = rest.dropFirst(scheme.rawValue.count)
        guard let brace = body.firstIndex(of: "}") else { return parts + [.open] }
        parts.append(.reference(scheme, body[..<brace]))
        rest = body[brace...].dropFirst()
        literal = rest.startIndex
      } else if let name = variable(rest) {
        flush(until: dollar)
        parts.append(.foreign(name))
        rest = rest[name.endIndex...].drop { $0 != "}" }.dropFirst()
        literal = rest.startIndex
      } else {
        rest = next
      }
    }
    flush(until: text.endIndex)
    return parts
  }

  /// The name in `${NAME}`, `${NAME:-default}` and the like, at the beginning of `text`.
  private static func variable(_ text: Substring) -> Substring? {
    guard text.hasPrefix("${") else { return nil }
    var body = text.dropFirst(2)
    // In another case: `${ENV:NAME}`.
    if body.prefix(4).lowercased() == "env:" { body = body.dropFirst(4) }
    let name = body.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
    let rest = body[name.endIndex...]
    let isClosed =
      rest.hasPrefix("}") || [":-", ":=", ":?", ":+"].contains(rest.prefix(2)) && rest.prefix(256).contains("}")
    guard let first = name.first, first.isLetter || first == "_", isClosed else { return nil }
    return name
  }

  /// The text that a reference stands for, or nil after a problem was reported.
  private mutating func look(up name: String, _ scheme: Scheme, at path: String) -> String? {
    guard !name.isEmpty, !name.unicodeScalars.contains("\0") else {
      report(path, "has a reference \(scheme.rawValue)…} without a proper name")
      return nil
    }
    switch scheme {
    case .env:
      guard let value = inputs.environment(name) else {
        report(path, "environment variable \(ConfigurationWording.quote(name)) is not set")
        return nil
      }
      return value
    case .file:
      let file = FileReference.resolve(name, in: directory)
      files[path, default: []].insert(file)
      let found = inputs.contents(file)
      contents[file] = found
      switch found {
      case .success(let contents):
        // A line break is one character, also with a carriage return.
        return contents.last == "\n" || contents.last == "\r\n" ? String(contents.dropLast()) : contents
      case .failure(let error):
        report(path, "cannot read file \(ConfigurationWording.quote(file)): \(error.reason)")
        return nil
      }
    }
  }

  /// Text for a number or a boolean setting as such; other settings take strings.
  private func typed(_ text: String, at path: String) -> JSONValue {
    let row = resource.map { "resources[]" + path.dropFirst($0.count) } ?? path
    return switch SettingsTable.setting(at: SettingsTable.rowPath(of: row))?.kind {
    case .integer, .number, .streamOffset: SourceText.isNumber(text) ? .number(text) : .string(text)
    case .boolean: text == "true" ? .bool(true) : text == "false" ? .bool(false) : .string(text)
    case .text, .texts, .choice, .table, nil: .string(text)
    }
  }

  private mutating func report(_ path: String, _ message: String) {
    problems.append(ConfigurationProblem(path: path, message: message))
  }
}
