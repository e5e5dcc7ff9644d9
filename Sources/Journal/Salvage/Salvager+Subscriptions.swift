/// What a salvage makes of the subscriptions.
extension Salvager {
  /// Gives each session its subscription, and each subscription the number of its newest message, as far as that can be found.
  mutating func completeSubscriptions(_ target: Database) throws(JournalError) {
    let half = SubscriptionRecord.span / 2
    try target.execute(
      """
      INSERT OR IGNORE INTO subscription (key, queue, virtual_host)
        SELECT subscription, queue, virtual_host FROM session WHERE subscription BETWEEN 0 AND \(SubscriptionRecord.largestKey)
        ORDER BY number DESC;
      INSERT INTO subscription (key, queue, virtual_host)
        SELECT 0, '', '/' WHERE \(counters.last) > 0 AND NOT EXISTS (SELECT 1 FROM subscription);
      DELETE FROM consumer WHERE session NOT IN (SELECT number FROM session);
      DELETE FROM redelivery WHERE subscription NOT IN (SELECT key FROM subscription);
      DELETE FROM digest WHERE max(last + \(half), 0) / \(SubscriptionRecord.span) NOT IN (SELECT key FROM subscription)
      """, "salvage the subscriptions")
    hasNumbers =
      try target.integer(
        """
        SELECT (SELECT count(*) FROM subscription) > 1 OR EXISTS (SELECT 1 FROM subscription WHERE captured IS NOT NULL)
          OR EXISTS (SELECT 1 FROM message WHERE number IS NOT NULL)
        """, "look for numbers") != 0
    guard hasNumbers else { return }
    if let standIn {
      try target.execute(
        "UPDATE session SET subscription = \(SubscriptionRecord.noKey) WHERE number = \(standIn)",
        "salvage the sessions")
    }
    try target.execute(
      """
      UPDATE subscription SET captured = min(\(counters.last), max(0, coalesce(captured, 0),
        coalesce((SELECT max(base) FROM session s WHERE s.subscription = key), 0),
        coalesce((SELECT releasable FROM redelivery r WHERE r.subscription = key), 0),
        coalesce((SELECT max(last) - key * \(SubscriptionRecord.span) FROM digest
          WHERE max(last + \(half), 0) / \(SubscriptionRecord.span) = key), 0),
        coalesce((SELECT max(p.number) FROM parked p JOIN consumer c ON c.id = p.consumer
          JOIN session s ON s.number = c.session WHERE s.subscription = key AND s.number <> \(standIn ?? 0)), 0),
        coalesce((SELECT max(ifnull(m.number, m.position)) FROM message m JOIN consumer c ON c.id = m.consumer
          JOIN session s ON s.number = c.session WHERE s.subscription = key AND s.number <> \(standIn ?? 0)), 0)))
      """, "salvage the numbers")
  }

  /// Copies what is parked; what cannot be read of it is lost, since the broker may have its acknowledgement.
  mutating func copyParked(to target: Database) throws(JournalError) {
    for range in try copyParkedRows(to: target) {
      report.lost.append(
        SalvageReport.Missing(
          first: Position(rawValue: range.lowerBound), last: Position(rawValue: range.upperBound), sessionID: "",
          firstSequence: Int(clamping: range.lowerBound)))
    }
    var named: [Int64] = []
    try target.with("SELECT DISTINCT consumer FROM parked", "read what is parked") { (row) throws(JournalError) in
      while try row.step() { named.append(row.integer(0)) }
    }
    for consumer in named { try needConsumer(consumer, target) }
    // Several subscriptions may have the same numbers, and one session stands in for all.
    let unknown = standIns.map(String.init).joined(separator: ", ")
    try target.execute("UPDATE parked SET number = position WHERE consumer IN (\(unknown))", "salvage what is parked")
    try target.execute("UPDATE parked SET digest = row_digest(\(Schema.parkedColumns))", "salvage what is parked")
  }

  /// - Returns: Positions of rows that are not what was written; and of unreadable pages all that they may have had: what is parked has
  ///   left a gap.
  private mutating func copyParkedRows(to target: Database) throws(JournalError) -> [ClosedRange<Int64>] {
    let marks = (1...12).map { "?\($0)" }.joined(separator: ", ")
    let query = "SELECT \(Schema.parkedColumns), \(Schema.fitsDigest("parked")) FROM parked WHERE position"
    let limit = counters.last
    var missing: [ClosedRange<Int64>] = []
    do throws(JournalError) {
      try target.with(
        "INSERT OR IGNORE INTO parked (\(Schema.parkedColumns)) VALUES (\(marks))", "salvage what is parked"
      ) { (insert) throws(JournalError) in
        let skipped = try readRows(query, from: 1, through: limit, isWhole: { _ in true }) {
          (_, row) throws(JournalError) in
          let position = row.integer(0)
          guard position <= limit else { return false }
          guard row.integer(12) != 0 else {
            missing.append(position...position)
            return true
          }
          for column: Int32 in 0..<12 { try insert.bind(column + 1, column: column, of: row) }
          do throws(JournalError) { try insert.run() } catch { throw Self.target(error) }
          return true
        }
        missing += skipped
      }
    } catch {
      // Not even the table can be read.
      try Self.rethrowTarget(error)
      missing = [1...max(1, limit)]
    }
    var gaps: [ClosedRange<Int64>] = []
    try target.with("SELECT first, last FROM gap WHERE first <= last", "read the gaps") { (row) throws(JournalError) in
      while try row.step() { gaps.append(row.integer(0)...row.integer(1)) }
    }
    return missing.flatMap { range in
      gaps.filter { $0.overlaps(range) }.map { $0.clamped(to: range) }
    }
  }
}
