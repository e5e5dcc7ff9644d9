import Journal
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
    /// The connection ends, and the broker does not notice: the queue gives nobody else anything until it does.
    case lingering
    /// Somebody else looks at a message and gives it back.
    case lookedAt

    /// Those under which nothing that can be told apart may be duplicated.
    static let usual: [Fault] = [.agentCrash, .connectionLoss, .brokerCrash, .brokerRestart, .takenBack, .lingering]
  }

  enum Step: Hashable {
    case publish
    case deliver
    case connect
    /// The first of the deliveries that have arrived, as one batch.
    case handOver(Int)
    case take
    case commit
    case sendAcknowledgement
    case processAcknowledgement
    case silence
    /// The next step of a settling.
    case settle
    /// The journal thread looks at a channel on which nothing has come.
    case begin
    case sendQuestion
    case readAnswer
    case takeAnswer
    /// The broker notices that a connection has ended.
    case notice
    /// The agent closes the channel, of its own accord, and everything that it has sent is handled.
    case startOver
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
    if !broker.isConnected { steps.append(.connect) }
    if broker.canDeliver { steps.append(.deliver) }
    if agent.handover == nil {
      for count in 0..<broker.toAgent.count { steps.append(.handOver(count + 1)) }
    } else if agent.plan == nil {
      steps.append(.take)
    }
    if agent.plan != nil { steps.append(.commit) }
    if agent.startsOver { steps.append(.startOver) }
    if agent.mailbox != nil { steps.append(.sendAcknowledgement) }
    if agent.question != nil && agent.mailbox == nil { steps.append(.sendQuestion) }
    if broker.lingering != nil { steps.append(.notice) }
    if let place = broker.answers.first, place == 0 || setup.mutant == .settlesByAnyAnswer { steps.append(.readAnswer) }
    if agent.answer != nil && agent.handover == nil && agent.plan == nil { steps.append(.takeAnswer) }
    if setup.settles && broker.isConnected && agent.canBegin { steps.append(.begin) }
    if !broker.toBroker.isEmpty { steps.append(.processAcknowledgement) }
    if setup.mode == .committed {
      let isDue = agent.settlement.map { Int($0.position.rawValue) == journal.captured } ?? false
      if emitted < rows.count || isDue { steps.append(.emit) }
      for count in 0..<runtime.received.count { steps.append(.runtimeCommit(count + 1)) }
      if !runtime.acknowledgements.isEmpty { steps.append(.runtimeAcknowledge) }
    }
    // Silence means that nothing will come: not that something is slow.
    let nothingComes =
      broker.toAgent.isEmpty && !broker.canDeliver && broker.toBroker.isEmpty && agent.mailbox == nil
      && broker.answers.isEmpty
    if nothingComes && agent.canFallSilent { steps.append(.silence) }
    // Messages that differ may come meanwhile: time is all that a settling waits for.
    if agent.canSettle && (nothingComes || setup.areDistinct || agent.isSettling) { steps.append(.settle) }
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
    case .take: agent.take()
    case .commit: rows += agent.commit(&journal)
    case .sendAcknowledgement:
      if let tag = agent.takeAcknowledgement() { broker.send(ack: tag) }
    case .processAcknowledgement: broker.processAcknowledgement()
    case .silence: agent.silence()
    case .settle: agent.settle()
    case .begin: if let channel = agent.channel { agent.begin(channel) }
    case .sendQuestion: if agent.takeQuestion() { broker.ask() }
    case .readAnswer:
      let isLast = broker.answers.first == 0
      broker.readAnswer()
      agent.answered(isLast: isLast)
    case .notice: broker.notice()
    case .takeAnswer: agent.takeAnswer()
    case .startOver:
      broker.disconnect(surviving: broker.toBroker.count)
      agent.disconnected()
    case .emit:
      runtime.receive(ModelCheckpoint(documents: Array(rows[emitted...]), state: agent.checkpoint(journal)))
      emitted = rows.count
    case .runtimeCommit(let count): runtime.commit(count)
    case .runtimeAcknowledge: agent.runtimeAcknowledged(runtime.acknowledge())
    case .fault(let fault, let surviving, let forgotten): strike(fault, surviving, forgotten)
    }
  }

  private mutating func strike(_ fault: Fault, _ surviving: Int, _ forgotten: Int) {
    switch fault {
    case .takenBack: return broker.takeBack()
    case .lingering:
      broker.linger(surviving: surviving)
      return agent.disconnected()
    case .lookedAt: return broker.lookedAt()
    case .agentCrash, .connectionLoss, .brokerCrash, .brokerRestart, .anchorLoss:
      broker.disconnect(surviving: surviving)
    }
    switch fault {
    case .takenBack, .lookedAt, .lingering: break
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
      if setup.mode == .committed {
        runtime.connectorEnded()
        journal = runtime.state
        rows = []
        emitted = 0
      }
      agent = ModelAgent(setup, from: journal)
    }
  }

  /// A start might find a settling under way, or the agent has one.
  private var isSettling: Bool {
    let record = setup.mode == .journaled ? journal : runtime.state
    let isLeft = record.releasable == record.captured && record.settled < record.captured
    return agent.isSettling || isLeft || agent.settlement != nil
      || runtime.received.contains { $0.state.releasable == $0.state.captured && $0.state.settled < $0.state.captured }
  }

  // MARK: Score

  struct Score: Hashable {
    var lost = 0
    var duplicated = 0
    /// Those of `duplicated` that look like no other.
    var duplicatedUnlike = 0

    static func + (left: Score, right: Score) -> Score {
      Score(
        lost: left.lost + right.lost, duplicated: left.duplicated + right.duplicated,
        duplicatedUnlike: left.duplicatedUnlike + right.duplicatedUnlike)
    }

    mutating func raise(to other: Score) {
      lost = max(lost, other.lost)
      duplicated = max(duplicated, other.duplicated)
      duplicatedUnlike = max(duplicatedUnlike, other.duplicatedUnlike)
    }
  }

  /// What is lost and duplicated by now. Only where nothing can happen any more is what is missing lost.
  var score: Score {
    var balance: [Int: Int] = [:]
    for message in 0..<broker.published { balance[setup.payloads[message], default: 0] -= 1 }
    for message in setup.mode == .journaled ? rows : runtime.committed {
      balance[setup.payloads[message], default: 0] += 1
    }
    let alike = Dictionary(grouping: setup.payloads.prefix(broker.published)) { $0 }
    return balance.reduce(into: Score()) { score, entry in
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
    for message in rows { key.append(UInt8(truncatingIfNeeded: message)) }
    key.append(255)
    if setup.mode == .committed { runtime.encode(into: &key) }
    return key
  }
}
