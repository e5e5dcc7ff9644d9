/// Checks an endpoint configuration or a resource against `SettingsTable`, setting by setting, and collects values and problems.
///
/// What it accepts is what the schema publishes, with three differences: unknown keys are problems; `null` is the same as
/// a key that is absent, since a form or a template may write it so; and a size or a time may be a text with a unit. A setting with a problem has no value afterwards, not even its
/// default, so that the rules between settings do not speak about it.
struct SettingsReader {
  /// Values of the settings outside of lists, by path; defaults included.
  private(set) var values: [String: SettingValue] = [:]
  /// Values of each item of a list, by the row's path (`bindings[].exchange`).
  private(set) var items: [String: [[String: SettingValue]]] = [:]
  private(set) var problems: [ConfigurationProblem] = []

  /// Paths whose values must not be shown, as they came from the environment or from a file.
  private let hidden: Set<String>
  /// What is read, and where it stands.
  private let group: SettingGroup
  private let path: String
  /// `queue.name` has to be given.
  private let needsQueue: Bool
  /// Members of what is read that are there.
  private var members: Set<String> = []

  /// Values of the endpoint's settings that a configuration without any has.
  static let defaults: [String: SettingValue] = {
    var reader = SettingsReader(hidden: [])
    reader.read(.object(JSONObject()))
    return reader.values
  }()

  /// - Parameters:
  ///   - hidden: Paths, as in problems, whose values are treated as secrets.
  ///   - group: What is read: an endpoint configuration, or ``SettingsTable/resource``.
  ///   - path: Where it stands, in problems.
  ///   - needsQueue: `queue.name` has to be given.
  init(
    hidden: Set<String>, group: SettingGroup = SettingsTable.root, path: String = "", needsQueue: Bool = false
  ) {
    (self.hidden, self.group, self.path, self.needsQueue) = (hidden, group, path, needsQueue)
  }

  /// Reads a whole configuration, or a resource; to be called once.
  mutating func read(_ value: JSONValue) {
    guard case .object(let object) = value else {
      // An endpoint's text may be a password.
      report(path, ConfigurationWording.wrongType(value, expected: "an object", hidden: group.holdsSecret))
      return
    }
    members = Set(object.members.filter { $0.value != .null }.map(\.key))
    values = read(object, of: group, row: "", path: path)
  }

  /// Whether a member of what is read is there, and is not null.
  func gives(_ key: String) -> Bool { members.contains(key) }

  /// Reads one object: the root, a group, or an item of a list.
  private mutating func read(
    _ object: JSONObject, of group: SettingGroup, row: String, path: String
  ) -> [String: SettingValue] {
    var result: [String: SettingValue] = [:]
    for node in group.members {
      let row = SettingsTable.join(row, node.key)
      let path = SettingsTable.join(path, node.key)
      let given = object[node.key] == .null ? nil : object[node.key]
      switch node {
      case .setting(let setting):
        result[row] = value(of: setting, given: given, path: path)
      case .group(let group) where group.repeats:
        items[row] = list(of: group, given: given, row: row + "[]", path: path)
      case .group(let group):
        guard case .object(let inner) = given ?? .object(JSONObject()) else {
          wrongGroup(given, expected: "an object", group, path)
          continue
        }
        result.merge(read(inner, of: group, row: row, path: path)) { _, new in new }
      }
    }
    reportUnknown(in: object, of: group, path: path)
    return result
  }

  private mutating func list(
    of group: SettingGroup, given: JSONValue?, row: String, path: String
  ) -> [[String: SettingValue]] {
    guard case .array(let elements) = given ?? .array([]) else {
      wrongGroup(given, expected: "an array of objects", group, path)
      return []
    }
    var result: [[String: SettingValue]] = []
    for (index, element) in elements.enumerated() {
      let path = "\(path)[\(index)]"
      guard case .object(let inner) = element else {
        wrongGroup(element, expected: "an object", group, path)
        continue
      }
      result.append(read(inner, of: group, row: row, path: path))
    }
    return result
  }

  private mutating func wrongGroup(_ value: JSONValue?, expected: String, _ group: SettingGroup, _ path: String) {
    let hide = group.holdsSecret || hidden.contains(path)
    report(
      path,
      ConfigurationWording.wrongType(
        value ?? .null, expected: expected, hint: hint(for: value, group, at: path), hidden: hide))
  }

  /// How a group is written, if what stands in its place says what was meant.
  private func hint(for value: JSONValue?, _ group: SettingGroup, at path: String) -> String? {
    // An item of the list has no key of its own.
    if path.hasSuffix("]") { return nil }
    return switch (group.key, value) {
    case ("queue", .string): "write the name as queue.name"
    case ("tls", .bool(let flag)): "write tls.enabled: \(flag)"
    case ("bindings", .object): "write it as a list: each binding begins with a dash"
    case ("bindings", .string): "write it as a list of objects: - exchange: NAME"
    case ("journal", .string): "write the file as journal.path"
    default: nil
    }
  }

  private mutating func reportUnknown(in object: JSONObject, of group: SettingGroup, path: String) {
    let known = group.members.map(\.key)
    for member in object.members where !known.contains(member.key) {
      if path == self.path, Self.isForeign(member) { continue }
      report(SettingsTable.join(path, Disclosure.key(member.key)), unknown(member.key, among: known, in: path))
    }
  }

  private func unknown(_ key: String, among known: [String], in path: String) -> String {
    let isOfResource = !self.path.isEmpty
    if isOfResource, path == self.path {
      if let argument = ConfigurationRules.argument(of: key) {
        return ConfigurationWording.unknownKey(key, suggestion: "queue.arguments.\(argument)")
      }
      if let nearest = EditDistance.nearest(to: key, among: known) {
        return ConfigurationWording.unknownKey(key, suggestion: nearest)
      }
    }
    let group = path == self.path ? "" : isOfResource ? String(path.dropFirst(self.path.count + 1)) : path
    switch ForeignWords.advice(for: key, in: SettingsTable.rowPath(of: group)) {
    case .setting(let setting) where isOfResource && !SettingsTable.isOfResource(setting): return ofEndpoint(key)
    case .setting(let setting): return ConfigurationWording.unknownKey(key, suggestion: setting)
    case .say(let advice): return ConfigurationWording.unknownKey(key, suggestion: nil) + "; \(advice)"
    case nil:
      let suggestion = EditDistance.nearest(to: key, among: known) ?? elsewhere(key)
      if isOfResource, SettingsTable.root.members.contains(where: { $0.key == key }) { return ofEndpoint(key) }
      if isOfResource, let suggestion, suggestion.contains("."), !SettingsTable.isOfResource(suggestion) {
        return ofEndpoint(key)
      }
      return ConfigurationWording.unknownKey(key, suggestion: suggestion)
    }
  }

  private func ofEndpoint(_ key: String) -> String {
    ConfigurationWording.unknownKey(key, suggestion: nil) + "; it is a setting of the endpoint, for all queues"
  }

  /// What others leave at the root: encryption its metadata, control planes theirs, and forms an empty `advanced`.
  private static func isForeign(_ member: JSONObject.Member) -> Bool {
    switch member.key {
    case "sops", "_meta": true
    case "advanced": member.value == .null || member.value == .object(JSONObject())
    default: false
    }
  }

  /// The path of the only row anywhere with this key: `prefetch_count` at the root is `consumer.prefetch_count`.
  private func elsewhere(_ key: String) -> String? {
    let folded = EditDistance.folded(key)
    let matches = SettingsTable.rows.filter { EditDistance.folded($0.setting.key) == folded }
    return matches.count == 1 ? matches[0].path : nil
  }

  // MARK: One setting

  private mutating func value(of setting: Setting, given: JSONValue?, path: String) -> SettingValue? {
    guard let given else {
      switch setting.presence {
      case .required:
        report(path, ConfigurationWording.missing)
        return nil
      case .value(let standard):
        return check(standard, against: setting, path: path)
      case .derived, .absent:
        if needsQueue, path == "queue.name" { report(path, ConfigurationWording.missing) }
        return nil
      }
    }
    return check(given, against: setting, path: path)
  }

  private mutating func check(_ value: JSONValue, against setting: Setting, path: String) -> SettingValue? {
    let hide = setting.secret || hidden.contains(path)
    let checked: Result<SettingValue, SettingRefusal> =
      switch setting.kind {
      case .text(let rule): SettingCheck.text(value, rule, hidden: hide)
      case .texts(let rule, _):
        SettingCheck.texts(value, rule) { hide || hidden.contains("\(path)[\($0)]") }
      case .integer(let range): SettingCheck.integer(value, range, setting.unit, hidden: hide)
      case .number(let range): SettingCheck.number(value, range, setting.unit, hidden: hide)
      case .boolean: SettingCheck.boolean(value, hidden: hide)
      case .choice(let choices): SettingCheck.choice(value, choices.map(\.value), hidden: hide)
      case .streamOffset: SettingCheck.streamOffset(value, hidden: hide)
      case .table: SettingCheck.table(value, hidden: hide)
      }
    switch checked {
    case .success(let value): return value
    case .failure(let refusal):
      report(path + refusal.within, refusal.message)
      return nil
    }
  }

  private mutating func report(_ path: String, _ message: String) {
    problems.append(ConfigurationProblem(path: path, message: message))
  }
}
