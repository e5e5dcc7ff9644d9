import Journal

/// What a checkpoint covers.
struct Checkpoint: Hashable, Sendable {
  /// All documents up to here.
  var through: Position
  /// Once the checkpoint is committed, the broker may forget messages up to here.
  var releasable: Position
  /// What recognises redeliveries, for a connector whose journal does not outlive it.
  var redelivery: RedeliveryState?
  /// Where to go on in a stream; also if the journal knows it, which may be taken away.
  var stream: StreamResumption.State?
  /// Everything is emitted and acknowledged: a journal could be taken away.
  var isLast = false
}
