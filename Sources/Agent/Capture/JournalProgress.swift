import Journal

/// What the journal has reached, for the emitter to wait for.
struct JournalProgress: Sendable {
  /// Rows up to here are committed to the journal and may be read.
  var journaled = Position.origin
  /// The newest of them in memory.
  var tail = JournalTail()
  /// What checkpoints are to carry of the newest settling, once everything up to it is emitted.
  var settlement: Settlement?
  /// No row will follow.
  var ended = false
  /// And all rows' messages were acknowledged, as far as acknowledgements rest on the journal.
  var isSettled = false
}
