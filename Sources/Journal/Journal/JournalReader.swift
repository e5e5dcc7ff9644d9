internal import CSQLite

/// A read-only connection to a journal: the emitter's, or that of a command that looks at it while it is written.
///
/// Every call is a read transaction of its own that is over when the call returns: a snapshot held for long would
/// keep the WAL from being reused. It sees what was committed when the call began. Reading costs the same with ten
/// messages pending or ten million: the position is the table's key.
///
/// Unchecked Sendable for the same reason as ``Journal``: made on one thread and used on another, one at a time.
public final class JournalReader: @unchecked Sendable {
  /// The real path of the file.
  public let path: String
  /// UUID made with the file.
  public let identifier: String
  let database: Database
  let version: Int
  /// Messages after this have digests.
  private let digestedAfter: Int64
  private let messages: Statement
  private let consumers: Statement
  private var isReading = false
  private var isClosed = false

  /// Opens the journal at `path`, which may have a writer at the same time.
  ///
  /// - Throws: `.notAJournal`, `.newerSchema`, `.corrupt`, `.permission` or `.io`; `.invalid` if there is no file.
  public init(path: String) throws(JournalError) {
    let file = try File.resolve(path).file
    guard case .regular = try File.find(file) else {
      throw JournalError(kind: .invalid("there is no such file"), operation: "open", object: file)
    }
    try Journal.checkHeader(file, .current)
    try WriteAheadLog.refuseDamage(of: file)
    self.path = file
    database = try Database(path: file, readOnly: true)
    database.setBusyTimeout(milliseconds: 5_000)
    try database.configure(SQLITE_DBCONFIG_DEFENSIVE, true)
    // The cache is 1 MiB: rows are read once, in order.
    try database.execute(
      """
      PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA query_only = ON;
      PRAGMA temp_store = MEMORY; PRAGMA cache_size = -1024
      """, "configure")
    version = Int(try database.integer("PRAGMA user_version", "read the schema's version"))
    try Schema.current.refuseNewer(version, file)
    do throws(JournalError) {
      identifier = try database.text("SELECT identifier FROM journal", "read the identifier")
      digestedAfter =
        version < 5 ? .max : try database.integer("SELECT digested_after FROM journal", "read what has digests")
      messages = try database.prepare(
        """
        SELECT position, consumer, delivery_tag, redelivered, received_at, exchange, routing_key, properties, body, size,
          bytes_before, raw_properties, \(version < 5 ? "NULL" : "digest"), \(version < 6 ? "NULL" : "number")
        FROM message WHERE position > ?1 ORDER BY position LIMIT ?2
        """, "read messages")
      consumers = try database.prepare(
        """
        SELECT c.id, s.id, s.base, c.tag, s.queue, s.virtual_host, \(version < 6 ? "0" : "s.subscription")
        FROM consumer c JOIN session s ON s.number = c.session WHERE c.id = ?1
        """, "read a consumer")
    } catch {
      throw Journal.missingTable(error)
    }
  }

  /// Throws what a start would refuse (``Journal/checkContent(_:mark:)``).
  public func checkStart() throws(JournalError) {
    // In this order: a writer that is at work remembers what it has committed.
    let mark = HighWaterMark(lockFile: "\(path).lock")
    // Counters and rows are of one moment.
    try database.execute("BEGIN", "begin to read")
    defer { try? database.execute("ROLLBACK", "end reading") }
    try Journal.checkContent(database, mark: mark)
  }

  /// How far a series of output files was written; nil if the journal knows none of that name.
  public func output(_ name: String) throws(JournalError) -> OutputRecord? {
    try OutputRecord(named: name, try database.prepare(OutputRecord.query(version: version), "read an output's length"))
  }

  /// Reads messages in order.
  ///
  /// - Parameters:
  ///   - after: The first message is the one after this, or the oldest that is left.
  ///   - limit: Most messages to read.
  ///   - body: Gets each message while SQLite holds its bytes; returns whether to go on. It must not call the
  ///     reader, and should not block: the snapshot lasts until it is done.
  /// - Returns: How many messages `body` got.
  /// - Throws: `.corrupt` if a message is missing in between that no salvage has reported; what `body` throws.
  public func read(
    after: Position, limit: Int, _ body: (borrowing Row) throws -> Bool
  ) throws -> Int {
    guard !isClosed, !isReading else { throw invalid(isClosed ? "closed" : "inside of a read", "read messages") }
    isReading = true
    defer {
      messages.reset()
      isReading = false
    }
    try messages.bind(1, after.rawValue)
    try messages.bind(2, Int64(max(0, limit)))
    var count = 0
    var previous: Int64?
    while try messages.step() {
      let position = messages.integer(0)
      if let previous, try position != previous + 1 && !database.isGap(previous + 1, position - 1) {
        let text = "after message \(previous) comes \(position)"
        throw JournalError(kind: .corrupt(text), operation: "read messages", object: path)
      }
      previous = position
      count += 1
      let row = Row(
        position: Position(rawValue: position), consumer: messages.integer(1),
        deliveryTag: messages.bits(2), redelivered: messages.integer(3) != 0,
        receivedAt: messages.integer(4), exchange: messages.bytes(5), routingKey: messages.bytes(6),
        properties: messages.bytes(7), body: messages.bytes(8), bodyIsText: messages.isText(8),
        bodySize: Int(messages.integer(9)), number: messages.isNull(13) ? nil : Position(rawValue: messages.integer(13))
      )
      if position > digestedAfter, messages.isNull(12) || messages.bits(12) != digest(row) {
        throw JournalError(
          kind: .corrupt("message \(position) is not what was written"), operation: "read messages", object: path)
      }
      guard try body(row) else { break }
    }
    return count
  }

  /// The digest of the message that was just read.
  private func digest(_ row: borrowing Row) -> UInt64 {
    RowDigest(
      row.position.rawValue, row.consumer, Int64(bitPattern: row.deliveryTag), row.receivedAt, messages.signed(3),
      messages.signed(9),
      messages.signed(10), exchange: row.exchange, isText: messages.isText(5), routingKey: row.routingKey,
      isText: messages.isText(6), properties: row.properties, rawProperties: messages.bytes(11), body: row.body,
      isText: row.bodyIsText, number: messages.isNull(13) ? nil : messages.signed(13)
    ).value
  }

  /// Where to go on when nothing was read after `position` although the journal has come further: the end of the gap
  /// that a salvage has reported there, else `position` itself.
  public func skippingGap(after position: Position) throws(JournalError) -> Position {
    let next = position.rawValue + 1
    let last = try database.integer(
      "SELECT max(last) FROM gap WHERE first <= \(next) AND last >= \(next)", "read the gaps")
    return Position(rawValue: max(position.rawValue, last))
  }

  /// The consumer that messages name.
  ///
  /// - Throws: `.invalid` if the journal knows none of that id.
  public func consumer(_ id: Int64) throws(JournalError) -> ConsumerRecord {
    guard !isClosed else { throw invalid("closed", "read a consumer") }
    defer { consumers.reset() }
    try consumers.bind(1, id)
    guard try consumers.step() else { throw invalid("there is no consumer \(id)", "read a consumer") }
    return ConsumerRecord(
      id: consumers.integer(0), sessionID: consumers.string(1),
      sessionBase: Position(rawValue: consumers.integer(2)), tag: consumers.string(3), queue: consumers.string(4),
      virtualHost: consumers.string(5), subscription: consumers.integer(6))
  }

  /// Makes a copy of the journal as it is now, whole by itself, synced and of mode 0600.
  ///
  /// It gets its name when it is complete; a process that is killed leaves `PATH.partial`, which the next one overwrites.
  ///
  /// - Parameter path: Of a file that does not exist.
  /// - Returns: How far the copy goes, and how many of its messages are not committed downstream.
  /// - Throws: If it exists, or cannot be written; then nothing is left of it.
  public func backup(to path: String) throws(JournalError) -> (last: Position, pending: Int) {
    guard !isClosed, !isReading else { throw invalid(isClosed ? "closed" : "inside of a read", "copy") }
    let (directory, file) = try File.resolve(path)
    guard try File.find(file) == .nothing else {
      throw JournalError(kind: .invalid("it exists already"), operation: "copy", object: file)
    }
    let partial = "\(file).partial"
    func discard() { for suffix in ["", "-journal", "-wal", "-shm"] { try? File.remove(partial + suffix) } }
    discard()
    do throws(JournalError) {
      try File.create(partial)
      let copy = try Database(path: partial, readOnly: false)
      try database.backup(to: copy)
      let counters = try Counters(reading: copy)
      try copy.close()
      try File.sync(partial)
      try File.link(partial, as: file)
      discard()
      try File.sync(directory)
      return (Position(rawValue: counters.last), Int(counters.last - counters.committed))
    } catch {
      discard()
      throw error
    }
  }

  /// Ends the connection; closing twice is legal, every other call is an error afterwards.
  public func close() throws(JournalError) {
    if isReading { throw invalid("inside of a read", "close") }
    guard !isClosed else { return }
    isClosed = true
    try database.close()
  }

  private func invalid(_ text: String, _ operation: String) -> JournalError {
    JournalError(kind: .invalid(text), operation: operation, object: path)
  }
}
