import AMQP

/// What has to be there on the broker before messages can be consumed, and how to say what is wrong with it.
struct Topology: Sendable {
  let configuration: EndpointConfiguration
  /// Whom connections are made as.
  let logins: Logins
  /// What the broker's management shows as the connection's name.
  let connectionName: String
  /// Makes consumer tags unique over processes.
  let sessionID: String

  /// The prefetch count to consume with, if it is another than the configuration's.
  var prefetch: Int?
  /// The same for a quorum queue with a backlog that nobody else consumes, if it is another one.
  var doubtfulPrefetch: Int?
  /// Where to go on if the queue is a stream; nil if it certainly is none.
  let stream: StreamResumption?
  /// Which of ``nodes`` is tried first; nil for any.
  var firstNode: Int?
  /// As ``ConnectionSettings/usesSecondChannel``.
  var usesSecondChannel = true
  /// As ``ConnectionSettings/isAbandoned``.
  var isAbandoned: @Sendable () -> Bool

  init(
    configuration: EndpointConfiguration, connectionName: String, sessionID: String, prefetch: Int? = nil,
    stream: StreamResumption? = nil, logins: Logins? = nil
  ) {
    self.logins = logins ?? Logins(configuration.login)
    isAbandoned = { false }
    self.stream = stream
    self.configuration = configuration
    self.prefetch = prefetch
    self.connectionName = connectionName
    self.sessionID = sessionID
  }

  /// For looking and declaring, without consuming.
  init(_ configuration: EndpointConfiguration, name: String) {
    self.init(configuration: configuration, connectionName: "source-amqp \(name)", sessionID: "")
  }

  /// What ``apply(on:)`` does, for people; empty if it changes nothing.
  var actionDescription: String {
    guard configuration.queue.declaration == .active else { return "" }
    let queue = configuration.queue
    if queue.exclusive {
      return "Queue \"\(queue.name)\" is exclusive: it is declared and bound by the capture's own connection."
    }
    let flags = [(queue.durable, "durable"), (queue.exclusive, "exclusive"), (queue.autoDelete, "auto-delete")]
      .filter(\.0).map(\.1)
    var lines = ["Declared queue \"\(queue.name)\"\(flags.isEmpty ? "" : " (\(flags.joined(separator: ", ")))")"]
    lines += configuration.bindings.map { binding in
      "bound it to exchange \"\(binding.exchange)\" with routing key \"\(binding.routingKey)\""
    }
    return lines.joined(separator: ", ") + "."
  }

  /// A tag that no consumer of this queue has ever had: brokers are known to mix up reused ones.
  func consumerTag(_ generation: Int) -> String { "source-amqp-\(sessionID)-\(generation)" }

  /// Opens a channel.
  func openChannel(on connection: Connection) throws(CaptureFailure) -> AMQPChannel {
    do throws(AMQPError) { return try connection.openChannel() } catch { throw explained(error) }
  }

  /// Opens a connection.
  func connect() throws(CaptureFailure) -> Connection {
    let settings = try connectionSettings()
    do throws(AMQPError) {
      return try Connection.open(settings)
    } catch {
      throw explained(error)
    }
  }

  /// Declares as `queue.declare` says, binds, sets the prefetch count and consumes.
  ///
  /// - Returns: What the broker says about the queue, nil if it is not asked (`queue.declare: none`), and what kind of
  ///   queue it is.
  func consume(on channel: AMQPChannel, tag: String) throws(CaptureFailure) -> (QueueStatus?, QueueNature) {
    do throws(AMQPError) {
      let status = try declare(on: channel)
      var type = try type(on: channel)
      do throws(AMQPError) {
        try consume(on: channel, tag: tag, from: type, status)
        // Only a stream takes an offset.
        type = type ?? Self.stream
      } catch {
        // https://www.rabbitmq.com/docs/streams#consuming: other queues refuse the argument, and say what they are.
        guard type == nil, case .channelClosed(406, let text) = error.kind, text.contains(StreamResumption.key) else {
          throw error
        }
        type = Self.type(in: text) ?? ""
        try channel.reopen()
        try consume(on: channel, tag: tag, from: type, status)
      }
      let arguments = configuration.queue.arguments
      // Of a queue that was not declared here, the settings may not say all.
      let hasLevels: Bool? =
        arguments["x-max-priority"] != nil
        ? true : configuration.queue.declaration == .active || arguments[Self.queueType] != nil ? false : nil
      return (
        status,
        QueueNature(
          type: type, hasLevels: hasLevels, deliveryLimit: arguments["x-delivery-limit"]?.int64Value,
          brokerVersion: channel.server.version)
      )
    } catch {
      throw explained(error)
    }
  }

  /// - Parameter type: The queue's type; nil if that is not known, and it may be a stream.
  private func consume(
    on channel: AMQPChannel, tag: String, from type: String?, _ status: QueueStatus?
  ) throws(AMQPError) {
    let wished = doubtfulPrefetch.flatMap { type == "quorum" && Self.isBacklogOfOurs(status) ? $0 : nil } ?? prefetch
    try channel.setPrefetch(UInt16(wished ?? configuration.consumer.prefetchCount))
    var arguments = try Self.table(configuration.consumer.arguments)
    if type == nil || type == Self.stream {
      arguments.append(StreamResumption.key, stream?.argument ?? .string("first"))
    }
    // Else a mirrored queue whose master goes away delivers again within this channel, without a word. Only classic queues
    // are mirrored, and older brokers refuse the argument for others.
    // https://www.rabbitmq.com/docs/3.13/ha#cancellation
    if type == "classic", configuration.consumer.arguments[Self.cancelOnFailover] == nil {
      arguments.append(Self.cancelOnFailover, .bool(true))
    }
    try channel.consume(
      Consumption(
        queue: configuration.queue.name, noAck: configuration.consumer.noAck,
        exclusive: configuration.consumer.exclusive, arguments: arguments),
      tag: tag)
  }

  /// Whether messages wait for which nobody else stands in line: to give up a consumer for another one is no loss of its place.
  static func isBacklogOfOurs(_ status: QueueStatus?) -> Bool {
    status.map { $0.messages > 0 && $0.consumers == 0 } ?? false
  }

  /// The consume argument by which a mirrored queue cancels its consumers at a failover.
  private static let cancelOnFailover = "x-cancel-on-ha-failover"
  private static let queueType = "x-queue-type"
  private static let stream = "stream"

  /// The queue's type, as the settings say it, or the broker; nil if neither does.
  ///
  /// A queue that was just declared without a type is a classic one, or what the virtual host's default is. Declaring it
  /// once more as a classic one changes nothing, and fails if it is another:
  /// https://www.rabbitmq.com/docs/queues#optional-arguments
  private func type(on channel: AMQPChannel) throws(AMQPError) -> String? {
    // Without a declaration nothing has compared the type, and what is promised may rest on it.
    let isChecked = configuration.queue.declaration == .active || !configuration.consumer.exclusive
    if let type = configuration.queue.arguments[Self.queueType]?.stringValue, isChecked || type != "classic" {
      return type
    }
    if configuration.consumer.expectsStream { return Self.stream }
    guard configuration.queue.declaration == .active else { return nil }
    var asking = try queue()
    asking.arguments.append(Self.queueType, .string("classic"))
    do throws(AMQPError) {
      _ = try channel.declareQueue(asking)
      return "classic"
    } catch {
      guard case .channelClosed(_, let text) = error.kind else { throw error }
      try channel.reopen()
      guard let mismatch = Self.mismatch(text), mismatch.argument == Self.queueType else { return nil }
      return mismatch.found
    }
  }

  /// What kind of queue it is, as far as settings and broker say it without a consumer; nil if they do not. The queue exists.
  func nature(on channel: AMQPChannel) throws(AMQPError) -> QueueNature? {
    try type(on: channel).map {
      QueueNature(
        type: $0, hasLevels: configuration.queue.arguments["x-max-priority"] != nil,
        deliveryLimit: configuration.queue.arguments["x-delivery-limit"]?.int64Value,
        brokerVersion: channel.server.version)
    }
  }

  /// The type in `… of queue type rabbit_quorum_queue`, if the text is not cut off before it.
  static func type(in text: String) -> String? {
    for type in ["classic", "quorum", stream] where text.contains("of queue type rabbit_\(type)_queue") { return type }
    return nil
  }

  /// What can be declared ahead of the capture: all that ``declare(on:)`` does, save that an exclusive queue would be
  /// gone with this connection, and is held by a capture that still runs.
  func apply(on channel: AMQPChannel) throws(AMQPError) {
    if configuration.queue.declaration == .active && configuration.queue.exclusive { return }
    _ = try declare(on: channel)
  }

  /// Declares the queue and its bindings as `queue.declare` says; idempotent.
  func declare(on channel: AMQPChannel) throws(AMQPError) -> QueueStatus? {
    switch configuration.queue.declaration {
    case .none: return nil
    case .passive: return try channel.declareQueue(try queue(), passive: true)
    case .active:
      let status = try declareQueue(on: channel)
      for binding in try bindings() { try channel.bind(queue: configuration.queue.name, binding) }
      return status
    }
  }

  /// Declares the queue, whatever `queue.declare` says.
  ///
  /// - Throws: 406 also if the queue exists without `exclusive` and is to have it. RabbitMQ says 405 to that, as to a
  ///   queue that another connection holds; but that one may be free again soon, and cannot even be looked for.
  func declareQueue(on channel: AMQPChannel) throws(AMQPError) -> QueueStatus {
    do throws(AMQPError) {
      return try channel.declareQueue(try queue())
    } catch {
      guard configuration.queue.exclusive, case .channelClosed(405, _) = error.kind else { throw error }
      try channel.reopen()
      do throws(AMQPError) { _ = try channel.declareQueue(try queue(), passive: true) } catch _ { throw error }
      let text =
        "PRECONDITION_FAILED - inequivalent arg 'exclusive' for queue '\(configuration.queue.name)': "
        + "received 'true' but current is 'false'"
      throw AMQPError(.channelClosed(code: 406, text: text), during: error.operation)
    }
  }

  func queue() throws(AMQPError) -> QueueDeclaration {
    let queue = configuration.queue
    return QueueDeclaration(
      name: queue.name, durable: queue.durable, exclusive: queue.exclusive, autoDelete: queue.autoDelete,
      arguments: try Self.table(queue.arguments))
  }

  func bindings() throws(AMQPError) -> [Binding] {
    var bindings: [Binding] = []
    for binding in configuration.bindings {
      bindings.append(
        Binding(
          exchange: binding.exchange, routingKey: binding.routingKey, arguments: try Self.table(binding.arguments)))
    }
    return bindings
  }

  /// `host` and `hosts`, each once, in the order of the configuration.
  var nodes: [BrokerNode] {
    var nodes = [BrokerNode(host: configuration.host, port: configuration.port)]
    for further in configuration.hosts {
      let node = BrokerNode(host: further.name, port: further.port ?? configuration.port)
      if !nodes.contains(node) { nodes.append(node) }
    }
    return nodes
  }

  private func connectionSettings() throws(CaptureFailure) -> ConnectionSettings {
    let login: Login
    do throws(ConfigurationError) { login = try logins.read() } catch {
      throw CaptureFailure(cause: "secret", description: "\(error)", needsUser: false)
    }
    let credentials: Credentials =
      switch configuration.authType {
      case .plain: .plain(username: login.username, password: login.password.value)
      case .amqplain: .amqplain(username: login.username, password: login.password.value)
      case .external: .external
      }
    // Shuffled, so that the agents of a cluster spread over its nodes, and a node that is ill is not the first of all.
    var settings = ConnectionSettings(
      nodes: firstNode.map { Array(nodes[$0...] + nodes[..<$0]) } ?? nodes.shuffled(),
      virtualHost: configuration.virtualHost, credentials: credentials, tls: try Self.settings(login.tls),
      heartbeatSeconds: UInt16(configuration.heartbeatSeconds),
      timeout: configuration.connectionTimeout, connectionName: connectionName)
    settings.bodyLimit = DocumentOptions(configuration.document).bodyLimit
    settings.usesSecondChannel = usesSecondChannel
    settings.isAbandoned = isAbandoned
    return settings
  }

  /// Arguments as they were written: an integer goes out as an integer, tables and arrays nest.
  static func table(_ object: JSONObject) throws(AMQPError) -> ArgumentTable {
    var table = ArgumentTable()
    for member in object.members { table.append(member.key, try argument(member.value)) }
    return table
  }

  private static func argument(_ value: JSONValue) throws(AMQPError) -> Argument {
    switch value {
    case .null: return .null
    case .bool(let flag): return .bool(flag)
    case .string(let text): return .string(text)
    case .array(let values):
      var arguments: [Argument] = []
      for value in values { arguments.append(try argument(value)) }
      return .array(arguments)
    case .object(let object): return .table(try table(object))
    case .number(let text):
      if let integer = Int64(text) { return .integer(integer) }
      if let double = Double(text), double.isFinite { return .double(double) }
      throw AMQPError(.unencodable(text: "the number \(text) does not fit 64 bits"), during: "encoding arguments")
    }
  }
}
