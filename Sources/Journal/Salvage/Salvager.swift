internal import CSQLite
internal import Platform

/// Reads a damaged database row by row and writes what is whole into another one.
struct Salvager {
  /// Rows in one transaction of the new database.
  private static let batchRows = 1_000
  /// Positions looked up one by one after unreadable pages, in all. They cost microseconds each.
  private static let maxProbes: Int64 = 20_000_000
  /// No position, and no sum of bytes, comes to this.
  private static let most = Statement.numbers.upperBound / 2

  let source: Database
  var report: SalvageReport
  private var identifier = ""
  private var createdAt: Int64 = 0
  private var epoch: Int64 = 0
  private(set) var counters: (last: Int64, emitted: Int64, committed: Int64, bytes: Int64) = (0, 0, 0, 0)
  private var probes: Int64 = 0
  /// The schema's, and the position after which messages have digests; if it cannot be read, those that have none are believed.
  private var version: Int64 = 0
  private var digestedAfter = Self.most
  /// How far the journal is known to have come.
  private let mark: HighWaterMark?
  /// What the file says of acknowledgements is not of an older state than the messages.
  private var knowsReleasable: Bool
  /// Messages of several subscriptions have numbers of their own.
  var hasNumbers = false
  /// Consumers that messages may name, and the session of those whose own cannot be read.
  private(set) var consumers: Set<Int64> = []
  private(set) var standIns: Set<Int64> = []
  private(set) var standIn: Int64?

  /// Opens the damaged database; its files are not written to.
  init(
    reading path: String, reportingAs file: String, mark: HighWaterMark?, isMended: Bool
  ) throws(JournalError) {
    report = SalvageReport(path: file)
    self.mark = mark
    knowsReleasable = !isMended
    source = try Database(path: path, readOnly: false)
    try source.configure(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
    source.setBusyTimeout(milliseconds: 5_000)
    try source.execute(
      "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY",
      "configure")
    try source.configure(SQLITE_DBCONFIG_DEFENSIVE, true)
    let tables = try source.integer(
      "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('journal', 'message')", "find the tables")
    guard tables > 0 else {
      throw JournalError(kind: .corrupt("the tables are missing"), operation: "salvage", object: path)
    }
  }

  /// Closes the damaged database and leaves its WAL as it is.
  func close() { try? source.close() }

  /// Fills an empty journal.
  mutating func copy(to target: Database) throws(JournalError) {
    try target.execute("BEGIN IMMEDIATE", "salvage")
    version = reading { () throws(JournalError) in try source.integer("PRAGMA user_version", "read the version") } ?? 0
    let isKey = "BETWEEN 0 AND \(SubscriptionRecord.largestKey)"
    var isAnchored = true
    if version > 5 {
      isAnchored = try copyTable(
        "subscription", Schema.subscriptionColumns, 5, where: "key \(isKey)", to: target)
    }
    let sessions = "number, id, queue, virtual_host, started_at, base"
    // SQLite gives no number after the largest there is.
    _ = try copyTable(
      "session", "\(sessions), subscription", 7, of: "\(sessions), \(version < 6 ? "0" : "subscription")",
      where: "number < \(Self.most)"
        + (version < 6 ? "" : " AND (subscription \(isKey) OR subscription = \(SubscriptionRecord.noKey))"), to: target)
    _ = try copyTable("consumer", "id, session, tag", 3, where: "id < \(Self.most)", to: target)
    _ = try copyTable(
      "output", "name, file, length, started_at, inode", 5,
      of: "name, file, length, started_at, \(version < 5 ? "NULL" : "inode")", to: target)
    _ = try copyTable("gap", "first, last", 2, to: target)
    let redelivery = "queue, releasable, prefetch, priority, priority_since, stream_offset"
    isAnchored =
      try copyTable(
        "redelivery", "subscription, \(redelivery), settled", 8,
        of: "\(version < 6 ? "0" : "subscription"), \(redelivery), \(version < 4 ? "releasable" : "settled")",
        where: version < 6 ? "true" : "subscription \(isKey)", to: target) && isAnchored
    let digest = "last, digests, priority, priority_since"
    isAnchored =
      try copyTable(
        "digest", "\(digest), begins_line", 5, of: "\(digest), \(version < 3 ? "0" : "begins_line")", to: target)
      && isAnchored
    try target.with("SELECT c.id FROM consumer c JOIN session s ON s.number = c.session", "read the consumers") {
      (rows) throws(JournalError) in while try rows.step() { consumers.insert(rows.integer(0)) }
    }
    try readCounters(target)
    let missing = try copyMessages(to: target)

    if version > 5 { try copyParked(to: target) }
    try completeSubscriptions(target)
    // What lies before the first message that is left is no gap any more but gone, like what was pruned.
    let head = missing.first { $0.lowerBound == counters.committed + 1 }
    // Of several subscriptions no one knows whose message it was that is missing, so the broker may have the acknowledgement of each.
    let releasable =
      hasNumbers
      ? counters.last
      : try target.first("SELECT releasable FROM redelivery", "read the redelivery state") { $0.integer(0) }
    for range in missing {
      try target.execute(
        "INSERT OR IGNORE INTO gap (first, last) VALUES (\(range.lowerBound), \(range.upperBound))", "salvage")
    }
    try record(missing, releasable: knowsReleasable ? releasable ?? counters.last : counters.last, target)
    // An older page has rows that fit their digests, too.
    report.keepsAnchor = isAnchored && knowsReleasable && missing.isEmpty && report.knowsPositions
    if !report.keepsAnchor {
      // Without an anchor what comes again is captured again, which also brings back what is missing and was never acknowledged.
      let captured =
        hasNumbers ? "coalesce((SELECT captured FROM subscription WHERE key = subscription), 0)" : "\(counters.last)"
      try target.execute(
        "DELETE FROM digest; UPDATE redelivery SET releasable = \(captured), settled = \(captured)", "salvage")
    }
    if let head {
      counters.committed = head.upperBound
      counters.emitted = max(counters.emitted, head.upperBound)
    }
    try target.execute(
      """
      INSERT INTO journal (one, identifier, created_at, epoch, last, emitted, committed, bytes) VALUES (
        1, '\(identifier)', \(createdAt), \(epoch), \(counters.last), \(counters.emitted), \(counters.committed),
        \(counters.bytes));
      \(Schema.setDigests);
      COMMIT
      """, "salvage")
  }

  // MARK: Small tables

  /// Copies the rows of a table that can be read; false if not all could.
  ///
  /// - Parameter found: What stands for the columns in a file of an older version.
  private func copyTable(
    _ table: StaticString, _ columns: String, _ count: Int32, of found: String? = nil,
    where condition: String = "true", to target: Database
  ) throws(JournalError) -> Bool {
    let marks = (1...count).map { "?\($0)" }.joined(separator: ", ")
    return try target.with("INSERT OR IGNORE INTO \(table) (\(columns)) VALUES (\(marks))", table) {
      (insert) throws(JournalError) in
      do throws(JournalError) {
        let fits = version < 5 ? "true" : Schema.fitsDigest("\(table)", version: Int(version))
        let damaged = try source.integer("SELECT count(*) FROM \(table) WHERE NOT (\(fits))", table)
        return try source.with("SELECT \(found ?? columns) FROM \(table) WHERE \(condition) AND \(fits)", table) {
          (rows) throws(JournalError) in
          while try rows.step() {
            for column in 0..<count { try insert.bind(column + 1, column: column, of: rows) }
            do throws(JournalError) { try insert.run() } catch { throw Self.target(error) }
          }
          return damaged == 0
        }
      } catch {
        try Self.rethrowTarget(error)
        return false
      }
    }
  }

  /// Reads the counters; if they are of no use, takes what the rows and the other tables say.
  private mutating func readCounters(_ target: Database) throws(JournalError) {
    let found = reading {
      () throws(JournalError) in
      try source.first(
        """
        SELECT identifier, created_at, epoch, last, emitted, committed, bytes, \(version < 5 ? "0" : "digested_after") FROM journal
        WHERE \(version < 5 ? "true" : Schema.fitsDigest("journal", version: Int(version)))
        """, "read the counters"
      ) {
        (
          $0.string(0), $0.integer(1), $0.integer(2), $0.integer(3), $0.integer(4), $0.integer(5), $0.integer(6),
          $0.integer(7)
        )
      }
    }
    if let found = found ?? nil, let mark, mark.identifier == found.0, mark.last > found.3 { knowsReleasable = false }
    if let (identifier, createdAt, epoch, last, emitted, committed, bytes, digestedAfter) = found ?? nil,
      0 <= committed, committed <= emitted, emitted <= last, last < Self.most, (0..<Self.most).contains(bytes),
      (0..<Self.most).contains(epoch),
      identifier.utf8.count == 36, identifier.utf8.allSatisfy({ $0 == 0x2d || isHexDigit($0) })
    {
      (self.identifier, self.createdAt, self.epoch) = (identifier, createdAt, epoch)
      counters = (last, emitted, committed, bytes)
      self.digestedAfter = digestedAfter
      if let mark, mark.identifier == identifier {
        counters = (
          max(last, mark.last), max(emitted, mark.emitted), max(committed, mark.committed), max(bytes, mark.bytes)
        )
      }
      return
    }
    createdAt = SystemClock.wallMicroseconds()
    func ask(_ sql: String) -> Int64 {
      let found = reading { () throws(JournalError) in try source.integer(sql, "look for positions") } ?? 0
      return (0..<Self.most).contains(found) ? found : 0
    }
    let isPosition = "position BETWEEN 1 AND \(Self.most - 1)"
    let first = ask("SELECT min(position) FROM message WHERE \(isPosition)")
    let newest = ask("SELECT max(position) FROM message WHERE \(isPosition)")
    let parked = version < 6 ? 0 : ask("SELECT max(position) FROM parked WHERE \(isPosition)")
    // It may be another journal's, whose positions would make committed ones of these.
    if let mark, first == 0 || first - 1 <= mark.committed && (mark.committed...mark.last).contains(newest) {
      identifier = mark.identifier
      counters = (mark.last, mark.emitted, mark.committed, mark.bytes)
      if newest < mark.last { knowsReleasable = false }
      return
    }
    report.knowsPositions = false
    identifier = randomUUID()
    let others = try target.integer(
      """
      SELECT max(coalesce((SELECT max(last) FROM digest WHERE last <= \(SubscriptionRecord.first.digestKeys.upperBound)), 0),
        coalesce((SELECT max(base) FROM session WHERE base < \(Self.most)), 0),
        coalesce((SELECT max(last) FROM gap WHERE last < \(Self.most)), 0),
        coalesce((SELECT max(releasable) FROM redelivery WHERE releasable < \(Self.most)), 0),
        coalesce((SELECT min(sum(captured), \(Self.most - 1)) FROM subscription WHERE captured BETWEEN 0 AND \(Self.most / 20000)), 0))
      """, "look for positions")
    counters.last = max(newest, others, parked)
    counters.committed = first > 0 ? first - 1 : newest > 0 ? 0 : counters.last
    counters.emitted = counters.committed
  }

  // MARK: Messages

  /// Copies the messages that are not committed; returns the positions of those that cannot be read.
  private mutating func copyMessages(to target: Database) throws(JournalError) -> [ClosedRange<Int64>] {
    let marks = (1...13).map { "?\($0)" }.joined(separator: ", ")
    let columns = (1...12).map { "?\($0)" }.joined(separator: ", ")
    let (next, limit) = (counters.committed + 1, counters.last)
    var missing: [ClosedRange<Int64>] = []
    var expected = next
    // What a former salvage reported is not missing anew.
    var known: [ClosedRange<Int64>] = []
    try target.with("SELECT first, last FROM gap ORDER BY first", "read the gaps") { (rows) throws(JournalError) in
      while try rows.step() {
        if rows.integer(0) <= rows.integer(1) { known.append(rows.integer(0)...rows.integer(1)) }
      }
    }
    func note(_ range: ClosedRange<Int64>) { if !known.contains(range) { missing.append(range) } }

    // Of properties that are no JSON no document can be made; none at all stands for none.
    let fits =
      version < 5
      ? "true"
      : "(position <= \(digestedAfter) AND digest IS NULL OR \(Schema.fitsDigest("message", version: Int(version))))"
    let isJSON = "(properties = '' OR json_valid(properties)) AND \(fits)"
    let query = """
      SELECT \(Schema.messageColumns), \(version < 6 ? "NULL" : "number"), \(isJSON) FROM message WHERE position
      """
    var batch = 0
    try target.with(
      """
      INSERT INTO message (\(Schema.messageColumns), number, digest)
      VALUES (\(marks), CASE WHEN ?13 IS NULL THEN row_digest(\(columns)) ELSE row_digest(\(marks)) END)
      """, "salvage a message"
    ) {
      (insert) throws(JournalError) in
      _ = try readRows(query, from: next, through: limit, isWhole: Self.isWhole) {
        (salvager, row) throws(JournalError) in
        let found = row.integer(0)
        // Beyond the counter only what follows on directly is believed: it may be the counter that is wrong.
        guard found <= limit || found == expected else { return false }
        guard Self.isWhole(row) else { return true }
        try salvager.keep(row, insert, target)
        if found > expected { note(expected...found - 1) }
        expected = found + 1
        batch += 1
        if batch % Self.batchRows == 0 { try salvager.turn(target) }
        return true
      }
    }
    if expected <= limit { note(expected...limit) }
    if expected - 1 > counters.last { counters.last = expected - 1 }
    return missing
  }

  /// Steps through rows in the order of their key, and past pages that cannot be read.
  ///
  /// - Parameters:
  ///   - query: Its first column is the key, and it ends with the key's name.
  ///   - limit: How far rows are looked up by themselves after such a page, up to one that is whole.
  ///   - body: Gets each row; returns whether to go on.
  /// - Returns: The keys that may have stood on those pages.
  mutating func readRows(
    _ query: String, from first: Int64, through limit: Int64, isWhole: (Statement) -> Bool,
    _ body: (inout Salvager, Statement) throws(JournalError) -> Bool
  ) throws(JournalError) -> [ClosedRange<Int64>] {
    let scan = try source.prepare("\(query) >= ?1 ORDER BY 1", "read messages")
    let probe = try source.prepare("\(query) = ?1", "read a message")
    var skipped: [ClosedRange<Int64>] = []
    var from: Int64? = first
    while let start = from {
      from = nil
      var position = start - 1
      do throws(JournalError) {
        try scan.bind(1, start)
        while try scan.step() {
          let found = scan.integer(0)
          guard found > position else { break }
          position = found
          guard try body(&self, scan) else { break }
        }
        scan.reset()
      } catch {
        try Self.rethrowTarget(error)
        // Somewhere after `position` a page is not readable: look for the next row that is.
        var candidate = position + 1
        while candidate <= limit && probes < Self.maxProbes {
          probes += 1
          if canRead(probe, candidate, isWhole) { break }
          candidate += 1
        }
        let goesOn = candidate <= limit && probes < Self.maxProbes
        let last = goesOn ? candidate - 1 : limit
        if position < last { skipped.append(position + 1...last) }
        if goesOn { from = candidate }
      }
    }
    return skipped
  }

  /// True if a row can be read by its key.
  private func canRead(_ probe: Statement, _ position: Int64, _ isWhole: (Statement) -> Bool) -> Bool {
    reading { () throws(JournalError) in
      try probe.bind(1, position)
      defer { probe.reset() }
      return try probe.step() && isWhole(probe)
    } ?? false
  }

  /// Of a body that was too large for a document only the beginning is kept.
  private static func isSize(_ size: Int64, of count: Int) -> Bool {
    size == Int64(count) || size > Int64(count) && Row.cutSizes.contains(size)
  }

  /// Whether a row's values fit together: SQLite has no checksum over content.
  private static func isWhole(_ row: Statement) -> Bool {
    guard (1..<most).contains(row.integer(0)), (0..<most).contains(row.integer(6)), row.isText(9), row.integer(13) != 0,
      isSize(row.integer(5), of: row.bytes(11).count)
    else {
      return false
    }
    for column: Int32 in [7, 8, 9, 11] where row.isText(column) {
      guard isPlainText(row.bytes(column)) else { return false }
    }
    return true
  }

  /// Writes the row to the new journal.
  private mutating func keep(_ row: Statement, _ insert: Statement, _ target: Database) throws(JournalError) {
    do throws(JournalError) {
      try needConsumer(row.integer(1), target)
      for column: Int32 in 0..<12 { try insert.bind(column + 1, column: column, of: row) }
      // Another subscription's may have the same number, and the same session stands in for both.
      if standIns.contains(row.integer(1)) { try insert.bindNull(13) } else { try insert.bind(13, column: 12, of: row) }
      try insert.run()
    } catch { throw Self.target(error) }
    let position = Position(rawValue: row.integer(0))
    report.recovered += 1
    report.range = (report.range?.lowerBound ?? position)...position
    counters.bytes = max(counters.bytes, row.integer(6) + row.integer(5))
  }

  /// Commits, and empties the WAL of the new journal now and then.
  private func turn(_ target: Database) throws(JournalError) {
    do throws(JournalError) {
      try target.execute("COMMIT", "salvage")
      _ = try target.checkpoint(mode: SQLITE_CHECKPOINT_PASSIVE)
      try target.execute("BEGIN IMMEDIATE", "salvage")
    } catch { throw Self.target(error) }
  }

  /// A message whose consumer or session cannot be read gets one that stands in; its `sequence` is its position.
  mutating func needConsumer(_ id: Int64, _ target: Database) throws(JournalError) {
    guard !consumers.contains(id) else { return }
    if standIn == nil {
      standIn = try target.integer(
        """
        INSERT INTO session (id, queue, virtual_host, started_at, base) SELECT '\(randomUUID())',
          coalesce((SELECT queue FROM session LIMIT 1), ''), coalesce((SELECT virtual_host FROM session LIMIT 1), '/'),
          \(SystemClock.wallMicroseconds()), 0
        RETURNING number
        """, "salvage a session")
    }
    try target.execute(
      "INSERT OR REPLACE INTO consumer (id, session, tag) VALUES (\(id), \(standIn ?? 0), 'unknown')", "salvage")
    consumers.insert(id)
    standIns.insert(id)
  }

  // MARK: What to say

  /// Splits what is missing by session and by whether the broker has it, and reports it.
  private mutating func record(
    _ missing: [ClosedRange<Int64>], releasable: Int64, _ target: Database
  ) throws(JournalError) {
    var sessions: [(base: Int64, id: String)] = []
    // Numbers do not tell whose a position was.
    if !hasNumbers {
      try target.with("SELECT base, id, number FROM session ORDER BY base, number", "read the sessions") {
        (rows) throws(JournalError) in
        while try rows.step() {
          if rows.integer(2) != standIn { sessions.append((rows.integer(0), rows.string(1))) }
        }
      }
    }
    let cuts = Set(sessions.map(\.base) + [releasable])
    for range in missing {
      var first = range.lowerBound
      while first <= range.upperBound {
        let last = min(cuts.filter { $0 >= first }.min() ?? .max, range.upperBound)
        let session = sessions.last { $0.base < first }
        let part = SalvageReport.Missing(
          first: Position(rawValue: first), last: Position(rawValue: last), sessionID: session?.id ?? "",
          firstSequence: Int(first - (session?.base ?? 0)))
        if first > releasable { report.returning.append(part) } else { report.lost.append(part) }
        first = last + 1
      }
    }
  }

  // MARK: Whose error

  /// Errors of the new journal are the caller's, those of the damaged one are what it is about.
  static func target(_ error: JournalError) -> JournalError {
    var marked = JournalError(
      kind: error.kind, operation: "write the salvaged journal: \(error.operation)", object: error.object)
    marked.isOfSalvaged = true
    return marked
  }

  static func rethrowTarget(_ error: JournalError) throws(JournalError) {
    if error.isOfSalvaged || error.isRetryable { throw error }
  }

  /// What can be read of the damaged database; nil if it cannot.
  func reading<R>(_ body: () throws(JournalError) -> R) -> R? {
    do throws(JournalError) { return try body() } catch { return nil }
  }
}

private func isHexDigit(_ byte: UInt8) -> Bool {
  (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
}
