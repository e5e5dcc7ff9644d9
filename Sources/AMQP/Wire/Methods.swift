/// The methods that we send, with the fields that matter to a consumer.
enum ClientMethod: Equatable, Sendable {
  case startOk(properties: ArgumentTable, mechanism: String, response: [UInt8])
  case tuneOk(channelMax: UInt16, frameMax: UInt32, heartbeatSeconds: UInt16)
  case open(virtualHost: String)
  /// RabbitMQ's own. https://www.rabbitmq.com/docs/oauth2#token-expiration
  case updateSecret([UInt8], reason: String)
  case close(code: UInt16, text: String)
  case closeOk
  case channelOpen
  case channelClose(code: UInt16, text: String)
  case channelCloseOk
  case queueDeclare(QueueDeclaration, passive: Bool)
  case queueBind(queue: String, Binding)
  case exchangeDeclarePassive(exchange: String)
  case qos(prefetchCount: UInt16)
  case consume(Consumption, tag: String)
  case cancel(tag: String)
  case ack(tag: UInt64, multiple: Bool)
  case reject(tag: UInt64, requeue: Bool)
}

/// The methods that a broker sends to a consumer, except `basic.deliver`, which the assembler reads by itself.
enum ServerMethod: Equatable, Sendable {
  case start(mechanisms: String, server: ServerIdentity)
  case secure
  case tune(channelMax: UInt16, frameMax: UInt32, heartbeatSeconds: UInt16)
  case openOk
  case updateSecretOk
  case close(code: UInt16, text: String)
  case closeOk
  case blocked(reason: String)
  case unblocked
  case channelOpenOk
  case channelClose(code: UInt16, text: String)
  case channelCloseOk
  case exchangeDeclareOk
  case queueDeclareOk(QueueStatus)
  case queueBindOk
  case qosOk
  case consumeOk(tag: String)
  case cancelOk
  case cancel(tag: String)
  /// A method that a consumer has no use for, by its class and method number.
  case other(id: UInt32)
}

/// What the broker says about itself in `connection.start`. A text that it does not tell is empty.
public struct ServerIdentity: Equatable, Sendable {
  /// For example `RabbitMQ`.
  public var product = ""
  /// For example `4.0.5`.
  public var version = ""
  /// For example `rabbit@host`.
  public var clusterName = ""
}

/// A queue as it is to be declared.
public struct QueueDeclaration: Equatable, Sendable {
  /// At most 255 bytes of UTF-8.
  public var name: String
  /// Outlives a restart of the broker.
  public var durable: Bool
  /// For one connection, with which it ends.
  public var exclusive: Bool
  /// Deleted after its last consumer.
  public var autoDelete: Bool
  /// `x-…` arguments of RabbitMQ.
  public var arguments: ArgumentTable

  public init(
    name: String, durable: Bool = true, exclusive: Bool = false, autoDelete: Bool = false,
    arguments: ArgumentTable = ArgumentTable()
  ) {
    self.name = name
    self.durable = durable
    self.exclusive = exclusive
    self.autoDelete = autoDelete
    self.arguments = arguments
  }
}

/// What the broker says about a queue when it is declared.
public struct QueueStatus: Equatable, Sendable {
  /// Empty for one that the broker names.
  public var name: String
  /// Messages ready for delivery, not the unacknowledged ones.
  public var messages: UInt32
  /// Consumers at this moment, ours not yet among them.
  public var consumers: UInt32
}

/// One binding of the queue to an exchange that exists.
public struct Binding: Equatable, Sendable {
  /// The exchange that messages come from.
  public var exchange: String
  /// What its type compares with a message's routing key.
  public var routingKey: String
  /// `x-…` arguments of RabbitMQ.
  public var arguments: ArgumentTable

  public init(exchange: String, routingKey: String, arguments: ArgumentTable = ArgumentTable()) {
    self.exchange = exchange
    self.routingKey = routingKey
    self.arguments = arguments
  }
}

/// How to consume from a queue.
public struct Consumption: Equatable, Sendable {
  /// The queue to consume.
  public var queue: String
  /// The broker expects no acknowledgement.
  public var noAck: Bool
  /// No other consumer beside this one.
  public var exclusive: Bool
  /// `x-…` arguments of RabbitMQ.
  public var arguments: ArgumentTable

  public init(
    queue: String, noAck: Bool = false, exclusive: Bool = false, arguments: ArgumentTable = ArgumentTable()
  ) {
    self.queue = queue
    self.noAck = noAck
    self.exclusive = exclusive
    self.arguments = arguments
  }
}
