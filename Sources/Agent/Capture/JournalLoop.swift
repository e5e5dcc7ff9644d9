import AMQP
import Journal
import Logging
import Platform

/// The journal thread: the journal's only writer.
///
/// It does what ``SubscriptionMachine`` says: appends batches, records what was emitted and committed,
/// prunes, passes on what may be acknowledged. What the emitter and the runtime report rides along with the next batch.
struct JournalLoop {
  /// Rows pruned in one transaction at the most, so that none takes long.
  private static let pruneLimit = 4096

  let journal: Journal
  let capture: Monitor<CaptureMachine>
  let mailbox: ConnectionMailbox
  let status: StatusBoard
  let log: Logger
  /// Bytes in use at which intake pauses.
  let maxBytes: Int64
  /// Nil with `no_ack`, since the broker expects no acknowledgement.
  let acknowledgementMode: AcknowledgementMode?
  /// Name under which the output file's length is kept.
  let outputName: String
  let document: DocumentOptions
  /// Keeps what a capture goes on by.
  let resumption: Resumption
  /// How many deliveries the broker lets be unacknowledged; 0 is no bound.
  var prefetch = 0

  /// What the loop carries from one turn to the next.
  struct Writer {
    var machine: SubscriptionMachine
    var intake: Intake
    var space: SpaceGate
    var consumer: ConsumerRecord?
    /// By what the channel goes on that began last.
    var resumption: Resumption
  }

  /// What a stream is read on by; nil if the queue certainly is none.
  var stream: StreamResumption? { resumption.stream }

  /// Runs until it is told to close; throws what ends the capture.
  func run() throws(CaptureFailure) {
    // The connection waits for the last acknowledgements no longer.
    defer { mailbox.post { $0.settled = true } }
    let keeper = resumption.keeper
    let settings = SubscriptionMachine.Settings(
      mode: acknowledgementMode, trust: keeper?.trust ?? .none, base: keeper?.base ?? 0, prefetch: prefetch,
      isFiltered: stream?.isFiltered ?? false)
    var writer = Writer(
      machine: SubscriptionMachine(
        settings, redelivery: keeper?.machine, journaled: journal.positions.last,
        written: SubscriptionMachine.Written(
          emitted: journal.positions.emittedThrough, committed: journal.positions.committedThrough),
        at: Instant.now),
      intake: Intake(document: document), space: SpaceGate(maxBytes: maxBytes),
      resumption: resumption.on(.unknown))
    do {
      while try turn(&writer) {}
    } catch let failure as CaptureFailure {
      throw failure
    } catch {
      throw CaptureFailure.journal(error)
    }
  }

  /// Waits for something to do, and does it.
  ///
  /// - Returns: False after the last.
  private func turn(_ writer: inout Writer) throws -> Bool {
    let (work, handover) = capture.wait(as: CaptureMachine.journal) {
      (capture) -> Next<(SubscriptionMachine.Work, Handover?)> in
      switch writer.machine.next(&capture.inbox, at: Instant.now) {
      case .later(let time): .later(time)
      case .now(let work): .now((work, work.takesBatch ? capture.inbox.handover.take() : nil))
      }
    }
    // The connection may have been waiting for the slot that this batch left.
    if handover != nil { mailbox.wakeup.signal() }
    switch work {
    case .drop: if let handover { mailbox.reuse(handover.batch) }
    case .batch: if let handover { try take(handover.batch, &writer) }
    case .begin(let channel):
      writer.consumer = try retrying { try journal.beginConsumer(tag: channel.consumerTag) }
      writer.intake.channelBegan()
      writer.resumption = resumption.on(channel.queue.kind)
      try perform(writer.machine.began(channel, place: stream?.place, at: Instant.now), &writer)
    case .answer(let answer): try perform(writer.machine.answered(answer, at: Instant.now), &writer)
    case .returning: try perform(writer.machine.returning(), &writer)
    case .bookkeeping:
      try bookkeep(&writer)
      try maintain(idle: true)
    case .idle: try perform(writer.machine.idle(at: Instant.now), &writer)
    case .look: try status.waiting(for: .journal) { () throws(JournalError) in try journal.checkFiles() }
    case .intakeEnded: try perform(writer.machine.intakeEnded(), &writer)
    case .close:
      try bookkeep(&writer)
      try journal.close()
      return false
    }
    return true
  }

  /// Does what the machine says, in its order.
  private func perform(_ actions: [SubscriptionMachine.Action], _ writer: inout Writer) throws {
    for action in actions {
      switch action {
      case .acknowledge(let acknowledgement): mailbox.post { $0.acknowledgement = acknowledgement }
      case .reject(let rejected): mailbox.post { $0.rejected += rejected }
      case .fresh(let generation): mailbox.post { $0.fresh = generation }
      case .cleared(let generation): mailbox.post { $0.cleared = generation }
      case .ask(let generation): mailbox.post { $0.question = generation }
      case .record:
        let (machine, resumption) = (writer.machine, writer.resumption)
        try retrying { try journal.write { (tx) in try writeRedelivery(machine, resumption, to: tx) } }
        // A disk that was full may have taken its time.
        capture.read { writer.machine.received($0.inbox) }
        try perform(writer.machine.recorded(at: Instant.now), &writer)
      case .carry(let settlement): capture.report { $0.carries(settlement) }
      case .captureHeld(let decision):
        log.warning(
          "\(decision.captured.count) redelivered messages do not end like the captured ones, and are captured again")
        try write(writer.intake.prepareHeld(decision), of: DeliveryBatch(), &writer)
      case .confirmed: stream?.confirmed()
      case .forgetStream: stream?.forget()
      case .startOver(let startOver): mailbox.post { $0.startOver = startOver }
      case .returning(let count): mailbox.post { [last = journal.positions.last] in $0.returning = (count, last) }
      case .ended(let isSettled): capture.report { $0.rowsEnded(isSettled: isSettled) }
      case .notify(let notice): notify(notice)
      }
    }
  }

  /// Writes a batch, and lets the broker forget what is safe by that.
  private func take(_ batch: DeliveryBatch, _ writer: inout Writer) throws {
    try waitForSpace(&writer)
    let plan = writer.intake.prepare(batch, consumer: writer.consumer!, &writer.machine)
    try write(plan, of: batch, &writer)
    if let refused = plan.oversizeOffsets.last { stream?.refused(refused) }
    reportRefused(plan)
    if let failure = plan.failure { throw failure }
    try maintain(idle: false)
  }

  /// Tells the emitter how far it may read. The rows' memory goes along if the emitter can use it, else back to the
  /// connection.
  private func publish(_ plan: Intake.Plan, of batch: DeliveryBatch, consumer: ConsumerRecord) {
    let last = journal.positions.last
    let journaled =
      plan.count > 0 && !plan.hasHeld ? JournaledBatch(plan, of: batch, consumer: consumer, last: last) : nil
    let left = capture.update(waking: CaptureMachine.emitter) { $0.journaled(through: last, journaled) }
    if let left { mailbox.reuse(left) }
    if journaled == nil { mailbox.reuse(batch) }
  }

  /// One transaction: the messages, what recognises their redeliveries, and what rides along.
  private func write(_ plan: Intake.Plan, of batch: DeliveryBatch, _ writer: inout Writer) throws {
    let consumer = writer.consumer!
    let before = journal.positions.last
    let (known, reported) = (writer.machine.written, reported())
    try perform(
      writer.machine.writing(plan.decision, releasable: reported.releasable), &writer)
    let (machine, resumption) = (writer.machine, writer.resumption)
    var began = Instant.now
    let written = try retrying {
      began = Instant.now
      return try journal.write { (tx) in
        try Intake.write(plan, of: batch, consumer: consumer.id, to: tx)
        try writeRedelivery(machine, resumption, plan, to: tx)
        return try bookkeep(tx, known, reported, isBusy: true, bytes: batch.byteCount)
      }
    }
    let ended = Instant.now
    stream?.captured(plan.streamOffsets, from: before + 1, digests: plan.streamDigests)
    let decision = plan.decision
    status.count {
      $0.journaled += plan.count
      $0.redelivered += plan.redelivered
      if stream?.isFiltered == false { $0.streamJumps += Int(decision.jumped) }
      $0.recognised += decision.recognised.count + decision.knownByID
      $0.committed += written.committed - known.committed
      $0.commits.observe((ended - began).inSeconds)
    }
    let actions = writer.machine.written(decision, after: before, written, at: ended)
    try perform(actions, &writer)
    publish(plan, of: batch, consumer: consumer)
  }

  /// What recognises redeliveries, of the messages that `plan` appends, if any.
  private func writeRedelivery(
    _ machine: SubscriptionMachine, _ resumption: Resumption, _ plan: Intake.Plan? = nil,
    to tx: borrowing WriteTransaction
  ) throws(JournalError) {
    guard let subscription = resumption.subscription else { return }
    let write = resumption.write(
      of: plan?.digests ?? [], through: try tx.captured(of: subscription), machine.redelivery,
      isPlaced: machine.place != nil,
      offset: plan?.streamOffsets.last)
    try write?.write(to: tx)
  }

  /// What emitter and runtime have reported.
  private func reported() -> SubscriptionMachine.Written { capture.read { SubscriptionMachine.Written($0.inbox) } }

  /// One transaction of nothing but what was emitted and committed.
  func bookkeep(_ writer: inout Writer) throws {
    let (known, reported) = (writer.machine.written, reported())
    try perform(writer.machine.writing(nil, releasable: reported.releasable), &writer)
    let (machine, resumption) = (writer.machine, writer.resumption)
    let written = try retrying {
      try journal.write { (tx) in
        try writeRedelivery(machine, resumption, to: tx)
        return try bookkeep(tx, known, reported, isBusy: false)
      }
    }
    status.count { $0.committed += written.committed - known.committed }
    try perform(writer.machine.bookkept(written, at: Instant.now), &writer)
  }

  /// Writes what was emitted and committed since, and prunes if that is worth it, or nothing else is to be done.
  private func bookkeep(
    _ tx: borrowing WriteTransaction, _ before: SubscriptionMachine.Written, _ now: SubscriptionMachine.Written,
    isBusy: Bool, bytes: Int = 0
  ) throws(JournalError) -> SubscriptionMachine.Written {
    var after = before
    let entries = after.catchUp(with: now, bytes: bytes)
    if let emitted = entries.emitted { try tx.setEmitted(through: emitted) }
    if let committed = entries.committed { try tx.setCommitted(through: committed) }
    if let output = entries.output { try tx.setOutput(outputName, output) }
    if after.prunes(isBusy: isBusy, prunable: tx.prunable) {
      try tx.prune(limit: Self.pruneLimit)
      after.bytesSincePrune = 0
    }
    after.toPrune = tx.prunable
    return after
  }
}
