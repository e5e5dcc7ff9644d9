import AMQP
import Journal
import Platform

/// Decides what the connection's thread does: when to connect and how wide a channel is, what goes to the broker on it and when a batch goes
/// to the journal, when a channel is given up, and what follows. `ConnectionLoop` does it.
///
/// ```
///             ┌─ wait ◄──────────────── ended ◄───────────────────────────────────┐
///             ▼                                                                   │
///   start ► connect ► (prepare) ► began ► received ─ orders ► read ─ orders ► rest ─┐
///             ▲                              ▲                                      │
///             └── look at the stream's end   └───────── each turn of a channel ─────┘
/// ```
///
/// What each part decides is its own: ``ReconnectMachine`` when to try again, ``PrefetchGuard`` and ``UndeliverableOffsets`` how many
/// deliveries a channel is let through, ``StandstillMachine`` whether the consumer gets nothing, ``TakenBack`` what follows when a queue
/// takes back what it had delivered, ``Gathering`` when a batch is large enough, ``ChannelMachine`` which of the journal's commands are for
/// the channel. They are put together here, and nowhere else.
///
/// Invariants
///   - One channel at a time, and each has a generation of its own, which grows. What is of an older one is not sent on it.
///   - A message that was rejected, and a consumer that is to be cancelled, come before the acknowledgements that make room for more.
///   - A batch goes to the journal whole; a stop hands over what has arrived before it says that intake has ended.
///
/// A value without clock and I/O: it is told the time, what came, and what the journal's thread says.
struct ConnectionMachine {
  /// What does not change.
  struct Settings: Sendable {
    var queue: String
    /// How many deliveries may be unacknowledged; 0 is no limit.
    var prefetch: Int
    var noAck = false
    /// The consumer is not cancelled before the connection closes, but for narrow channels (``PrefetchGuard``). A queue goes on
    /// delivering once a consumer is cancelled, to the next one, while what the old one has not acknowledged stays with its
    /// channel until that closes: it would come back after newer messages, if redeliveries are not recognised.
    var keepsConsumer = false
    /// False if closing a channel would delete the queue: that is not to be lost for a message that cannot be sent.
    var canNarrow = true
    /// The first channel is narrow if the queue is a quorum queue: nothing shows that earlier processes got anything through.
    var beginsNarrow = false
    /// Acknowledgements wait for the runtime's commits.
    var waitsForRuntime = false
    /// The queue may be asked how many messages wait in it.
    var asksForDepth = true
    /// What a stream's broker cannot send is gone past.
    var skipsUndeliverable = false
    /// Between two attempts, before jitter.
    var delay = Duration.seconds(1)
    /// How many may fail in a row; nil for any number.
    var attempts: Int?
    /// The settings name bindings, made at each connection.
    var binds = false
    /// The queue is declared with a single active consumer.
    var isSingleActive = false
    /// The capture has no other subscription, so what a user must fix at its start ends it.
    var isAlone = true
  }

  /// What the thread does next.
  enum Step: Equatable, Sendable {
    /// ``ConnectionMachine/begins(_:nodes:at:)`` says what comes before a channel.
    case connect
    /// A channel is to be opened.
    case open
    /// A stream is to be looked at before a channel begins (``OffsetSearch``).
    case look(OffsetSearch.Look)
    /// What stands at the stream's end is to be looked at.
    case lookAtEnd
    /// Waits so long, unless it is told to stop or there is a new login.
    case wait(Duration)
    case stop
    case giveUp(CaptureFailure)
  }

  /// How a channel ended.
  enum End: Equatable, Sendable {
    case stopped
    /// Everything on a narrow channel was acknowledged. A goodbye of the broker's shows that it has handled all that was sent before, so
    /// none of it comes again.
    case settled(saidGoodbye: Bool)
    /// A new channel is to begin at once.
    case startOver(StartOver.Reason)
    /// The newest captured message of a stream has not come: what stands at its end is to be looked at.
    case looksAtEnd
    /// The consumer gets nothing, though there may be something.
    case standsStill(StandstillMachine.Finding)
    /// The queue was looked at, and is not consumed: what was refused of it is still there, as far as can be told.
    case stillRefused
    case failed(CaptureFailure)
  }

  /// What people are told, or other threads, between two channels.
  enum Action: Equatable, Sendable {
    case status(StatusBoard.State)
    /// A failure, as far as it is news, and in how long it is tried again.
    case failed(CaptureFailure, OutageLog.Report, Duration)
    case takenBack
    /// Nothing came again of what the queue took back; another channel is tried.
    case silent
    /// The broker ended a stream's channel by an error of its own, and the next ones tell at which offset.
    case narrows(CaptureFailure, prefetch: Int)
    /// The broker has shown that it has all acknowledgements of this channel.
    case settled(Int)
    /// A stream's channel begins at what was captured, and no longer after what was gone past.
    case forgetPassed
    /// It begins after these offsets, which are gone past; so many of them for the first time.
    case pass(ClosedRange<Int64>, fresh: Int64?)
    /// The stream is another one: nothing of it was captured.
    case forgetStream(Evidence)
    /// The next offset that can be sent is looked for; still.
    case searches(CaptureFailure)
    case stillSearches(first: Int64, now: Int64)
  }

  /// How the next channel is to be opened.
  struct Attempt: Equatable, Sendable {
    var generation: Int
    /// The prefetch count, and the one for a quorum queue with a backlog that no one else consumes; nil for that of the settings.
    var prefetch: Int?
    var doubtfulPrefetch: Int?
    /// The queue is only to be looked at, unless something was taken out of it (``ConnectionMachine/consumes(holding:)``).
    var looksFirst = false
    /// Whether a second channel may be opened, for questions. A broker that limits the user to one closes the connection at the second.
    var usesSecondChannel = true
  }

  let settings: Settings
  var standstill: StandstillMachine
  var takenBack = TakenBack()
  /// How many deliveries the channels are allowed.
  var prefetchGuard = PrefetchGuard()
  /// The same for the first channel, if its queue turns out to be a quorum queue.
  var firstPrefetchGuard: PrefetchGuard?
  /// How wide the present channel is.
  var channelWidth = PrefetchGuard.Width.configured
  var queueKind = QueueNature.Kind.unknown
  /// It is narrow only since earlier processes may have failed: any message that gets through ends that.
  var isDoubtful = false
  /// What a stream's broker cannot send.
  var undeliverableOffsets = UndeliverableOffsets()
  var undeliverablePacing = UndeliverablePacing()
  /// The largest offset of a stream that was gone past, and counted.
  var newestPassed: Int64?
  /// What is looked at before the next channel, and when that was last told.
  var search: OffsetSearch?
  var searchToldAt = Instant.distantPast
  /// What was seen at a stream's end.
  var streamEnd = StreamEnd()
  /// What was told of the present outage.
  var outage = OutageLog()
  /// What was seen of a window that is too small.
  var windowHint = WindowHint()
  var reconnect: ReconnectMachine
  /// The newest channel, or the newest that was tried.
  private(set) var generation = 0
  /// The channel that consumes.
  var channel: Channel?
  /// The last channel had a consumer, something was acknowledged on it, and all of it.
  private(set) var hasConsumed = false
  private var hasAcknowledged = false
  private var isAllAcknowledged = false
  private var usesSecondChannel = true
  /// What was refused of the queue.
  private var refusedMessage = RefusedMessage()
  /// The queue type that was last told of.
  var toldGuarantee: QueueNature.Kind?
  /// The position of this subscription's newest message when that was last asked for (``asksWhatReturns``).
  private var newestJournaled = Position.origin

  init(_ settings: Settings) {
    self.settings = settings
    standstill = StandstillMachine(binds: settings.binds, isSingleActive: settings.isSingleActive)
    reconnect = ReconnectMachine(delay: settings.delay, limit: settings.attempts, isAlone: settings.isAlone)
    if settings.beginsNarrow, settings.canNarrow {
      var guarded = prefetchGuard
      guarded.beginNarrow()
      firstPrefetchGuard = guarded
    }
  }

  /// The present channel's prefetch count; 0 is no limit.
  var prefetchCount: Int { channelWidth.count(settings.prefetch) }

  // MARK: - Before a channel

  /// What is told of the next attempt; nil in an outage, in which what stands in the way says more than that it is tried again.
  var statusOfAttempt: StatusBoard.State? { outage.isOpen ? nil : .connecting }

  /// Whether the next channel depends on how many messages may come again, which the journal's thread knows once it has decided about all
  /// that was handed over.
  var asksWhatReturns: Bool {
    undeliverableOffsets.width == nil && !settings.noAck && (prefetchGuard.isNarrow || firstPrefetchGuard != nil)
  }

  /// A connection is to be made.
  ///
  /// - Parameters:
  ///   - returning: How many messages may come again, and the position of the subscription's newest message; nil if it was not asked for,
  ///     or the capture is to stop.
  ///   - newest: The newest offset of a stream that was captured, or gone past since it was too large.
  mutating func prepare(returning: (count: Int, position: Position)?, newest: Int64?) -> Attempt {
    generation += 1
    var attempt = Attempt(generation: generation, usesSecondChannel: usesSecondChannel)
    attempt.looksFirst = refusedMessage.failure != nil
    channelWidth = .configured
    hasConsumed = false
    hasAcknowledged = false
    isAllAcknowledged = false
    windowHint.channelBegan()
    undeliverableOffsets.channelBegins(after: newest)
    if let few = undeliverableOffsets.width {
      channelWidth = .few(few)
      attempt.prefetch = few
      return attempt
    }
    guard let (count, position) = returning else { return attempt }
    newestJournaled = position
    if var first = firstPrefetchGuard {
      // More than one that comes back would lose its order by another kill.
      guard count == 0 else {
        firstPrefetchGuard = nil
        return attempt
      }
      channelWidth = first.next(returning: count)
      firstPrefetchGuard = first
      attempt.doubtfulPrefetch = prefetchCount
    } else if isDoubtful, count > 0 {
      // A message got through, and what ended its channel was no error of the broker's own. If its acknowledgement was lost it comes
      // again, and on a narrow channel it would not be recognised.
      prefetchGuard.succeeded()
    } else {
      channelWidth = prefetchGuard.next(returning: count)
      attempt.prefetch = prefetchCount
    }
    return attempt
  }

  /// The connection is there; what fails now is about the queue.
  mutating func connected() { reconnect.connected() }

  /// The broker has confirmed a consumer.
  ///
  /// - Parameters:
  ///   - queue: What the broker said of the queue; nil if it was not asked.
  ///   - offset: The newest captured offset of a stream.
  mutating func began(
    consumerTag: String, _ nature: QueueNature, _ queue: QueueStatus?, offset: Int64?, at now: Instant
  ) -> (Consuming, [Order]) {
    reconnect.consuming()
    undeliverablePacing = UndeliverablePacing()
    queueKind = nature.kind
    isDoubtful = false
    if let first = firstPrefetchGuard.take() {
      if queueKind == .quorum, Topology.isBacklogOfOurs(queue) {
        prefetchGuard = first
        isDoubtful = true
      } else {
        channelWidth = .configured
      }
    }
    hasConsumed = true
    let consuming = Consuming(
      generation: generation, consumerTag: consumerTag, queue: nature,
      narrowPrefetch: channelWidth == .configured || queueKind == .stream ? nil : prefetchCount, isDoubtful: isDoubtful)
    channel = Channel(consuming, prefetch: settings.noAck ? 0 : prefetchCount, offset: offset, at: now)
    var orders: [Order] = []
    if nature.kind != toldGuarantee, nature.kind != .stream {
      toldGuarantee = nature.kind
      orders.append(.notify(.guarantee(nature)))
    }
    let recovered = outage.recovered(at: now)
    orders.append(
      .notify(
        .consuming(
          after: recovered.map { Outage(time: $0.time, attempts: $0.attempts) }, isRepeated: outage.isRepeated)))
    standstill.channelBegan(nature.kind, messages: queue?.messages, offset: offset, at: now)
    if !Mutant.tellsNothingOfAConsumer.isOn {
      orders.append(.status(standstill.finding.map(reconnecting) ?? .consuming))
    }
    return (consuming, orders)
  }

  // MARK: - After a channel

  /// Whether what follows depends on what the journal's thread has decided about all that was handed over.
  ///
  /// - Parameter isPassing: The channel began after what was gone past in a stream.
  func asksWhatReturns(after end: End, isPassing: Bool) -> Bool {
    guard case .failed(let failure) = end, queueKind == .stream else { return false }
    return isPassing || failure.kind == .internalError && hasConsumed
  }

  /// A channel has ended, or could not begin.
  ///
  /// - Parameters:
  ///   - progress: Nil if the queue is no stream.
  ///   - jitter: −1…1.
  mutating func ended(_ end: End, _ progress: StreamProgress?, at now: Instant, jitter: Double) -> ([Action], Step) {
    let (actions, step) = follow(end, progress, at: now, jitter: jitter)
    return (Mutant.keepsHealthAfterALoss.isOn ? [] : actions, step)
  }

  private mutating func follow(_ end: End, _ progress: StreamProgress?, at now: Instant, jitter: Double) -> (
    [Action], Step
  ) {
    let channel = channel.take()
    isAllAcknowledged = channel?.isAllAcknowledged ?? false
    hasAcknowledged = channel.map { $0.commands.acknowledged > 0 } ?? false
    switch end {
    case .stopped: return ([], .stop)
    case .settled(let saidGoodbye):
      if channel?.narrow.hasSucceeded == true { prefetchGuard.succeeded() } else { prefetchGuard.cleared() }
      return (saidGoodbye ? [.settled(generation)] : [], .connect)
    case .startOver(.widens): return ([], .connect)
    // The journal's thread has seen that, and told it.
    case .startOver(.anotherStream):
      forgetStream()
      return ([.status(Self.anotherStream)], .connect)
    case .startOver(.takenBack):
      let state = StatusBoard.State.reconnecting(
        cause: "taken_back", reason: "the queue delivers again what it had delivered")
      return ([.takenBack, .status(state)], .wait(takenBack.pause(at: now)))
    case .startOver(.silent):
      let state = StatusBoard.State.reconnecting(
        cause: "taken_back", reason: "the queue took deliveries back and has not sent them again")
      return ([.silent, .status(state)], .wait(takenBack.pause(at: now)))
    case .startOver(.refused(let failure, _)):
      // Of a queue whose type is not known nothing is risked.
      let isCounted = queueKind == .quorum || queueKind == .unknown
      refusedMessage.refused(failure, isCounted: isCounted, hasAcknowledged: hasAcknowledged)
      // Then only one message is on its way.
      if isCounted, settings.canNarrow { prefetchGuard.beginNarrow() }
      return retry(after: failure, .wait(refusedMessage.pause(settings.delay)), at: now)
    case .stillRefused:
      refusedMessage.isStillThere()
      let failure = refusedMessage.failure ?? .cancelled(by: settings.queue)
      return retry(after: failure, .wait(refusedMessage.pause(settings.delay)), at: now)
    case .looksAtEnd: return ([], .lookAtEnd)
    case .standsStill(let finding):
      undeliverableOffsets.forget()
      return ([.forgetPassed] + (finding == .undelivered ? [] : [.status(reconnecting(finding))]), .connect)
    case .failed(let failure) where failure.kind == .abandoned: return ([], .stop)
    case .failed(let failure):
      if failure.kind == .channelLimit, hasConsumed { usesSecondChannel = false }
      let (told, actions): (CaptureFailure, [Action])
      if queueKind == .stream, let progress {
        (told, actions) = accounted(for: failure, progress)
      } else {
        (told, actions) = accounted(for: failure)
      }
      let (more, step) = retry(after: told, hasten(reconnect.failed(told, jitter: jitter)), at: now)
      return (actions + more, step)
    }
  }

  /// The queue was looked at before it is consumed again (``RefusedMessage``).
  ///
  /// - Parameter messages: How many are ready in it; nil if there is no such queue.
  /// - Returns: Whether it is consumed.
  mutating func consumes(holding messages: UInt32?) -> Bool { refusedMessage.consumes(holding: messages) }

  /// Something keeps the queue from being consumed, or the stream's end cannot be read.
  mutating func stuck(_ failure: CaptureFailure, at now: Instant, jitter: Double) -> ([Action], Step) {
    if failure.kind == .abandoned { return ([], .stop) }
    return retry(
      after: failure, undeliverablePacing.next(failure) ?? reconnect.failed(failure, jitter: jitter), at: now)
  }

  /// The thread waits between two attempts.
  ///
  /// - Parameters:
  ///   - hasLogin: There is a new login, which is worth trying at once.
  ///   - isOver: The pause has passed.
  /// - Returns: What follows; nil to go on waiting.
  mutating func waits(isStopping: Bool, hasLogin: Bool, isOver: Bool) -> Step? {
    if isStopping {
      reconnect.stopRequested()
      return .stop
    }
    return hasLogin || isOver ? .connect : nil
  }

  private mutating func retry(
    after failure: CaptureFailure, _ action: ReconnectMachine.Action, at now: Instant
  ) -> ([Action], Step) {
    switch action {
    case .stop: return ([], .stop)
    case .giveUp(.needsUser): return ([], .giveUp(failure))
    case .giveUp(.attemptsExhausted(let attempts)): return ([], .giveUp(.exhausted(attempts, last: failure)))
    // A failure that is retried at once is not reported.
    case .connect: return ([], .connect)
    case .wait(let pause):
      let report = outage.failed(cause: failure.cause, at: now)
      let state = StatusBoard.State.reconnecting(cause: failure.cause, reason: failure.description)
      return ([.failed(failure, report, pause), .status(state)], .wait(pause))
    }
  }

  /// How many failed deliveries RabbitMQ 4 allows by default. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
  private static let deliveryLimit = 20
  /// Attempts on a message that the broker cannot send that follow in a second.
  private static let quickSteps = deliveryLimit + 10

  /// With one message at a time the delivery limit is to be reached soon, and what a stream cannot send is to be found at once.
  private func hasten(_ action: ReconnectMachine.Action) -> ReconnectMachine.Action {
    guard case .wait(let pause) = action else { return action }
    if undeliverableOffsets.goesOnAtOnce(skips: settings.skipsUndeliverable) { return .connect }
    guard (1...Self.quickSteps).contains(prefetchGuard.steps) else { return action }
    return .wait(min(pause, .seconds(1)))
  }

  /// Takes a failure into account.
  ///
  /// - Returns: What is told of it, which says more if a message is to blame, and what follows at once.
  private mutating func accounted(for failure: CaptureFailure) -> (CaptureFailure, [Action]) {
    guard hasConsumed, settings.canNarrow else { return (failure, []) }
    let isInternalError = failure.kind == .internalError
    if isInternalError { isDoubtful = false }
    var actions: [Action] = []
    if isInternalError, channelWidth == .stepping, isAllAcknowledged {
      // The broker tried the next message because there was room, so it has handled the acknowledgement that made the room.
      actions.append(.settled(generation))
    }
    prefetchGuard.failed(isInternalError: isInternalError, hasAcknowledged: hasAcknowledged)
    guard isInternalError, prefetchGuard.steps > 0 else { return (failure, actions) }
    let told = CaptureFailure.undeliverable(
      frontOf: settings.queue, queueKind, after: hasAcknowledged ? nil : newestJournaled, attempts: prefetchGuard.steps,
      failure)
    return (told, actions)
  }

  func text(of finding: StandstillMachine.Finding) -> String {
    finding.text(queue: settings.queue, attempts: standstill.attempts, isSingleActive: settings.isSingleActive)
  }

  func reconnecting(_ finding: StandstillMachine.Finding) -> StatusBoard.State {
    .reconnecting(cause: finding.cause, reason: text(of: finding))
  }
}
