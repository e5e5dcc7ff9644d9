import Journal

/// What transactions write of what emitter and runtime have reported.
extension SubscriptionMachine {
  /// What of the inbox is already durable, and what pruning has left.
  struct Written: Sendable, Hashable {
    var emitted = Position.origin
    var committed = Position.origin
    var releasable: Position?
    var output: OutputRecord?

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
      (emitted, committed, releasable, output) = (inbox.emitted, inbox.committed, inbox.releasable, inbox.output)
    }

    /// True if the inbox tells something that is not written yet, or something is left to prune.
    func isBehind(_ inbox: JournalInbox) -> Bool {
      toPrune > 0 || inbox.emitted > emitted || inbox.committed > committed || inbox.releasable != releasable
        || inbox.output != output
    }

    /// What a transaction writes to catch up; nil for what has not changed.
    struct Entries: Equatable, Sendable {
      var emitted: Position?
      var committed: Position?
      var output: OutputRecord?
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
      if reported.output != output { entries.output = reported.output }
      self.emitted = max(emitted, self.emitted)
      committed = max(reported.committed, committed)
      releasable = reported.releasable
      output = reported.output ?? output
      bytesSincePrune += bytes
      return entries
    }

    /// Whether the transaction prunes as well.
    ///
    /// - Parameters:
    ///   - isBusy: There is something else to do.
    ///   - prunable: Committed messages that the journal has.
    func prunes(isBusy: Bool, prunable: Int) -> Bool {
      !isBusy || prunable >= Self.pruneWorth.rows || bytesSincePrune >= Self.pruneWorth.bytes
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

  /// What is to be done for room, by what was reported; nil if nothing was, and after a while the journal tidies up.
  func meanwhile(_ inbox: JournalInbox) -> Meanwhile? {
    if inbox.stopping { return .takeIt }
    return written.isBehind(inbox) ? .bookkeep : nil
  }
}
