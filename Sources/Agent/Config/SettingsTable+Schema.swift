/// The published JSON schemas, as Flow's conventions want them.
///
/// https://github.com/estuary/connectors/blob/main/config_schema_guidelines.md: `title` and `description` everywhere,
/// `order`, `secret`, `multiline` and `advanced` as annotations, a described drop-down as `oneOf` of constants, and
/// never `additionalProperties: false` at the root, where encryption adds `sops`.
extension SettingsTable {
  /// Draft of the schemas.
  private static let draft = "https://json-schema.org/draft/2020-12/schema"

  /// The endpoint configuration's schema.
  static var endpointSchema: JSONValue {
    var schema = JSONObject()
    schema["$schema"] = .string(draft)
    describe(group: root, in: &schema)
    return .object(schema)
  }

  /// The resource configuration's schema; `stream` alone is required.
  static var resourceSchema: JSONValue {
    var schema = JSONObject()
    schema["$schema"] = .string(draft)
    describe(group: resource, in: &schema)
    return .object(schema)
  }

  private static func describe(group: SettingGroup, in schema: inout JSONObject) {
    schema["title"] = .string(group.item?.title ?? group.title)
    schema["description"] = .string(group.item?.description ?? group.description)
    schema["type"] = .string("object")
    let required = group.members.filter(isRequired).map { JSONValue.string($0.key) }
    if !required.isEmpty { schema["required"] = .array(required) }
    var properties = JSONObject()
    for (order, node) in group.members.enumerated() { properties[node.key] = property(node, order: order) }
    schema["properties"] = .object(properties)
  }

  private static func property(_ node: SettingNode, order: Int) -> JSONValue {
    var schema = JSONObject()
    switch node {
    case .setting(let setting):
      describe(setting: setting, in: &schema)
    case .group(let group) where group.repeats:
      schema["title"] = .string(group.title)
      schema["description"] = .string(group.description)
      schema["type"] = .string("array")
      var items = JSONObject()
      describe(group: group, in: &items)
      schema["items"] = .object(items)
      if group.advanced { schema["advanced"] = .bool(true) }
    case .group(let group):
      describe(group: group, in: &schema)
      if group.advanced { schema["advanced"] = .bool(true) }
    }
    schema["order"] = .number(String(order))
    return .object(schema)
  }

  private static func describe(setting: Setting, in schema: inout JSONObject) {
    schema["title"] = .string(setting.title)
    schema["description"] = .string(setting.description)
    switch setting.kind {
    case .text(let rule):
      schema["type"] = .string("string")
      // `maxLength` counts characters and the limit counts bytes: only the parser can tell.
      if rule.bytes.lowerBound > 0 { schema["minLength"] = .number("1") }
    case .texts(let rule, let item):
      schema["type"] = .string("array")
      var items = JSONObject()
      items["title"] = .string(item.title)
      items["description"] = .string(item.description)
      items["type"] = .string("string")
      if rule.bytes.lowerBound > 0 { items["minLength"] = .number("1") }
      schema["items"] = .object(items)
    case .integer(let range):
      schema["type"] = .string("integer")
      schema["minimum"] = .number(String(range.lowerBound))
      schema["maximum"] = .number(String(range.upperBound))
    case .number(let range):
      schema["type"] = .string("number")
      schema["minimum"] = .number(plain(range.lowerBound))
      schema["maximum"] = .number(plain(range.upperBound))
    case .boolean:
      schema["type"] = .string("boolean")
    case .choice(let choices):
      schema["type"] = .string("string")
      schema["oneOf"] = .array(choices.map(option))
    case .streamOffset:
      schema["type"] = .array([.string("string"), .string("integer")])
    case .table:
      schema["type"] = .string("object")
    }
    // A form writes defaults into the configuration, and a secret is nothing to begin with.
    if case .value(let value) = setting.presence, !setting.secret { schema["default"] = value }
    if setting.secret { schema["secret"] = .bool(true) }
    if setting.multiline { schema["multiline"] = .bool(true) }
  }

  private static func option(_ choice: Choice) -> JSONValue {
    var option = JSONObject()
    option["const"] = .string(choice.value)
    option["title"] = .string(choice.title)
    option["description"] = .string(choice.description)
    return .object(option)
  }

  /// A group is required if one of its members is: the parser reports the member, the form asks for it.
  private static func isRequired(_ node: SettingNode) -> Bool {
    switch node {
    case .setting(let setting): setting.presence == .required
    case .group(let group): !group.repeats && group.members.contains(where: isRequired)
    }
  }

  /// A bound for people and JSON: `3600`, not `3600.0`.
  static func plain(_ number: Double) -> String {
    Int(exactly: number).map(String.init) ?? String(number)
  }
}
