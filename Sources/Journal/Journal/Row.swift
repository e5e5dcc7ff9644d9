/// One basic.consume of one session, as the journal knows it: what messages have in common and rows do not repeat.
public struct ConsumerRecord: Equatable, Sendable {
  /// The row's key in the journal, unique over its whole life.
  public var id: Int64
  /// The connector start that this consumer belongs to: a lower-case UUID.
  public var sessionID: String
  /// The number of the last message before the session's first: a message's `sequence` is its number less this.
  public var sessionBase: Position
  /// The consumer tag that the broker knows.
  public var tag: String
  /// The queue consumed from.
  public var queue: String
  /// The virtual host of the queue.
  public var virtualHost: String
  /// The ``SubscriptionRecord/key`` of whose consumer it is.
  public var subscription: Int64

  public init(
    id: Int64, sessionID: String, sessionBase: Position, tag: String, queue: String, virtualHost: String,
    subscription: Int64 = 0
  ) {
    self.subscription = subscription
    self.id = id
    self.sessionID = sessionID
    self.sessionBase = sessionBase
    self.tag = tag
    self.queue = queue
    self.virtualHost = virtualHost
  }
}

/// One journaled message while it is being read.
///
/// Nothing is copied: the spans are of memory that others own, SQLite or a batch of deliveries, and the compiler lets no row
/// outlive it. Slices of them are checked in every build.
public struct Row: ~Escapable {
  /// The message's; starts at 1, only grows.
  public var position: Position
  /// Which of its subscription's messages it is; starts at 1.
  public var number: Position
  /// Key of the ``ConsumerRecord`` that received it.
  public var consumer: Int64
  /// The broker's number of the delivery on its channel; starts at 1.
  public var deliveryTag: UInt64
  /// The broker's flag.
  public var redelivered: Bool
  /// Microseconds since 1970-01-01T00:00:00Z.
  public var receivedAt: Int64
  /// The exchange's name; UTF-8 in practice, but any bytes are possible.
  public var exchange: Span<UInt8>
  /// The routing key; UTF-8 in practice, but any bytes are possible.
  public var routingKey: Span<UInt8>
  /// The properties, a JSON object as rendered at intake.
  public var properties: Span<UInt8>
  /// The body as received, or the beginning of one that was not kept whole.
  public var body: Span<UInt8>
  /// How many bytes the body has; at least as many as ``body``.
  public var bodySize: Int
  /// The body was not kept whole.
  public var isCut: Bool { bodySize > body.count }
  /// How large bodies are that are not kept whole: larger than twice the least that a document may be limited to, and at most what
  /// RabbitMQ takes.
  static let cutSizes: ClosedRange<Int64> = (4 << 20)...(512 << 20)

  /// True if the body is known to be UTF-8 (it is stored as TEXT).
  public var bodyIsText: Bool

  @_lifetime(copy exchange, copy routingKey, copy properties, copy body)
  public init(
    position: Position, consumer: Int64, deliveryTag: UInt64, redelivered: Bool, receivedAt: Int64,
    exchange: Span<UInt8>, routingKey: Span<UInt8>, properties: Span<UInt8>, body: Span<UInt8>, bodyIsText: Bool,
    bodySize: Int? = nil, number: Position? = nil
  ) {
    self.position = position
    self.number = number ?? position
    self.consumer = consumer
    self.deliveryTag = deliveryTag
    self.redelivered = redelivered
    self.receivedAt = receivedAt
    self.exchange = exchange
    self.routingKey = routingKey
    self.properties = properties
    self.body = body
    self.bodySize = max(bodySize ?? 0, body.count)
    self.bodyIsText = bodyIsText
  }
}
