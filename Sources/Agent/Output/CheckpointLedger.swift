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
    pending.append(checkpoint.numbers)
  }

  /// The runtime has committed the `count` oldest checkpoints.
  ///
  /// - Returns: What they cover together; nil if there are not so many, which is the runtime's error.
  mutating func acknowledged(_ count: Int) -> Checkpoint? {
    guard count >= 1, count <= pending.count else { return nil }
    var covered = pending[0]
    for checkpoint in pending[1..<count] { covered.merge(checkpoint) }
    covered.isLast = pending[count - 1].isLast
    pending.removeFirst(count)
    return covered
  }
}
