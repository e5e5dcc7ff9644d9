import Journal
import Platform

/// Decides about the deliveries of one queue, from their arrival to their acknowledgement: which are captured, in which order the
/// journal's thread works, what the broker may forget and when, and how what was captured comes to rest. (Whether there is room to write,
/// ``SpaceGate`` says; what is too large for a document, `Intake`.)
///
/// The journal's thread is the one that runs it. Other threads report to it by ``JournalInbox``, and are told by the actions, which the
/// loop performs as they come, one after the other. The machine has no clock: it is told the time, and says until when it has nothing
/// to do.
///
/// ```
///              ┌──────────── next ────────────┐
///   inbox ───► │ drop · begin · batch         │ ──► Intake asks `delivered` for each delivery, and moves the bytes
///              │ answer · returning · idle    │ ──► `written`, once the transaction is durable ──► acknowledge, start over, …
///              │ bookkeeping · look           │
///              │ intakeEnded · close          │
///              └──────────────────────────────┘
/// ```
///
/// Invariants
///   - An acknowledgement is an action of ``written(_:after:_:at:)``, ``bookkept(_:at:)`` or ``recorded(at:)``, which are told after
///     their transaction: in `journaled` mode of nothing that is not durable, in `committed` mode of nothing that the runtime has not
///     committed. Only ``acknowledge(at:)`` makes one.
///   - It names the channel that its tags are of. Nothing is decided about deliveries of a channel that was given up.
///   - A failed capture settles nothing from the moment on that the journal's thread has heard of it: it may be killed any moment, and
///     messages that must come again can be recognised more surely than those that may.
///
/// States: no channel, until ``began(_:at:)``; then that channel, until another begins; it may be *abandoned*, and then nothing on it is
/// decided any more; and *ended*, when intake has ended, after which nothing comes but what others report.
struct SubscriptionMachine: Hashable, Sendable {
  /// What does not change.
  struct Settings: Sendable, Hashable {
    /// Nil with `no_ack`, since the broker expects no acknowledgement.
    var mode: AcknowledgementMode?
    /// Why deliveries can be recognised.
    var trust = RedeliveryMachine.Trust.none
    /// How many messages were captured before the journal's first position.
    var base: Int64 = 0
    /// How many deliveries the broker lets be unacknowledged; 0 is no bound.
    var prefetch = 0
    /// A stream's broker leaves messages out, so that offsets jump.
    var isFiltered = false
  }

  /// What the journal's thread does next.
  enum Work: Equatable, Sendable {
    /// A batch has come of a channel on which nothing is decided any more: its memory goes back.
    case drop
    /// The first of a channel, or a channel on which nothing has come and that has to be looked at.
    case begin(Consuming)
    /// A batch has come, of the channel that began last.
    case batch
    /// The broker has answered a question that came after an acknowledgement.
    case answer(SettlingAnswer)
    /// The connection asks what may come again.
    case returning
    /// What others have reported is to be written.
    case bookkeeping
    /// Nothing has come for a while.
    case idle
    /// Nothing at all is to be done: the journal's files are looked at.
    case look
    /// No further batch will come.
    case intakeEnded
    /// Nothing at all will come.
    case close

    /// Whether the batch in the inbox goes with it.
    var takesBatch: Bool {
      switch self {
      case .drop, .batch: true
      case .begin, .answer, .returning, .bookkeeping, .idle, .look, .intakeEnded, .close: false
      }
    }
  }

  /// What the loop has to do, in this order.
  enum Action: Equatable, Sendable {
    /// The broker may forget these.
    case acknowledge(Acknowledgement)
    /// They go to the dead-letter exchange, before any acknowledgement that would cover them.
    case reject([Acknowledgement])
    /// Something new was captured on the narrow channel of this generation.
    case fresh(Int)
    /// Something came on it that lets it end.
    case cleared(Int)
    /// The broker is asked on the channel of this generation, after the acknowledgement.
    case ask(Int)
    /// The record of what recognises redeliveries is made durable; then ``SubscriptionMachine/recorded(at:)`` is told.
    case record
    /// The emitter's next checkpoint carries a step of a settling.
    case carry(Settlement)
    /// Those that waited are captured after all.
    case captureHeld(Decision)
    case startOver(StartOver)
    /// The newest captured message of a stream has come again, or a later one.
    case confirmed
    /// The stream is another one: nothing of it was captured.
    case forgetStream
    /// The answer to the connection: how many messages may come again.
    case returning(Int)
    /// Nothing follows; the flag says whether the broker may forget everything that was captured.
    case ended(isSettled: Bool)
    case notify(Notice)
  }

  /// What people are told.
  enum Notice: Equatable, Sendable {
    /// What comes again may not be recognised, since the messages are too much alike.
    case alike
    case gap(ClosedRange<Int64>)
    case jump(ClosedRange<Int64>)
    case nearLimit(returns: Int64, limit: Int64)
    case anotherStream
  }

  /// How long bookkeeping may wait for a batch to ride along with: so at low rates a message does not wait for the bookkeeping of
  /// the one before.
  static let bookkeepingDelay = Duration.milliseconds(200)
  /// After so long without a delivery those that wait for the anchor are taken for new.
  static let silence = Duration.seconds(5)
  /// Between two looks at the journal's files while nothing is written: what is not acknowledged can wait, but a WAL
  /// that was deleted is saved as long as this process lives.
  static let lookInterval = Duration.seconds(1)

  let settings: Settings
  /// Recognises redeliveries; nil if that is not possible.
  var redelivery: RedeliveryMachine?
  /// Where in the stream it is; nil if the queue is none, or that is not known yet.
  var place: StreamPlace?
  var acknowledgements: AcknowledgementMachine?
  var settling: SettlingMachine
  /// Tags of the deliveries that wait for a verdict.
  var held: [UInt64] = []
  /// Where the line began whose messages were decided about last.
  var plannedLine: Int64
  /// The newest one that something was to be decided about on.
  private(set) var channel: Consuming?
  /// The generation of a channel on which nothing is decided any more.
  private(set) var abandoned: Int?
  /// No batch follows.
  private(set) var hasEnded = false
  /// The newest position of the journal.
  var journaled: Position
  var written: Written
  /// How many steps of settlings checkpoints were asked to carry.
  var steps = 0
  /// The record that is being written says that the broker has the acknowledgement of a settling.
  var isConcluding = false
  /// When the last batch was written.
  private(set) var lastBatch: Instant
  /// Since when bookkeeping waits, and when the files are looked at if nothing is to be done until then.
  private var bookkeepingSince: Instant?
  private var looksAt: Instant?
  /// The channels of which it was told that messages come near the delivery limit, and that offsets are of no message.
  private var warned: Int?
  private var toldOfJump: Int?
  /// What was reported last, as far as it decides about anything.
  var reports = Reports()

  struct Reports: Sendable, Hashable {
    var consuming: Int?
    var isArriving = false
    var settledGeneration: Int?
    var failed = false
    var acknowledgementsEnded = false
  }

  /// - Parameters:
  ///   - redelivery: As the journal's last commit left it.
  ///   - journaled: The newest position of the journal.
  init(_ settings: Settings, redelivery: RedeliveryMachine?, journaled: Position, written: Written, at now: Instant) {
    self.settings = settings
    self.redelivery = redelivery
    self.journaled = journaled
    self.written = written
    plannedLine = redelivery?.lineStart ?? 0
    settling = SettlingMachine(at: now)
    lastBatch = now
    acknowledgements = settings.mode.map { mode in
      AcknowledgementMachine(
        mode: mode, safe: redelivery.map { Position(rawValue: $0.releasable - settings.base) } ?? .origin)
    }
  }

  /// The journal's position of the `count`-th captured message; below 1 for those of before the journal.
  func position(of count: Int64) -> Position { Position(rawValue: count - settings.base) }

  // MARK: - What is next

  /// What to do now, or until when there is nothing to do unless something is reported. Of what it gives, the inbox is rid, but for the
  /// batch.
  mutating func next(_ inbox: inout JournalInbox, at now: Instant) -> Next<Work> {
    received(inbox)
    let next = look(&inbox, at: now)
    if case .now = next { (bookkeepingSince, looksAt) = (nil, nil) }
    return next
  }

  /// What is reported now decides from here on.
  mutating func received(_ inbox: JournalInbox) {
    reports = Reports(
      consuming: inbox.consuming?.generation, isArriving: inbox.isArriving,
      settledGeneration: inbox.settledGeneration, failed: inbox.failed,
      acknowledgementsEnded: inbox.acknowledgementsEnded)
  }

  private mutating func look(_ inbox: inout JournalInbox, at now: Instant) -> Next<Work> {
    if let channel = inbox.handover?.channel {
      if channel.generation == abandoned, !Mutant.readsOnAfterStartingOver.isOn { return .now(.drop) }
      return .now(channel.generation == self.channel?.generation ? .batch : .begin(channel))
    }
    if let answer = inbox.answer.take() { return .now(.answer(answer)) }
    if inbox.asksForReturning {
      inbox.asksForReturning = false
      return .now(.returning)
    }
    if inbox.intakeEnded, !hasEnded { return .now(.intakeEnded) }
    if inbox.closing { return .now(.close) }
    // On a channel to which nothing comes there is only that to find out.
    if redelivery?.awaitsSettled == true, let channel = inbox.consuming,
      channel.generation != self.channel?.generation
    {
      return .now(.begin(channel))
    }
    if written.isBehind(inbox) {
      let since = bookkeepingSince ?? now
      bookkeepingSince = since
      let isDue = written.toPrune >= Written.pruneWorth.rows || isShort || now >= since + Self.bookkeepingDelay
      return isDue ? .now(.bookkeeping) : .later(since + Self.bookkeepingDelay)
    }
    if let deadline = idleDeadline, now >= deadline { return .now(.idle) }
    let looksAt = looksAt ?? now + Self.lookInterval
    self.looksAt = looksAt
    return now >= looksAt ? .now(.look) : .later(min(looksAt, idleDeadline ?? .distantFuture))
  }

  /// When something is to be done although nothing comes; nil if nothing is.
  private var idleDeadline: Instant? {
    guard let redelivery, !hasEnded, !reports.failed || Mutant.settlesAfterAFailure.isOn else { return nil }
    if redelivery.isHolding {
      return isConsuming || Mutant.capturesTheHeldOfADeadChannel.isOn ? lastBatch + Self.silence : nil
    }
    return isConsuming || Mutant.settlesWithoutAConnection.isOn ? settling.deadline(redelivery) : nil
  }

  /// True while the channel that began last consumes.
  var isConsuming: Bool {
    guard let generation = channel?.generation, generation != abandoned else { return false }
    return reports.consuming == generation
  }

  /// True if the broker may be waiting for acknowledgements: as much is unacknowledged as half the prefetch count.
  private var isShort: Bool {
    let prefetch = channel?.narrowPrefetch ?? settings.prefetch
    return prefetch > 0 && (acknowledgements?.waiting ?? 0) * 2 >= prefetch
  }

  // MARK: - Channels

  /// A new consumer on a new channel: what waits of the old one comes again.
  ///
  /// - Parameter place: Where a stream's capture stands; nil if the queue is none.
  mutating func began(_ channel: Consuming, place: StreamPlace?, at now: Instant) -> [Action] {
    takeSettled()
    self.channel = channel
    let isAlone = settings.trust == .exclusive && channel.queue.kind == .classic
    settling.channelOpened(
      isAlone: isAlone || Mutant.overlooksOtherConsumers.isOn, isNarrow: channel.narrowPrefetch != nil, at: now)
    acknowledgements?.channelOpened(generation: channel.generation)
    if !Mutant.keepsTheHeldOverChannels.isOn { held = [] }
    // What was decided about and not written comes again.
    self.place = channel.queue.kind == .stream ? place : nil
    redelivery?.channelBegan(settings.trust, on: channel.queue, prefetch: channel.narrowPrefetch)
    return redelivery?.isAmbiguous == true ? [.notify(.alike)] : []
  }

  /// The connection asks what may come again.
  mutating func returning() -> [Action] {
    takeSettled()
    return [.returning(redelivery?.comesBack ?? 0)]
  }

  /// The broker has shown, otherwise than by an answer, that it has all acknowledgements of the newest channel.
  private mutating func takeSettled() {
    guard let generation = reports.settledGeneration, generation == channel?.generation else { return }
    redelivery?.confirmSettled()
  }

  /// Nothing has come for a while: deliveries that wait are new after all, or a settling goes on.
  mutating func idle(at now: Instant) -> [Action] {
    guard redelivery?.isHolding == true else { return goOnSettling(at: now) }
    // A large message takes its time, in which nothing else can come: that is no silence.
    guard !reports.isArriving, let decision = silent() else {
      lastBatch = now
      return []
    }
    return [.captureHeld(decision)]
  }

  /// No further batch will come.
  mutating func intakeEnded() -> [Action] {
    hasEnded = true
    var actions: [Action] = []
    // If a capture fails because its runtime went away, a kill is likely: an anchor must come again, and is recognised more surely than
    // what a settling has acknowledged, which may.
    if !reports.failed || Mutant.settlesAfterAFailure.isOn, isConsuming { actions = settle() }
    return actions + [.ended(isSettled: (redelivery?.unacknowledged ?? 0) == 0)]
  }

  // MARK: - Transactions

  /// A transaction is about to be made, and these are the newest reports of emitter and runtime.
  ///
  /// - Parameter decision: Of the batch that it writes; nil if it writes none.
  /// - Returns: What is to be done before it.
  mutating func writing(_ decision: Decision?, releasable: Position?) -> [Action] {
    if decision != nil, settings.mode == .journaled || Mutant.acknowledgesWithoutTheRuntime.isOn {
      // In committed mode the checkpoints say how far acknowledgements may go.
      _ = redelivery?.committing()
    }
    if let releasable { redelivery?.released(through: releasable.rawValue + settings.base) }
    guard let decision else { return [] }
    if Mutant.acknowledgesBeforeCommit.isOn {
      note(decision, after: journaled)
      return acknowledge(at: lastBatch)
    }
    guard !decision.rejected.isEmpty, let generation = channel?.generation else { return [] }
    return [.reject(decision.rejected.map { Acknowledgement(generation: generation, tag: $0) })]
  }

  /// The messages of a batch, and what rides along, are durable.
  ///
  /// - Parameters:
  ///   - before: The journal's newest position before them.
  ///   - written: What of the reports was written.
  mutating func written(_ decision: Decision, after before: Position, _ written: Written, at now: Instant) -> [Action] {
    self.written = written
    journaled = before + decision.captured.count
    if !Mutant.acknowledgesBeforeCommit.isOn { note(decision, after: before) }
    var actions = notify(decision) + acknowledge(at: now)
    if place?.isLooking == false { actions.append(.confirmed) }
    lastBatch = now
    settling.moved(captured: decision.captured.count, at: now)
    if let gap = decision.gap { actions.append(.notify(.gap(gap))) }
    guard let channel else { return actions }
    if let jump = decision.jump, !settings.isFiltered, toldOfJump != channel.generation {
      toldOfJump = channel.generation
      actions.append(.notify(.jump(jump)))
    }
    if channel.queue.isNearLimit(returns: decision.returns), warned != channel.generation {
      warned = channel.generation
      actions.append(.notify(.nearLimit(returns: decision.returns, limit: channel.queue.deliveryLimit ?? 0)))
    }
    if let reason = decision.startsOver {
      abandoned = channel.generation
      if reason == .anotherStream { actions += [.notify(.anotherStream), .forgetStream] }
      actions.append(.startOver(StartOver(generation: channel.generation, reason: reason)))
    }
    return actions
  }

  /// What was reported is durable.
  mutating func bookkept(_ written: Written, at now: Instant) -> [Action] {
    self.written = written
    return acknowledge(at: now)
  }

  /// What was decided about a batch has its positions.
  private mutating func note(_ decision: Decision, after before: Position) {
    for recognised in decision.recognised {
      let place = Mutant.misplacesTheRecognised.isOn ? before : position(of: recognised.count)
      acknowledgements?.appended(tag: recognised.tag, at: place)
    }
    decision.forEachTag { tag, number in
      acknowledgements?.appended(tag: tag, at: before + number)
    }
  }

  /// Tells the connection what matters to it of a batch on a narrow channel, before anything of it is acknowledged.
  private func notify(_ decision: Decision) -> [Action] {
    guard let channel, let prefetch = channel.narrowPrefetch, redelivery?.isHolding != true else { return [] }
    var actions: [Action] = []
    let count = decision.captured.count
    if channel.isDoubtful ? count > 0 : decision.hasFresh { actions.append(.fresh(channel.generation)) }
    // Also if something else came: more of it at a time could come back out of order.
    if prefetch > 1, count > 0 || !decision.recognised.isEmpty { actions.append(.cleared(channel.generation)) }
    return actions
  }

  /// Lets the broker forget what the last commit made safe, and what the runtime has committed.
  mutating func acknowledge(at now: Instant) -> [Action] {
    let acknowledgement: Acknowledgement?
    if let redelivery {
      let releasable = position(of: redelivery.releasable)
      acknowledgement =
        acknowledgements?.journalCommitted(through: releasable)
        ?? acknowledgements?.runtimeCommitted(through: releasable)
    } else {
      acknowledgement =
        acknowledgements?.journalCommitted(through: journaled)
        ?? acknowledgements?.runtimeCommitted(through: written.committed)
    }
    guard let acknowledgement else { return [] }
    settling.moved(captured: 0, at: now)
    return [.acknowledge(acknowledgement)]
  }
}
