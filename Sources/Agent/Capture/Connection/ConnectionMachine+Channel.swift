import AMQP
import Platform

/// The turns of a channel: what the journal's thread wants goes to the broker, what the broker sends goes to the journal's thread.
extension ConnectionMachine {
  /// How long nothing was consumed.
  struct Outage: Equatable, Sendable {
    var time: Duration
    var attempts: Int
  }

  /// What the thread does on a channel, in this order.
  enum Order: Equatable, Sendable {
    /// Nothing more is to come. What the broker had sent before it knew has arrived when the broker answers.
    case cancel
    case command(ChannelMachine.Order)
    /// The broker gets a new password, if it takes one. After the acknowledgements: a broker that refuses it closes the connection, and
    /// what comes after it is lost.
    case login(Login)
    /// The broker is asked how many messages wait in the queue.
    case askDepth
    /// It is asked for the queue on a channel aside, or to bind it again there.
    case askAside
    case bindAside
    /// The batch goes to the journal's thread, which has none waiting.
    case handOver
    /// A delivery has begun to arrive that is not whole yet; or none.
    case arriving(Bool)
    case answer(SettlingAnswer)
    /// No further batch will come.
    case intakeEnded
    case status(StatusBoard.State)
    case notify(Notice)
    /// The channel is to be closed, and ends so. What is lost by a close that fails comes again all the same, but for a stop, which has
    /// no other channel after it.
    case end(End)
    /// The same of a narrow channel on which everything is acknowledged: it ends with ``End/settled(saidGoodbye:)``.
    case endSettled
  }

  /// What people are told.
  enum Notice: Equatable, Sendable {
    /// What redeliveries lead to, since the queue's type decides about it.
    case guarantee(QueueNature)
    /// A consumer runs, after an outage perhaps, which may be one of many.
    case consuming(after: Outage?, isRepeated: Bool)
    /// The prefetch count bounds the throughput.
    case windowBounds(WindowHint.Finding, limit: Int)
    /// Nothing came for a while, for this reason.
    case consumesAnew(StandstillMachine.Finding, text: String)
    case standsStill(StandstillMachine.Finding, text: String)
    case boundAgain
    case blocked(reason: String)
    case unblocked
  }

  /// What a turn has brought.
  struct Reading: Equatable, Sendable {
    /// The batch is at its limit.
    var isFull = false
    /// There is more to read.
    var hasMore = false
    /// How many deliveries came.
    var fresh = 0
    /// One of them was never delivered before.
    var hasNew = false
    /// Deliveries not handed over yet.
    var waiting = 0
    /// Their size in bytes.
    var bytes = 0
    /// The tag of the newest of them; nil if there are none.
    var newestTag: UInt64?
    /// The journal's thread has no batch waiting.
    var takesBatch = false
    var isArriving = false
    /// The newest captured offset of a stream, and whether that message has yet to come.
    var offset: Int64?
    var isUnconfirmed = false
    /// Answers to ``ChannelMachine/Order/ask``, and to ``Order/askAside`` and ``Order/bindAside``.
    var orderedAnswer: QueueStatus?
    var answerAside: QueueAnswer?
    var events: [ConnectionEvent] = []
  }

  /// How a turn ends.
  enum Rest: Equatable, Sendable {
    case none
    /// A short moment, in which the broker fills the socket, so that reads are large.
    case moment
    /// Until something comes, or the journal's thread wants something, or it is so late; the socket is left unread if the journal's thread
    /// still has the batch before.
    case wait(reading: Bool, until: Instant)
  }

  /// A channel that consumes.
  struct Channel {
    enum Phase: Equatable, Sendable {
      case consuming
      /// The capture is to stop: if the consumer is cancelled, what arrives before the broker's answer is there in the next turn.
      case stopping
      /// What has arrived is handed over.
      case handingOver
      /// What may be acknowledged is waited for.
      case awaitingPermissionToClose
    }

    let consuming: Consuming
    let began: Instant
    var phase = Phase.consuming
    var commands: ChannelMachine
    var gathering: Gathering
    var narrow: NarrowChannel
    var backlog: Backlog
    var newestTag: UInt64 = 0
    /// A large message takes its time, in which nothing else can come: that is no silence.
    var isArriving = false
    /// The newest captured offset of a stream at the turn before.
    var offset: Int64?
    /// It ends once all before a delivery that is not captured is acknowledged, or at a time.
    var refusal: Refusal?
    /// What the last turn has brought, and when it began.
    var newestReading = Reading()
    var turnBegan: Instant

    init(_ consuming: Consuming, prefetch: Int, offset: Int64?, at now: Instant) {
      self.consuming = consuming
      self.offset = offset
      (began, turnBegan) = (now, now)
      commands = ChannelMachine(generation: consuming.generation)
      gathering = Gathering(prefetch: prefetch)
      narrow = NarrowChannel(isNarrow: consuming.narrowPrefetch != nil)
      backlog = Backlog(at: now)
    }

    var unacknowledged: UInt64 { newestTag - min(newestTag, commands.acknowledged) }
    var isAllAcknowledged: Bool { narrow.isAllAcknowledged(upTo: newestTag) }

    /// Less is unacknowledged than the prefetch count.
    func hasRoom(limit: Int) -> Bool { limit == 0 || unacknowledged < UInt64(limit) }
  }

  /// When the queue was last asked how many messages wait in it.
  struct Backlog: Sendable {
    static let interval = Duration.seconds(60)
    private var asked: Instant
    private var newest: UInt64 = 0

    init(at now: Instant) { asked = now }

    /// When the queue may be asked again.
    var deadline: Instant { asked + Self.interval }

    /// - Parameters:
    ///   - tag: The newest delivery's; without a new one, and with room for one, the queue is at rest, and what was found is still so.
    ///   - isFull: No more can be delivered.
    mutating func takeDue(at now: Instant, newest tag: UInt64, isFull: Bool) -> Bool {
      guard now - asked >= Self.interval, tag != newest || isFull else { return false }
      (asked, newest) = (now, tag)
      return true
    }
  }

  /// A delivery that is not captured, and by which its channel ends.
  ///
  /// What was captured before it is acknowledged first, which may take a commit of the runtime: else it would come again with each attempt,
  /// and be captured again if redeliveries are not recognised.
  struct Refusal: Equatable, Sendable {
    /// How long acknowledgements are waited for.
    static let patience = Duration.seconds(30)

    var failure: CaptureFailure
    var tag: UInt64
    var deadline: Instant
  }

  /// How long a queue may take to be consumed before that is told.
  private static let queuePatience = Duration.seconds(5)

  /// What is told while a queue is opened that takes long; nil for nothing.
  ///
  /// - Parameter began: When the channel was open; nil if it is not yet.
  static func statusOfOpening(_ queue: String, since began: Instant?, at now: Instant) -> StatusBoard.State? {
    guard let began, now - began > queuePatience else { return nil }
    return .awaitingQueue(queue)
  }

  // MARK: - A turn

  /// Whether the consumer is to be cancelled before these commands are obeyed: nothing more is to come on a narrow channel when an
  /// acknowledgement makes room. What a standby gets now comes after it.
  func cancelsFirst(_ commands: ConnectionCommands) -> Bool {
    guard let channel, channel.phase == .consuming else { return false }
    return channel.narrow.mustCancel(commands, generation)
  }

  /// The broker has answered to that, and what it had sent before has arrived.
  mutating func cancelled() { channel?.narrow.isCancelled = true }

  /// A turn begins: what the journal's thread and others want.
  ///
  /// - Parameters:
  ///   - isEmpty: Nothing waits to be handed over.
  ///   - takesBatch: The journal's thread has no batch waiting.
  ///   - offset: The newest captured offset of a stream.
  mutating func received(
    _ commands: ConnectionCommands, isEmpty: Bool, takesBatch: Bool, offset: Int64?, at now: Instant
  ) -> [Order] {
    guard var channel else { return [] }
    defer { self.channel = channel }
    channel.turnBegan = now
    var orders: [Order] = []
    let before = channel.commands.acknowledged
    for order in channel.commands.obey(commands) { orders.append(.command(order)) }
    let acknowledged = channel.commands.acknowledged
    if let login = commands.login { orders.append(.login(login)) }
    channel.narrow.received(commands, generation, acknowledged: acknowledged)
    switch channel.phase {
    case .consuming:
      if settings.waitsForRuntime, channelWidth == .configured,
        let finding = windowHint.turned(
          unacknowledged: channel.unacknowledged, prefetch: prefetchCount, acknowledged: Int(acknowledged - before),
          at: now)
      {
        orders.append(.notify(.windowBounds(finding, limit: prefetchCount)))
      }
      if queueKind != .stream, settings.asksForDepth,
        channel.backlog.takeDue(
          at: now, newest: channel.newestTag, isFull: prefetchCount > 0 && !channel.hasRoom(limit: prefetchCount))
      {
        orders.append(.askDepth)
      }
      if channel.narrow.isCancelled, isEmpty, channel.isAllAcknowledged {
        return orders + [.endSettled]
      }
      if commands.stop {
        channel.phase = .stopping
        return settings.keepsConsumer || channel.narrow.isCancelled ? orders : orders + [.cancel]
      }
      if undeliverableOffsets.widenIfDue(at: offset) {
        return orders + [.end(.startOver(.widens))]
      }
      switch channel.commands.startsOver(commands) {
      case nil: break
      case .refused(let failure, let tag):
        channel.refusal = Refusal(failure: failure, tag: tag, deadline: now + Refusal.patience)
      case let reason?: return orders + [.end(.startOver(reason))]
      }
      if let refusal = channel.refusal {
        // What comes again is recognised if an anchor is kept.
        let isDone = settings.keepsConsumer || channel.commands.acknowledged + 1 >= refusal.tag
        if isDone || now >= refusal.deadline {
          return orders + [.end(.startOver(.refused(refusal.failure, tag: refusal.tag)))]
        }
      }
    case .stopping, .handingOver, .awaitingPermissionToClose:
      orders += stopping(commands, isEmpty: isEmpty, takesBatch: takesBatch, &channel)
    }
    return orders
  }

  /// The capture stops: journals what has arrived, waits for the acknowledgements that are due, says goodbye.
  private func stopping(
    _ commands: ConnectionCommands, isEmpty: Bool, takesBatch: Bool, _ channel: inout Channel
  ) -> [Order] {
    var orders: [Order] = []
    if channel.phase == .stopping { channel.phase = .handingOver }
    if channel.phase == .handingOver {
      // A journal that has failed takes no more; what it did not take comes again.
      guard isEmpty || commands.mayClose else { return takesBatch ? [.handOver] : [] }
      channel.phase = .awaitingPermissionToClose
      orders.append(.intakeEnded)
    }
    return commands.mayClose ? orders + [.end(.stopped)] : orders
  }

  /// Whether the socket is read in this turn.
  var reads: Bool { channel?.phase == .consuming }

  /// The socket was read.
  mutating func read(_ reading: Reading, at now: Instant) -> [Order] {
    guard var channel else { return [] }
    defer { self.channel = channel }
    channel.newestReading = reading
    var orders: [Order] = []
    if reading.isArriving != channel.isArriving {
      channel.isArriving = reading.isArriving
      orders.append(.arriving(reading.isArriving))
    }
    let isSilent = channel.newestTag == 0 && reading.fresh == 0 && !channel.isArriving
    if queueKind == .stream, isSilent, reading.isUnconfirmed, now - channel.began >= StreamEnd.patience {
      return orders + [.end(.looksAtEnd)]
    }
    if !isSilent { takenBack.cameAgain() }
    if takenBack.giveUpIfMissing(since: channel.began, at: now) { return orders + [.end(.startOver(.silent))] }
    if let answer = reading.orderedAnswer,
      let settling = channel.commands.answered(
        consumers: answer.consumers, messages: answer.messages, hasUnread: reading.waiting > 0)
    {
      orders.append(.answer(settling))
    }
    channel.newestTag = reading.newestTag ?? channel.newestTag
    if !channel.narrow.isCancelled {
      orders += watch(reading, &channel, at: now)
      if case .end? = orders.last { return orders }
    }
    for event in reading.events {
      switch event {
      case .consumerCancelled: return orders + [.end(.failed(.cancelled(by: settings.queue)))]
      case .blocked(let reason): orders.append(.notify(.blocked(reason: reason)))
      case .unblocked: orders.append(.notify(.unblocked))
      }
    }
    let isEnough = channel.gathering.read(
      fresh: reading.fresh, waiting: reading.waiting, bytes: reading.bytes,
      unacknowledged: channel.unacknowledged, at: now)
    if reading.waiting > 0, reading.takesBatch, reading.isFull || isEnough { orders.append(.handOver) }
    return orders
  }

  /// The turn's orders are carried out.
  ///
  /// - Parameter isEmpty: Nothing waits to be handed over.
  mutating func rest(isEmpty: Bool) -> Rest {
    guard let channel else { return .none }
    switch channel.phase {
    case .stopping: return .none
    case .handingOver: return isEmpty ? .none : .wait(reading: false, until: .distantFuture)
    case .awaitingPermissionToClose: return .wait(reading: false, until: .distantFuture)
    case .consuming:
      if isEmpty { self.channel?.gathering.handedOver() }
      // The journal still has the batch before: only its end, an acknowledgement or a heartbeat can do anything.
      if channel.newestReading.isFull { return isEmpty ? .none : .wait(reading: false, until: .distantFuture) }
      if channel.newestReading.hasMore { return .none }
      // After a read that gave many deliveries, more are about to come.
      return channel.newestReading.fresh >= Gathering.busyDeliveries
        ? .moment : .wait(reading: true, until: deadline(channel))
    }
  }

  /// When something is due on a channel that consumes, even if nothing comes. What was due when the turn began has been looked at.
  private func deadline(_ channel: Channel) -> Instant {
    var deadlines: [Instant?] = [
      standstill.deadline, takenBack.deadline(since: channel.began), channel.refusal?.deadline,
    ]
    if queueKind == .stream {
      if channel.newestTag == 0, channel.newestReading.isUnconfirmed {
        deadlines.append(channel.began + StreamEnd.patience)
      }
    } else if settings.asksForDepth {
      deadlines.append(channel.backlog.deadline)
    }
    return deadlines.compactMap(\.self).filter { $0 > channel.turnBegan }.min() ?? .distantFuture
  }

  // MARK: - A consumer that gets nothing

  private mutating func watch(_ reading: Reading, _ channel: inout Channel, at now: Instant) -> [Order] {
    // The socket is left unread while the journal has no room: that nothing comes, no answer either, says nothing of the broker.
    if reading.isFull, reading.fresh == 0 { return [] }
    var arrival = StandstillMachine.Arrival.nothing
    if queueKind == .stream {
      // A new consumer of a stream gets again what stands in the same chunk as its first message.
      arrival = reading.offset != channel.offset ? .new : reading.fresh > 0 ? .old : .nothing
      channel.offset = reading.offset
    } else if reading.fresh > 0 {
      arrival = reading.hasNew ? .new : .old
    }
    var orders = self.orders(
      for:
        standstill.turned(arrival, hasRoom: settings.noAck || channel.hasRoom(limit: prefetchCount), at: now))
    if case .end? = orders.last { return orders }
    if let answer = reading.answerAside {
      orders += self.orders(for: standstill.answered(answer, offset: channel.offset, at: now))
    }
    return orders
  }

  /// There is no channel aside on which the queue could be bound again.
  mutating func cannotBindAside(at now: Instant) -> [Order] {
    orders(for: standstill.cannotBind(at: now))
  }

  private func orders(for action: StandstillMachine.Action) -> [Order] {
    switch action {
    case .none: []
    case .ask: [.askAside]
    case .consumeAnew(let finding):
      [.notify(.consumesAnew(finding, text: text(of: finding))), .end(.standsStill(finding))]
    case .report(let finding):
      switch finding {
      case .standsBy(_, isStuck: false): [.status(.standby(reason: text(of: finding)))]
      case .noAnswer, .noConsumer, .holds, .undelivered, .refused, .unbound, .standsBy:
        [.notify(.standsStill(finding, text: text(of: finding))), .status(reconnecting(finding))]
      }
    case .recovered: [.status(.consuming)]
    case .bind: [.bindAside]
    case .boundAgain: [.notify(.boundAgain)]
    }
  }
}
