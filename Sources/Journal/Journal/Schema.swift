/// The journal's tables and views, and how a file comes to the newest version.
///
/// Strings that repeat are kept once: `subscription` is a queue and where its documents go, `session` one start of the
/// connector on it, `consumer` one basic.consume of that, and a `message` names its consumer only. The one row of `journal`
/// carries the counters that a commit changes together with the rows.
///
/// Messages of all subscriptions stand in one line of positions. A subscription's messages have numbers of their own, 1, 2, 3 …
/// over its whole life, by which sequences, redeliveries and digests count. While a journal has had one subscription only, its
/// numbers are the positions, and nothing is stored of them (`message.number`, `subscription.captured`). Views are the stable interface for people and programs; tables may change with a version.
/// `pending` looks up the counters as values instead of joining them, so that its order is the table's and nothing is
/// sorted.
struct Schema {
  /// `application_id` of every journal, "AMQJ"; at offset 68 of the file (https://www.sqlite.org/fileformat.html).
  static let applicationID: Int64 = 0x414d_514a

  /// The SQL that leads from version n to version n + 1, n being the index. Released steps never change.
  let steps: [String]

  /// The version after all steps; `PRAGMA user_version` of a current file.
  var version: Int { steps.count }

  /// What this version of the program writes.
  static let current = Schema(steps: [first, second, third, fourth, fifth, sixth])

  /// Brings a file of an older version, or a new one, to the newest: forward only, one transaction a step.
  func migrate(_ database: Database) throws(JournalError) {
    let found = Int(try database.integer("PRAGMA user_version", "read the schema's version"))
    try refuseNewer(found, database.path)
    for version in found..<steps.count {
      do throws(JournalError) {
        try database.execute(
          "BEGIN IMMEDIATE; \(steps[version]); PRAGMA user_version = \(version + 1); COMMIT",
          "migrate to schema \(version + 1)")
      } catch {
        if !database.isAutocommit { try database.execute("ROLLBACK", "roll back a migration") }
        throw error
      }
    }
  }

  /// Throws `.newerSchema` if this version does not know what it would read.
  func refuseNewer(_ found: Int, _ path: String) throws(JournalError) {
    guard found >= 0 else {
      throw JournalError(
        kind: .corrupt("its schema has the version \(found)"), operation: "read the schema's version", object: path)
    }
    guard found > version else { return }
    throw JournalError(
      kind: .newerSchema(found: found, supported: version), operation: "read the schema's version", object: path)
  }

  /// The columns that a row's digest is of, by table (``RowDigest``), in version 5.
  private static let fifthDigests: [(table: String, columns: String)] = [
    ("journal", "identifier, created_at, epoch, digested_after, last, emitted, committed, bytes"),
    ("session", "number, id, queue, virtual_host, started_at, base"),
    ("consumer", "id, session, tag"),
    ("output", "name, file, length, started_at, inode"),
    ("redelivery", "one, queue, releasable, prefetch, priority, priority_since, stream_offset, settled"),
    ("digest", "last, digests, priority, priority_since, begins_line"),
    ("gap", "first, last"),
  ]

  /// The same in the newest version; a column that is new stands last.
  private static let digested: [(table: String, columns: String)] = [
    ("journal", "identifier, created_at, epoch, digested_after, last, emitted, committed, bytes"),
    ("subscription", subscriptionColumns),
    ("session", "number, id, queue, virtual_host, started_at, base, subscription"),
    ("consumer", "id, session, tag"),
    ("output", "name, file, length, started_at, inode"),
    ("redelivery", "subscription, queue, releasable, prefetch, priority, priority_since, stream_offset, settled"),
    ("digest", "last, digests, priority, priority_since, begins_line"),
    ("gap", "first, last"),
  ]

  static let subscriptionColumns = "key, stream, queue, virtual_host, captured"

  /// Of the newest version.
  static var tables: [String] { digested.map(\.table) + ["message", "parked"] }

  /// Throws `.invalid` if the file has what would run, or be written to, in the place of our tables: a trigger runs inside our
  /// transactions, and a view or a virtual table with the name of one is whatever its maker wants. Tables of others, with their own
  /// triggers, are left alone. To be called before the first write. https://www.sqlite.org/security.html
  static func refuseForeign(_ database: Database) throws(JournalError) {
    let ours = tables.map { "'\($0)'" }.joined(separator: ", ")
    let found = try database.first(
      """
      SELECT type, name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND tbl_name COLLATE NOCASE IN (\(ours))
        OR type = 'index' AND tbl_name COLLATE NOCASE IN (\(ours)) AND sql LIKE 'CREATE UNIQUE %'
        OR name COLLATE NOCASE IN (\(ours)) AND (type <> 'table' OR sql NOT LIKE 'CREATE TABLE %') LIMIT 1
      """, "look for triggers"
    ) { ($0.string(0), $0.string(1), $0.string(2)) }
    guard let (type, name, table) = found else { return }
    throw JournalError(
      kind: .invalid(
        type == "index"
          ? "it has a unique index \"\(name)\" on the table \(table), which would refuse messages: drop it (DROP INDEX)"
          : type == "trigger"
            ? "it has a trigger \"\(name)\" on the table \(table), which would run inside of every transaction. No one who looks needs one: "
              + "find out who made it, and drop it (DROP TRIGGER)"
            : "\(name) is no plain table (\(type)): someone has changed the journal; put an intact copy back"),
      operation: "check the schema", object: database.path)
  }

  /// Throws `.corrupt` if a table, view or index of ours is not what the migrations up to the file's version make: with a constraint of
  /// someone else's, say, or a view that says what its maker wants. Released steps never change, so neither does the text of what they
  /// make.
  ///
  /// - Returns: The tables that it has, which are fewer in a file of an older version.
  func refuseChanged(_ database: Database) throws(JournalError) -> [String] {
    let version = Int(try database.integer("PRAGMA user_version", "read the schema's version"))
    try refuseNewer(version, database.path)
    let later = ["subscription", "parked"]
    let taken = try database.first(
      "SELECT name FROM sqlite_master WHERE name COLLATE NOCASE IN (\(later.map { "'\($0)'" }.joined(separator: ", ")))",
      "read the schema"
    ) { $0.string(0) }
    if version < 6, let taken {
      throw JournalError(
        kind: .invalid(
          "it has a \"\(taken)\" that is no part of version \(version), and version 6 needs the name: rename what has it"
        ),
        operation: "check the schema", object: database.path)
    }
    let example = try Database(path: ":memory:", readOnly: false)
    try Schema(steps: Array(steps[..<version])).migrate(example)
    let (wanted, found) = (try Self.objects(example), try Self.objects(database))
    try example.close()
    for (name, object) in wanted.sorted(by: { $0.key < $1.key }) where found[name] != object {
      throw JournalError(
        kind: .corrupt(
          "its \(object.type) \(name) is \(found[name] == nil ? "missing" : "not what version \(version) of the journal has")"
        ),
        operation: "check the schema", object: database.path)
    }
    return Self.tables.filter { wanted[$0] != nil }
  }

  private struct Object: Equatable {
    var type: String
    var table: String
    var sql: String
  }

  private static func objects(_ database: Database) throws(JournalError) -> [String: Object] {
    try database.with("SELECT name, type, tbl_name, ifnull(sql, '') FROM sqlite_master", "read the schema") {
      (row) throws(JournalError) in
      var found: [String: Object] = [:]
      while try row.step() {
        found[row.string(0)] = Object(type: row.string(1), table: row.string(2), sql: row.string(3))
      }
      return found
    }
  }

  /// The same of `message`, but for its number, which the digest is of only if there is one: so rows of older versions fit.
  static let messageColumns = """
    position, consumer, delivery_tag, received_at, redelivered, size, bytes_before, exchange, routing_key, properties,
      raw_properties, body
    """

  /// The same of `parked`.
  static let parkedColumns = """
    position, consumer, delivery_tag, received_at, redelivered, size, exchange, routing_key, properties, raw_properties, body,
      number
    """

  /// An expression of SQL: whether a row of the table is what was written.
  ///
  /// - Parameter version: Of the file, at least 5.
  static func fitsDigest(_ table: String, version: Int = current.version) -> String {
    guard table == "message" else { return "digest IS row_digest(\(columns(of: table, version)))" }
    guard version > 5 else { return "digest IS row_digest(\(messageColumns))" }
    return """
      digest IS CASE WHEN number IS NULL THEN row_digest(\(messageColumns)) ELSE row_digest(\(messageColumns), number) END
      """
  }

  /// SQL that gives the rows of a table their digests; those of `message` have no number.
  ///
  /// - Parameter version: Of the file, at least 5.
  static func setDigest(
    _ table: String, where condition: String = "true", version: Int = current.version
  ) -> String {
    "UPDATE \(table) SET digest = row_digest(\(columns(of: table, version))) WHERE \(condition)"
  }

  /// The same of all tables but `message`.
  static var setDigests: String { digested.map { setDigest($0.table) }.joined(separator: "; ") }

  private static func columns(of table: String, _ version: Int) -> String {
    (version > 5 ? digested : fifthDigests).first { $0.table == table }?.columns
      ?? (table == "parked" ? parkedColumns : messageColumns)
  }

  /// What rows, but for messages, do not fit their digests, in words; none in a file of an older version.
  static func damage(_ database: Database) throws(JournalError) -> [String] {
    let version = Int(try database.integer("PRAGMA user_version", "read the schema's version"))
    guard version >= 5 else { return [] }
    var found: [String] = []
    for (table, _) in version > 5 ? digested : fifthDigests {
      let count = try database.integer(
        "SELECT count(*) FROM \(table) WHERE NOT (\(fitsDigest(table, version: version)))", "compare digests")
      if count > 0 {
        found.append(
          "\(count) row\(count == 1 ? "" : "s") of table \(table) \(count == 1 ? "is" : "are") not what was written")
      }
    }
    return found
  }

  /// Version 6: several subscriptions. What there is belongs to the first, which gets its stream's name when it is captured next.
  ///
  /// `redelivery` has a row for each. `digest.last` is the number of the newest message that the digests are of, and says whose it is by
  /// what is added to it (``SubscriptionRecord/origin``): nothing for the first, so that older rows stay what they are. The columns of numbers
  /// `parked` has messages whose subscription is not captured any more (``Journal/begin(_:emittedThrough:)``). The columns of numbers
  /// that were called positions count a subscription's messages; for the only one of a journal the two are the same. No table is renamed:
  /// SQLite then looks at every view of the file, and a visitor's may be one that it refuses
  /// (https://www.sqlite.org/lang_altertable.html#altertabrename).
  private static let sixth = """
    CREATE TABLE subscription (
      key INTEGER PRIMARY KEY,             -- from 0; never used again
      stream TEXT UNIQUE,                  -- its name; NULL if it was captured before version 6 and not since
      queue TEXT NOT NULL,                 -- that it captured from last
      virtual_host TEXT NOT NULL,
      captured INTEGER,                    -- messages ever captured; NULL while there is no other: journal.last
      digest INTEGER
    ) STRICT;
    INSERT INTO subscription (key, queue, virtual_host)
      SELECT 0, queue, virtual_host FROM session ORDER BY number DESC LIMIT 1;
    INSERT OR IGNORE INTO subscription (key, queue, virtual_host)
      SELECT 0, '', '/' FROM journal WHERE last > 0 OR EXISTS (SELECT 1 FROM redelivery);
    ALTER TABLE session ADD COLUMN subscription INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN number INTEGER;
    CREATE TABLE parked (
      position INTEGER PRIMARY KEY,        -- where it stood; never used again
      consumer INTEGER NOT NULL,
      delivery_tag INTEGER NOT NULL,
      received_at INTEGER NOT NULL,
      redelivered INTEGER NOT NULL,
      size INTEGER NOT NULL,
      exchange ANY NOT NULL,
      routing_key ANY NOT NULL,
      properties TEXT NOT NULL,
      raw_properties BLOB,
      body ANY NOT NULL,
      number INTEGER NOT NULL,
      digest INTEGER
    ) STRICT;
    CREATE TEMP TABLE redelivery_before AS
      SELECT queue, releasable, prefetch, priority, priority_since, stream_offset, settled FROM redelivery;
    DROP TABLE redelivery;
    CREATE TABLE redelivery (
      subscription INTEGER PRIMARY KEY,
      queue TEXT NOT NULL,                 -- whose deliveries the digests are of
      releasable INTEGER NOT NULL,         -- acknowledgements up to this number are allowed; what comes after it is the anchor
      prefetch INTEGER NOT NULL,           -- largest prefetch count since everything was acknowledged
      priority INTEGER,                    -- of the newest message; NULL if it has none
      priority_since INTEGER NOT NULL,     -- first number from which on all had that priority
      stream_offset INTEGER,               -- newest captured offset of a stream; NULL on other queues
      settled INTEGER NOT NULL,            -- the broker is known to have the acknowledgements up to this number
      digest INTEGER
    ) STRICT;
    INSERT INTO redelivery SELECT 0, *, NULL FROM temp.redelivery_before;
    DROP TABLE temp.redelivery_before;
    \(["subscription", "session", "redelivery"].map { setDigest($0, version: 6) }.joined(separator: ";\n"));
    DROP VIEW pending;
    CREATE VIEW pending AS
      SELECT
        m.position AS position,
        s.id AS session_id,
        ifnull(m.number, m.position) - s.base AS sequence,
        strftime('%Y-%m-%dT%H:%M:%S', m.received_at / 1000000, 'unixepoch')
          || printf('.%06dZ', m.received_at % 1000000) AS received_at,
        m.exchange AS exchange,
        m.routing_key AS routing_key,
        m.redelivered AS redelivered,
        CASE WHEN json_valid(m.properties) THEN json_extract(m.properties, '$.message_id') END AS message_id,
        CASE WHEN m.position <= (SELECT emitted FROM journal) THEN 'emitted' ELSE 'received' END AS state,
        m.properties AS properties,
        m.body AS body,
        m.size AS body_size,
        s.queue AS queue,
        ifnull(u.stream, s.queue) AS stream
      FROM message m
      LEFT JOIN consumer c ON c.id = m.consumer
      LEFT JOIN session s ON s.number = c.session
      LEFT JOIN subscription u ON u.key = s.subscription
      WHERE m.position > (SELECT committed FROM journal)
      UNION ALL SELECT
        m.position,
        s.id,
        m.number - s.base,
        strftime('%Y-%m-%dT%H:%M:%S', m.received_at / 1000000, 'unixepoch')
          || printf('.%06dZ', m.received_at % 1000000),
        m.exchange,
        m.routing_key,
        m.redelivered,
        CASE WHEN json_valid(m.properties) THEN json_extract(m.properties, '$.message_id') END,
        'parked',
        m.properties,
        m.body,
        m.size,
        s.queue,
        ifnull(u.stream, s.queue)
      FROM parked m
      LEFT JOIN consumer c ON c.id = m.consumer
      LEFT JOIN session s ON s.number = c.session
      LEFT JOIN subscription u ON u.key = s.subscription
      ORDER BY position
    """

  /// Version 5: every row has a digest (``RowDigest``), messages those after `digested_after`; and an output knows its file's inode.
  private static let fifth = """
    ALTER TABLE journal ADD COLUMN digested_after INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE output ADD COLUMN inode INTEGER;
    ALTER TABLE message ADD COLUMN digest INTEGER;
    UPDATE journal SET digested_after = last;
    \(fifthDigests.map { "ALTER TABLE \($0.table) ADD COLUMN digest INTEGER; \(setDigest($0.table, version: 5))" }.joined(separator: ";\n"))
    """

  /// Version 4: how far the broker is known to have the acknowledgements that a settling allowed. Older versions took it for
  /// granted.
  private static let fourth = """
    ALTER TABLE redelivery ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
    UPDATE redelivery SET settled = releasable
    """

  /// Version 3: digests say where a line begins, of messages that follow on one another in the queue: what was captured
  /// before it may be in the queue once more, after its beginning.
  private static let third = "ALTER TABLE digest ADD COLUMN begins_line INTEGER NOT NULL DEFAULT 0"

  /// Version 2: what a salvage could not read. A reader goes on after a gap, and only there, as if nothing were
  /// missing; the positions of a gap are never used again.
  private static let second = """
    CREATE TABLE gap (
      first INTEGER PRIMARY KEY,
      last INTEGER NOT NULL
    ) STRICT
    """

  /// Version 1.
  ///
  /// `message.bytes_before` is the sum of all body sizes ever appended before the row, so that the size of the
  /// backlog is one subtraction however long the backlog. Bodies and names are ANY: TEXT if they are UTF-8
  /// without NUL, else BLOB. `delivery_tag` holds the 64 bits of an unsigned number. Instants are microseconds
  /// since 1970, UTC. `raw_properties` is the property block as received, if the JSON cannot hold all of it.
  private static let first = """
    CREATE TABLE journal (
      one INTEGER PRIMARY KEY CHECK (one = 1),
      identifier TEXT NOT NULL,            -- UUID, made with the file
      created_at INTEGER NOT NULL,
      epoch INTEGER NOT NULL,              -- counts openings by a writer; a writer with an older one must stop
      last INTEGER NOT NULL,               -- position of the newest message ever appended
      emitted INTEGER NOT NULL,            -- everything up to here was given to the emitter's output
      committed INTEGER NOT NULL,          -- everything up to here is safe downstream and may be pruned
      bytes INTEGER NOT NULL               -- body bytes ever appended
    ) STRICT;
    CREATE TABLE session (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      queue TEXT NOT NULL,
      virtual_host TEXT NOT NULL,
      started_at INTEGER NOT NULL,
      base INTEGER NOT NULL                -- last position before the session: sequence = position - base
    ) STRICT;
    CREATE TABLE consumer (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      session INTEGER NOT NULL REFERENCES session (number),
      tag TEXT NOT NULL
    ) STRICT;
    CREATE TABLE message (
      position INTEGER PRIMARY KEY,        -- given by journal.last, never by SQLite, which reuses numbers
      consumer INTEGER NOT NULL REFERENCES consumer (id),
      delivery_tag INTEGER NOT NULL,
      received_at INTEGER NOT NULL,
      redelivered INTEGER NOT NULL,
      size INTEGER NOT NULL,               -- bytes of the body
      bytes_before INTEGER NOT NULL,
      exchange ANY NOT NULL,
      routing_key ANY NOT NULL,
      properties TEXT NOT NULL,            -- a JSON object
      raw_properties BLOB,
      body ANY NOT NULL
    ) STRICT;
    CREATE TABLE output (
      name TEXT PRIMARY KEY,
      file INTEGER NOT NULL,               -- number of the file written to
      length INTEGER NOT NULL,             -- bytes of it that are complete
      started_at INTEGER NOT NULL          -- when its first document was written
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE redelivery (
      one INTEGER PRIMARY KEY CHECK (one = 1),
      queue TEXT NOT NULL,                 -- whose deliveries the digests are of
      releasable INTEGER NOT NULL,         -- acknowledgements up to here are allowed; what lies behind is the anchor
      prefetch INTEGER NOT NULL,           -- largest prefetch count since everything was acknowledged
      priority INTEGER,                    -- of the newest message; NULL where it has none
      priority_since INTEGER NOT NULL,     -- first position from which on all had that priority
      stream_offset INTEGER                -- newest captured offset of a stream; NULL on other queues
    ) STRICT;
    CREATE TABLE digest (
      last INTEGER PRIMARY KEY,            -- position of the newest message that the digests are of
      digests BLOB NOT NULL,               -- 16 bytes a message, oldest first
      priority INTEGER,                    -- as in redelivery, at that message
      priority_since INTEGER NOT NULL
    ) STRICT;
    CREATE VIEW pending AS
      SELECT
        m.position AS position,
        s.id AS session_id,
        m.position - s.base AS sequence,
        strftime('%Y-%m-%dT%H:%M:%S', m.received_at / 1000000, 'unixepoch')
          || printf('.%06dZ', m.received_at % 1000000) AS received_at,
        m.exchange AS exchange,
        m.routing_key AS routing_key,
        m.redelivered AS redelivered,
        CASE WHEN json_valid(m.properties) THEN json_extract(m.properties, '$.message_id') END AS message_id,
        CASE WHEN m.position <= (SELECT emitted FROM journal) THEN 'emitted' ELSE 'received' END AS state,
        m.properties AS properties,
        m.body AS body,
        m.size AS body_size,
        s.queue AS queue
      FROM message m
      LEFT JOIN consumer c ON c.id = m.consumer
      LEFT JOIN session s ON s.number = c.session
      WHERE m.position > (SELECT committed FROM journal)
      ORDER BY m.position;
    CREATE VIEW summary AS
      SELECT
        j.identifier AS journal_id,
        j.last - j.committed AS pending_rows,
        coalesce(j.bytes - m.bytes_before, 0) AS pending_bytes,
        strftime('%Y-%m-%dT%H:%M:%S', m.received_at / 1000000, 'unixepoch')
          || printf('.%06dZ', m.received_at % 1000000) AS oldest_received_at,
        max(0, round((julianday('now') - 2440587.5) * 86400 - m.received_at / 1000000.0, 3)) AS oldest_age_seconds,
        j.last AS last_position,
        j.emitted AS emitted_position,
        j.committed AS committed_position,
        (SELECT count(*) FROM session) AS sessions
      FROM journal j
      LEFT JOIN message m ON m.position = j.committed + 1;
    PRAGMA application_id = \(applicationID)
    """
}
