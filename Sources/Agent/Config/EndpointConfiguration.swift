/// The endpoint configuration, checked and typed.
///
/// It can only be had from ``CaptureConfiguration``, so its holder may rely on every bound of `SettingsTable` and every rule of
/// `ConfigurationRules`. Nothing in it depends on the time or the machine: files that it names are read by their users.
struct EndpointConfiguration: Sendable, Equatable {
  /// Broker host name or address; no scheme, no port, no brackets.
  let host: String
  /// Further nodes of the same cluster; a port that is not given is `port`.
  let hosts: [HostAddress]
  /// 1 to 65535; already 5671 if TLS is enabled and no port was given.
  let port: Int
  let virtualHost: String
  let username: String
  let password: Secret
  let authType: AuthType
  let tls: TLSConfiguration
  let queue: QueueSettings
  /// In the order given; none is legal (the queue is bound by someone else).
  let bindings: [BindingSettings]
  let consumer: ConsumerSettings
  /// Milliseconds; already part of `queue.arguments`.
  let messageTTL: Int?
  /// 0 to 255; already part of `queue.arguments`.
  let maxPriority: Int?
  /// 0 to 65535; 0 asks for no heartbeats.
  let heartbeatSeconds: Int
  /// Positive; covers TCP, TLS and AMQP handshake together, and each later call.
  let connectionTimeout: Duration
  /// Not negative, before jitter.
  let reconnectDelay: Duration
  /// Failed attempts in a row before giving up; nil never gives up.
  let maxReconnectAttempts: Int?
  let journal: JournalConfiguration
  let document: DocumentSettings

  /// `virtual_host` looks as if it were copied from an `amqp://` address, in which `/` is written `%2F`.
  var virtualHostIsEncoded: Bool {
    let name = virtualHost.uppercased()
    return name == "/%2F" || name.hasPrefix("%2F")
  }

  /// - Precondition: `checked` holds a value for every row that is required or has a default: the reader found no
  ///   problem.
  init(checked: [String: SettingValue], bindings items: [[String: SettingValue]]) {
    let values = CheckedValues(checked)
    host = values.text("host")
    hosts = values.texts("hosts").compactMap { try? HostAddress($0) }
    virtualHost = values.text("virtual_host")
    username = values.text("username")
    password = Secret(values.text("password"))
    authType = values.choice("auth_type")
    tls = TLSConfiguration(values)
    // The registered ports of amqp and amqps. https://www.rabbitmq.com/docs/networking#ports
    port = values.optionalInteger("port") ?? (tls.enabled ? 5671 : 5672)
    queue = QueueSettings(values, arguments: ConfigurationRules.merged("queue.arguments", in: checked))
    bindings = items.map { BindingSettings(CheckedValues($0)) }
    consumer = ConsumerSettings(values, arguments: ConfigurationRules.merged("consumer.arguments", in: checked))
    messageTTL = values.optionalInteger("message_ttl")
    maxPriority = values.optionalInteger("max_priority")
    heartbeatSeconds = values.integer("heartbeat")
    connectionTimeout = values.seconds("connection_timeout")
    reconnectDelay = values.seconds("reconnect_delay")
    let attempts = values.integer("max_reconnect_attempts")
    maxReconnectAttempts = attempts < 0 ? nil : attempts
    journal = JournalConfiguration(values)
    document = DocumentSettings(values)
  }
}

/// How the connector logs in.
enum AuthType: String, Sendable, Equatable, CaseIterable {
  case plain
  case amqplain
  case external
}
