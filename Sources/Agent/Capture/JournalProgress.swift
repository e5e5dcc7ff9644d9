import Journal

/// What the journal has reached, for the emitter to wait for.
struct JournalProgress: Sendable {
  /// Rows up to here are committed to the journal and may be read.
  var journaled = Position.origin
  /// The newest of them in memory.
  var tail = JournalTail()
  /// What checkpoints are to carry of each subscription's newest settling, once everything up to it is emitted; none after a message that
  /// makes it void.
  var settlements: [Settlement?]
  /// No row will follow.
  var ended = false
  /// And all rows' messages were acknowledged, as far as acknowledgements rest on the journal.
  var isSettled = false

  /// Everything is emitted, and the broker has the acknowledgements of all that was captured.
  func isAtRest(emitted: Position) -> Bool {
    emitted == journaled && settlements.allSatisfy { $0?.step == .settled }
  }

  init(journaled: Position = .origin, subscriptions count: Int = 1) {
    self.journaled = journaled
    settlements = Array(repeating: nil, count: count)
  }
}
