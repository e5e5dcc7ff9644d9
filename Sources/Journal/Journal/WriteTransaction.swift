/// One open write transaction; exists only while the closure of ``Journal/write(_:)`` runs.
///
/// It cannot be copied and is only lent, so it cannot outlive the transaction. Every failure of the journal is
/// remembered: such a transaction is rolled back at its end, whatever the closure does with the error.
public struct WriteTransaction: ~Copyable {
  let journal: Journal

  /// What the positions will be if this transaction commits.
  public var positions: Positions { journal.working.positions }

  /// Appends one message.
  ///
  /// - Parameters:
  ///   - consumer: The id of the newest consumer of its subscription's newest session, begun by this process.
  ///   - receivedAt: Microseconds since 1970, UTC.
  ///   - exchange: The name's bytes as received; so are `routingKey` and `body`. Kept as TEXT if they are UTF-8
  ///     without NUL, else as BLOB.
  ///   - properties: A JSON object in UTF-8.
  ///   - rawProperties: The property block as received, if the JSON cannot hold all of it; else empty.
  ///   - bodySize: How many bytes the body has, if `body` is only its beginning.
  /// - Returns: The message's position.
  /// - Throws: `.full`; `.invalid` for a foreign consumer or more bytes than SQLite stores (1,000,000,000 a row).
  @discardableResult
  public borrowing func append(
    consumer: Int64, deliveryTag: UInt64, redelivered: Bool, receivedAt: Int64, exchange: Span<UInt8>,
    routingKey: Span<UInt8>, properties: Span<UInt8>, rawProperties: Span<UInt8>, body: Span<UInt8>,
    bodySize: Int? = nil
  ) throws(JournalError) -> Position {
    try noting { () throws(JournalError) in
      guard let number = journal.workingSubscriptions.number(nextOf: consumer) else {
        throw journal.invalid("consumer \(consumer) is not of a session of this process", "append")
      }
      // Read and written once: each use of a class's property is checked for its exclusiveness.
      var working = journal.working
      let position = working.last + 1
      let statements = journal.statements
      let insert = statements.insert
      let size = Int64(bodySize ?? body.count)
      try insert.bind(1, position)
      try insert.bind(2, consumer)
      try insert.bind(3, Int64(bitPattern: deliveryTag))
      try insert.bind(4, receivedAt)
      try insert.bind(5, redelivered ? 1 : 0)
      try insert.bind(6, size)
      try insert.bind(7, working.bytes)
      try statements.exchange.bind(exchange)
      try statements.routingKey.bind(routingKey)
      try insert.bind(10, text: properties)
      try insert.bind(11, blob: rawProperties)
      let isText = try insert.bind(12, textOrBlob: body)
      let digest = RowDigest(
        position, consumer, Int64(bitPattern: deliveryTag), receivedAt, redelivered ? 1 : 0, size, working.bytes,
        exchange: exchange, isText: statements.exchange.isText, routingKey: routingKey,
        isText: statements.routingKey.isText, properties: properties, rawProperties: rawProperties, body: body,
        isText: isText, number: number.own)
      try insert.bind(13, digest.stored)
      if let number = number.own { try insert.bind(14, number) }
      try insert.run()
      working.last = position
      working.bytes += size
      journal.working = working
      return Position(rawValue: position)
    }
  }

  /// Records a subscription whose session has yet to begin, with what this transaction writes of it.
  public borrowing func record(_ subscription: SubscriptionRecord) throws(JournalError) {
    try noting { () throws(JournalError) in try journal.record(subscription) }
  }

  /// What the number of a subscription's newest message will be if this transaction commits.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  public func captured(of subscription: SubscriptionRecord? = nil) throws(JournalError) -> Position {
    let index = try journal.index(of: subscription)
    return Position(rawValue: journal.workingSubscriptions.captured(index, last: journal.working.last))
  }

  /// Records that everything through `position` was handed to the output; an older position changes nothing.
  ///
  /// - Throws: `.invalid` for a position that was never appended.
  public borrowing func setEmitted(through position: Position) throws(JournalError) {
    try noting { () throws(JournalError) in
      guard position.rawValue <= journal.working.last else {
        throw journal.invalid("position \(position) is beyond the last, \(journal.working.last)", "set emitted")
      }
      journal.working.emitted = max(journal.working.emitted, position.rawValue)
    }
  }

  /// Records that everything through `position` is safe downstream; an older position changes nothing.
  ///
  /// - Throws: `.invalid` for a position that was not emitted. An error and no trap: the number may come from
  ///   outside, and refusing it loses nothing, whereas believing it would delete messages that no one has.
  public borrowing func setCommitted(through position: Position) throws(JournalError) {
    try noting { () throws(JournalError) in
      guard position.rawValue <= journal.working.emitted else {
        throw journal.invalid("position \(position) is beyond the emitted, \(journal.working.emitted)", "set committed")
      }
      journal.working.committed = max(journal.working.committed, position.rawValue)
    }
  }

  /// How many positions at or below `committedThrough` are not pruned yet, those of a gap included.
  public var prunable: Int { Int(journal.working.committed - journal.working.pruned) }

  /// Deletes at most `limit` messages at or below `committedThrough`, oldest first.
  ///
  /// - Returns: How many positions were freed, those of a gap included; less than `limit` means that none is left to delete.
  @discardableResult
  public borrowing func prune(limit: Int) throws(JournalError) -> Int {
    try noting { () throws(JournalError) in
      let from = journal.working.pruned
      let through = min(journal.working.committed, from + Int64(clamping: max(0, min(limit, 1 << 32))))
      guard through > from else { return 0 }
      try journal.statements.delete.bind(1, from)
      try journal.statements.delete.bind(2, through)
      try journal.statements.delete.run()
      let count = journal.database.changes
      var expected = through - from
      if count != expected { expected -= try journal.missing(after: from, through: through) }
      guard count == expected else {
        let text = "messages \(from + 1) to \(through) should be there, but \(count) are"
        throw JournalError(kind: .corrupt(text), operation: "prune", object: journal.path)
      }
      journal.working.pruned = through
      return Int(through - from)
    }
  }

  /// Records how much of an output file is complete; the committed position changes in the same transaction.
  public borrowing func setOutput(_ name: String, _ record: OutputRecord) throws(JournalError) {
    try noting { () throws(JournalError) in
      let statement = journal.statements.setOutput
      try statement.bind(1, copying: name)
      try statement.bind(2, record.file)
      try statement.bind(3, record.length)
      try statement.bind(4, record.startedAt)
      if let inode = record.inode { try statement.bind(5, inode) } else { try statement.bindNull(5) }
      try statement.run()
    }
  }

  /// Remembers the first failure of the transaction.
  borrowing func noting<R>(_ body: () throws(JournalError) -> R) throws(JournalError) -> R {
    do throws(JournalError) { return try body() } catch {
      if journal.transactionFailure == nil { journal.transactionFailure = error }
      throw error
    }
  }
}
