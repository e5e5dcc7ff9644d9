import Journal
import Platform

/// Decides in which order the journal's thread works for all subscriptions, and what its transactions write of what emitter and runtime
/// have reported.
///
/// What others wait for comes first: what has come of any subscription, one after the other; but the batches that have come of several are
/// written by one transaction, so that commits do not grow with the number of queues. Then come the end, the books, and what is due since
/// nothing has come; at last, once a second, a look at the journal's files.
///
/// A value without clock and I/O; the journal's thread has it.
struct JournalMachine: Hashable, Sendable {
  /// What the journal's thread does next.
  enum Work: Equatable, Sendable {
    /// Something of the subscription with this index; no batch.
    case subscription(Int, SubscriptionMachine.Work)
    /// Batches of these, each of the channel that began last; they are in the inbox.
    case batches([Int])
    /// What others have reported is to be written.
    case bookkeeping
    /// Nothing at all is to be done: the journal's files are looked at.
    case look
    /// Nothing at all will come.
    case close

    /// The subscriptions whose batch in the inbox goes with it.
    var takes: [Int] {
      switch self {
      case .batches(let indices): indices
      case .subscription(let index, .drop): [index]
      case .subscription, .bookkeeping, .look, .close: []
      }
    }
  }

  /// How long bookkeeping may wait for a batch to ride along with: so at low rates a message does not wait for the bookkeeping of
  /// the one before.
  static let bookkeepingDelay = Duration.milliseconds(200)
  /// Between two looks at the journal's files while nothing is written: what is not acknowledged can wait, but a WAL
  /// that was deleted is saved as long as this process lives.
  static let lookInterval = Duration.seconds(1)

  /// By their indices.
  var subscriptions: [SubscriptionMachine]
  /// What of the reports is durable.
  var written: Written
  /// Whose batches wait since the journal is nearly full.
  var share: FairShare
  /// Since when bookkeeping waits, and when the files are looked at if nothing is to be done until then.
  private var bookkeepingSince: Instant?
  private var looksAt: Instant?

  /// - Parameter maxBytes: `journal.max_bytes`.
  init(_ subscriptions: [SubscriptionMachine], written: Written, maxBytes: Int64 = .max) {
    (self.subscriptions, self.written) = (subscriptions, written)
    share = FairShare(subscriptions.count, maxBytes: maxBytes)
  }

  /// What to do now, or until when there is nothing to do unless something is reported. Of what it gives, the inbox is rid, but for the
  /// batches.
  mutating func next(_ inbox: inout JournalInbox, at now: Instant) -> Next<Work> {
    let next = look(&inbox, at: now)
    if case .now = next { (bookkeepingSince, looksAt) = (nil, nil) }
    return next
  }

  private mutating func look(_ inbox: inout JournalInbox, at now: Instant) -> Next<Work> {
    var batches: [Int] = []
    for index in subscriptions.indices {
      switch subscriptions[index].next(&inbox) {
      case nil: break
      // A capture that is to stop takes what it has in hand.
      case .batch: if inbox.stopping || share.takes(index) { batches.append(index) }
      case let work?: return .now(.subscription(index, work))
      }
    }
    if !batches.isEmpty {
      // Whatever comes to others, what is due of those to which nothing comes is done.
      for index in subscriptions.indices where isAtRest(index, inbox) {
        if let channel = subscriptions[index].unseen(inbox) { return .now(.subscription(index, .begin(channel))) }
        if let deadline = subscriptions[index].idleDeadline, now >= deadline {
          return .now(.subscription(index, .idle))
        }
      }
      return .now(.batches(batches))
    }
    if inbox.closing { return .now(.close) }
    for index in subscriptions.indices where isAtRest(index, inbox) {
      if let channel = subscriptions[index].unseen(inbox) { return .now(.subscription(index, .begin(channel))) }
    }
    if written.isBehind(inbox) {
      let since = bookkeepingSince ?? now
      bookkeepingSince = since
      let isDue =
        written.toPrune >= Written.pruneWorth.rows || subscriptions.contains { $0.isShort }
        || now >= since + Self.bookkeepingDelay
      return isDue ? .now(.bookkeeping) : .later(since + Self.bookkeepingDelay)
    }
    var idle = Instant.distantFuture
    for index in subscriptions.indices where isAtRest(index, inbox) {
      guard let deadline = subscriptions[index].idleDeadline else { continue }
      if now >= deadline { return .now(.subscription(index, .idle)) }
      idle = min(idle, deadline)
    }
    let looksAt = looksAt ?? now + Self.lookInterval
    self.looksAt = looksAt
    return now >= looksAt ? .now(.look) : .later(min(looksAt, idle))
  }

  /// Nothing of a subscription waits to be taken. While something does, no silence and no new channel of it means anything: what has been
  /// delivered comes first, however long it waits for its share of the journal.
  private func isAtRest(_ index: Int, _ inbox: JournalInbox) -> Bool { inbox.subscriptions[index].handover == nil }

  /// A transaction is about to be made.
  ///
  /// - Parameter decisions: About the batches that it writes, in their order.
  /// - Returns: What each subscription asks for before it: those without a batch first.
  mutating func writing(
    _ decisions: [(index: Int, decision: SubscriptionMachine.Decision)], _ reported: Written
  ) -> [(index: Int, actions: [SubscriptionMachine.Action])] {
    let others = subscriptions.indices.filter { index in !decisions.contains { $0.index == index } }
    let all = others.map { (index: $0, decision: SubscriptionMachine.Decision?.none) } + decisions.map { ($0, $1) }
    return all.map { (index, decision) in
      (index, subscriptions[index].writing(decision, releasable: reported.released(of: index)))
    }
  }

  /// What was reported is durable: for subscriptions of which no batch was written with it.
  mutating func bookkept(
    _ written: Written, at now: Instant, but others: [Int] = []
  ) -> [(index: Int, actions: [SubscriptionMachine.Action])] {
    self.written = written
    return subscriptions.indices.compactMap { index in
      if others.contains(index) { return nil }
      return (index, subscriptions[index].bookkept(releasable: written.released(of: index), at: now))
    }
  }
}

/// What transactions write of what emitter and runtime have reported.
extension JournalMachine {
  /// What of the inbox is already durable, and what pruning has left.
  struct Written: Sendable, Hashable {
    var emitted = Position.origin
    var committed = Position.origin
    /// What checkpoints have allowed, of each subscription (``SubscriptionInbox/releasable``); none before anything was reported.
    var releasable: [Position?] = []
    /// The output files, of each subscription that has one.
    var outputs: [Int: OutputRecord] = [:]

    /// Committed messages that are left to prune.
    var toPrune = 0
    /// Bytes written since messages were last pruned.
    var bytesSincePrune = 0

    /// Rows, and bytes of bodies, from which pruning is worth it at once: it touches about as many pages for a few rows
    /// as for a thousand. Fewer are pruned as soon as there is nothing else to do.
    static let pruneWorth = (rows: 1000, bytes: 1 << 20)

    init(emitted: Position = .origin, committed: Position = .origin) {
      self.emitted = emitted
      self.committed = committed
    }

    /// What was reported. One look for everything that a transaction does with it, so that nothing counts as written that came in
    /// between.
    init(_ inbox: JournalInbox) {
      (emitted, committed, outputs) = (inbox.emitted, inbox.committed, inbox.outputs)
      releasable = inbox.subscriptions.map(\.releasable)
    }

    /// True if the inbox tells something that is not written yet, or something is left to prune.
    func isBehind(_ inbox: JournalInbox) -> Bool {
      toPrune > 0 || inbox.emitted > emitted || inbox.committed > committed || inbox.outputs != outputs
        || inbox.subscriptions.indices.contains { inbox.subscriptions[$0].releasable != released(of: $0) }
    }

    /// What checkpoints have allowed of the `index`-th subscription.
    func released(of index: Int) -> Position? { releasable.indices.contains(index) ? releasable[index] : nil }

    /// What a transaction writes to catch up; nil for what has not changed.
    struct Entries: Equatable, Sendable {
      var emitted: Position?
      var committed: Position?
      var outputs: [Int: OutputRecord] = [:]
    }

    /// A transaction catches up with the newest reports.
    ///
    /// - Parameter bytes: Bodies that it writes.
    mutating func catchUp(with reported: Written, bytes: Int) -> Entries {
      var entries = Entries()
      // What was committed was emitted, even if the emitter's own word is still on its way.
      let emitted = max(reported.emitted, reported.committed)
      if emitted > self.emitted { entries.emitted = emitted }
      if reported.committed > committed { entries.committed = reported.committed }
      entries.outputs = reported.outputs.filter { outputs[$0.key] != $0.value }
      self.emitted = max(emitted, self.emitted)
      committed = max(reported.committed, committed)
      releasable = reported.releasable
      outputs.merge(reported.outputs) { $1 }
      bytesSincePrune += bytes
      return entries
    }

    /// Messages were pruned, and so many are left to prune.
    mutating func pruned(left: Int) { (toPrune, bytesSincePrune) = (left, 0) }

    /// Whether the transaction prunes as well.
    ///
    /// - Parameter isBusy: There is something else to do.
    func prunes(isBusy: Bool) -> Bool {
      !isBusy || toPrune >= Self.pruneWorth.rows || bytesSincePrune >= Self.pruneWorth.bytes
    }
  }

  /// What is done while a batch waits for room.
  enum Meanwhile: Equatable, Sendable {
    /// The capture is to stop, and takes the one batch that it has in hand.
    case takeIt
    /// What was committed is written and pruned, which makes room.
    case bookkeep
    /// Room on the disk, and the end of a reader that holds the WAL, come without a word.
    case tidyUp
  }

  /// How long nothing may be reported until the journal tidies up for room.
  static let roomDelay = Duration.seconds(1)

  /// What is to be done for room, by what was reported since then.
  func meanwhile(_ inbox: JournalInbox, since began: Instant, at now: Instant) -> Next<Meanwhile> {
    if inbox.stopping { return .now(.takeIt) }
    if written.isBehind(inbox) { return .now(.bookkeep) }
    let deadline = began + Self.roomDelay
    return now >= deadline ? .now(.tidyUp) : .later(deadline)
  }
}
