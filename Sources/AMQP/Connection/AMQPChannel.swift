internal import Platform

/// What a channel needs of its connection.
protocol ChannelLink: AnyObject {
  var server: ServerIdentity { get }
  var settings: ConnectionSettings { get }
  /// The broker allows a second channel beside each consumer's.
  var allowsProbe: Bool { get }
  func send(_ method: ClientMethod, channel: UInt16) throws(AMQPError)
  /// Writes as much as the socket takes.
  func flush() throws(AMQPError)
  /// Sends `method` and waits for the answer that `accept` takes.
  func call<Answer>(
    _ method: ClientMethod, on channel: AMQPChannel?, during operation: String, accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer
  /// A consumer was made.
  func consumed()
  /// The number of a channel's other one, on which its queue is asked for; nil before it was needed.
  func probeNumber(of channel: AMQPChannel) -> UInt16?
  /// The same, with a new one if there is none.
  func probeNumberOrNew(of channel: AMQPChannel) -> UInt16
}

/// One channel of a connection, made for one consumer.
///
/// Delivery tags, acknowledgements with `multiple` and the errors of a broker belong to a channel: what goes wrong on one ends its consumer
/// and no other. Frames of channels interleave, so each has an assembler and a batch of its own.
/// https://www.rabbitmq.com/docs/channels
///
/// Belongs to the thread that opened the connection, and must not outlive it. Calls that wait for the broker's answer are bounded by
/// ``ConnectionSettings/timeout``; what comes meanwhile for other channels is there afterwards. After `.channelClosed` the channel can be
/// opened again; after any other error the connection is over.
public final class AMQPChannel {
  /// As the broker's management shows it.
  public let number: UInt16
  /// The deliveries that have arrived since the last ``takeBatch(refilling:)``.
  public internal(set) var batch = DeliveryBatch()

  unowned let connection: any ChannelLink
  var assembler: DeliveryAssembler
  /// Not opened yet, or closed by the broker.
  private(set) var isClosed = true
  /// Why the broker closed it, until somebody was told.
  private var closure: AMQPError.Kind?
  /// The consumer that was asked for last.
  private var consumerTag: String?
  private var events: [ConnectionEvent] = []
  private var notices = NoticeLimit()
  var probe = QueueProbe()
  /// Questions for the queue that have no answer yet, in order: by whom they were asked.
  var questions: [Question] = []
  enum Question { case behind, aside, depth }
  /// The answer to the newest question of ``askBehind(for:)``.
  var answerBehind: QueueStatus?
  var depth: QueueStatus?

  init(_ number: UInt16, of connection: any ChannelLink) {
    (self.number, self.connection) = (number, connection)
    assembler = DeliveryAssembler(limit: connection.settings.bodyLimit)
  }

  /// What the broker says about itself.
  public var server: ServerIdentity { connection.server }

  /// A delivery has begun to arrive, and is not whole yet.
  public var isArriving: Bool { assembler.isInside }

  /// Opens the channel, or opens it again after `.channelClosed`; nothing happens if it is open.
  public func reopen() throws(AMQPError) {
    guard isClosed else { return }
    assembler = DeliveryAssembler(limit: connection.settings.bodyLimit)
    (consumerTag, closure) = (nil, nil)
    questions.removeAll()
    try call(.channelOpen, during: "opening a channel") { $0 == .channelOpenOk ? true : nil }
    isClosed = false
  }

  /// Throws `.channelClosed`, once, if the broker has closed the channel; what ``Connection/receive(deliveries:bytes:)`` has read shows
  /// here.
  public func check() throws(AMQPError) {
    guard let closure = closure.take() else { return }
    throw AMQPError(closure, during: "using the channel")
  }

  /// Takes what the broker told of this channel without being asked, oldest first.
  public func takeEvents() -> [ConnectionEvent] {
    defer { events.removeAll() }
    return events
  }

  /// Takes the whole deliveries; ``batch`` goes on in the memory of `spare`.
  public func takeBatch(refilling spare: consuming DeliveryBatch) -> DeliveryBatch {
    let offset = batch.completeBytes
    let taken = batch.split(continuingIn: spare)
    assembler.moved(by: offset)
    return taken
  }

  // MARK: - Consuming

  /// Begins to consume. Deliveries may already be in ``batch`` when it returns.
  ///
  /// - Parameter tag: A tag that was never used before on this queue; some brokers mix up reused ones.
  public func consume(_ consumption: Consumption, tag: String) throws(AMQPError) {
    consumerTag = tag
    assembler.consumerAsked(tag: tag)
    try call(.consume(consumption, tag: tag), during: "consuming from queue \"\(consumption.queue)\"") {
      $0 == .consumeOk(tag: tag) ? true : nil
    }
    assembler.consumerStarted()
    connection.consumed()
  }

  /// Ends the consumer. What the broker had sent before it knew is in ``batch`` when this returns.
  public func cancel(tag: String) throws(AMQPError) {
    try call(.cancel(tag: tag), during: "cancelling the consumer") { $0 == .cancelOk ? true : nil }
    assembler.consumerEnded()
  }

  /// Acknowledges `tag`, with `multiple` everything up to it. The broker does not answer; ``Connection/close()`` shows that it was handled.
  public func acknowledge(_ tag: UInt64, multiple: Bool) throws(AMQPError) {
    try send(.ack(tag: tag, multiple: multiple))
    try connection.flush()
  }

  /// Refuses one delivery without requeueing it: it goes to the queue's dead-letter exchange, or away.
  public func reject(_ tag: UInt64) throws(AMQPError) {
    try send(.reject(tag: tag, requeue: false))
    try connection.flush()
  }

  /// Gives back to the broker all that is unacknowledged, and waits until it has handled what was sent before. What it delivers until then
  /// is dropped.
  func close() throws(AMQPError) {
    // What the broker has closed needs no goodbye.
    guard !isClosed else { return }
    try call(.channelClose(code: 200, text: "done"), during: "closing the channel") {
      $0 == .channelCloseOk ? true : nil
    }
    isClosed = true
  }

  // MARK: - Frames

  func send(_ method: ClientMethod) throws(AMQPError) { try connection.send(method, channel: number) }

  @discardableResult
  func call<Answer>(
    _ method: ClientMethod, during operation: String, accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer {
    try connection.call(method, on: self, during: operation, accept: accept)
  }

  /// Deals with what a broker may send at any time on a channel; gives back what it may not.
  func unsolicited(_ method: ServerMethod) throws(AMQPError) -> ServerMethod? {
    switch method {
    case .channelClose(let code, let text) where !isClosed:
      isClosed = true
      closure = .channelClosed(code: code, text: text)
      try send(.channelCloseOk)
      try connection.flush()
    case .cancel(let tag):
      guard tag == consumerTag else {
        throw AMQPError(
          .malformed(text: "basic.cancel of consumer \"\(tag)\", which is not ours"), during: "using the channel")
      }
      try notices.check(at: Instant.now)
      if events.last != .consumerCancelled(tag: tag) { events.append(.consumerCancelled(tag: tag)) }
    case .queueDeclareOk(let status) where !questions.isEmpty:
      switch questions.removeFirst() {
      case .aside: probe.answered(status)
      // The answer to an older question came before what the newest one waits for.
      case .behind: if !questions.contains(.behind) { answerBehind = status }
      case .depth: depth = status
      }
    default: return method
    }
    return nil
  }
}
