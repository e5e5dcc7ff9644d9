/// The checkpoints that the runtime has not acknowledged yet, oldest first.
///
/// An entry is recorded before its line is written, since the acknowledgement can race the write;
/// `acknowledge.checkpoints` counts from the oldest.
/// https://github.com/estuary/flow/blob/master/go/protocols/capture/capture.proto
struct CheckpointLedger: Hashable {
  private var pending: [Checkpoint] = []

  /// Checkpoints without an acknowledgement.
  var count: Int { pending.count }

  /// A checkpoint is about to be written.
  mutating func written(_ checkpoint: Checkpoint) {
    var checkpoint = checkpoint
    // Only the runtime needs it, and it may be large.
    checkpoint.redelivery = nil
    pending.append(checkpoint)
  }

  /// The runtime has committed the `count` oldest checkpoints.
  ///
  /// - Returns: The newest of them; nil if there are not so many, which is the runtime's error.
  mutating func acknowledged(_ count: Int) -> Checkpoint? {
    guard count >= 1, count <= pending.count else { return nil }
    let newest = pending[count - 1]
    pending.removeFirst(count)
    return newest
  }
}
