import AMQP

/// What is asked of the broker, one question after the other, until a queue is consumed: its declaration and bindings, its type, the
/// prefetch count, the consumer.
///
/// A value without I/O: answers go in, the next question comes out. So the order of questions, and what a refusal means, is tested
/// without a network, and the caller decides whether anything waits for the answers. Errors of the connection do not come here;
/// they end everything.
struct ConsumerSetup: Sendable {
  /// Where it ends.
  enum Goal: Equatable, Sendable {
    /// Queue and bindings are there, as `queue.declare` says.
    case declared
    /// The queue's type is known, as far as the settings and the broker tell it without a consumer. The queue exists, and is not bound.
    case nature
    case consuming(tag: String)
  }

  /// A question. The broker answers each with one method, or closes the channel.
  enum Question: Equatable, Sendable {
    /// Answered by ``Answer/queue(_:)``.
    case declare(QueueDeclaration, passive: Bool)
    case bind(Binding)
    case prefetch(UInt16)
    case consume(Consumption, tag: String)
    /// The channel, which the broker has closed, is to be opened again.
    case reopen
  }

  enum Answer: Equatable, Sendable {
    case done
    case queue(QueueStatus)
    /// The broker has closed the channel (`.channelClosed`).
    case refused(AMQPError)
  }

  enum Step: Equatable, Sendable {
    case ask(Question)
    /// What the broker says about the queue, nil if it was not asked (`queue.declare: none`), and what kind of queue it is; nil if that
    /// is not the goal, or not known.
    case end(QueueStatus?, QueueNature?)
  }

  private enum State: Equatable {
    /// Leaves by ``begin()``.
    case beginning
    /// The queue was declared, or looked for. Leaves by the answer.
    case declaring
    /// Another connection holds the queue (405), or it is there without `exclusive` and is to have it: RabbitMQ says the same of both, and
    /// a look tells them apart. The channel is opened again for that.
    case reopeningToLook(AMQPError)
    case looking(AMQPError)
    /// So many bindings are there.
    case binding(Int)
    /// The queue was declared once more, as a classic one: that changes nothing, and fails if it is another.
    /// https://www.rabbitmq.com/docs/queues#optional-arguments
    case askingType
    case reopeningWithType(String?)
    /// The prefetch count was set, and then the consumer asked for; with the queue's type, nil if it may be a stream.
    case limiting(String?)
    case subscribing(String?)
    /// The queue has refused a stream's offset, and so said that it is none.
    case reopeningAsQueue(String)
    case ended
  }

  private let topology: Topology
  private let goal: Goal
  private var state = State.beginning
  private var status: QueueStatus?

  init(_ topology: Topology, _ goal: Goal) {
    (self.topology, self.goal) = (topology, goal)
  }

  private var configuration: EndpointConfiguration { topology.configuration }

  /// The first question.
  ///
  /// - Throws: `.unencodable` if an argument is none that AMQP knows.
  mutating func begin() throws(AMQPError) -> Step {
    switch configuration.queue.declaration {
    case .none: return try declared()
    // It exists, and nothing but a declaration tells more.
    case .passive where goal == .nature: return try declared()
    case .passive, .active:
      state = .declaring
      return .ask(.declare(try topology.queue(), passive: configuration.queue.declaration == .passive))
    }
  }

  /// What follows from an answer.
  ///
  /// - Throws: What keeps the queue from being consumed.
  mutating func answered(_ answer: Answer) throws(AMQPError) -> Step {
    switch (state, answer) {
    case (.declaring, .queue(let status)):
      self.status = status
      return goal == .nature ? try declared() : try bind(after: 0)
    case (.declaring, .refused(let error)):
      guard configuration.queue.declaration == .active, configuration.queue.exclusive,
        case .channelClosed(405, _) = error.kind
      else { throw error }
      state = .reopeningToLook(error)
      return .ask(.reopen)
    case (.reopeningToLook(let error), .done):
      state = .looking(error)
      return .ask(.declare(try topology.queue(), passive: true))
    // It may be free again soon, and cannot even be looked for.
    case (.looking(let error), .refused): throw error
    case (.looking(let error), .queue):
      let text =
        "PRECONDITION_FAILED - inequivalent arg 'exclusive' for queue '\(configuration.queue.name)': "
        + "received 'true' but current is 'false'"
      throw AMQPError(.channelClosed(code: 406, text: text), during: error.operation)
    case (.binding(let count), .done): return try bind(after: count + 1)
    case (.askingType, .queue): return try typed(Self.classic)
    case (.askingType, .refused(let error)):
      guard case .channelClosed(_, let text) = error.kind else { throw error }
      let mismatch = Topology.mismatch(text)
      state = .reopeningWithType(mismatch?.argument == Topology.queueType ? mismatch?.found : nil)
      return .ask(.reopen)
    case (.reopeningWithType(let type), .done): return try typed(type)
    case (.limiting(let type), .done):
      guard case .consuming(let tag) = goal else { return end(nil) }
      state = .subscribing(type)
      return .ask(.consume(try consumption(type), tag: tag))
    // Only a stream takes an offset.
    case (.subscribing(let type), .done): return end(nature(type ?? Topology.stream))
    case (.subscribing(nil), .refused(let error)):
      // https://www.rabbitmq.com/docs/streams#consuming: other queues refuse the argument, and say what they are.
      guard case .channelClosed(406, let text) = error.kind, text.contains(StreamResumption.key) else { throw error }
      state = .reopeningAsQueue(Topology.type(in: text) ?? "")
      return .ask(.reopen)
    case (.reopeningAsQueue(let type), .done): return try limit(type)
    case (_, .refused(let error)): throw error
    case (_, .done), (_, .queue):
      throw AMQPError(.malformed(text: "an answer that nothing asked for"), during: "setting up a consumer")
    }
  }

  private mutating func bind(after count: Int) throws(AMQPError) -> Step {
    let bindings = configuration.queue.declaration == .active ? try topology.bindings() : []
    guard count < bindings.count else { return try declared() }
    state = .binding(count)
    return .ask(.bind(bindings[count]))
  }

  private mutating func declared() throws(AMQPError) -> Step {
    if goal == .declared { return end(nil) }
    // Without a declaration nothing has compared the type, and what is promised may rest on it.
    let isChecked = configuration.queue.declaration == .active || !configuration.consumer.exclusive
    if let type = configuration.queue.arguments[Topology.queueType]?.stringValue, isChecked || type != Self.classic {
      return try typed(type)
    }
    if configuration.consumer.expectsStream { return try typed(Topology.stream) }
    guard configuration.queue.declaration == .active else { return try typed(nil) }
    var asking = try topology.queue()
    asking.arguments.append(Topology.queueType, .string(Self.classic))
    state = .askingType
    return .ask(.declare(asking, passive: false))
  }

  /// - Parameter type: Nil if it is not known, and the queue may be a stream.
  private mutating func typed(_ type: String?) throws(AMQPError) -> Step {
    goal == .nature ? end(type.map { nature($0, isLooking: true) }) : try limit(type)
  }

  private mutating func limit(_ type: String?) throws(AMQPError) -> Step {
    let isDoubtful = type == "quorum" && Topology.isBacklogOfOurs(status)
    let wished = (isDoubtful ? topology.doubtfulPrefetch : nil) ?? topology.prefetch
    state = .limiting(type)
    return .ask(.prefetch(UInt16(wished ?? configuration.consumer.prefetchCount)))
  }

  private func consumption(_ type: String?) throws(AMQPError) -> Consumption {
    let consumer = configuration.consumer
    var arguments = try Topology.table(consumer.arguments)
    if type == nil || type == Topology.stream {
      arguments.append(StreamResumption.key, topology.stream?.argument ?? .string("first"))
    }
    // Else a mirrored queue whose master goes away delivers again within this channel, without a word. Only classic queues
    // are mirrored, and older brokers refuse the argument for others.
    // https://www.rabbitmq.com/docs/3.13/ha#cancellation
    if type == Self.classic, consumer.arguments[Self.cancelOnFailover] == nil {
      arguments.append(Self.cancelOnFailover, .bool(true))
    }
    return Consumption(
      queue: configuration.queue.name, noAck: consumer.noAck, exclusive: consumer.exclusive, arguments: arguments)
  }

  private mutating func end(_ nature: QueueNature?) -> Step {
    state = .ended
    return .end(status, nature)
  }

  /// - Parameter isLooking: The queue is not consumed, so what the settings do not say is taken for what is usual.
  private func nature(_ type: String, isLooking: Bool = false) -> QueueNature {
    let arguments = configuration.queue.arguments
    // Of a queue that was not declared here, the settings may not say all.
    let isSaid =
      isLooking || configuration.queue.declaration == .active || arguments[Topology.queueType] != Optional.none
    let hasLevels: Bool? = arguments["x-max-priority"] != Optional.none ? true : isSaid ? false : nil
    return QueueNature(
      type: type, hasLevels: hasLevels, deliveryLimit: arguments["x-delivery-limit"]?.int64Value,
      brokerVersion: topology.brokerVersion)
  }

  private static let classic = "classic"
  /// The consume argument by which a mirrored queue cancels its consumers at a failover.
  private static let cancelOnFailover = "x-cancel-on-ha-failover"
}
