/// The configuration in force, for people: `source-amqp check --print`.
extension SettingsTable {
  /// Every setting in YAML, as given or by default; those that have no value are commented out. Secrets, and what came from the
  /// environment or from a file, are masked.
  static func effective(_ file: ConfigurationFile) -> String {
    var lines: [String] = []
    write(root, file.source, path: "", indentation: "", file.hidden, &lines)
    if case .array? = file.source["resources"] {
      let resources = SettingGroup(
        key: "resources", title: resource.title, description: resource.description,
        item: .init(title: resource.title, description: resource.description), members: resource.members)
      write(
        SettingGroup(key: "", title: "", description: "", members: [.group(resources)]), file.source, path: "",
        indentation: "", file.hidden, &lines)
    }
    return lines.map { PrintableText.escaped($0) + "\n" }.joined()
  }

  private static let mask = "\"********\""

  private static func write(
    _ group: SettingGroup, _ value: JSONValue?, path: String, indentation: String, _ hidden: Set<String>,
    _ lines: inout [String]
  ) {
    for node in group.members {
      let path = join(path, node.key)
      let given = value?.objectValue?[node.key].flatMap { $0 == .null ? Optional.none : $0 }
      switch node {
      case .setting(let setting):
        lines.append(indentation + line(of: setting, given, isHidden: hides(path, setting, hidden)))
      case .group(let inner) where inner.repeats:
        guard case .array(let items)? = given, !items.isEmpty else {
          // For a resource, an empty list is another thing than none.
          let isThere = given != nil || !path.hasPrefix("resources")
          lines.append("\(indentation)\(isThere ? "" : "#")\(node.key): []")
          continue
        }
        lines.append("\(indentation)\(node.key):")
        for (index, item) in items.enumerated() {
          var own: [String] = []
          write(inner, item, path: "\(path)[\(index)]", indentation: "", hidden, &own)
          let given = own.filter { !$0.drop { $0 == " " }.hasPrefix("#") }
          for (number, line) in given.enumerated() {
            lines.append("\(indentation)  \(number == 0 ? "-" : " ") \(line)")
          }
        }
      case .group(let inner):
        var own: [String] = []
        write(inner, given, path: path, indentation: indentation + "  ", hidden, &own)
        let isEmpty = own.allSatisfy { $0.drop { $0 == " " }.hasPrefix("#") }
        lines.append("\(indentation)\(isEmpty ? "#" : "")\(node.key):")
        lines += own
      }
    }
  }

  private static func escaped(_ value: JSONValue) -> JSONValue {
    switch value {
    case .string(let text): .string(text.replacing("${", with: "$${"))
    case .array(let values): .array(values.map(escaped))
    case .object(let object):
      .object(JSONObject(members: object.members.map { .init(key: $0.key, value: escaped($0.value)) }))
    case .null, .bool, .number: value
    }
  }

  private static func hides(_ path: String, _ setting: Setting, _ hidden: Set<String>) -> Bool {
    setting.secret || hidden.contains { $0 == path || $0.hasPrefix(path + ".") || $0.hasPrefix(path + "[") }
  }

  private static func line(of setting: Setting, _ given: JSONValue?, isHidden: Bool) -> String {
    // As it would have to be written.
    if let given = given.map(escaped) {
      let text = setting.kind == .text(.pem) ? Disclosure.value(given.stringValue ?? "") : yaml(given)
      return
        "\(setting.key): \(isHidden ? mask : setting.kind == .text(.pem) ? yaml(.string(text)) : Disclosure.text(text))"
    }
    switch setting.presence {
    case .value(let value): return "\(setting.key): \(isHidden ? mask : yaml(value))"
    case .derived(let text): return "#\(setting.key): # \(text.replacing("`", with: ""))"
    case .absent, .required: return "#\(setting.key):"
    }
  }
}
