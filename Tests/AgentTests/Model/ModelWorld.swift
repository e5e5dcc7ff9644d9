import AMQP
import Journal
import Platform
import Support

@testable import Agent

/// Broker, agent and runtime together: what can happen next, and what it does.
///
/// One step at a time, each atomic: a batch handed over, its commit, an acknowledgement sent, one processed. Faults can
/// strike between any two of them. What comes out is scored per payload, since equal payloads cannot be told apart: lost
/// is what was published more often than captured, and duplicated what was captured more often than published. Captured
/// is what the journal holds, or in `committed` mode what the runtime has committed.
struct ModelWorld {
  enum Fault: Hashable {
    case agentCrash, connectionLoss, brokerCrash, brokerRestart
    /// The connection is lost, and what came back although it is journaled expires: the anchor is gone.
    case anchorLoss
    /// A quorum queue takes back what the channel holds; the channel lives on.
    case takenBack
    /// The connection ends, and the broker does not notice: the queue gives no one else anything until it does.
    case lingering
    /// Someone else looks at a message and gives it back.
    case lookedAt
    /// The capture is asked to stop; its runtime leaves, which asks it too; or it fails since its runtime has gone away.
    case stopped, left, failed

    /// Those under which nothing that can be told apart may be duplicated.
    static let ends: [Fault] = [.stopped, .left, .failed]
    static let usual: [Fault] = [.agentCrash, .connectionLoss, .brokerCrash, .brokerRestart, .takenBack, .lingering]
  }

  enum Step: Hashable {
    case publish
    case deliver
    case connect
    /// The first of the deliveries that have arrived, as one batch.
    case handOver(Int)
    /// The journal's thread does what is to be done at once.
    case work
    case commit
    /// The connection's thread does what the journal's asks for.
    case obey
    case processAcknowledgement
    /// Bookkeeping has rested long enough.
    case bookkeep
    /// Nothing has come for a while: deliveries that wait are taken for new, or a settling goes on.
    case rest
    case readAnswer
    /// The connection of a capture that is to end has handed over what it has.
    case drain
    /// The process ends as it was to, and another begins.
    case end
    /// The broker notices that a connection has ended.
    case notice
    /// Documents and a checkpoint for everything journaled.
    case emit
    /// The runtime commits so many checkpoints at once.
    case runtimeCommit(Int)
    case runtimeAcknowledge
    /// So many of the acknowledgements on their way survive; a crash of the broker forgets so many.
    case fault(Fault, surviving: Int, forgotten: Int)
  }

  let setup: ModelSetup
  private(set) var broker: ModelBroker
  private(set) var agent: ModelAgent
  private(set) var runtime = ModelRuntime()
  /// What the journal says; gone with the process in `committed` mode.
  private(set) var journal = ModelRecord()
  /// Messages in the journal, in order.
  private var rows: [Int] = []
  /// How many of `rows` were emitted.
  private var emitted = 0
  /// How often an end has allowed what it must not, in processes that are over.
  private var broken = 0

  /// - Parameter published: How many messages wait already.
  init(_ setup: ModelSetup, published: Int = 0) {
    self.setup = setup
    broker = ModelBroker(kind: setup.kind, regressLimit: setup.regressLimit)
    agent = ModelAgent(setup, from: ModelRecord())
    for _ in 0..<published { broker.publish() }
  }

  // MARK: What can happen

  /// Everything but faults.
  var steps: [Step] {
    var steps: [Step] = []
    if agent.mayEnd { steps.append(.end) }
    if agent.isStopping, !agent.inbox.intakeEnded { steps.append(.drain) }
    if !broker.isConnected, !agent.isStopping { steps.append(.connect) }
    if broker.canDeliver { steps.append(.deliver) }
    if !agent.hasHandover, !agent.isStopping {
      for count in 0..<broker.toAgent.count { steps.append(.handOver(count + 1)) }
    }
    let work = agent.work(afterRest: false)
    if work != nil { steps.append(.work) }
    if agent.transaction != nil { steps.append(.commit) }
    if agent.hasCommands && agent.channel != nil { steps.append(.obey) }
    if broker.lingering != nil { steps.append(.notice) }
    if !broker.answers.isEmpty { steps.append(.readAnswer) }
    if !broker.toBroker.isEmpty { steps.append(.processAcknowledgement) }
    if setup.mode == .committed {
      if agent.canEmit { steps.append(.emit) }
      for count in 0..<runtime.received.count { steps.append(.runtimeCommit(count + 1)) }
      if !runtime.acknowledgements.isEmpty, !agent.inbox.acknowledgementsEnded { steps.append(.runtimeAcknowledge) }
    }
    // Silence means that nothing will come: not that something is slow.
    let nothingComes =
      broker.toAgent.isEmpty && !broker.canDeliver && broker.toBroker.isEmpty && !agent.hasCommands
      && broker.answers.isEmpty
    switch work == nil ? agent.work(afterRest: true) : nil {
    case .subscription(_, .idle) where agent.machine.redelivery!.isHolding: if nothingComes { steps.append(.rest) }
    // Messages that differ may come meanwhile: time is all that a settling waits for.
    case .subscription(_, .idle):
      if setup.settles, nothingComes || setup.areDistinct || agent.isSettling { steps.append(.rest) }
    case .bookkeeping: steps.append(.bookkeep)
    default: break
    }
    // The very same messages, published again while a settling is under way, may be taken for the settled ones. That is the one
    // ambiguity that the three steps leave, and it is not asked about here. But no settling is under way for ever, unless a
    // quorum queue has nothing to deliver.
    let isOver = !isSettling || setup.kind == .classic && steps.isEmpty
    if broker.published < setup.payloads.count, setup.areDistinct || setup.publishesWhileSettling || isOver {
      steps.append(.publish)
    }
    return steps
  }

  /// Every way in which `fault` can strike now.
  func outcomes(of fault: Fault) -> [Step] {
    switch fault {
    case .takenBack:
      return broker.kind == .quorum && broker.isConnected && !broker.unacked.isEmpty
        ? [.fault(fault, surviving: 0, forgotten: 0)] : []
    case .lingering:
      guard broker.kind == .quorum && broker.isConnected else { return [] }
    case .stopped, .left, .failed: return agent.isStopping ? [] : [.fault(fault, surviving: 0, forgotten: 0)]
    case .lookedAt: return broker.canBeLookedAt ? [.fault(fault, surviving: 0, forgotten: 0)] : []
    case .agentCrash, .connectionLoss, .brokerCrash, .brokerRestart, .anchorLoss: break
    }
    let forgettable = fault == .brokerCrash ? broker.undurable.count + broker.unacked.count : 0
    return (0...broker.toBroker.count).flatMap { surviving in
      (0...min(forgettable, setup.regressLimit)).map { .fault(fault, surviving: surviving, forgotten: $0) }
    }
  }

  // MARK: What it does

  mutating func apply(_ step: Step) {
    switch step {
    case .publish: broker.publish()
    case .deliver: broker.deliver()
    case .connect: broker.consume(prefetch: agent.connected())
    case .handOver(let count): agent.handOver(broker.read(count))
    case .work: work(at: 0)
    case .commit: rows += agent.commit(&journal)
    case .obey: obey()
    case .processAcknowledgement: broker.processAcknowledgement()
    case .bookkeep, .rest: work(at: .distantFuture)
    case .readAnswer:
      let (place, messages) = broker.readAnswer()
      // Only the newest question's counts (``Connection``).
      if broker.hasAnsweredAll { agent.answered(messages: messages, hasUnread: place > 0) }
    case .notice: broker.notice()
    case .drain: agent.drain()
    case .end:
      broken += agent.broken
      broker.disconnect(surviving: broker.toBroker.count)
      restart()
    case .emit:
      runtime.receive(ModelCheckpoint(documents: Array(rows[emitted...]), state: agent.checkpoint(journal)))
      emitted = rows.count
    case .runtimeCommit(let count): runtime.commit(count)
    case .runtimeAcknowledge:
      agent.runtimeAcknowledged(runtime.acknowledge())
      // Whether it waits on its way or in the inbox, no one can tell.
      if agent.work(afterRest: false) == nil, agent.work(afterRest: true) == .bookkeeping { work(at: .distantFuture) }
    case .fault(let fault, let surviving, let forgotten): strike(fault, surviving, forgotten)
    }
  }

  private mutating func work(at now: Instant) {
    agent.work(at: now)
    // Of a journal that goes with the process no one can tell whether it was written.
    if setup.mode == .committed, agent.transaction != nil { rows += agent.commit(&journal) }
  }

  private mutating func obey() {
    let (orders, startsOver) = agent.obey()
    for order in orders {
      switch order {
      case .acknowledge(let tag, _): broker.send(ack: tag)
      case .ask: broker.ask()
      case .reject: break
      }
    }
    guard startsOver else { return }
    // It closes the channel of its own accord, and everything that it has sent is handled.
    broker.disconnect(surviving: broker.toBroker.count)
    agent.disconnected()
  }

  private mutating func strike(_ fault: Fault, _ surviving: Int, _ forgotten: Int) {
    switch fault {
    case .takenBack: return broker.takeBack()
    case .lingering:
      broker.linger(surviving: surviving)
      return agent.disconnected()
    case .lookedAt: return broker.lookedAt()
    case .stopped, .left, .failed: return agent.stop(failed: fault == .failed, hasRuntime: fault == .stopped)
    case .agentCrash, .connectionLoss, .brokerCrash, .brokerRestart, .anchorLoss:
      broker.disconnect(surviving: surviving)
    }
    switch fault {
    case .takenBack, .lookedAt, .lingering, .stopped, .left, .failed: break
    case .connectionLoss: agent.disconnected()
    case .anchorLoss:
      let journaled = Set(rows)
      broker.discard { journaled.contains($0) }
      agent.disconnected()
    case .brokerCrash:
      broker.crash(forgotten: forgotten)
      agent.disconnected()
    case .brokerRestart:
      broker.restart()
      agent.disconnected()
    case .agentCrash:
      broken += agent.broken
      restart()
    }
  }

  /// A new process, which knows what is durable.
  private mutating func restart() {
    if setup.mode == .committed {
      runtime.connectorEnded()
      journal = runtime.state
      rows = []
      emitted = 0
    }
    agent = ModelAgent(setup, from: journal)
  }

  /// A start might find a settling under way, or the agent has one.
  private var isSettling: Bool {
    let record = setup.mode == .journaled ? journal : runtime.state
    let isLeft = record.releasable == record.captured && record.settled < record.captured
    return agent.isSettling || isLeft
      || runtime.received.contains { $0.state.releasable == $0.state.captured && $0.state.settled < $0.state.captured }
  }

  // MARK: Score

  struct Score: Hashable {
    var lost = 0
    var duplicated = 0
    /// Those of `duplicated` that look like no other.
    var duplicatedUnlike = 0
    /// Messages whose first capture comes after that of a later one.
    var disordered = 0
    /// Ends of a capture that have allowed what they must not.
    var broken = 0

    static func + (left: Score, right: Score) -> Score {
      Score(
        lost: left.lost + right.lost, duplicated: left.duplicated + right.duplicated,
        duplicatedUnlike: left.duplicatedUnlike + right.duplicatedUnlike,
        disordered: left.disordered + right.disordered, broken: left.broken + right.broken)
    }

    mutating func raise(to other: Score) {
      lost = max(lost, other.lost)
      duplicated = max(duplicated, other.duplicated)
      duplicatedUnlike = max(duplicatedUnlike, other.duplicatedUnlike)
      disordered = max(disordered, other.disordered)
      broken = max(broken, other.broken)
    }
  }

  /// What is lost and duplicated by now. Only if nothing can happen any more is what is missing lost.
  var score: Score {
    var balance: [Int: Int] = [:]
    for message in 0..<broker.published { balance[setup.payloads[message], default: 0] -= 1 }
    for message in setup.mode == .journaled ? rows : runtime.committed {
      balance[setup.payloads[message], default: 0] += 1
    }
    var (seen, newest) = (Set<Int>(), -1)
    let disordered = (setup.mode == .journaled ? rows : runtime.committed).count { message in
      guard seen.insert(message).inserted else { return false }
      defer { newest = max(newest, message) }
      return message < newest
    }
    let alike = Dictionary(grouping: setup.payloads.prefix(broker.published)) { $0 }
    return balance.reduce(into: Score(disordered: disordered, broken: broken + agent.broken)) { score, entry in
      let (payload, count) = entry
      score.lost += max(0, -count)
      score.duplicated += max(0, count)
      if alike[payload]?.count == 1 { score.duplicatedUnlike += max(0, count) }
    }
  }

  /// Everything that decides about the future and the score.
  var key: [UInt8] {
    var key: [UInt8] = []
    key.reserveCapacity(128)
    broker.encode(into: &key)
    agent.encode(into: &key)
    key.append(UInt8(truncatingIfNeeded: journal.captured))
    key.append(UInt8(truncatingIfNeeded: journal.releasable))
    key.append(UInt8(truncatingIfNeeded: emitted))
    key.append(UInt8(truncatingIfNeeded: broken))
    for message in rows { key.append(UInt8(truncatingIfNeeded: message)) }
    key.append(255)
    if setup.mode == .committed { runtime.encode(into: &key) }
    return key
  }
}
