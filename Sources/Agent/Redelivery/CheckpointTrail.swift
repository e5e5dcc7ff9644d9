import Journal

/// Makes the checkpoints: follows the emitter with what they have to carry so that each subscription can go on from them.
struct CheckpointTrail: Sendable {
  private var subscriptions: [SubscriptionTrail]

  /// - Parameter resumptions: Of each subscription, with the number of its newest message in the journal.
  init(_ resumptions: [(Resumption, captured: Position)]) {
    subscriptions = resumptions.enumerated().map { SubscriptionTrail($1.0, index: $0, captured: $1.captured) }
  }

  /// The number before that of the first message that was not emitted is known.
  mutating func began(_ index: Int, at number: Position) { subscriptions[index].began(at: number) }

  /// The checkpoint for documents up to `position`.
  ///
  /// - Parameters:
  ///   - emitted: The numbers of the newest messages among them, of the subscriptions that have some since the last checkpoint.
  ///   - settlement: A step of a settling; from the first on nothing is kept back any more.
  ///   - isLast: Nothing was captured after it.
  mutating func checkpoint(
    through position: Position, _ emitted: [Int: Position], settlement: Settlement? = nil, isLast: Bool = false,
    reader: JournalReader
  ) throws(JournalError) -> Checkpoint {
    var checkpoint = Checkpoint(through: position, isLast: isLast)
    for index in subscriptions.indices {
      let step = settlement.flatMap { $0.index == index ? $0.step : nil }
      guard emitted[index] != nil || step != nil || isLast else { continue }
      checkpoint.parts.append(
        try subscriptions[index].part(through: emitted[index], step: step, isLast: isLast, reader: reader))
    }
    // What damage has taken away is of no one that is known.
    if checkpoint.parts.isEmpty {
      checkpoint.parts = [try subscriptions[0].part(through: nil, step: nil, isLast: isLast, reader: reader)]
    }
    return checkpoint
  }
}

/// The same of one subscription.
private struct SubscriptionTrail: Sendable {
  private let index: Int
  private let stream: StreamResumption?
  private let keeper: RedeliveryKeeper?
  /// Follows from the first message that is emitted, or the first checkpoint.
  private var queue: RedeliveryTrail?
  /// The number of the newest message that was emitted; of the newest in the journal before the first is.
  private var emitted: Position

  init(_ resumption: Resumption, index: Int, captured: Position) {
    self.index = index
    stream = resumption.stream.flatMap { $0.isCarriedByCheckpoints ? $0 : nil }
    keeper = resumption.keeper
    emitted = captured
  }

  /// `number` is the first that is emitted here.
  mutating func began(at number: Position) {
    guard queue == nil else { return }
    emitted = Position(rawValue: number.rawValue - 1)
    queue = keeper.map { RedeliveryTrail($0, start: emitted) }
  }

  mutating func part(
    through number: Position?, step: Settlement.Step?, isLast: Bool, reader: JournalReader
  ) throws(JournalError) -> Checkpoint.Part {
    emitted = number ?? emitted
    if queue == nil { queue = keeper.map { RedeliveryTrail($0, start: emitted) } }
    var part = Checkpoint.Part(index: index, releasable: emitted)
    if let (releasable, state) = try queue?.checkpoint(through: emitted, step: step, reader: reader) {
      (part.releasable, part.redelivery) = (releasable, state)
    }
    if let stream {
      part.stream = try stream.state(through: emitted, reader: reader) ?? (isLast ? stream.newestState : nil)
    }
    return part
  }
}
