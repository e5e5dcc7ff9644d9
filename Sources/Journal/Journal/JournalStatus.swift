/// What a journal holds at one instant; everything costs the same for any backlog.
public struct JournalStatus: Equatable, Sendable {
  /// A UUID, made with the file; a copy has the same.
  public var identifier: String
  /// The file's, before it is migrated.
  public var schemaVersion: Int
  /// Microseconds since 1970, UTC.
  public var createdAt: Int64
  /// Of the newest message, of what is emitted, and of what is committed.
  public var positions: Positions
  /// Messages that are not yet committed downstream.
  public var pendingRows: Int
  /// Bytes of their bodies.
  public var pendingBytes: Int64
  /// When the oldest of them was received, microseconds since 1970; nil if none is pending.
  public var oldestReceivedAt: Int64?
  /// Sessions that the journal still knows.
  public var sessions: Int
  /// Bytes that messages and tables fill.
  public var usedBytes: Int64
}

extension JournalReader {
  /// The journal's numbers, all of one snapshot.
  public func status() throws(JournalError) -> JournalStatus {
    let status = try database.first(
      """
      SELECT j.identifier, (SELECT user_version FROM pragma_user_version), j.created_at, j.last, j.emitted, j.committed,
        coalesce(j.bytes - m.bytes_before, 0), m.received_at, (SELECT count(*) FROM session),
        ((SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count))
          * (SELECT page_size FROM pragma_page_size)
      FROM journal j LEFT JOIN message m ON m.position = j.committed + 1
      """, "read the status"
    ) { row in
      let counters = (last: row.integer(3), emitted: row.integer(4), committed: row.integer(5))
      return JournalStatus(
        identifier: row.string(0), schemaVersion: Int(row.integer(1)), createdAt: row.integer(2),
        positions: Positions(
          last: Position(rawValue: counters.last), emittedThrough: Position(rawValue: counters.emitted),
          committedThrough: Position(rawValue: counters.committed)),
        pendingRows: Int(counters.last - counters.committed), pendingBytes: row.integer(6),
        oldestReceivedAt: row.isNull(7) ? nil : row.integer(7), sessions: Int(row.integer(8)),
        usedBytes: row.integer(9))
    }
    guard let status else {
      throw JournalError(kind: .corrupt("the counters are missing"), operation: "read the status", object: path)
    }
    return status
  }

  /// Reads the whole file and compares it with SQLite's format and the journal's invariants; takes time with its size.
  ///
  /// - Returns: A line a problem, at most a hundred or so; none if the journal is sound.
  public func verify() throws(JournalError) -> [String] {
    var problems = try lines("PRAGMA integrity_check")
    if problems == ["ok"] { problems = [] }
    do throws(JournalError) { try checkStart() } catch { problems.append(error.description) }
    if version >= 5 {
      problems += try lines(
        """
        SELECT 'message ' || position || ' is not what was written' FROM message
        WHERE position > (SELECT digested_after FROM journal) AND NOT (\(Schema.fitsDigest("message", version: version))) LIMIT 100
        """)
    }
    if version >= 6 {
      problems += try lines(
        """
        SELECT 'the parked message ' || position || ' is not what was written' FROM parked
        WHERE NOT (\(Schema.fitsDigest("parked"))) LIMIT 100
        """)
    }
    // A journal of the first schema has no table of gaps.
    let reported = try database.integer("SELECT count(*) FROM sqlite_master WHERE name = 'gap'", "verify") > 0
    let isUnreported =
      "AND NOT EXISTS (SELECT 1 FROM gap WHERE gap.first = previous + 1 AND gap.last = position - 1)"
    let gaps = """
      SELECT 'message ' || position || ' comes after ' || previous
      FROM (SELECT position, lag(position) OVER (ORDER BY position) AS previous FROM message)
      WHERE position <> previous + 1 \(reported ? isUnreported : "") LIMIT 100
      """
    return problems + (try lines(gaps))
  }

  /// The first column of each row.
  private func lines(_ sql: String) throws(JournalError) -> [String] {
    try database.with(sql, "verify") { rows throws(JournalError) in
      var lines: [String] = []
      while try rows.step() { lines.append(rows.string(0)) }
      return lines
    }
  }
}
