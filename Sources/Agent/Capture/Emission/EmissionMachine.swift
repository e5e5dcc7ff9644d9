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

  /// The rows between two checkpoints, as they are read.
  struct Chunk: Equatable {
    /// What follows if there are no more rows.
    enum End: Equatable {
      /// A checkpoint covers what was read.
      case covers
      /// There was none: the journal says whether it lacks them since they could not be salvaged.
      case looksForGap
    }

    /// Rows after this one are read, and none after ``through``.
    let start: Position
    let through: Position
    /// The newest that was read, or is known to be missing.
    private(set) var emitted: Position
    /// The number of the newest row that was read, of each subscription that has some.
    private(set) var numbers: [Int: Position] = [:]
    private var index: Int?
    private var newest: Position?

    init(after start: Position, through last: Position) {
      (self.start, emitted, through) = (start, start, last)
    }

    /// How many rows come before the next checkpoint at the most.
    var limit: Int { min(checkpointDocuments, through - start) }

    /// A row's document was made.
    ///
    /// - Parameter index: Which subscription the row is of; nil for none that is captured.
    /// - Returns: The subscription, if the row before was of another one.
    mutating func took(_ position: Position, _ number: Position, of index: Int?) -> Int? {
      emitted = position
      // Neighbours nearly always are of the same one.
      if index == self.index {
        defer { newest = number }
        return newest == nil ? index : nil
      }
      keep()
      (self.index, newest) = (index, number)
      return index
    }

    private mutating func keep() {
      if let index, let newest { numbers[index] = newest }
    }

    /// There are no more, or enough.
    mutating func ended() -> End {
      keep()
      return emitted > start ? .covers : .looksForGap
    }

    /// What the journal lacks is gone past.
    ///
    /// - Returns: False if it lacks nothing there that it knows of: it is damaged.
    mutating func skips(through last: Position) -> Bool {
      emitted = max(emitted, last)
      return emitted > start
    }
  }

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

  /// The rows of the next checkpoint; nil if those up to `last` are written.
  func chunk(through last: Position) -> Chunk? { emitted < last ? Chunk(after: emitted, through: last) : nil }

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
