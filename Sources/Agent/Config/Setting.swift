/// One setting of the endpoint configuration: a row of `SettingsTable`.
///
/// Schema, parser and pages all read this value, so a fact about a setting is written once.
struct Setting: Sendable, Equatable {
  /// The last component of its path, as written in a configuration: `prefetch_count`.
  let key: String
  /// Title Case, for the Flow UI.
  let title: String
  /// One or more sentences in the second person, each ending in a period; no HTML.
  let description: String
  let kind: SettingKind
  var presence: Presence
  /// Its value appears in no message, log or table.
  var secret = false
  /// May hold line breaks (PEM); the UI shows a text area.
  var multiline = false
  /// What its number counts, if that is bytes or time: then a text with a unit (`1GiB`, `5s`) is taken, too.
  var unit: Unit?
  /// A value that someone might want, in place of ``example``'s own choice.
  var given: JSONValue?

  enum Unit: Sendable, Equatable {
    case bytes
    case seconds
    case milliseconds
  }

  /// A value that it takes, other than its default if that is possible: for pages, and for the configuration that
  /// `source-amqp init` prints.
  var example: JSONValue {
    if let given { return given }
    switch (kind, presence) {
    case (.boolean, .value(.bool(let flag))): return .bool(!flag)
    case (.choice(let choices), _):
      let standard: JSONValue? = if case .value(let value) = presence { value } else { nil }
      return choices.map { .string($0.value) }.first { $0 != standard } ?? .null
    case (_, .value(let value)): return value
    case (_, .required), (_, .derived), (_, .absent): return .null
    }
  }

  /// What holds if the setting is not given.
  enum Presence: Sendable, Equatable {
    case required
    /// This value, in the schema and in the parser alike.
    case value(JSONValue)
    /// Depends on other settings, described for people: "`host`". The schema carries no default then: the UI writes
    /// a schema's defaults into the configuration, if they would override what follows from the other settings.
    case derived(String)
    /// Nothing: the feature is off, or the broker decides.
    case absent
  }
}

/// What values a setting takes.
enum SettingKind: Sendable, Equatable {
  case text(TextRule)
  case integer(ClosedRange<Int>)
  /// Seconds, always; bounds are inclusive.
  case number(ClosedRange<Double>)
  case boolean
  /// One of these strings.
  case choice([Choice])
  /// A list of strings, each by this rule.
  case texts(TextRule, item: SettingGroup.Item)
  /// Where a stream is read from: a word, an offset, an instant or an interval (``StreamStart``).
  case streamOffset
  /// An AMQP field table in JSON: integers stay integers, nested tables and arrays are kept.
  case table
}

/// A value of an enumerated setting.
struct Choice: Sendable, Equatable {
  let value: String
  let title: String
  let description: String
}

/// Which strings a text setting takes. NUL is refused everywhere: AMQP short strings, SASL and C strings end there.
struct TextRule: Sendable, Equatable {
  /// In bytes of UTF-8.
  let bytes: ClosedRange<Int>
  let form: Form
  /// No line feed and no carriage return: RabbitMQ leaves them out of names when it declares, and not when it consumes or binds.
  var isOneLine = false

  enum Form: Sendable, Equatable {
    /// What the broker takes, but for what looks like credentials: these are names, and shown.
    case any
    /// Anything that the broker takes.
    case free
    /// A host name or address (``HostAddress``): alone, or with the port that it may have.
    case host(HostAddress.Role)
    /// A file path, or PEM text, told apart by `-----BEGIN`.
    case pem
  }

  /// An AMQP short string: at most 255 bytes.
  static let shortString = TextRule(bytes: 0...255, form: .any, isOneLine: true)
  /// An AMQP short string that may be an address of any kind.
  static let routingKey = TextRule(bytes: 0...255, form: .free, isOneLine: true)
  /// An AMQP short string that names something.
  static let name = TextRule(bytes: 1...255, form: .any, isOneLine: true)
  /// The identity of a subscription.
  static let stream = TextRule(bytes: 1...1024, form: .free)
  /// A DNS name has at most 253 bytes, an address with a zone fits as well.
  static let host = TextRule(bytes: 1...255, form: .host(.host))
  /// The same for a name in a certificate.
  static let serverName = TextRule(bytes: 1...255, form: .host(.serverName))
  /// The same for a node, with brackets and a port.
  static let node = TextRule(bytes: 1...263, form: .host(.node))
  /// `PATH_MAX` of Linux is 4096 with the closing NUL.
  static let path = TextRule(bytes: 1...4095, form: .any)
  /// A certificate chain or key; 1 MiB is far above any real one.
  static let pem = TextRule(bytes: 1...(1 << 20), form: .pem)
  /// The whole SASL response travels in one frame before the frame size is negotiated; RabbitMQ 4.1 takes 8192 bytes
  /// there, so that OAuth 2 tokens fit. https://www.rabbitmq.com/docs/configure#config-items (`initial_frame_max`)
  static let password = TextRule(bytes: 0...8192, form: .free)
}

/// A setting, or settings under a common key.
enum SettingNode: Sendable, Equatable {
  case setting(Setting)
  case group(SettingGroup)

  var key: String {
    switch self {
    case .setting(let setting): setting.key
    case .group(let group): group.key
    }
  }
}

/// Settings under a common key: an object, or a list of such objects.
struct SettingGroup: Sendable, Equatable {
  let key: String
  let title: String
  let description: String
  /// Title and description of an item, if the group is a list (of any length) of objects with these members.
  var item: Item?
  /// Collapsed in the UI at first.
  var advanced = false
  /// In the order that the UI shows and that problems are reported in.
  let members: [SettingNode]

  struct Item: Sendable, Equatable {
    let title: String
    let description: String
  }

  /// Whether the group is a list.
  var repeats: Bool { item != nil }

  /// Whether a secret lies anywhere below, so that a value in the group's place may be one.
  var holdsSecret: Bool {
    members.contains { node in
      switch node {
      case .setting(let setting): setting.secret
      case .group(let group): group.holdsSecret
      }
    }
  }
}

/// A setting's value after its own checks.
enum SettingValue: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case number(Double)
  case flag(Bool)
  case texts([String])
  case table(JSONObject)
}
