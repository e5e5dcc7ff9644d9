import AMQP
import Journal

@testable import Agent

/// Mistakes that the model's agent can be told to make. A model that does not notice them proves nothing.
enum ModelMutant: CaseIterable, Hashable {
  /// A batch is acknowledged before its commit.
  case acknowledgesBeforeCommit
  /// Everything captured is acknowledged: w := n.
  case keepsNoAnchor
  /// A new process starts with an empty window.
  case forgetsTheWindow
  /// What the broker flags as redelivered is taken for old.
  case trustsTheFlag
  /// What looks like a captured message of the window in doubt is taken for old.
  case trustsTheDigest
  /// The end of the captured sequence is accepted although less than the anchor came.
  case acceptsLessThanTheAnchor
  /// As many fitting deliveries as the anchor is long are accepted, although the captured sequence goes on behind them.
  case acceptsBeforeTheEnd
  /// Deliveries that waited in vain are forgotten instead of captured.
  case dropsTheHeld
  /// Acknowledgements of a dead channel are sent on the new one.
  case acknowledgesOnAnotherChannel
  /// An idle queue is settled although no connection is there to acknowledge on.
  case settlesWithoutAConnection
  /// Deliveries of a dead channel are captured because no more of them come.
  case capturesTheHeldOfADeadChannel
  /// What comes again within a channel is captured like anything that is new.
  case capturesWhatWasTakenBack
  /// What comes again within a channel, and looks like the anchor, is taken for it there and then.
  case recognisesWithinTheChannel
  /// A channel that is given up for another goes on being read.
  case readsOnAfterStartingOver
  /// The first step of a settling is left out: its acknowledgement goes out before it is durable that it may.
  case settlesBeforeItIsDurable
  /// The second: the broker is not asked, and what was acknowledged is settled.
  case settlesWithoutAnAnswer
  /// The third: that the broker has answered is never made durable, and what was settled is looked for as long as nothing new
  /// comes.
  case neverSettles
  /// An answer of another channel, or in front of deliveries, settles.
  case settlesByAnyAnswer
  /// An answer settles although another consumer, whose end the broker has not noticed, may hold the messages.
  case overlooksOtherConsumers
  /// What the queue takes back after a settling is captured like anything that is new.
  case forgetsWhatWasSettled

  /// It shows in small cases, of which every interleaving can be tried.
  var isOfSettling: Bool {
    switch self {
    case .settlesBeforeItIsDurable, .settlesWithoutAnAnswer, .neverSettles, .settlesByAnyAnswer,
      .overlooksOtherConsumers, .forgetsWhatWasSettled:
      true
    default: false
    }
  }
}

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
  var mutant: ModelMutant?

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

/// The agent: the real `RedeliveryMachine` and `AcknowledgementMachine`, and around them what `ConnectionLoop`,
/// `Intake` and `JournalLoop` do, one step at a time and without I/O.
struct ModelAgent {
  /// What `prepare` has decided about a batch, before its commit.
  struct Plan {
    var rows: [ModelDelivery] = []
    var recognised: [(tag: UInt64, position: Int)] = []
    /// Recognised by their ids, with how many of `rows` come before each.
    var known: [(tag: UInt64, behind: Int)] = []
  }

  struct Handover: Hashable {
    var generation: Int
    var deliveries: [ModelDelivery]
  }

  let setup: ModelSetup
  private(set) var machine: RedeliveryMachine
  private var acknowledgements: AcknowledgementMachine
  /// The channel in use; nil where there is none.
  private(set) var channel: Int?
  private var generation = 0
  /// The channel that the journal thread works on; 0 before the first.
  private var consumer = 0
  private(set) var handover: Handover?
  private(set) var plan: Plan?
  private(set) var mailbox: Acknowledgement?
  private(set) var held: [ModelDelivery] = []
  /// What was appended or recognised on this channel and not acknowledged, for comparing states.
  private var waiting: [(tag: UInt64, position: Int)] = []
  private var safe: Int
  /// How far acknowledgements are allowed by the last checkpoint emitted.
  private var emittedReleasable: Int
  private var settledByCheckpoint: Int
  private var settling = SettlingMachine(at: 0)
  /// A step of a settling that a checkpoint shall carry, if nothing more is captured until then.
  private(set) var settlement: Settlement?
  /// The channel is to be asked for the queue behind the acknowledgements.
  private(set) var question: Int?
  /// How many questions of the channel have no answer yet: as `Connection` does, only the newest one's is passed on.
  private var questions = 0
  /// The broker's answer, with its channel.
  private(set) var answer: Int?
  /// State of the checkpoints that the runtime has not acknowledged yet.
  private var outstanding: [ModelRecord] = []
  /// The channel that is to be given up for another; 0 where none is.
  private var abandoned = 0

  /// A new process.
  init(_ setup: ModelSetup, from record: ModelRecord) {
    self.setup = setup
    let digests = setup.mutant == .forgetsTheWindow ? [] : record.window.map(Self.digest)
    machine = RedeliveryMachine(
      anchor: setup.mutant == .keepsNoAnchor || setup.byMessageID ? 0 : setup.anchor, windowLimit: 4096,
      captured: Int64(record.captured), releasable: Int64(record.releasable), window: digests, priority: nil,
      prioritySince: 0, prefetch: setup.matchingPrefetch, byMessageID: setup.byMessageID,
      lineStart: Int64(record.lineStart),
      settled: Int64(record.settled)
    )
    acknowledgements = AcknowledgementMachine(
      mode: setup.mode, safe: Position(rawValue: machine.releasable))
    safe = Int(machine.releasable)
    emittedReleasable = Int(machine.releasable)
    settledByCheckpoint = Int(machine.settled)
  }

  private static func digest(_ payload: Int) -> DeliveryDigest { DeliveryDigest(high: 0, low: UInt64(payload)) }

  private var trust: RedeliveryMachine.Trust {
    if setup.byMessageID { return .none }
    return setup.kind == .classic ? .exclusive : .sole
  }

  private var nature: QueueNature {
    QueueNature(kind: setup.kind == .classic ? .classic : .quorum, hasPriorities: false, countsAcquisitions: false)
  }

  // MARK: The connection thread

  /// The channel in use is to be closed, and another to be opened.
  var startsOver: Bool { channel != nil && channel == abandoned }

  /// - Returns: The prefetch count to consume with.
  mutating func connected() -> Int {
    generation += 1
    channel = generation
    questions = 0
    return machine.unacknowledged > 0 ? setup.matchingPrefetch : setup.prefetch
  }

  mutating func disconnected() { channel = nil }

  /// - Returns: True if the broker is to be asked.
  mutating func takeQuestion() -> Bool {
    defer { question = nil }
    guard question != nil && question == channel else { return false }
    questions += 1
    return true
  }

  /// The broker's answer came on the channel; `isLast` where nothing came in front of it that was not handed over.
  mutating func answered(isLast: Bool) {
    questions -= 1
    if isLast && questions == 0 || setup.mutant == .settlesByAnyAnswer { answer = generation }
  }

  mutating func handOver(_ deliveries: [ModelDelivery]) {
    handover = Handover(generation: generation, deliveries: deliveries)
  }

  /// - Returns: The tag to acknowledge; nil where it belongs to another channel.
  mutating func takeAcknowledgement() -> UInt64? {
    defer { mailbox = nil }
    guard let mailbox, channel != nil else { return nil }
    return mailbox.generation == channel || setup.mutant == .acknowledgesOnAnotherChannel ? mailbox.tag : nil
  }

  // MARK: The journal thread

  /// Decides about the batch that was handed over.
  mutating func take() {
    guard let taken = handover.take() else { return }
    if taken.generation == abandoned && setup.mutant != .readsOnAfterStartingOver { return }
    if consumer != taken.generation { begin(taken.generation) }
    var plan = Plan()
    deliveries: for delivery in taken.deliveries {
      switch verdict(on: delivery) {
      case .capture: plan.rows.append(delivery)
      case .known: plan.known.append((delivery.tag, plan.rows.count))
      case .hold: held.append(delivery)
      case .holdBehindOld(let count, let newest):
        held.append(delivery)
        for (index, old) in held.prefix(count).enumerated() {
          plan.recognised.append((old.tag, Int(newest) - (count - 1 - index)))
        }
        held.removeFirst(count)
      case .startOver:
        held = []
        abandoned = taken.generation
        break deliveries
      case .captureHeld:
        if setup.mutant != .dropsTheHeld { plan.rows += held }
        plan.rows.append(delivery)
        held = []
      case .recognised(let count):
        for (index, old) in (held + [delivery]).enumerated() {
          plan.recognised.append((old.tag, Int(machine.captured) - (count - 1 - index)))
        }
        held = []
      }
    }
    prepared(plan)
  }

  /// The first of a channel; without deliveries where only an answer is to be waited for.
  mutating func begin(_ generation: Int) {
    consumer = generation
    held = []
    waiting = []
    settling.channelOpened(
      isAlone: setup.kind == .classic || setup.mutant == .overlooksOtherConsumers, at: 0)
    acknowledgements.channelOpened(generation: generation)
    machine.sessionStarted(trust, on: nature)
  }

  /// True where a channel consumes on which nothing has come, and a settling waits for its answer.
  var canBegin: Bool {
    guard let channel, channel != consumer, channel != abandoned else { return false }
    return machine.awaitsSettled && handover == nil && plan == nil
  }

  /// Nothing came for a while and nothing will: those that wait are new.
  mutating func silence() {
    guard machine.silent() else { return }
    let plan = Plan(rows: setup.mutant == .dropsTheHeld ? [] : held)
    held = []
    prepared(plan)
  }

  /// Nothing came for a while: the next step of a settling.
  mutating func settle() {
    perform(settling.due(machine, at: .infinity))
  }

  private mutating func perform(_ action: SettlingMachine.Action?) {
    switch action {
    case nil: break
    case .ask where setup.mutant == .settlesWithoutAnAnswer: perform(.conclude)
    case .ask: question = consumer
    case .conclude:
      machine.confirmSettled()
      guard setup.mutant != .neverSettles else { return }
      if setup.mode == .journaled {
        plan = Plan()
      } else {
        settlement = Settlement(
          position: Position(rawValue: machine.captured), step: .settled, isCarried: true, number: 1)
      }
    case .release:
      guard setup.mode == .journaled else {
        settlement = Settlement(
          position: Position(rawValue: machine.captured), step: .settling, isCarried: true, number: 1)
        if setup.mutant == .settlesBeforeItIsDurable { acknowledgeEverything() }
        return
      }
      machine.settling()
      plan = Plan()
      if setup.mutant == .settlesBeforeItIsDurable { acknowledge(Plan(), behind: Int(machine.captured)) }
    }
  }

  private mutating func acknowledgeEverything() {
    machine.released(through: machine.captured)
    release(
      through: Int(machine.captured), acknowledgements.runtimeCommitted(through: Position(rawValue: machine.captured)))
  }

  /// The answer came through.
  mutating func takeAnswer() {
    guard let answer = answer.take() else { return }
    if setup.mutant == .settlesByAnyAnswer { return perform(.conclude) }
    guard answer == consumer else { return }
    perform(settling.answered(consumers: 1, messages: 0, at: 0))
  }

  private mutating func prepared(_ plan: Plan) {
    self.plan = plan
    // In committed mode the checkpoints say how far acknowledgements may go.
    if setup.mode == .journaled { _ = machine.committing() }
    if setup.mutant == .acknowledgesBeforeCommit { acknowledge(plan, behind: Int(machine.captured) - plan.rows.count) }
  }

  /// The transaction's end.
  ///
  /// - Returns: The messages appended.
  mutating func commit(_ record: inout ModelRecord) -> [Int] {
    guard let plan = plan.take() else { return [] }
    let before = record.captured
    record.captured += plan.rows.count
    record.releasable = Int(machine.releasable)
    record.settled = Int(machine.settled)
    record.window += plan.rows.map { setup.payloads[$0.message] }
    record.lineStart = Int(machine.lineStart)
    settling.moved(captured: plan.rows.count, at: 0)
    if setup.mutant != .acknowledgesBeforeCommit { acknowledge(plan, behind: before) }
    return plan.rows.map(\.message)
  }

  private mutating func acknowledge(_ plan: Plan, behind before: Int) {
    for recognised in plan.recognised { appended(recognised.tag, at: recognised.position) }
    Intake.forEachTag(of: plan.rows.map(\.tag), known: plan.known) { tag, number in appended(tag, at: before + number) }
    let releasable = Position(rawValue: machine.releasable)
    release(
      through: Int(machine.releasable),
      acknowledgements.journalCommitted(through: releasable) ?? acknowledgements.runtimeCommitted(through: releasable))
  }

  private mutating func appended(_ tag: UInt64, at position: Int) {
    acknowledgements.appended(tag: tag, at: Position(rawValue: Int64(position)))
    waiting.append((tag, position))
  }

  private mutating func release(through position: Int, _ acknowledgement: Acknowledgement?) {
    safe = max(safe, position)
    if let acknowledgement {
      settling.moved(captured: 0, at: 0)
      mailbox = acknowledgement
      waiting.removeAll { $0.tag <= acknowledgement.tag }
    }
  }

  // MARK: The emitter's and the runtime's part (`committed` mode)

  /// The state to write behind the documents of everything journaled, as `RedeliveryTrail` makes it.
  mutating func checkpoint(_ journal: ModelRecord) -> ModelRecord {
    let step = settlement?.position == Position(rawValue: Int64(journal.captured)) ? settlement?.step : nil
    settlement = nil
    switch step {
    case nil: emittedReleasable = max(emittedReleasable, journal.captured - machine.anchor)
    case .settling:
      if emittedReleasable < journal.captured { settledByCheckpoint = emittedReleasable }
      emittedReleasable = journal.captured
    case .settled:
      emittedReleasable = journal.captured
      settledByCheckpoint = journal.captured
    }
    var state = journal
    state.releasable = emittedReleasable
    state.settled = settledByCheckpoint
    state.window = Array(
      state.window.suffix(setup.byMessageID ? 4 * setup.prefetch : max(setup.prefetch, setup.anchor)))
    outstanding.append(state)
    return state
  }

  /// The runtime has committed the `count` oldest checkpoints.
  mutating func runtimeAcknowledged(_ count: Int) {
    let committed = outstanding[count - 1]
    outstanding.removeFirst(count)
    machine.released(through: Int64(committed.releasable))
    release(
      through: committed.releasable,
      acknowledgements.runtimeCommitted(through: Position(rawValue: machine.releasable)))
  }

  // MARK: When to do what

  /// True while the journal thread's channel is the one in use.
  private var isConsuming: Bool { channel != nil && channel == consumer && channel != abandoned }

  /// Deliveries wait and may be taken for new, if nothing more can come.
  var canFallSilent: Bool {
    guard machine.isHolding, plan == nil, handover == nil else { return false }
    return isConsuming || setup.mutant == .capturesTheHeldOfADeadChannel
  }

  /// The next step of a settling is due, if nothing can come.
  var canSettle: Bool {
    guard setup.settles, plan == nil, handover == nil, settlement == nil, question == nil, answer == nil,
      settling.deadline(machine) != nil
    else { return false }
    return isConsuming || setup.mutant == .settlesWithoutAConnection
  }

  /// What was captured may come again, or be published again and be taken for it: between a settling's first step and its last.
  var isSettling: Bool { machine.releasable == machine.captured && machine.settled < machine.captured }

  // MARK: Mistakes

  private mutating func verdict(on delivery: ModelDelivery) -> RedeliveryMachine.Verdict {
    let digest = Self.digest(setup.payloads[delivery.message])
    let seen = RedeliveryMachine.Delivery(
      digest: digest, redelivered: delivery.redelivered,
      marks: DeliveryMarks(priority: nil, deliveryCount: delivery.returns, hasMessageID: setup.byMessageID))
    switch setup.mutant {
    case .trustsTheFlag where delivery.redelivered: return .recognised(count: 1)
    case .trustsTheDigest where delivery.redelivered && machine.window.suffix(setup.prefetch).contains(digest):
      return .recognised(count: 1)
    case .acceptsLessThanTheAnchor:
      let run = (held + [delivery]).map { Self.digest(setup.payloads[$0.message]) }
      let wasLooking = machine.isHolding || (machine.unacknowledged > 0 && !machine.canSettle)
      if wasLooking && delivery.redelivered && machine.window.suffix(run.count).elementsEqual(run) {
        stopLooking()
        return .recognised(count: run.count)
      }
    case .acceptsBeforeTheEnd:
      let verdict = machine.delivered(seen)
      guard verdict == .hold, held.count + 1 >= machine.unacknowledged else { return verdict }
      stopLooking()
      return .recognised(count: held.count + 1)
    case .capturesWhatWasTakenBack:
      var unflagged = machine
      if machine.delivered(seen) == .startOver {
        stopLooking(of: &unflagged)
        machine = unflagged
        return machine.delivered(seen)
      }
      machine = unflagged
    case .forgetsWhatWasSettled where machine.unacknowledged == 0:
      var other = machine
      if machine.delivered(seen) == .startOver {
        stopLooking(of: &other)
        machine = other
        return machine.delivered(seen)
      }
      machine = other
    case .recognisesWithinTheChannel:
      var again = machine
      if machine.delivered(seen) == .startOver {
        again.sessionStarted(trust, on: nature)
        machine = again
        return machine.delivered(seen)
      }
      machine = again
    default: break
    }
    return machine.delivered(seen)
  }

  private mutating func stopLooking() { stopLooking(of: &machine) }

  private func stopLooking(of machine: inout RedeliveryMachine) {
    machine = RedeliveryMachine(
      anchor: machine.anchor, windowLimit: machine.windowLimit, captured: machine.captured,
      releasable: machine.releasable, window: machine.window, priority: nil, prioritySince: 0,
      lineStart: machine.lineStart, settled: machine.settled)
  }

  // MARK: Comparing

  /// Everything that decides about the future. What the machines keep private follows from it: which deliveries wait,
  /// whether the anchor is looked for, and which tags wait for which positions.
  func encode(into key: inout [UInt8]) {
    func byte(_ number: Int) -> UInt8 { UInt8(truncatingIfNeeded: number) }
    key.append(byte(channel ?? 0))
    key.append(byte(generation))
    key.append(byte(consumer))
    key.append(byte(abandoned))
    key.append(byte(safe))
    key.append((machine.canSettle ? 1 : 0) | (plan == nil ? 0 : 2))
    key.append(byte(Int(machine.captured)))
    key.append(byte(Int(machine.releasable)))
    key.append(byte(Int(machine.lineStart)))
    key.append(byte(Int(machine.settled)))
    key.append(byte(machine.session.expected))
    key.append(byte(machine.session.possibleEnd ?? 0))
    key.append((settling.deadline(machine) == nil ? 1 : 0) | (machine.awaitsSettled ? 2 : 0))
    key.append(byte(question ?? 0))
    key.append(byte(answer ?? 0))
    key.append(byte(questions))
    key.append(byte(settling.hashValue))
    key.append(byte(settledByCheckpoint))
    key.append(byte(mailbox?.generation ?? 0))
    key.append(byte(Int(mailbox?.tag ?? 0)))
    key.append(byte(handover?.generation ?? 0))
    for list in [handover?.deliveries ?? [], plan?.rows ?? [], held] {
      key.append(byte(list.count))
      for delivery in list {
        key.append(byte(Int(delivery.tag)))
        key.append(byte(delivery.message) << 1 | (delivery.redelivered ? 1 : 0))
        key.append(byte(Int(delivery.returns ?? 0)))
      }
    }
    for state in outstanding {
      key.append(byte(state.captured))
      key.append(byte(state.releasable))
      key.append(byte(state.settled))
    }
    key.append(254)
    key.append(byte(emittedReleasable))
    key.append(byte(settlement.map { Int($0.position.rawValue) * 2 + ($0.step == .settled ? 1 : 0) + 1 } ?? 0))
    let known = (plan?.known ?? []).map { (tag: $0.tag, position: $0.behind) }
    for list in [plan?.recognised ?? [], known, waiting] {
      key.append(byte(list.count))
      for entry in list {
        key.append(byte(Int(entry.tag)))
        key.append(byte(entry.position))
      }
    }
    for digest in machine.window { key.append(byte(Int(digest.low))) }
    key.append(255)
  }
}
