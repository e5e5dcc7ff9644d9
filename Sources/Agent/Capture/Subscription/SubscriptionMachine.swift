import Journal
import Platform

/// Decides about the deliveries of one queue, from their arrival to their acknowledgement: which are captured, in which order the
/// journal's thread works, what the broker may forget and when, and how what was captured comes to rest. (Whether there is room to write,
/// ``SpaceGate`` says; what is too large for a document, `Intake`.)
///
/// The journal's thread is the one that runs it, by ``JournalMachine``, which has one for each subscription. Other threads report to it by
/// ``JournalInbox``, and are told by the actions, which the loop performs as they come, one after the other. The machine has no clock: it
/// is told the time, and says until when it has nothing to do.
///
/// ```
///              ┌──────────── next ────────────┐
///   inbox ───► │ drop · begin · batch         │ ──► Intake asks `delivered` for each delivery, and moves the bytes
///              │ answer · returning · idle    │ ──► `written`, once the transaction is durable ──► acknowledge, start over, …
///              │ intakeEnded                  │
///              └──────────────────────────────┘
/// ```
///
/// Invariants
///   - An acknowledgement is an action of ``written(_:through:releasable:at:)``, ``bookkept(releasable:at:)`` or ``recorded(at:)``, which
///     are told after their transaction: in `journaled` mode of nothing that is not durable, in `committed` mode of nothing that the runtime has not
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
    /// Which of the capture's subscriptions it is.
    var index = 0
    /// Nil with `no_ack`, since the broker expects no acknowledgement.
    var mode: AcknowledgementMode?
    /// Why deliveries can be recognised.
    var trust = RedeliveryMachine.Trust.none
    /// How many messages were captured before the subscription's first number in the journal.
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
    /// Nothing has come for a while.
    case idle
    /// No further batch will come.
    case intakeEnded
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

  /// After so long without a delivery those that wait for the anchor are taken for new.
  static let silence = Duration.seconds(5)

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
  /// The number of the newest captured message, and its position; before the first of this process the journal's newest.
  var captured: Position
  var journaled: Position
  /// What is durable of what checkpoints have allowed; before the first, what was committed.
  private(set) var released: Position
  /// How many steps of settlings checkpoints were asked to carry.
  var steps = 0
  /// The record that is being written says that the broker has the acknowledgement of a settling.
  var isConcluding = false
  /// When the last batch was written.
  private(set) var lastBatch: Instant
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
  ///   - captured: The number of the newest message in the journal.
  ///   - committed: The number of the newest message that was committed downstream; nil if that is `captured`.
  ///   - journaled: The newest position of the journal.
  init(
    _ settings: Settings, redelivery: RedeliveryMachine?, captured: Position, committed: Position? = nil,
    journaled: Position, at now: Instant
  ) {
    released = committed ?? captured
    self.settings = settings
    self.redelivery = redelivery
    self.captured = captured
    self.journaled = journaled
    plannedLine = redelivery?.lineStart ?? 0
    settling = SettlingMachine(at: now)
    lastBatch = now
    acknowledgements = settings.mode.map { mode in
      AcknowledgementMachine(
        mode: mode, safe: redelivery.map { Position(rawValue: $0.releasable - settings.base) } ?? .origin)
    }
  }

  /// The journal's number of the `count`-th captured message; below 1 for those of before the journal.
  func position(of count: Int64) -> Position { Position(rawValue: count - settings.base) }

  // MARK: - What is next

  /// What has come and is to be done before anything else; nil if nothing has. Of what it gives, the inbox is rid, but for the batch.
  mutating func next(_ inbox: inout JournalInbox) -> Work? {
    received(inbox)
    let index = settings.index
    if let channel = inbox.subscriptions[index].handover?.channel {
      if channel.generation == abandoned, !Mutant.readsOnAfterStartingOver.isOn { return .drop }
      return channel.generation == self.channel?.generation ? .batch : .begin(channel)
    }
    if let answer = inbox.subscriptions[index].answer.take() { return .answer(answer) }
    if inbox.subscriptions[index].asksForReturning {
      inbox.subscriptions[index].asksForReturning = false
      return .returning
    }
    return inbox.subscriptions[index].intakeEnded && !hasEnded ? .intakeEnded : nil
  }

  /// What is reported now decides from here on.
  mutating func received(_ inbox: JournalInbox) {
    let own = inbox.subscriptions[settings.index]
    reports = Reports(
      consuming: own.consuming?.generation, isArriving: own.isArriving, settledGeneration: own.settledGeneration,
      failed: inbox.failed, acknowledgementsEnded: inbox.acknowledgementsEnded)
  }

  /// A channel to which nothing comes, and on which there is only something to find out; nil if there is none.
  func unseen(_ inbox: JournalInbox) -> Consuming? {
    guard redelivery?.awaitsSettled == true, let consuming = inbox.subscriptions[settings.index].consuming,
      consuming.generation != channel?.generation
    else { return nil }
    return consuming
  }

  /// When something is to be done although nothing comes; nil if nothing is.
  var idleDeadline: Instant? {
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
  var isShort: Bool {
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
      note(decision, after: captured)
      return acknowledge(at: lastBatch)
    }
    guard !decision.rejected.isEmpty, let generation = channel?.generation else { return [] }
    return [.reject(decision.rejected.map { Acknowledgement(generation: generation, tag: $0) })]
  }

  /// The messages of a batch, and what rides along, are durable.
  ///
  /// - Parameters:
  ///   - last: The position of the newest of them.
  ///   - releasable: What checkpoints have allowed, as ``writing(_:releasable:)`` was told.
  mutating func written(
    _ decision: Decision, through last: Position, releasable: Position?, at now: Instant
  ) -> [Action] {
    released = releasable ?? released
    if !Mutant.acknowledgesBeforeCommit.isOn { note(decision, after: captured) }
    captured = captured + decision.captured.count
    if !decision.captured.isEmpty { journaled = last }
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
  mutating func bookkept(releasable: Position?, at now: Instant) -> [Action] {
    released = releasable ?? released
    return acknowledge(at: now)
  }

  /// What was decided about a batch has its numbers.
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
        acknowledgements?.journalCommitted(through: captured)
        ?? acknowledgements?.runtimeCommitted(through: released)
    }
    guard let acknowledgement else { return [] }
    settling.moved(captured: 0, at: now)
    return [.acknowledge(acknowledgement)]
  }
}
