import AMQP
import Journal
import Logging
import Platform

/// The journal thread: the journal's only writer.
///
/// It does what ``JournalMachine`` says: appends the batches that have come, of all subscriptions in one transaction, records what was
/// emitted and committed, prunes, passes on what may be acknowledged. What the emitter and the runtime report rides along with the next
/// batches.
struct JournalLoop {
  /// Rows pruned in one transaction at the most, so that none takes long.
  private static let pruneLimit = 4096

  /// One of the subscriptions, by its place in the list.
  struct Subscription {
    /// What its consumers are begun in; nil for the journal's newest.
    var session: Journal.Session?
    let mailbox: ConnectionMailbox
    /// Nil with `no_ack`, since the broker expects no acknowledgement.
    let acknowledgementMode: AcknowledgementMode?
    /// Keeps what a capture goes on by.
    let resumption: Resumption
    /// How many deliveries the broker lets be unacknowledged; 0 is no bound.
    var prefetch = 0
    /// Name under which the output file's length is kept.
    var outputName = "output"
    /// Says of whom it tells, if there are several.
    let log: Logger

    /// What a stream is read on by; nil if the queue certainly is none.
    var stream: StreamResumption? { resumption.stream }
  }

  let journal: Journal
  let capture: Monitor<CaptureMachine>
  let subscriptions: [Subscription]
  let status: StatusBoard
  let log: Logger
  /// Bytes in use at which intake pauses.
  let maxBytes: Int64
  let document: DocumentOptions

  /// What the loop carries from one turn to the next.
  struct Writer {
    var machine: JournalMachine
    var lanes: [Lane]
    var space: SpaceGate
    /// Whose intake waits, as it was told.
    var waiting: Set<Int> = []
  }

  /// The same of one subscription.
  struct Lane {
    var intake: Intake
    var consumer: ConsumerRecord?
    /// By what the channel goes on that began last.
    var resumption: Resumption
    /// What recognises redeliveries, as the journal has it.
    var record: RedeliveryRecord?
  }

  /// A batch that is being written.
  private struct Batch {
    let index: Int
    let plan: Intake.Plan
    let batch: DeliveryBatch
    /// The position of its last message.
    var last = Position.origin
  }

  /// Runs until it is told to close; throws what ends the capture.
  func run() throws(CaptureFailure) {
    do {
      var writer = try begin()
      while try turn(&writer) {}
    } catch let failure as CaptureFailure {
      throw failure
    } catch {
      throw CaptureFailure.journal(error)
    }
  }

  private func begin() throws(JournalError) -> Writer {
    // What the runtime has committed before this process is committed for the journal too.
    let start = max(journal.positions.committedThrough, reported().committed)
    var machines: [SubscriptionMachine] = []
    for (index, subscription) in subscriptions.enumerated() {
      let keeper = subscription.resumption.keeper
      let settings = SubscriptionMachine.Settings(
        index: index, mode: subscription.acknowledgementMode, trust: keeper?.trust ?? .none, base: keeper?.base ?? 0,
        prefetch: subscription.prefetch, isFiltered: subscription.stream?.isFiltered ?? false)
      // Nothing is captured by one that has no session: all waits.
      let record = subscription.session?.subscription ?? subscription.resumption.subscription
      let captured = try record.map { (record) throws(JournalError) in try journal.captured(of: record) }
      let committed = try record.map { (record) throws(JournalError) in
        try journal.newest(of: record, through: start)
      }
      machines.append(
        SubscriptionMachine(
          settings, redelivery: keeper?.machine, captured: captured ?? journal.positions.last, committed: committed,
          journaled: journal.positions.last, at: Instant.now))
    }
    let written = JournalMachine.Written(
      emitted: journal.positions.emittedThrough, committed: journal.positions.committedThrough)
    return Writer(
      machine: JournalMachine(machines, written: written, maxBytes: maxBytes),
      lanes: subscriptions.map {
        Lane(
          intake: Intake(document: document, isAlone: subscriptions.count == 1), resumption: $0.resumption.on(.unknown))
      }, space: SpaceGate(maxBytes: maxBytes))
  }

  /// Waits for something to do, and does it.
  ///
  /// - Returns: False after the last.
  private func turn(_ writer: inout Writer) throws -> Bool {
    let (work, handovers) = capture.wait(as: CaptureMachine.journal) {
      (capture) -> Next<(JournalMachine.Work, [Handover])> in
      switch writer.machine.next(&capture.inbox, at: Instant.now) {
      case .later(let time): .later(time)
      case .now(let work):
        .now((work, work.takes.compactMap { capture.inbox.subscriptions[$0].handover.take() }))
      }
    }
    notifyOfWaiting(&writer)
    // The connection may have been waiting for the slots that these batches left.
    for index in work.takes { subscriptions[index].mailbox.wakeup.signal() }
    switch work {
    case .batches(let indices): try take(zip(indices, handovers).map { ($0, $1.batch) }, &writer)
    case .subscription(let index, .drop):
      for handover in handovers { subscriptions[index].mailbox.reuse(handover.batch) }
    case .subscription(let index, let work): try perform(work, of: index, &writer)
    case .bookkeeping:
      try bookkeep(&writer)
      try maintain(idle: true)
    case .look: try status.waiting(for: .journal) { () throws(JournalError) in try journal.checkFiles() }
    case .close:
      try bookkeep(&writer)
      try journal.close()
      return false
    }
    return true
  }

  /// Does what is due of one subscription.
  private func perform(_ work: SubscriptionMachine.Work, of index: Int, _ writer: inout Writer) throws {
    switch work {
    case .drop, .batch: break
    case .begin(let channel):
      let subscription = subscriptions[index]
      writer.lanes[index].consumer = try retrying {
        try journal.beginConsumer(tag: channel.consumerTag, in: subscription.session)
      }
      writer.lanes[index].intake.channelBegan()
      writer.lanes[index].resumption = subscription.resumption.on(channel.queue.kind)
      let place = subscription.stream?.place
      try perform(writer.machine.subscriptions[index].began(channel, place: place, at: Instant.now), of: index, &writer)
    case .answer(let answer):
      try perform(writer.machine.subscriptions[index].answered(answer, at: Instant.now), of: index, &writer)
    case .returning: try perform(writer.machine.subscriptions[index].returning(), of: index, &writer)
    case .idle: try perform(writer.machine.subscriptions[index].idle(at: Instant.now), of: index, &writer)
    case .intakeEnded: try perform(writer.machine.subscriptions[index].intakeEnded(), of: index, &writer)
    }
  }

  /// Does what a machine says, in its order.
  private func perform(_ actions: [SubscriptionMachine.Action], of index: Int, _ writer: inout Writer) throws {
    let (mailbox, stream) = (subscriptions[index].mailbox, subscriptions[index].stream)
    for action in actions {
      switch action {
      case .acknowledge(let acknowledgement): mailbox.post { $0.acknowledgement = acknowledgement }
      case .reject(let rejected): mailbox.post { $0.rejected += rejected }
      case .fresh(let generation): mailbox.post { $0.fresh = generation }
      case .cleared(let generation): mailbox.post { $0.cleared = generation }
      case .ask(let generation): mailbox.post { $0.question = generation }
      case .record:
        let write = redeliveryWrite(index, writer)
        try retrying { try journal.write { (tx) in try write?.write(to: tx) } }
        writer.lanes[index].record = write?.record ?? writer.lanes[index].record
        // A disk that was full may have taken its time.
        capture.read { writer.machine.subscriptions[index].received($0.inbox) }
        try perform(writer.machine.subscriptions[index].recorded(at: Instant.now), of: index, &writer)
      case .carry(let settlement): capture.report { $0.carries(settlement) }
      case .captureHeld(let decision):
        subscriptions[index].log.warning(
          "\(decision.captured.count) redelivered messages do not end like the captured ones, and are captured again")
        let plan = writer.lanes[index].intake.prepareHeld(decision)
        try write([Batch(index: index, plan: plan, batch: DeliveryBatch())], &writer)
      case .confirmed: stream?.confirmed()
      case .forgetStream: stream?.forget()
      case .startOver(let startOver): mailbox.post { $0.startOver = startOver }
      case .returning(let count):
        let newest = writer.machine.subscriptions[index].captured
        mailbox.post { $0.returning = (count, newest) }
      case .ended(let isSettled): capture.report { $0.rowsEnded(of: index, isSettled: isSettled) }
      case .notify(let notice): notify(notice, of: index)
      }
    }
  }

  /// Writes the batches, and lets the broker forget what is safe by that.
  private func take(_ batches: [(index: Int, batch: DeliveryBatch)], _ writer: inout Writer) throws {
    try waitForSpace(&writer)
    var prepared: [Batch] = []
    for (index, batch) in batches {
      let plan = writer.lanes[index].intake.prepare(
        batch, consumer: writer.lanes[index].consumer!, &writer.machine.subscriptions[index])
      prepared.append(Batch(index: index, plan: plan, batch: batch))
    }
    try write(prepared, &writer)
    var failure: CaptureFailure?
    for each in prepared {
      if let refused = each.plan.oversizeOffsets.last { subscriptions[each.index].stream?.refused(refused) }
      reportRefused(each.plan, of: each.index)
      failure = failure ?? each.plan.failure
    }
    if let failure { throw failure }
    try maintain(idle: false)
  }

  /// Tells the emitter how far it may read. The rows' memory goes along if the emitter can use it, else back to the
  /// connection.
  private func publish(_ batches: [Batch], _ writer: Writer) {
    var journaled: [JournaledBatch] = []
    for each in batches {
      if each.plan.isWholeBatch, let consumer = writer.lanes[each.index].consumer {
        let number = writer.machine.subscriptions[each.index].captured
        journaled.append(
          JournaledBatch(
            each.plan, of: each.batch, consumer: consumer, index: each.index, last: each.last, number: number))
      } else {
        subscriptions[each.index].mailbox.reuse(each.batch)
      }
    }
    let counts = batches.map { (index: $0.index, count: $0.plan.count) }
    let (last, offered) = (journal.positions.last, journaled)
    let left = capture.update(waking: CaptureMachine.emitter) { $0.journaled(through: last, counts, offered) }
    for batch in left { subscriptions[batch.index].mailbox.reuse(batch.batch) }
  }

  /// One transaction: the messages, what recognises their redeliveries, and what rides along.
  private func write(_ batches: [Batch], _ writer: inout Writer) throws {
    var batches = batches
    let (known, reported) = (writer.machine.written, reported())
    let indices = batches.map(\.index)
    let decisions = batches.map { (index: $0.index, decision: $0.plan.decision) }
    for (index, actions) in writer.machine.writing(decisions, reported) { try perform(actions, of: index, &writer) }
    var began = Instant.now
    var records: [Int: RedeliveryRecord] = [:]
    let written = try retrying {
      began = Instant.now
      return try journal.write { (tx) in
        var bytes = 0
        for place in batches.indices {
          let (index, plan, batch) = (batches[place].index, batches[place].plan, batches[place].batch)
          if let consumer = writer.lanes[index].consumer {
            try Intake.write(plan, of: batch, consumer: consumer.id, to: tx)
          }
          batches[place].last = tx.positions.last
          bytes += batch.byteCount
        }
        records = try writeRedeliveries(batches, writer, to: tx)
        return try bookkeep(tx, known, reported, isBusy: true, bytes: bytes)
      }
    }
    let ended = Instant.now
    for (index, record) in records { writer.lanes[index].record = record }
    status.count {
      $0.committed += written.committed - known.committed
      $0.commits.observe((ended - began).inSeconds)
    }
    let others = writer.machine.bookkept(written, at: ended, but: indices)
    for (index, actions) in others { try perform(actions, of: index, &writer) }
    writer.machine.share.wrote(inUse: journal.boundedBytes, committed: written.committed)
    for each in batches {
      writer.machine.share.appended(each.plan.count, each.batch.byteCount, of: each.index, through: each.last)
      let (plan, decision, stream) = (each.plan, each.plan.decision, subscriptions[each.index].stream)
      let before = writer.machine.subscriptions[each.index].captured
      stream?.captured(plan.streamOffsets, from: before + 1, digests: plan.streamDigests)
      // The connection goes by what is captured, whether anything is to be acknowledged or not.
      if stream != nil, plan.count > 0 { subscriptions[each.index].mailbox.wakeup.signal() }
      status.count(of: each.index) {
        $0.journaled += plan.count
        $0.redelivered += plan.redelivered
        if stream?.isFiltered == false { $0.streamJumps += Int(decision.jumped) }
        $0.recognised += decision.recognised.count + decision.knownByID
      }
      let actions = writer.machine.subscriptions[each.index].written(
        decision, through: each.last, releasable: written.released(of: each.index), at: ended)
      try perform(actions, of: each.index, &writer)
    }
    publish(batches, writer)
  }

  /// What recognises the redeliveries of each subscription of which that has changed, and of messages that are appended.
  ///
  /// - Returns: The records that are written.
  private func writeRedeliveries(
    _ batches: [Batch], _ writer: Writer, to tx: borrowing WriteTransaction
  ) throws(JournalError) -> [Int: RedeliveryRecord] {
    var records: [Int: RedeliveryRecord] = [:]
    for index in subscriptions.indices {
      let plan = batches.first { $0.index == index }?.plan
      guard let write = redeliveryWrite(index, writer, plan), write.isDue(after: writer.lanes[index].record) else {
        continue
      }
      try write.write(to: tx)
      records[index] = write.record
    }
    return records
  }

  /// What is written with the messages of `plan`, or with none.
  private func redeliveryWrite(_ index: Int, _ writer: Writer, _ plan: Intake.Plan? = nil) -> RedeliveryWrite? {
    let machine = writer.machine.subscriptions[index]
    return writer.lanes[index].resumption.write(
      of: plan?.digests ?? [], through: machine.captured + (plan?.count ?? 0), machine.redelivery,
      isPlaced: machine.place != nil, offset: plan?.streamOffsets.last)
  }

  /// What emitter and runtime have reported.
  private func reported() -> JournalMachine.Written { capture.read { JournalMachine.Written($0.inbox) } }

  /// One transaction of nothing but what was emitted and committed.
  func bookkeep(_ writer: inout Writer) throws {
    let (known, reported) = (writer.machine.written, reported())
    for (index, actions) in writer.machine.writing([], reported) { try perform(actions, of: index, &writer) }
    var records: [Int: RedeliveryRecord] = [:]
    let written = try retrying {
      try journal.write { (tx) in
        records = try writeRedeliveries([], writer, to: tx)
        return try bookkeep(tx, known, reported, isBusy: false)
      }
    }
    for (index, record) in records { writer.lanes[index].record = record }
    writer.machine.share.wrote(inUse: journal.boundedBytes, committed: written.committed)
    status.count { $0.committed += written.committed - known.committed }
    for (index, actions) in writer.machine.bookkept(written, at: Instant.now) {
      try perform(actions, of: index, &writer)
    }
  }

  /// Writes what was emitted and committed since, and prunes if that is worth it, or nothing else is to be done.
  private func bookkeep(
    _ tx: borrowing WriteTransaction, _ before: JournalMachine.Written, _ now: JournalMachine.Written,
    isBusy: Bool, bytes: Int = 0
  ) throws(JournalError) -> JournalMachine.Written {
    var after = before
    let entries = after.catchUp(with: now, bytes: bytes)
    if let emitted = entries.emitted { try tx.setEmitted(through: emitted) }
    if let committed = entries.committed { try tx.setCommitted(through: committed) }
    for (index, output) in entries.outputs { try tx.setOutput(subscriptions[index].outputName, output) }
    after.toPrune = tx.prunable
    if after.prunes(isBusy: isBusy) {
      try tx.prune(limit: Self.pruneLimit)
      after.pruned(left: tx.prunable)
    }
    return after
  }
}
