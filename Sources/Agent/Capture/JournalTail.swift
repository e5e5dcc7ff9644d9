import AMQP
import Journal

/// One batch as it was journaled just now: the same rows as in the journal, still in memory.
struct JournaledBatch: Sendable {
  /// Position of its first message; the others follow without gaps.
  let first: Position
  /// Position of its last message.
  var last: Position { first + (items.count - 1) }
  let consumer: ConsumerRecord
  /// Which of the capture's subscriptions it is of.
  let index: Int
  /// The number of its first message.
  private let number: Position
  private let items: [Intake.Item]
  private let rendered: [UInt8]
  /// Where the items' bytes lie; to be filled again when no one reads it any more.
  private(set) var batch: DeliveryBatch

  /// - Parameters:
  ///   - plan: What was written of `batch`: at least one message, and none of an earlier batch.
  ///   - index: Which of the capture's subscriptions it is of.
  ///   - last: The position of the last message, and `number` its number.
  init(
    _ plan: Intake.Plan, of batch: consuming DeliveryBatch, consumer: ConsumerRecord, index: Int = 0, last: Position,
    number: Position? = nil
  ) {
    precondition(plan.isWholeBatch, "a batch in memory is all there is to its rows")
    first = Position(rawValue: last.rawValue - Int64(plan.items.count) + 1)
    self.number = Position(rawValue: (number ?? last).rawValue - Int64(plan.items.count) + 1)
    self.consumer = consumer
    self.index = index
    items = plan.items
    rendered = plan.rendered
    self.batch = batch
  }

  /// Bytes of memory that its messages take, at least.
  var byteCount: Int { batch.byteCount + rendered.count }

  /// Its rows after `position`, in order, as ``JournalReader/read(after:limit:_:)`` gives them.
  ///
  /// - Returns: How many `body` got, which returns whether to go on.
  func read(
    after position: Position, limit: Int, _ body: (borrowing Row) throws -> Bool
  ) rethrows -> Int {
    var count = 0
    for index in max(0, position - first + 1)..<items.count where count < limit {
      let row = items[index].row(
        at: first + index, number: number + index, consumer: consumer.id, batch.arena.span, rendered.span)
      count += 1
      guard try body(row) else { break }
    }
    return count
  }
}

/// The newest batches of the journal, in memory, so that an emitter that keeps pace need not read them from the file.
///
/// Only what is committed gets here, and everything here is in the journal too: forgetting any of it costs reading it
/// from there, and nothing else. So it holds little, and what does not fit is left out. Which rows come from where is
/// decided here, by their positions alone.
struct JournalTail: Sendable {
  /// Batches that wait while the emitter writes one, or for a processor: a drain is rarely further ahead of it.
  static let mostBatches = 4
  /// A batch with more bytes is not kept: its rows' cost is that of their bytes, wherever they are read.
  static let mostBytes = 1 << 20

  /// Where the rows after a position are to be read.
  enum Source {
    /// From this batch, which is not in the tail any more.
    case memory(JournaledBatch)
    /// From the journal, up to this position.
    case journal(through: Position)
  }

  private var batches: [JournaledBatch] = []

  /// Takes the batch that was committed last, if it fits; gives it back if not.
  mutating func offer(_ batch: consuming JournaledBatch) -> JournaledBatch? {
    guard batches.count < Self.mostBatches, batch.byteCount <= Self.mostBytes else { return batch }
    batches.append(batch)
    return nil
  }

  /// - Parameter through: What the journal holds. Greater than `position`.
  mutating func next(after position: Position, through: Position) -> Source {
    // Read from the journal already; that goes further than it was asked to if positions are missing.
    while let batch = batches.first, batch.last <= position { batches.removeFirst() }
    guard let batch = batches.first else { return .journal(through: through) }
    guard batch.first <= position + 1 else { return .journal(through: Position(rawValue: batch.first.rawValue - 1)) }
    batches.removeFirst()
    return .memory(batch)
  }
}
