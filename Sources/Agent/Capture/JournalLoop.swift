import AMQP
import Journal
import Logging

/// The journal thread: the journal's only writer.
///
/// It appends batches, records what was emitted and committed, prunes, and says after each commit what may be
/// acknowledged. What the emitter and the runtime report rides along with the next batch; alone it is written only after
/// a short rest, so that at low rates a message does not wait for the bookkeeping of the one before.
struct JournalLoop {
  /// Seconds that bookkeeping may wait for a batch to ride along with.
  private static let bookkeepingDelay = 0.2
  /// Rows pruned in one transaction at the most, so that none takes long.
  private static let pruneLimit = 4096
  /// Rows, and bytes of bodies, from which pruning is worth it at once: it touches about as many pages for a few rows
  /// as for a thousand. Fewer are pruned as soon as there is nothing else to do.
  private static let pruneWorth = (rows: 1000, bytes: 1 << 20)
  /// Seconds without a delivery after which those that wait for the anchor are taken for new.
  private static let silenceSeconds = 5.0
  /// Seconds between two looks at the journal's files while nothing is written: what is not acknowledged can wait, but a WAL
  /// that was deleted is saved as long as this process lives.
  private static let lookSeconds = 1.0

  let journal: Journal
  let inbox: Monitor<JournalInbox>
  let progress: Monitor<JournalProgress>
  let mailbox: ConnectionMailbox
  let status: StatusBoard
  let log: Logger
  /// Bytes in use at which intake pauses.
  let maxBytes: Int64
  /// Nil with `no_ack`, where the broker expects no acknowledgement.
  let acknowledgementMode: AcknowledgementMode?
  /// Name under which the output file's length is kept.
  let outputName: String
  let document: DocumentOptions
  /// Recognises redeliveries; nil where that is not possible.
  let redelivery: RedeliveryKeeper?
  /// Remembers where to go on; nil where the queue is no stream.
  let stream: StreamResumption?
  /// How many deliveries the broker lets be unacknowledged; 0 is no bound.
  var prefetch = 0

  private enum Work {
    case batch(Handover)
    /// The broker's answer to a question behind an acknowledgement.
    case answer(SettlingAnswer)
    /// The connection asks what may come again.
    case returning
    case bookkeeping
    /// A channel consumes on which nothing has come yet.
    case channel(Consuming)
    /// No delivery came for a while.
    case idle
    /// Nothing at all is to be done.
    case look
    case intakeEnded
    case close
  }

  /// What of the inbox is already durable.
  struct Written {
    var emitted = Position.origin
    var committed = Position.origin
    var releasable: Position?
    var output: OutputRecord?

    /// Committed messages that are left to prune.
    var toPrune = 0
    /// Bytes written since messages were last pruned.
    var bytesSincePrune = 0

    /// True where the inbox tells something that is not written yet, or something is left to prune.
    func isBehind(_ inbox: JournalInbox) -> Bool {
      toPrune > 0 || inbox.emitted > emitted || inbox.committed > committed || inbox.releasable != releasable
        || inbox.output != output
    }
  }

  /// Runs until it is told to close; throws what ends the capture.
  func run() throws(CaptureFailure) {
    var writer = Writer(
      machine: acknowledgementMode.map { mode in
        AcknowledgementMachine(
          mode: mode, safe: redelivery.map { $0.position(of: $0.machine.releasable) } ?? .origin)
      },
      intake: Intake(document: document, redelivery: redelivery?.machine, stream: stream),
      written: Written(
        emitted: journal.positions.emittedThrough, committed: journal.positions.committedThrough, output: nil),
      space: SpaceGate(maxBytes: maxBytes))
    do {
      while true {
        switch nextWork(writer) {
        case .batch(let handover): try take(handover, &writer)
        case .answer(let answer): try take(answer, &writer)
        case .returning:
          takeSettled(&writer)
          let comesBack = writer.intake.redelivery?.comesBack ?? 0
          mailbox.post { [last = journal.positions.last] in $0.returning = (comesBack, last) }
        case .channel(let channel): try begin(channel, &writer)
        case .bookkeeping:
          try bookkeep(&writer)
          try maintain(idle: true)
        case .idle: try idle(&writer)
        case .look: try status.waiting(for: .journal) { () throws(JournalError) in try journal.checkFiles() }
        case .intakeEnded:
          // Where a capture fails because its runtime went away, a kill is likely: the anchor, which must come back, tells more
          // than what a settling has acknowledged, which may.
          if !inbox.read({ $0.failed }), isConsuming(writer) { try settle(&writer) }
          writer.ended = true
          let isSettled = writer.intake.redelivery.map { $0.unacknowledged == 0 } ?? true
          progress.update { progress in
            progress.isSettled = isSettled
            progress.ended = true
          }
        case .close:
          try bookkeep(&writer)
          try journal.close()
          return
        }
      }
    } catch let failure as CaptureFailure {
      throw failure
    } catch {
      throw CaptureFailure.journal(error)
    }
  }

  /// What the loop carries from one turn to the next.
  struct Writer {
    var machine: AcknowledgementMachine?
    var intake: Intake
    var written: Written
    var space: SpaceGate
    var consumer: (generation: Int, record: ConsumerRecord)?
    var settling = SettlingMachine(at: SystemClock.now())
    /// How many steps of settlings checkpoints were asked to carry.
    var steps = 0
    /// A channel on which nothing is decided any more: its queue delivers again what it holds.
    var abandoned: Int?
    /// When the last batch was written, on `SystemClock`.
    var lastBatch = SystemClock.now()
    /// The channel of which it was told that messages come near the delivery limit.
    var warned: Int?
    /// The channel of which it was told that offsets are of no message.
    var toldOfJump: Int?
    var ended = false
    /// The newest one that something was to be decided about on.
    var channel: Consuming?

    /// When the loop has something to do although nothing comes; nil where it has not.
    var idleDeadline: Double? {
      guard let redelivery = intake.redelivery, !ended else { return nil }
      return redelivery.isHolding ? lastBatch + JournalLoop.silenceSeconds : settling.deadline(redelivery)
    }
  }

  /// Waits for something to do. A batch comes first; bookkeeping may rest for a moment.
  private func nextWork(_ writer: Writer) -> Work {
    func urgent(_ inbox: inout JournalInbox) -> Work? {
      if let handover = inbox.handover.take() { return .batch(handover) }
      if let answer = inbox.answer.take() { return .answer(answer) }
      if inbox.asksForReturning {
        inbox.asksForReturning = false
        return .returning
      }
      if inbox.intakeEnded && !writer.ended { return .intakeEnded }
      if inbox.closing { return .close }
      return nil
    }
    let idleDeadline = isConsuming(writer) ? writer.idleDeadline : nil
    let isWaiting = writer.intake.redelivery?.awaitsSettled == true
    let left = idleDeadline.map { max($0 - SystemClock.now(), 0) } ?? .infinity
    let found: Work? = inbox.wait(atMost: min(left, Self.lookSeconds)) { inbox in
      if let work = urgent(&inbox) { return work }
      // On a channel to which nothing comes there is only that to find out.
      if isWaiting, let channel = inbox.consuming, channel.generation != writer.consumer?.generation {
        return .channel(channel)
      }
      return writer.written.isBehind(inbox) ? .bookkeeping : nil
    }
    var work = found ?? (left <= Self.lookSeconds ? .idle : .look)
    if case .bookkeeping = work, writer.written.toPrune < Self.pruneWorth.rows, !isShort(writer) {
      work = inbox.wait(atMost: Self.bookkeepingDelay, until: urgent) ?? .bookkeeping
    }
    // The connection may have been waiting for the slot that this batch left.
    if case .batch = work { mailbox.wakeup.signal() }
    return work
  }

  /// Writes a batch, and lets the broker forget what is safe by that.
  private func take(_ handover: Handover, _ writer: inout Writer) throws {
    // What comes on it comes again on the next one.
    let channel = handover.channel
    guard writer.abandoned != channel.generation else { return mailbox.reuse(handover.batch) }
    if writer.consumer?.generation != channel.generation { try begin(channel, &writer) }
    try waitForSpace(&writer)
    let plan = writer.intake.prepare(handover.batch, consumer: writer.consumer!.record)
    // Before any acknowledgement of what lies behind them, which would cover them too.
    if !plan.rejected.isEmpty {
      let rejected = plan.rejected.map { Acknowledgement(generation: channel.generation, tag: $0) }
      mailbox.post { $0.rejected += rejected }
    }
    try write(plan, of: handover.batch, &writer)
    if let gap = plan.gap { report(gap: gap) }
    if let refused = plan.oversizeOffsets.last { stream?.refused(refused) }
    if let jump = plan.jump, stream?.isFiltered == false, writer.toldOfJump != channel.generation {
      writer.toldOfJump = channel.generation
      report(jump: jump)
    }
    if channel.queue.isNearLimit(returns: plan.returns), writer.warned != channel.generation {
      writer.warned = channel.generation
      warn(returns: plan.returns, limit: channel.queue.deliveryLimit ?? 0)
    }
    reportRefused(plan)
    if let reason = plan.startsOver {
      writer.abandoned = channel.generation
      if reason == .anotherStream { startStreamOver() }
      mailbox.post { $0.startOver = StartOver(generation: channel.generation, reason: reason) }
    }
    if let failure = plan.failure { throw failure }
    try maintain(idle: false)
  }

  /// The first of a channel.
  private func begin(_ channel: Consuming, _ writer: inout Writer) throws {
    takeSettled(&writer)
    let record = try retrying { try journal.beginConsumer(tag: channel.consumerTag) }
    writer.consumer = (channel.generation, record)
    let isAlone = redelivery?.trust == .exclusive && channel.queue.kind == .classic
    writer.settling.channelOpened(
      isAlone: isAlone, isNarrow: channel.narrowPrefetch != nil, at: SystemClock.now())
    writer.channel = channel
    writer.machine?.channelOpened(generation: channel.generation)
    writer.intake.sessionStarted(redelivery?.trust ?? .none, on: channel.queue, prefetch: channel.narrowPrefetch)
    if writer.intake.redelivery?.isAmbiguous == true { warnOfAlike() }
  }

  /// Tells the emitter how far it may read. The rows' memory goes along where the emitter can use it, else back to the
  /// connection.
  private func publish(_ plan: Intake.Plan, of batch: DeliveryBatch, consumer: ConsumerRecord) {
    let last = journal.positions.last
    let journaled =
      plan.count > 0 && !plan.hasHeld ? JournaledBatch(plan, of: batch, consumer: consumer, last: last) : nil
    let left = progress.update { progress in
      progress.journaled = last
      guard let journaled else { return DeliveryBatch?.some(batch) }
      return progress.tail.offer(journaled)?.batch
    }
    if let left { mailbox.reuse(left) }
  }

  /// One transaction: the messages, what recognises their redeliveries, and what rides along.
  private func write(_ plan: Intake.Plan, of batch: DeliveryBatch, _ writer: inout Writer) throws {
    let consumer = writer.consumer!.record.id
    let before = journal.positions.last
    // In committed mode the checkpoints say how far acknowledgements may go.
    if acknowledgementMode == .journaled { _ = writer.intake.redelivery?.committing() }
    let (written, news) = (writer.written, readNews(&writer))
    var began = 0.0
    try retrying {
      began = SystemClock.now()
      writer.written = try journal.write { (tx) in
        try Intake.write(plan, of: batch, consumer: consumer, to: tx)
        try writeRedelivery(writer.intake, plan, to: tx)
        return try bookkeep(tx, written, news, isBusy: true, bytes: batch.byteCount)
      }
    }
    let seconds = SystemClock.now() - began
    for recognised in plan.recognised {
      writer.machine?.appended(tag: recognised.tag, at: redelivery!.position(of: recognised.count))
    }
    plan.forEachTag { tag, number in writer.machine?.appended(tag: tag, at: before + number) }
    stream?.captured(plan.streamOffsets, from: before + 1, digests: plan.streamDigests)
    if writer.intake.place?.isLooking == false { stream?.confirmed() }
    status.count {
      $0.journaled += plan.count
      $0.redelivered += plan.redelivered
      if stream?.isFiltered == false { $0.streamJumps += Int(plan.jumped) }
      $0.recognised += plan.recognised.count + plan.knownByID
      $0.committed += writer.written.committed - written.committed
      $0.commits.observe(seconds)
    }
    tell(plan, writer)
    acknowledge(&writer)
    publish(plan, of: batch, consumer: writer.consumer!.record)
    writer.lastBatch = SystemClock.now()
    writer.settling.moved(captured: plan.count, at: writer.lastBatch)
  }

  /// What recognises redeliveries, of the messages that `plan` appends, if any.
  func writeRedelivery(_ intake: Intake, _ plan: Intake.Plan? = nil, to tx: borrowing WriteTransaction) throws {
    let groups = plan?.digests ?? []
    let last = tx.positions.last
    if let stream, intake.place != nil {
      for group in groups {
        try tx.appendDigests(group.bytes, priority: nil, since: last, window: StreamResumption.window)
      }
      // Of what is captured: a message that was rejected, or ends the capture, has no digest.
      try tx.setRedelivery(stream.record(of: plan?.streamOffsets.last ?? stream.offset, last: last))
      return
    }
    guard let redelivery, let machine = intake.redelivery else { return }
    let record = redelivery.record(of: machine)
    for group in groups {
      let through = last + -group.following
      // Of what is not the newest no priority is claimed.
      let isNewest = group.following == 0
      try tx.appendDigests(
        group.bytes, through: through, priority: isNewest ? record.priority : nil,
        since: isNewest ? record.prioritySince : through + 1, beginsLine: group.beginsLine, window: redelivery.window)
    }
    try tx.setRedelivery(record)
  }

  /// Nothing came for a while: deliveries that wait are new after all, or a settling goes on.
  private func idle(_ writer: inout Writer) throws {
    // Without the channel that they came on, what waits and what is unacknowledged will come again.
    guard isConsuming(writer) else { return }
    if writer.intake.redelivery?.isHolding == true, inbox.read({ $0.isArriving }) {
      writer.lastBatch = SystemClock.now()
      return
    }
    guard let plan = writer.intake.prepareHeld() else { return try goOnSettling(&writer) }
    log.warning("\(plan.count) redelivered messages do not end like the captured ones, and are captured again")
    try write(plan, of: DeliveryBatch(), &writer)
  }

  /// True while the channel of the last batch consumes.
  func isConsuming(_ writer: Writer) -> Bool {
    guard let generation = writer.consumer?.generation, generation != writer.abandoned else { return false }
    return inbox.read { $0.consuming?.generation == generation }
  }

  /// Lets the broker forget what the last commit made safe, and what the runtime has committed.
  func acknowledge(_ writer: inout Writer) {
    let acknowledgement: Acknowledgement?
    switch (redelivery, writer.intake.redelivery) {
    case (let redelivery?, let recognising?):
      let releasable = redelivery.position(of: recognising.releasable)
      acknowledgement =
        writer.machine?.journalCommitted(through: releasable) ?? writer.machine?.runtimeCommitted(through: releasable)
    default:
      acknowledgement =
        writer.machine?.journalCommitted(through: journal.positions.last)
        ?? writer.machine?.runtimeCommitted(through: writer.written.committed)
    }
    guard let acknowledgement else { return }
    mailbox.post { $0.acknowledgement = acknowledgement }
    writer.settling.moved(captured: 0, at: SystemClock.now())
  }

  /// One transaction of nothing but what was emitted and committed.
  func bookkeep(_ writer: inout Writer) throws {
    let (before, news) = (writer.written, readNews(&writer))
    let intake = writer.intake
    writer.written = try retrying {
      try journal.write { (tx) in
        try writeRedelivery(intake, to: tx)
        return try bookkeep(tx, before, news, isBusy: false)
      }
    }
    status.count { $0.committed += writer.written.committed - before.committed }
    acknowledge(&writer)
  }

  /// What the emitter and the runtime have reported. One look for everything that a transaction does with it, so that
  /// nothing counts as written that came in between.
  private func readNews(_ writer: inout Writer) -> Written {
    let news = inbox.read { inbox in
      Written(
        emitted: inbox.emitted, committed: inbox.committed, releasable: inbox.releasable, output: inbox.output)
    }
    if let redelivery, let releasable = news.releasable {
      writer.intake.redelivery?.released(through: redelivery.count(of: releasable))
    }
    return news
  }

  /// Writes what was emitted and committed since, and prunes where that is worth it, or nothing else is to be done.
  private func bookkeep(
    _ tx: borrowing WriteTransaction, _ before: Written, _ now: Written, isBusy: Bool, bytes: Int = 0
  ) throws(JournalError) -> Written {
    var after = before
    after.releasable = now.releasable
    if now.emitted > before.emitted {
      try tx.setEmitted(through: now.emitted)
      after.emitted = now.emitted
    }
    if now.committed > before.committed {
      // What was committed was emitted, even where the emitter's own word is still on its way.
      try tx.setEmitted(through: now.committed)
      try tx.setCommitted(through: now.committed)
      after.emitted = max(after.emitted, now.committed)
      after.committed = now.committed
    }
    if let output = now.output, output != before.output {
      try tx.setOutput(outputName, output)
      after.output = output
    }
    after.bytesSincePrune += bytes
    if !isBusy || tx.prunable >= Self.pruneWorth.rows || after.bytesSincePrune >= Self.pruneWorth.bytes {
      try tx.prune(limit: Self.pruneLimit)
      after.bytesSincePrune = 0
    }
    after.toPrune = tx.prunable
    return after
  }
}
