/// Encryption, and how the broker is verified.
struct TLSConfiguration: Sendable, Equatable {
  let enabled: Bool
  /// Chain and host name; false gives a warning.
  let verifyCertificate: Bool
  /// Trusted authorities; nil is the system's store.
  let caCertificate: PEMSource?
  /// Given exactly if `clientKey` is.
  let clientCertificate: PEMSource?
  let clientKey: PEMSource?
  /// Name to verify and to send as SNI; nil is the host.
  let serverName: String?

  init(_ values: CheckedValues) {
    enabled = values.flag("tls.enabled")
    verifyCertificate = values.flag("tls.verify_cert")
    caCertificate = values.optionalPEM("tls.ca_cert")
    clientCertificate = values.optionalPEM("tls.client_cert")
    clientKey = values.optionalPEM("tls.client_key")
    serverName = values.optionalText("tls.server_name")
  }
}

/// The queue to capture.
struct QueueSettings: Sendable, Equatable {
  /// 1 to 255 bytes, without NUL.
  let name: String
  let durable: Bool
  let exclusive: Bool
  let autoDelete: Bool
  /// Everything to declare the queue with: `queue.arguments`, `x-message-ttl` and `x-max-priority`. Numbers without
  /// point or exponent fit a signed 64-bit integer, others a finite double; keys have 1 to 255 bytes.
  let arguments: JSONObject
  let declaration: DeclareMode

  init(_ values: CheckedValues, arguments: JSONObject) {
    name = values.text("queue.name")
    durable = values.flag("queue.durable")
    exclusive = values.flag("queue.exclusive")
    autoDelete = values.flag("queue.auto_delete")
    self.arguments = arguments
    declaration = values.choice("queue.declare")
  }
}

/// What is done about the queue before consuming (`queue.declare`).
enum DeclareMode: String, Sendable, Equatable, CaseIterable {
  /// Declares queue and bindings.
  case active
  /// Only checks that the queue is there.
  case passive
  /// Just consumes.
  case none
}

/// A binding of the queue to an existing exchange.
struct BindingSettings: Sendable, Equatable {
  let exchange: String
  let routingKey: String
  let arguments: JSONObject

  init(_ values: CheckedValues) {
    exchange = values.text("bindings[].exchange")
    routingKey = values.text("bindings[].routing_key")
    arguments = values.table("bindings[].arguments")
  }
}

/// How the queue is consumed.
struct ConsumerSettings: Sendable, Equatable {
  /// 0 to 65535; 0 is no limit.
  let prefetchCount: Int
  let noAck: Bool
  let exclusive: Bool
  /// 0 to 255; already part of `arguments`.
  let priority: Int?
  /// Everything to consume with but the stream offset: `consumer.arguments` and `x-priority`; bounds as in
  /// `QueueSettings.arguments`.
  let arguments: JSONObject
  /// Where a stream is read from for the first time: `consumer.stream_offset`, or the argument of `consumer.arguments`.
  let streamStart: StreamStart
  /// A stream offset was given, so the queue is a stream.
  let expectsStream: Bool
  let deduplicate: DeduplicationMode
  let deduplicateBy: DeduplicationKey
  let undeliverable: UndeliverablePolicy

  init(_ values: CheckedValues, arguments: JSONObject) {
    prefetchCount = values.integer("consumer.prefetch_count")
    noAck = values.flag("consumer.no_ack")
    exclusive = values.flag("consumer.exclusive")
    priority = values.optionalInteger("consumer.priority")
    var arguments = arguments
    let offset = arguments["x-stream-offset"]
    arguments["x-stream-offset"] = nil
    let setting = values.optionalText("consumer.stream_offset").flatMap { StreamStart(text: $0) }
    streamStart = setting ?? offset.flatMap { StreamStart(argument: $0) } ?? .first
    expectsStream = offset != nil
    self.arguments = arguments
    deduplicate = values.choice("consumer.deduplicate")
    deduplicateBy = values.choice("consumer.deduplicate_by")
    undeliverable = values.choice("consumer.undeliverable")
  }
}

/// What becomes of an offset of a stream that the broker cannot send (`consumer.undeliverable`).
enum UndeliverablePolicy: String, Sendable, Equatable, CaseIterable {
  /// It is tried again, and nothing after it is captured until then.
  case wait
  /// What stands after it is captured.
  case skip
}

/// Whether redeliveries are recognised (`consumer.deduplicate`).
enum DeduplicationMode: String, Sendable, Equatable, CaseIterable {
  /// Wherever that is certain.
  case auto
  /// The operator says that this is the queue's only consumer.
  case assert
  case off
}

/// What redeliveries are recognised by (`consumer.deduplicate_by`).
enum DeduplicationKey: String, Sendable, Equatable, CaseIterable {
  case position
  case messageID = "message_id"
}
