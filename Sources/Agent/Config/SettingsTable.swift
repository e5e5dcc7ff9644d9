/// Every setting of the endpoint configuration, in one table.
///
/// Duty: to be the one place where a setting's path, type, range, default, secrecy and description are written. From it
/// derive
/// - the JSON schema that Flow shows as a form (`SettingsTable+Schema.swift`),
/// - the parser's checks of types, ranges, choices and unknown keys (`SettingsReader.swift`),
/// - the same for a resource (`SettingsTable+Resource.swift`), whose groups are the endpoint's,
/// - docs/settings.md (`SettingsTable+Markdown.swift`), and what `source-amqp init` prints (`SettingsTable+Template.swift`).
///
/// Rules that tie several settings together are in `ConfigurationRules.swift`; the typed result is
/// `EndpointConfiguration`, the only form that the rest of the agent sees.
///
/// Invariants, each tested:
/// - every row is read into `EndpointConfiguration`, and every default of the schema is the parser's;
/// - the value of a `secret` row appears in no problem, warning or description, and credentials that stand in another
///   row's value do not either (`Disclosure`);
/// - the schema's root allows additional properties, as encryption puts a `sops` property there.
///
/// Paths join keys by dots; `[]` stands for any item of a list: `bindings[].routing_key`.
enum SettingsTable {
  /// A row with its full path.
  struct Row: Sendable, Equatable {
    let path: String
    let setting: Setting
  }

  /// All rows in order, groups flattened.
  static let rows: [Row] = flatten(root.members, under: "")

  /// The row of that path, with `[]` for list items, or nil; also of one that a standalone configuration has in `resources[]`.
  static func setting(at path: String) -> Setting? {
    if path.hasPrefix("resources[].") {
      let own = path.dropFirst("resources[].".count)
      return resourceRows.first { $0.path == own }?.setting
    }
    return rows.first { $0.path == path }?.setting
  }

  /// Joins a group's path and a key; the root's path is empty.
  static func join(_ path: String, _ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  /// Brings the path of a value (`bindings[3].exchange`) into a row's form (`bindings[].exchange`).
  static func rowPath(of path: String) -> String {
    var result = ""
    var inIndex = false
    for character in path {
      if character == "]" { inIndex = false }
      if !inIndex { result.append(character) }
      if character == "[" { inIndex = true }
    }
    return result
  }

  static func flatten(_ nodes: [SettingNode], under path: String) -> [Row] {
    nodes.flatMap { node in
      let own = join(path, node.key)
      switch node {
      case .setting(let setting): return [Row(path: own, setting: setting)]
      case .group(let group): return flatten(group.members, under: group.repeats ? own + "[]" : own)
      }
    }
  }
}
