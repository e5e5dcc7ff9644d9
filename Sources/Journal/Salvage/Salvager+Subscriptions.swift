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
    if try !copyTable("parked", Schema.parkedColumns, 12, to: target) {
      let damaged = reading { () throws(JournalError) in
        try source.with("SELECT position FROM parked WHERE NOT (\(Schema.fitsDigest("parked")))", "read what is parked")
        {
          (row) throws(JournalError) in
          var found: [Int64] = []
          while try row.step() { found.append(row.integer(0)) }
          return found
        }
      }
      // Of pages that cannot be read no one knows how many messages they had.
      for position in damaged ?? [1] {
        let place = Position(rawValue: position)
        report.lost.append(
          SalvageReport.Missing(first: place, last: place, sessionID: "", firstSequence: Int(clamping: position)))
      }
    }
    var named: [Int64] = []
    try target.with("SELECT DISTINCT consumer FROM parked", "read what is parked") { (row) throws(JournalError) in
      while try row.step() { named.append(row.integer(0)) }
    }
    for consumer in named { try needConsumer(consumer, target) }
    try target.execute("UPDATE parked SET digest = row_digest(\(Schema.parkedColumns))", "salvage what is parked")
  }
}
