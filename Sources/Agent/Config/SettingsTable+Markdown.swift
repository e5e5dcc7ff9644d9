/// The settings as a page for people: `source-amqp spec --markdown`, and docs/settings.md.
extension SettingsTable {
  /// A table of all settings, and then for each one a heading with its path, its meaning, type, range, default and an example. Ends
  /// with a newline.
  static var markdown: String {
    var text = "| setting | type | default |\n|---|---|---|\n"
    for row in rows {
      let cells = ["[`\(row.path)`](#\(anchor(row.path)))", type(of: row.setting), standard(of: row.setting)]
      text += "| " + cells.map(escaped).joined(separator: " | ") + " |\n"
    }
    describe(root, under: "", &text)
    return text + resources
  }

  /// What a resource may say.
  private static var resources: String {
    var text = """

      ## Resources

      A resource is a queue that is captured, and the stream that its documents go to: `resource` of a binding in Flow, an entry of
      `resources` in a file for `source-amqp run`. \(resource.description) It needs a `stream` and nothing else:

      - A resource that names no queue means the endpoint's `queue.name`, or without one the queue that is called like its stream.
      - `queue`, `bindings`, `message_ttl` and `max_priority` of the endpoint belong to the queue that `queue.name` names. Another queue
        has its own, or the defaults; a TTL or priorities it says in `queue.arguments`. Of the endpoint's queue a resource may say some
        things otherwise, and `bindings: []` takes the endpoint's away.
      - What a resource does not say of its `consumer` is as the endpoint has it.

      ```yaml
      resources:
        - stream: orders
          queue:
            name: shop.orders
            type: quorum
          bindings:
            - exchange: amq.topic
              routing_key: orders.#
          consumer:
            prefetch_count: 1000
      ```

      | setting of a resource | type | default |
      |---|---|---|

      """
    for row in resourceRows {
      let name = row.path == "stream" ? "`stream`" : "[`\(row.path)`](#\(anchor(row.path)))"
      text +=
        "| " + [name, type(of: row.setting), standard(of: row.setting)].map(escaped).joined(separator: " | ") + " |\n"
    }
    return text
  }

  private static func describe(_ group: SettingGroup, under path: String, _ text: inout String) {
    if !path.isEmpty { text += "\n## \(group.title)\n\n\(group.description)\n" }
    var wasGroup = false
    for node in group.members {
      switch node {
      case .setting(let setting):
        if path.isEmpty, wasGroup || setting.key == group.members.first?.key {
          text += wasGroup ? "\n## Limits and times\n" : "\n## Connection\n"
        }
        wasGroup = false
        describe(setting, at: join(path, setting.key), &text)
      case .group(let group):
        wasGroup = true
        describe(group, under: join(path, group.key) + (group.repeats ? "[]" : ""), &text)
      }
    }
  }

  private static func describe(_ setting: Setting, at path: String, _ text: inout String) {
    text += "\n### `\(path)`\n\n\(setting.description)\n\n"
    if case .choice(let choices) = setting.kind {
      text += choices.map { "- `\($0.value)`: \($0.description)\n" }.joined() + "\n"
    }
    let end = presence(of: setting) ?? "No default."
    let isNamed = if case .choice = setting.kind { true } else { false }
    let kind = isNamed ? "" : type(of: setting)
    text += (kind.isEmpty ? "" : kind.prefix(1).uppercased() + kind.dropFirst() + ". ") + end + "\n\n"
    text += "```yaml\n" + example(of: setting, at: path) + "```\n"
  }

  /// The setting's example as a configuration would have it, groups and all.
  static func example(of setting: Setting, at path: String) -> String {
    var text = ""
    var indentation = ""
    let keys = path.split(separator: ".").map(String.init)
    for key in keys.dropLast() {
      text += "\(indentation)\(key.hasSuffix("[]") ? String(key.dropLast(2)) : key):\n"
      indentation += "  "
      if key.hasSuffix("[]") {
        text += indentation + "- "
        // Other members of an item are required with it.
        if setting.key != "exchange" { text += "exchange: amq.topic\n\(indentation)  " }
        return text + "\(setting.key): \(yaml(setting.example))\n"
      }
    }
    return text + "\(indentation)\(setting.key): \(yaml(setting.example))\n"
  }

  /// As GitHub makes an anchor of a heading.
  private static func anchor(_ path: String) -> String {
    path.filter { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" }
  }

  private static func type(of setting: Setting) -> String {
    switch setting.kind {
    case .text: setting.secret ? "string, secret" : "string"
    case .texts: "array of strings"
    case .integer(let range):
      "integer, \(whole(range.lowerBound)) to \(whole(range.upperBound))" + taken(setting.unit)
    case .number(let range): "number, \(plain(range.lowerBound)) to \(plain(range.upperBound))" + taken(setting.unit)
    case .boolean: "boolean"
    case .choice(let choices): choices.map { "`\($0.value)`" }.joined(separator: ", ")
    case .streamOffset: "`first`, `last`, `next`, an offset, a date-time, an interval"
    case .table: "object"
    }
  }

  /// What a text with a unit looks like.
  static func taken(_ unit: Setting.Unit?) -> String {
    switch unit {
    case .bytes: ", or `64MiB`"
    case .seconds: ", or `5s`, `1m`"
    case .milliseconds: ", or `30s`, `1h`"
    case nil: ""
    }
  }

  /// Whether it must be given, or what holds otherwise, as a sentence; nil if that is nothing.
  static func presence(of setting: Setting) -> String? {
    switch setting.presence {
    case .required: "Required."
    case .absent: nil
    case .value, .derived: "Default: \(standard(of: setting))."
    }
  }

  /// The default, for people: `localhost`, `16777216 (16 MiB)`, – if there is none.
  static func standard(of setting: Setting) -> String {
    switch setting.presence {
    case .required: "required"
    case .value(.string(let text)): "`\(text)`"
    case .value(.number(let text)): Int(text).map(whole) ?? text
    case .value(.bool(let flag)): "`\(flag)`"
    // No row has a default of another type.
    case .value: ""
    case .derived(let text): text
    case .absent: "–"
    }
  }

  /// An integer, with its size in binary units if it is a round one: `16777216 (16 MiB)`.
  private static func whole(_ number: Int) -> String {
    let units = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB")]
    guard number > 0, let unit = units.first(where: { number % (1 << $0.0) == 0 }) else { return String(number) }
    return "\(number) (\(number >> unit.0) \(unit.1))"
  }

  /// A vertical bar would end the cell.
  private static func escaped(_ text: String) -> String {
    text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
  }
}
