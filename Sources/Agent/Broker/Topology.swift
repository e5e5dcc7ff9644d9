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
  /// The same for a quorum queue with a backlog that no one else consumes, if it is another one.
  var doubtfulPrefetch: Int?
  /// Where to go on if the queue is a stream; nil if it certainly is none.
  let stream: StreamResumption?
  /// Of the broker that is connected to, for example `4.0.5`.
  var brokerVersion = ""
  /// Which of ``nodes`` is tried first; nil for any.
  var firstNode: Int?
  /// As ``ConnectionSettings/readSize``.
  var readSize = 256 << 10
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

  /// Whether messages wait for which no one else stands in line: to give up a consumer for another one is no loss of its place.
  static func isBacklogOfOurs(_ status: QueueStatus?) -> Bool {
    status.map { $0.messages > 0 && $0.consumers == 0 } ?? false
  }

  static let queueType = "x-queue-type"
  static let stream = "stream"

  /// The type in `… of queue type rabbit_quorum_queue`, if the text is not cut off before it.
  static func type(in text: String) -> String? {
    for type in ["classic", "quorum", stream] where text.contains("of queue type rabbit_\(type)_queue") { return type }
    return nil
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
    settings.readSize = readSize
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
