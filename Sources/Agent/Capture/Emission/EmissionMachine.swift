import Journal

/// Decides what the emitter's thread does next: which rows become documents, and which checkpoints carry none.
///
/// A value without clock and I/O; the emitter's thread has it.
struct EmissionMachine: Hashable, Sendable {
  enum Work {
    /// Documents of these rows, and checkpoints.
    case rows(JournalTail.Source)
    /// A checkpoint without documents.
    ///
    /// - Parameters:
    ///   - settlement: A step of a settling.
    ///   - isLast: Nothing is left to acknowledge or to emit.
    case checkpoint(Settlement?, isLast: Bool)
    /// Nothing follows.
    case end
  }

  /// Documents between two checkpoints at the most: the runtime combines what lies between, in memory.
  static let checkpointDocuments = 1000
  /// Bytes of documents between two checkpoints; the last document may go beyond.
  static let checkpointBytes = 4 << 20

  /// How many documents come before the next checkpoint at the most.
  static func documents(from start: Position, through last: Position) -> Int { min(checkpointDocuments, last - start) }

  /// A checkpoint follows before another document.
  static func isFull(bytes: Int) -> Bool { bytes >= checkpointBytes }

  /// Documents up to here were written.
  private(set) var emitted: Position
  /// The sink wants to be told that nothing is left.
  let tellsLast: Bool
  /// The number of the newest step of a settling that was looked at, of each subscription that had one.
  private(set) var steps: [Int: Int] = [:]
  private var hasEnded = false

  init(start: Position, tellsLast: Bool) {
    emitted = start
    self.tellsLast = tellsLast
  }

  mutating func wrote(through position: Position) { emitted = position }

  /// What is to be done; nil if nothing is, unless something is reported.
  mutating func next(_ capture: inout CaptureMachine) -> Work? {
    for case let settlement? in capture.progress.settlements
    where settlement.number > steps[settlement.index] ?? 0 && settlement.position <= emitted {
      steps[settlement.index] = settlement.number
      // If acknowledgements rest on the journal, it is told that nothing is left of it to acknowledge or to emit.
      if settlement.isCarried || tellsLast {
        return .checkpoint(settlement, isLast: capture.progress.isAtRest(emitted: emitted))
      }
    }
    if capture.progress.journaled > emitted {
      return .rows(capture.progress.tail.next(after: emitted, through: capture.progress.journaled))
    }
    guard capture.progress.ended else { return nil }
    if tellsLast, !hasEnded, capture.progress.isSettled, !capture.inbox.failed {
      hasEnded = true
      return .checkpoint(nil, isLast: true)
    }
    return .end
  }
}
