import Journal

/// Makes the checkpoints: follows the emitter with what they have to carry so that a subscription can go on from them.
struct CheckpointTrail: Sendable {
  private let stream: StreamResumption?
  private var queue: RedeliveryTrail?

  /// - Parameter start: Documents up to here were emitted before.
  init(_ resumption: Resumption, start: Position) {
    stream = resumption.stream.flatMap { $0.isCarriedByCheckpoints ? $0 : nil }
    queue = resumption.keeper.map { RedeliveryTrail($0, start: start) }
  }

  /// The checkpoint for documents up to `position`.
  ///
  /// - Parameters:
  ///   - step: Of a settling; from the first on nothing is kept back any more.
  ///   - isLast: Nothing was captured after it.
  mutating func checkpoint(
    through position: Position, step: Settlement.Step? = nil, isLast: Bool = false, reader: JournalReader
  ) throws(JournalError) -> Checkpoint {
    var checkpoint =
      try queue?.checkpoint(through: position, step: step, reader: reader)
      ?? Checkpoint(through: position, releasable: position)
    if let stream {
      checkpoint.stream = try stream.state(through: position, reader: reader) ?? (isLast ? stream.newestState : nil)
    }
    checkpoint.isLast = isLast
    return checkpoint
  }
}
