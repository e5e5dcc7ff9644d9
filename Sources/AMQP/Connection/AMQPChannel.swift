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
  /// Waits for the answer that `accept` takes, or until there is something else to return.
  ///
  /// - Parameter deadline: Nil is the settings' time from now on.
  /// - Throws: `.channelClosed` if the broker closes the channel instead.
  @discardableResult
  func answer<Answer>(
    on channel: AMQPChannel?, until deadline: Instant?, or other: () -> Answer?, accept: (ServerMethod) -> Answer?
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
  /// Why the broker closed it; and that no one was told yet.
  private var closure: AMQPError.Kind?
  private var isNews = false
  /// A goodbye was sent that has no answer yet; or the broker has said its own first, and may answer all the same.
  private var isClosing = false
  private var mayAnswer = false
  /// The consumer that was asked for last.
  private var consumerTag: String?
  private var events: [ConnectionEvent] = []
  private var notices = NoticeLimit()
  var probe = QueueProbe()
  /// Questions for the queue that have no answer yet, in order: by whom they were asked.
  var questions: [Question] = []
  enum Question { case ordered, aside, depth }
  /// The answer to the newest question of ``askInOrder(for:)``.
  var orderedAnswer: QueueStatus?
  var depth: QueueStatus?

  init(_ number: UInt16, of connection: any ChannelLink) {
    (self.number, self.connection) = (number, connection)
    assembler = DeliveryAssembler(limit: connection.settings.bodyLimit)
  }

  /// What the broker says about itself.
  public var server: ServerIdentity { connection.server }

  /// A delivery has begun to arrive, and is not whole yet.
  public var isArriving: Bool { assembler.isInside }

  /// Opens the channel, or opens it again after `.channelClosed`; nothing happens if it is open. What was delivered before and not taken
  /// yet is forgotten, since it comes again, under tags that begin at 1.
  public func reopen() throws(AMQPError) { try open(deadline: nil) }

  func open(deadline: Instant?) throws(AMQPError) {
    guard isClosed else { return }
    assembler = DeliveryAssembler(limit: connection.settings.bodyLimit)
    batch = DeliveryBatch()
    (consumerTag, closure, isNews) = (nil, nil, false)
    (orderedAnswer, depth) = (nil, nil)
    _ = probe.takeAnswer()
    events.removeAll()
    questions.removeAll()
    try call(.channelOpen, during: "opening a channel", deadline: deadline) { $0 == .channelOpenOk ? true : nil }
    isClosed = false
  }

  /// Throws `.channelClosed`, once, if the broker has closed the channel; what ``Connection/receive(deliveries:bytes:)`` has read shows
  /// here.
  public func check() throws(AMQPError) {
    guard isNews else { return }
    isNews = false
    try refuseClosed()
  }

  private func refuseClosed() throws(AMQPError) {
    if let closure { throw AMQPError(closure, during: "using the channel") }
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

  /// Says that nothing follows, which gives back to the broker all that is unacknowledged; nothing happens if the channel is closed.
  func sayGoodbye() throws(AMQPError) {
    guard !isClosed else { return }
    isClosing = true
    try send(.channelClose(code: 200, text: "done"))
  }

  /// Waits for the answer: the broker has then handled what was sent before.
  ///
  /// - Throws: `.channelClosed` if the broker had closed the channel, so that no one knows what it has handled.
  func awaitGoodbye() throws(AMQPError) {
    try connection.answer(on: self, until: nil, or: { isClosing ? nil : true }, accept: { _ in nil })
    try refuseClosed()
  }

  // MARK: - Frames

  /// What is sent on a channel that the broker has closed would end the connection.
  func send(_ method: ClientMethod) throws(AMQPError) {
    if isClosed, method != .channelOpen, method != .channelCloseOk { try refuseClosed() }
    try connection.send(method, channel: number)
  }

  @discardableResult
  func call<Answer>(
    _ method: ClientMethod, during operation: String, deadline: Instant? = nil, accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer {
    do throws(AMQPError) {
      try send(method)
      return try connection.answer(on: self, until: deadline, or: { nil }, accept: accept)
    } catch {
      throw AMQPError(error.kind, during: operation)
    }
  }

  /// Deals with what a broker may send at any time on a channel; gives back what it may not.
  func unsolicited(_ method: ServerMethod) throws(AMQPError) -> ServerMethod? {
    switch method {
    case .channelClose(let code, let text) where !isClosed:
      (isClosed, isNews) = (true, true)
      (isClosing, mayAnswer) = (false, isClosing)
      closure = .channelClosed(code: code, text: text)
      try send(.channelCloseOk)
      try connection.flush()
    case .channelCloseOk where isClosing: (isClosing, isClosed) = (false, true)
    case .channelCloseOk where mayAnswer: mayAnswer = false
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
      case .ordered: if !questions.contains(.ordered) { orderedAnswer = status }
      case .depth: depth = status
      }
    default: return method
    }
    return nil
  }
}
