/// How far a journal has come. Invariant: `committedThrough <= emittedThrough <= last`.
public struct Positions: Equatable, Sendable {
  /// The newest message ever appended.
  public var last: Position
  /// Everything up to here was handed to the output.
  public var emittedThrough: Position
  /// Everything up to here is safe downstream; rows may be pruned.
  public var committedThrough: Position

  public init(last: Position, emittedThrough: Position, committedThrough: Position) {
    self.last = last
    self.emittedThrough = emittedThrough
    self.committedThrough = committedThrough
  }
}

/// The numbers of the `journal` row, and what follows from the rows.
struct Counters: Equatable {
  var last: Int64 = 0
  var emitted: Int64 = 0
  var committed: Int64 = 0
  /// Body bytes ever appended.
  var bytes: Int64 = 0
  /// Everything up to here was deleted; derived from the oldest row at opening, not stored.
  var pruned: Int64 = 0

  var positions: Positions {
    Positions(
      last: Position(rawValue: last), emittedThrough: Position(rawValue: emitted),
      committedThrough: Position(rawValue: committed))
  }

  /// The digest of the row, in SQL with the counters as parameters.
  static let digest = "row_digest(identifier, created_at, epoch, digested_after, ?1, ?2, ?3, ?4)"

  /// Those of a new journal.
  init() {}

  /// Reads the counters and checks them against the oldest and newest row, which costs the same for any backlog.
  ///
  /// - Throws: `.corrupt` if the file contradicts an invariant.
  init(reading database: Database) throws(JournalError) {
    let row = try database.first("SELECT last, emitted, committed, bytes FROM journal", "read the counters") {
      ($0.integer(0), $0.integer(1), $0.integer(2), $0.integer(3))
    }
    guard let row else { throw Self.damaged("the counters are missing", database.path) }
    (last, emitted, committed, bytes) = row
    let most = Statement.numbers.upperBound
    guard 0 <= committed, committed <= emitted, emitted <= last, last < most, (0..<most).contains(bytes) else {
      throw Self.damaged("positions \(committed), \(emitted), \(last) are out of order", database.path)
    }
    let first = try database.integer("SELECT coalesce(min(position), 0) FROM message", "find the oldest message")
    let newest = try database.integer("SELECT coalesce(max(position), 0) FROM message", "find the newest message")
    pruned = first == 0 ? last : first - 1
    // What is missing may follow on what is pruned.
    if pruned > committed, try database.isGap(committed + 1, pruned) { pruned = committed }
    var isWhole = first == 0 || newest == last
    if !isWhole { isWhole = try database.isGap(newest + 1, last) }
    guard pruned >= 0, pruned <= committed, isWhole else {
      throw Self.damaged(
        "messages \(first) to \(newest) do not fit positions \(committed) and \(last)", database.path)
    }
  }

  private static func damaged(_ text: String, _ path: String) -> JournalError {
    JournalError(kind: .corrupt(text), operation: "check the journal", object: path)
  }
}
