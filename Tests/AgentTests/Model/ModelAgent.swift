import Journal
import Platform
import Support

@testable import AMQP
@testable import Agent

/// One configuration of broker, agent and runtime.
struct ModelSetup: Hashable {
  var kind: ModelBroker.Kind
  var mode: AcknowledgementMode
  /// What each message looks like.
  var payloads: [Int]
  var anchor = 4
  var prefetch = 12
  /// The prefetch count of a session that starts with looking for the anchor.
  var matchingPrefetch = 12
  /// How many acknowledgements a crash of a classic queue's broker takes back at the most.
  var regressLimit = 0
  /// Redeliveries are recognised by their ids: each message has one, and payloads are distinct.
  var byMessageID = false
  /// The queue may be found idle, and the anchor be acknowledged.
  var settles = false
  /// Messages that look like captured ones may come while a settling is under way, too.
  var publishesWhileSettling = false

  /// No two messages are alike.
  var areDistinct: Bool { Set(payloads).count == payloads.count }
}

/// What survives the agent's process: in `journaled` mode the journal, in `committed` mode the runtime's state.
struct ModelRecord: Hashable {
  var captured = 0
  var releasable = 0
  var settled = 0
  /// Payloads of everything captured.
  var window: [Int] = []
  var lineStart = 0
}

/// The agent: its machines, and what its threads tell one another, as the loops do it, one step at a time. It decides nothing: it moves
/// what the machines ask for. Payloads stand for bytes.
struct ModelAgent {
  /// A transaction that the journal's thread is about to commit.
  enum Transaction {
    case batch(SubscriptionMachine.Decision, [ModelDelivery], JournalMachine.Written)
    case record
  }

  let setup: ModelSetup
  private var journal: JournalMachine
  private var connection: ConnectionMachine
  private var capture: CaptureMachine
  /// The deliveries of the batch in the inbox.
  private var arrived: [ModelDelivery] = []
  private(set) var commands = ConnectionCommands()
  private(set) var transaction: Transaction?
  /// What is to be done after it.
  private var todo: [SubscriptionMachine.Action] = []
  /// Bytes of the deliveries that wait for a verdict.
  private var held: [ModelDelivery] = []
  /// The emitter's.
  private var emission: EmissionMachine
  private var release: ReleaseTrail
  private var ledger = CheckpointLedger()
  private var hasFailed = false
  /// What a user is told.
  private var health = StatusBoard.State.starting
  /// How often the end of a capture has allowed what it must not, or its health has said what is not so.
  private(set) var broken = 0

  /// A new process.
  init(_ setup: ModelSetup, from record: ModelRecord) {
    self.setup = setup
    let redelivery = RedeliveryMachine(
      anchor: setup.byMessageID ? 0 : setup.anchor, windowLimit: 4096,
      captured: Int64(record.captured), releasable: Int64(record.releasable), window: record.window.map(Self.digest),
      priority: nil, prioritySince: 0, prefetch: setup.matchingPrefetch, byMessageID: setup.byMessageID,
      lineStart: Int64(record.lineStart), settled: Int64(record.settled))
    let last = Position(rawValue: Int64(record.captured))
    let trust: RedeliveryMachine.Trust = setup.byMessageID ? .none : setup.kind == .classic ? .exclusive : .sole
    let subscription = SubscriptionMachine(
      SubscriptionMachine.Settings(mode: setup.mode, trust: trust, prefetch: setup.prefetch), redelivery: redelivery,
      captured: last, journaled: last, at: 0)
    journal = JournalMachine([subscription], written: JournalMachine.Written(emitted: last, committed: last))
    connection = ConnectionMachine(ConnectionMachine.Settings(queue: "q", prefetch: setup.prefetch))
    capture = CaptureMachine(Lifecycle(awaitsCommit: setup.mode == .committed), journaled: last, start: last)
    emission = EmissionMachine(start: last, tellsLast: false)
    release = ReleaseTrail(
      anchor: redelivery.anchor, releasable: Position(rawValue: redelivery.releasable),
      settled: Position(rawValue: redelivery.settled))
  }

  private static func digest(_ payload: Int) -> DeliveryDigest { DeliveryDigest(high: 0, low: UInt64(payload)) }

  private(set) var machine: SubscriptionMachine {
    get { journal.subscriptions[0] }
    set { journal.subscriptions[0] = newValue }
  }
  private var redelivery: RedeliveryMachine { machine.redelivery! }
  var inbox: JournalInbox { capture.inbox }
  private var progress: JournalProgress { capture.progress }

  /// The channel in use; nil if there is none.
  var channel: ChannelMachine? { connection.channel?.commands }

  // MARK: The connection thread

  /// - Returns: The prefetch count to consume with.
  mutating func connected() -> Int {
    _ = connection.prepare(returning: nil, newest: nil)
    let nature = QueueNature(
      kind: setup.kind == .classic ? .classic : .quorum, hasPriorities: false, countsAcquisitions: false)
    let (channel, orders) = connection.began(consumerTag: "c", nature, nil, offset: nil, at: 0)
    for case .status(let state) in orders { health = state }
    if health != .consuming { broken += 1 }
    _ = capture.consumes(channel, of: 0)
    return redelivery.unacknowledged > 0 ? setup.matchingPrefetch : setup.prefetch
  }

  mutating func disconnected() {
    let (actions, _) = connection.ended(.startOver(.takenBack), nil, at: 0, jitter: 0)
    for case .status(let state) in actions { health = state }
    if health == .consuming { broken += 1 }
    _ = capture.consumes(nil, of: 0)
  }

  /// True if something of the journal's waits for the connection.
  var hasCommands: Bool {
    commands.acknowledgement != nil || commands.question != nil || commands.startOver != nil
      || !commands.rejected.isEmpty
  }

  /// - Returns: What goes to the broker, and whether the channel is given up.
  mutating func obey() -> (orders: [ChannelMachine.Order], startsOver: Bool) {
    let taken = commands
    commands = ConnectionCommands()
    var (orders, startsOver) = ([ChannelMachine.Order](), false)
    for order in connection.received(taken, isEmpty: true, takesBatch: true, offset: nil, at: 0) {
      if case .command(let order) = order { orders.append(order) }
      if case .end = order { startsOver = true }
    }
    return (orders, startsOver)
  }

  /// The broker's answer came on the channel, after which it had `messages`.
  mutating func answered(messages: Int, hasUnread: Bool) {
    let reading = ConnectionMachine.Reading(
      waiting: hasUnread ? 1 : 0, orderedAnswer: QueueStatus(name: "q", messages: UInt32(messages), consumers: 1))
    for case .answer(let answer) in connection.read(reading, at: 0) { _ = capture.answered(answer, of: 0) }
  }

  var hasHandover: Bool { inbox.handover != nil }

  mutating func handOver(_ deliveries: [ModelDelivery]) {
    if let channel = inbox.consuming {
      _ = capture.handedOver(Handover(channel: channel, batch: DeliveryBatch()), of: 0)
    }
    arrived = deliveries
  }

  // MARK: The journal thread

  /// What the journal's thread does next: at once, or once time has passed and nothing has come.
  func work(afterRest: Bool) -> JournalMachine.Work? {
    guard transaction == nil else { return nil }
    var (journal, inbox) = (journal, inbox)
    guard case .now(let work) = journal.next(&inbox, at: afterRest ? .distantFuture : 0) else { return nil }
    return work
  }

  mutating func work(at now: Instant) {
    guard case .now(let work) = journal.next(&capture.inbox, at: now) else { return }
    let deliveries = arrived
    if !work.takes.isEmpty { (capture.inbox.handover, arrived) = (nil, []) }
    switch work {
    case .look, .close: break
    case .batches: decide(deliveries)
    case .subscription(_, let work): self.work(work, at: now)
    case .bookkeeping:
      let reported = JournalMachine.Written(inbox)
      for (_, actions) in journal.writing([], reported) { perform(actions) }
      // No one hears of it before it is durable, and in `committed` mode nothing of it outlives the process.
      for (_, actions) in journal.bookkept(reported, at: 0) { perform(actions) }
    }
  }

  private mutating func work(_ work: SubscriptionMachine.Work, at now: Instant) {
    switch work {
    case .drop, .batch: break
    case .begin(let channel):
      held = []
      perform(machine.began(channel, place: nil, at: 0))
      // Nothing that others do in between matters to it.
      if hasHandover { self.work(at: now) }
    case .answer(let answer): perform(machine.answered(answer, at: 0))
    case .returning: perform(machine.returning())
    case .idle: checked { $0.perform($0.machine.idle(at: now)) }
    case .intakeEnded: checked { $0.perform($0.machine.intakeEnded()) }
    }
  }

  /// The capture is to end: it was asked to, or its runtime has gone away and it may be killed any moment.
  ///
  /// - Parameter hasRuntime: Checkpoints are still acknowledged.
  mutating func stop(failed: Bool, hasRuntime: Bool) {
    let failure = CaptureFailure(cause: "runtime", description: "the runtime has gone away", needsUser: false)
    _ = failed ? capture.fail(failure) : capture.requestStop()
    _ = capture.next(at: 0)
    if !hasRuntime { _ = capture.acknowledgementsEnded() }
    hasFailed = failed
  }

  /// The connection has handed over what it has. What has arrived, and was not handed over, comes again.
  mutating func drain() { _ = capture.intakeEnded(of: 0) }

  /// Work that may be part of a capture's end.
  private mutating func checked(_ work: (inout ModelAgent) -> Void) {
    let (before, isHolding, settlement) = (redelivery.releasable, redelivery.isHolding, progress.settlements)
    work(&self)
    // A failed capture keeps its anchor, as does one that has yet to know what is old; and no one hears of a step if no runtime is there.
    if hasFailed || isHolding && isStopping, redelivery.releasable > before { broken += 1 }
    if inbox.acknowledgementsEnded, progress.settlements != settlement { broken += 1 }
  }

  /// It was told to stop.
  var isStopping: Bool { inbox.stopping }

  /// All that it was to do before its end is done, or it is given no time to.
  var mayEnd: Bool {
    guard isStopping, !hasFailed else { return isStopping }
    let isIdle = transaction == nil && work(afterRest: false) == nil
    return machine.hasEnded && isIdle && (!hasCommands || channel == nil)
  }

  /// Moves the deliveries, as `Intake` does.
  private mutating func decide(_ deliveries: [ModelDelivery]) {
    var (decision, rows) = (SubscriptionMachine.Decision(), [ModelDelivery]())
    moving: for delivery in deliveries {
      let seen = RedeliveryMachine.Delivery(
        digest: Self.digest(setup.payloads[delivery.message]), redelivered: delivery.redelivered,
        marks: DeliveryMarks(priority: nil, deliveryCount: delivery.returns, hasMessageID: setup.byMessageID))
      switch machine.delivered(delivery.tag, seen, &decision) {
      case .capture: rows.append(delivery)
      case .captureHeld: (rows, held) = (rows + held + [delivery], [])
      case .hold: held.append(delivery)
      case .holdForgetting(let count): held = Array((held + [delivery]).dropFirst(count))
      case .pass: break
      case .forgetHeld: held = []
      case .startOver:
        held = []
        break moving
      }
    }
    write(decision, rows)
  }

  private mutating func write(_ decision: SubscriptionMachine.Decision, _ rows: [ModelDelivery]) {
    let reported = JournalMachine.Written(inbox)
    perform(machine.writing(decision, releasable: reported.released(of: 0)))
    // What the machine has decided is what is written.
    let written = decision.captured.compactMap { tag in rows.first { $0.tag == tag } }
    transaction = .batch(decision, written, reported)
  }

  /// The transaction's end.
  ///
  /// - Returns: The messages appended.
  mutating func commit(_ record: inout ModelRecord) -> [Int] {
    guard let transaction = transaction.take() else { return [] }
    record.releasable = Int(redelivery.releasable)
    record.settled = Int(redelivery.settled)
    record.lineStart = Int(redelivery.lineStart)
    var appended: [Int] = []
    switch transaction {
    case .batch(let decision, let rows, let written):
      appended = rows.map(\.message)
      record.captured += rows.count
      record.window += appended.map { setup.payloads[$0] }
      let last = Position(rawValue: Int64(record.captured))
      _ = capture.journaled(through: last, [(0, rows.count)])
      _ = journal.bookkept(written, at: 0, but: [0])
      perform(machine.written(decision, through: last, releasable: written.released(of: 0), at: 0))
    case .record:
      machine.received(inbox)
      perform(machine.recorded(at: 0) + todo.take())
    }
    return appended
  }

  private mutating func perform(_ actions: [SubscriptionMachine.Action]) {
    for (index, action) in actions.enumerated() {
      switch action {
      case .acknowledge(let acknowledgement): commands.acknowledgement = acknowledgement
      case .reject(let rejected): commands.rejected += rejected
      case .ask(let generation): commands.question = generation
      case .startOver(let startOver): commands.startOver = startOver
      case .carry(let settlement): _ = capture.carries(settlement)
      case .ended(let isSettled): _ = capture.rowsEnded(of: 0, isSettled: isSettled)
      case .fresh, .cleared, .confirmed, .forgetStream, .returning, .notify: break
      case .captureHeld(let decision): write(decision, held.take())
      case .record:
        transaction = .record
        todo = Array(actions[(index + 1)...])
        return
      }
    }
  }

  // MARK: The emitter's and the runtime's part (`committed` mode)

  /// A checkpoint would carry something.
  var canEmit: Bool {
    var (capture, emission) = (capture, emission)
    switch emission.next(&capture) {
    case .rows, .checkpoint: return true
    case .end, nil: return false
    }
  }

  /// The state to write after the documents of everything journaled, as `RedeliveryTrail` makes it.
  mutating func checkpoint(_ journal: ModelRecord) -> ModelRecord {
    var step: Settlement.Step?
    switch emission.next(&capture) {
    case .rows: emission.wrote(through: progress.journaled)
    case .checkpoint(let carried, _): step = carried?.step
    case .end, nil: break
    }
    release.checkpoint(through: emission.emitted, step: step)
    ledger.written(Checkpoint(through: emission.emitted, releasable: release.releasable))
    var state = journal
    state.releasable = Int(release.releasable.rawValue)
    state.settled = Int(release.settled.rawValue)
    state.window = Array(
      state.window.suffix(setup.byMessageID ? 4 * setup.prefetch : max(setup.prefetch, setup.anchor)))
    return state
  }

  /// The runtime has committed the `count` oldest checkpoints.
  mutating func runtimeAcknowledged(_ count: Int) {
    if let checkpoint = ledger.acknowledged(count) { _ = capture.committed(checkpoint) }
  }

  // MARK: Comparing

  /// What was captured may come again, or be published again and be taken for it: between a settling's first step and its last.
  var isSettling: Bool {
    redelivery.releasable == redelivery.captured && redelivery.settled < redelivery.captured
      || progress.settlements[0].map { $0.number > emission.steps[0] ?? 0 } ?? false
  }

  /// Everything that decides about the future, as 64 bits: among a million states two are taken for one with a probability of one in
  /// thirty million.
  func encode(into key: inout [UInt8]) {
    var hasher = Hasher()
    hash(into: &hasher)
    let hash = hasher.finalize()
    for byte in 0..<8 { key.append(UInt8(truncatingIfNeeded: hash >> (8 * byte))) }
  }

  private func hash(into hasher: inout Hasher) {
    // What decides about nothing that the model looks at, or is looked up anew before it does.
    var machine = machine
    (machine.reports, machine.plannedLine) = (SubscriptionMachine.Reports(), 0)
    if !setup.settles { machine.settling = SettlingMachine(at: 0) }
    var journal = journal
    journal.subscriptions[0] = machine
    hasher.combine(journal)
    hasher.combine(channel?.generation)
    hasher.combine(connection.generation)
    hasher.combine(inbox.handover?.channel)
    hasher.combine(inbox.consuming)
    hasher.combine(inbox.subscriptions[0].answer)
    hasher.combine([inbox.emitted, inbox.committed, inbox.subscriptions[0].releasable])
    hasher.combine([inbox.intakeEnded, inbox.failed, inbox.acknowledgementsEnded, inbox.closing])
    hasher.combine(hasFailed)
    hasher.combine(broken)
    hasher.combine(arrived)
    hasher.combine(held)
    hasher.combine(commands.acknowledgement)
    hasher.combine(commands.rejected)
    hasher.combine(commands.question)
    hasher.combine(commands.startOver)
    hasher.combine(progress.journaled)
    hasher.combine(emission)
    hasher.combine(progress.settlements)
    hasher.combine([progress.ended, progress.isSettled])
    hasher.combine(release)
    hasher.combine(ledger)
    hasher.combine(todo.count)
    switch transaction {
    case nil: hasher.combine(0)
    case .batch(let decision, let rows, let written):
      hasher.combine(decision)
      hasher.combine(rows)
      hasher.combine(written)
    case .record: hasher.combine(1)
    }
  }
}

extension Array {
  /// Gives everything away.
  mutating func take() -> [Element] {
    defer { self = [] }
    return self
  }
}
