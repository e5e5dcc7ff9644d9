/// What becomes of messages whose subscription is not captured any more: they leave the line of positions, so that they block no others, and
/// stand in the table `parked` until it is captured again.
///
/// What leaves and what comes back is one transaction, before anything is read or written of the session. A message keeps its session and
/// its number, and so its `sequence`; when it comes back it gets a position at the end. The positions that it leaves are a gap, which
/// readers go past like those of a salvage. It costs time with the messages that move and those that are pending; nothing if none is
/// parked, and every subscription that the journal knows is captured.
extension Journal {
  /// What ``begin(_:emittedThrough:)`` has moved.
  public struct Parked: Equatable, Sendable {
    /// Messages of subscriptions that are not captured, which left the line now.
    public var left = 0
    /// Of those that are, which came back.
    public var returned = 0
    /// The names of the subscriptions that have messages parked, as far as they have one; else their queues'.
    public var streams: [String] = []
  }

  /// Says which subscriptions are captured from now on. To be called once, before the first session.
  ///
  /// - Parameter position: What is emitted from here on comes after this: messages up to it were committed downstream, whatever the journal
  ///   knows of that.
  /// - Throws: `.corrupt` if one of the messages that are to move is not what was written, or one is missing; then none has moved.
  public func begin(
    _ subscriptions: [SubscriptionRecord], emittedThrough position: Position
  ) throws(JournalError) -> Parked {
    try checkUsable()
    // What is of no one is everyone's.
    let keys = subscriptions.map(\.key) + [SubscriptionRecord.noKey]
    let active = keys.map(String.init).joined(separator: ", ")
    let consumers = """
      (SELECT c.id FROM consumer c JOIN session s ON s.number = c.session WHERE s.subscription NOT IN (\(active)))
      """
    let isParked = try database.integer("SELECT EXISTS (SELECT 1 FROM parked)", "look for parked messages") != 0
    let leaves = try database.integer(
      """
      SELECT EXISTS (SELECT 1 FROM \(consumers)) AND EXISTS (SELECT 1 FROM message
        WHERE position > \(max(position.rawValue, durable.committed)) AND consumer IN \(consumers))
      """, "look for messages to be parked")
    guard isParked || leaves != 0 else { return Parked() }
    let found = try transaction { (tx) throws(JournalError) in
      try tx.noting { () throws(JournalError) in
        for subscription in subscriptions { try record(subscription) }
        var parked = Parked()
        if leaves != 0 { parked.left = try park(consumers, after: max(position.rawValue, working.committed)) }
        parked.returned = try unpark(consumers)
        try database.with(
          """
          SELECT DISTINCT coalesce(u.stream, u.queue) FROM consumer c JOIN session s ON s.number = c.session
          JOIN subscription u ON u.key = s.subscription WHERE c.id IN (SELECT consumer FROM parked) ORDER BY 1
          """, "look for parked messages"
        ) { (row) throws(JournalError) in while try row.step() { parked.streams.append(row.string(0)) } }
        return parked
      }
    }
    // What came back stands at the end, and names consumers of former processes.
    for index in ended.indices { ended[index].through = durable.last }
    return found
  }

  /// - Returns: How many messages left the line.
  private func park(_ consumers: String, after position: Int64) throws(JournalError) -> Int {
    let move = "position > \(position) AND consumer IN \(consumers)"
    let pending = try database.integer(
      "SELECT count(*) FROM message WHERE position > \(working.committed)", "count the messages")
    guard pending + (try missing(after: working.committed, through: working.last)) == working.last - working.committed
    else {
      let text = "messages are missing between positions \(working.committed) and \(working.last)"
      throw JournalError(kind: .corrupt(text), operation: "park messages", object: path)
    }
    try refuseDamaged("message", move + " AND (position > (SELECT digested_after FROM journal) OR digest IS NOT NULL)")
    try database.execute(
      """
      INSERT INTO parked (\(Schema.parkedColumns), digest) SELECT *, row_digest(\(Schema.parkedColumns)) FROM (
        SELECT \(Schema.parkedColumns.replacingNumber("ifnull(number, position) AS number")) FROM message WHERE \(move));
      DELETE FROM message WHERE \(move)
      """, "park messages")
    let count = database.changes
    // What is left of the line: it begins with a message, or is at its end.
    let first = try database.integer(
      "SELECT coalesce(min(position), \(working.last + 1)) FROM message WHERE position > \(working.committed)",
      "find the oldest message")
    working.committed = max(working.committed, first - 1)
    working.emitted = max(working.emitted, working.committed)
    let newest = try database.integer(
      "SELECT coalesce(max(position), 0) FROM message WHERE position <= \(working.committed)", "find the newest message"
    )
    let start = max(newest, working.pruned) + 1
    let head =
      start <= working.committed ? "INSERT INTO gap (first, last) VALUES (\(start), \(working.committed));" : ""
    try database.execute(
      """
      DELETE FROM gap WHERE last >= \(start); \(head)
      INSERT INTO gap (first, last) SELECT previous + 1, position - 1 FROM (
        SELECT position, lag(position, 1, \(working.committed)) OVER (ORDER BY position) AS previous FROM (
          SELECT position FROM message WHERE position > \(working.committed) UNION ALL SELECT \(working.last + 1)))
        WHERE position <> previous + 1;
      \(Schema.setDigest("gap"))
      """, "park messages")
    return count
  }

  /// - Returns: How many messages came back to the line.
  private func unpark(_ consumers: String) throws(JournalError) -> Int {
    let move = "consumer NOT IN \(consumers)"
    try refuseDamaged("parked", move)
    let (count, bytes) =
      try database.first(
        "SELECT count(*), coalesce(sum(size), 0) FROM parked WHERE \(move)", "look for parked messages"
      ) { ($0.integer(0), $0.integer(1)) } ?? (0, 0)
    guard count > 0 else { return 0 }
    guard working.last < Statement.numbers.upperBound / 2 - count else {
      throw invalid("no positions are left", "bring messages back")
    }
    try database.execute(
      """
      INSERT INTO message (\(Schema.messageColumns), number, digest)
      SELECT *, row_digest(\(Schema.messageColumns), number) FROM (
        SELECT \(working.last) + row_number() OVER (ORDER BY position) AS position, consumer, delivery_tag, received_at,
          redelivered, size, \(working.bytes) + sum(size) OVER (ORDER BY position) - size AS bytes_before, exchange,
          routing_key, properties, raw_properties, body, number FROM parked WHERE \(move));
      DELETE FROM parked WHERE \(move)
      """, "bring messages back")
    working.last += count
    working.bytes += bytes
    return Int(count)
  }

  private func refuseDamaged(_ table: String, _ condition: String) throws(JournalError) {
    let found = try database.first(
      "SELECT position FROM \(table) WHERE \(condition) AND NOT (\(Schema.fitsDigest(table))) LIMIT 1",
      "compare digests"
    ) { $0.integer(0) }
    guard let found else { return }
    throw JournalError(
      kind: .corrupt("message \(found) is not what was written"), operation: "park messages", object: path)
  }
}

extension String {
  /// The list of columns with something else in the place of `number`, which stands last.
  fileprivate func replacingNumber(_ other: String) -> String { dropLast("number".count) + other }
}
