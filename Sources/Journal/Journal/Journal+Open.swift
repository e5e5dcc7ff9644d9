internal import CSQLite
internal import Glibc
internal import Platform

extension Journal {
  /// Opens the journal at `settings.path`, or makes it, and takes the exclusive right to write it.
  ///
  /// The time does not depend on the number of messages; after a crash it includes reading the WAL.
  ///
  /// - Throws: `.locked`; `.notAJournal`, `.corrupt` and `.newerSchema`, which leave the file as it was;
  ///   `.unsupportedFileSystem`; `.permission`; `.invalid` for a path that is a link or no file; `.full`; `.io`.
  public static func open(_ settings: JournalSettings) throws(JournalError) -> Journal {
    try open(settings, schema: .current)
  }

  /// The same with a schema of the caller's choice, so that tests can migrate.
  static func open(_ settings: JournalSettings, schema: Schema) throws(JournalError) -> Journal {
    guard settings.temporary else {
      guard settings.durability == .full else {
        throw JournalError(
          kind: .invalid("relaxed durability is for temporary journals"), operation: "open", object: settings.path)
      }
      return try open(at: settings.path, settings, schema, temporaryDirectory: nil)
    }
    let directory = try File.privateDirectory(under: settings.path)
    do throws(JournalError) {
      return try open(at: "\(directory)/\(File.temporaryName)", settings, schema, temporaryDirectory: directory)
    } catch {
      File.removeJournal(in: directory)
      throw error
    }
  }

  private static func open(
    at path: String, _ settings: JournalSettings, _ schema: Schema, temporaryDirectory: String?
  ) throws(JournalError) -> Journal {
    let (directory, file) = try File.resolve(path)
    try File.refuseUnsupported(directory)
    let lock = try FileLock(path: "\(file).lock")
    try refuseRescued(file, in: directory)
    if let mark = try DamageMark(readingFor: file) {
      throw JournalError(kind: .corrupt(mark.reason), operation: "open", object: file)
    }
    switch try File.find(file) {
    case .nothing: try create(file, in: directory, settings, schema)
    case .regular:
      try checkHeader(file, schema)
      try WriteAheadLog.refuseDamage(of: file)
    case .other:
      throw JournalError(
        kind: .invalid("is a symbolic link or no regular file"), operation: "open", object: file)
    }
    for name in ["new", "mended"] { try File.removeDatabase("\(file).\(name)") }

    let database = try Database(path: file, readOnly: false)
    // Until everything was checked, nothing may be written: closing an unfit file would otherwise copy its WAL into it.
    try database.configure(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
    try configure(database, settings)
    database.countFrames()
    try schema.refuseNewer(Int(try database.integer("PRAGMA user_version", "read the schema's version")), file)
    try checkContent(database, mark: lock.mark)
    try schema.migrate(database)
    // Before the first write: a missing table or column must leave the file as it is.
    let statements: Statements
    do throws(JournalError) { statements = try Statements(database) } catch { throw missingTable(error) }
    // Not one statement with RETURNING: its row comes before its commit, which would end in silence when the row was read.
    try database.execute(
      "BEGIN IMMEDIATE; UPDATE journal SET epoch = epoch + 1; \(Schema.setDigest("journal"))", "begin a writer's epoch")
    let epoch = try database.integer("SELECT epoch FROM journal", "begin a writer's epoch")
    try database.execute("COMMIT", "begin a writer's epoch")
    let journal = try Journal(
      database: database, statements: statements, settings: settings,
      identifier: try database.text("SELECT identifier FROM journal", "read the identifier"), epoch: epoch,
      counters: try Counters(reading: database), lock: lock, temporaryDirectory: temporaryDirectory)
    // The epoch's commit may have made the WAL; SQLite ignores a failure to sync its name.
    if settings.durability == .full {
      try File.sync(directory)
      journal.files = try JournalFiles(at: file)
      journal.dataVersion = try journal.readDataVersion()
      try journal.rememberPositions()
    }
    try database.configure(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
    return journal
  }

  /// Bytes of a journal of which all pages are looked at: a start takes no longer with a large backlog.
  private static let checkedBytes = Int64(32) << 20

  /// Throws `.corrupt` if pages of these tables are damaged; of a large journal that is left to who reads them.
  /// https://www.sqlite.org/pragma.html#pragma_quick_check
  private static func checkPages(of tables: [String], _ database: Database) throws(JournalError) {
    let pages = try database.integer("PRAGMA page_count", "count the pages")
    guard pages * (try database.integer("PRAGMA page_size", "read the page size")) <= checkedBytes else { return }
    for table in tables {
      let found = try database.text("PRAGMA quick_check('\(table)')", "check the pages")
      guard found != "ok" else { continue }
      throw JournalError(kind: .corrupt(found), operation: "check the pages", object: database.path)
    }
  }

  /// Throws what no one may go on with, as far as that costs the same for any backlog: foreign triggers, counters that contradict
  /// themselves or the rows, an end that is missing, and rows that are not what was written.
  static func checkContent(_ database: Database, mark: HighWaterMark?) throws(JournalError) {
    try Schema.refuseForeign(database)
    try checkPages(of: try Schema.current.refuseChanged(database), database)
    do throws(JournalError) {
      let counters = try Counters(reading: database)
      let identifier = try database.text("SELECT identifier FROM journal", "read the identifier")
      try mark?.refuse(counters, of: identifier, at: database.path)
      guard let damage = try Schema.damage(database).first else {
        if try database.integer("PRAGMA user_version", "read the schema's version") > 5 {
          _ = try Subscriptions(reading: database, last: counters.last)
        }
        return
      }
      throw JournalError(kind: .corrupt(damage), operation: "check the journal", object: database.path)
    } catch { throw missingTable(error) }
  }

  /// Builds a journal beside its place, and puts it there complete and synced.
  private static func create(
    _ file: String, in directory: String, _ settings: JournalSettings, _ schema: Schema
  ) throws(JournalError) {
    // A WAL without its database means that someone took the database away; SQLite would delete the WAL.
    if try File.find("\(file)-wal") != .nothing {
      throw JournalError(
        kind: .corrupt(
          "there is a -wal file, but the database it belongs to is missing. Put the database back; without it the -wal holds "
            + "pieces only: move it elsewhere to begin a new journal"), operation: "open",
        object: file)
    }
    let new = "\(file).new"
    try build(new, settings, schema) { (database) throws(JournalError) in
      try database.execute(
        """
        INSERT INTO journal (one, identifier, created_at, epoch, last, emitted, committed, bytes)
        VALUES (1, '\(randomUUID())', \(SystemClock.wallMicroseconds()), 0, 0, 0, 0, 0);
        \(Schema.setDigest("journal"))
        """, "create")
    }
    try File.link(new, as: file)
    try File.remove(new)
    try File.sync(directory)
  }

  /// Builds a journal under a name that is not its own, what `fill` writes to it included, closed and synced.
  static func build(
    _ new: String, _ settings: JournalSettings, _ schema: Schema, fill: (Database) throws(JournalError) -> Void
  ) throws(JournalError) {
    try File.removeDatabase(new)
    try File.create(new)
    let database = try Database(path: new, readOnly: false)
    // Both take effect only before the first table (https://www.sqlite.org/pragma.html#pragma_auto_vacuum).
    try database.execute(
      "PRAGMA page_size = \(settings.pageSize); PRAGMA auto_vacuum = INCREMENTAL", "set the page size")
    try configure(database, settings)
    guard try database.integer("PRAGMA page_size", "read the page size") == Int64(settings.pageSize),
      try database.integer("PRAGMA auto_vacuum", "read the vacuum mode") == 2
    else { throw JournalError(kind: .invalid("page size \(settings.pageSize)"), operation: "create", object: new) }
    try schema.migrate(database)
    try fill(database)
    // Closing would do it too, but says nothing of a failure: the WAL is then left with what it holds, and the file
    // gets its name without its WAL.
    guard try database.checkpoint(mode: SQLITE_CHECKPOINT_TRUNCATE) else {
      throw JournalError(kind: .busy, operation: "checkpoint", object: new)
    }
    try database.close()
    try File.sync(new)
  }

  /// Looks at the file's first bytes without SQLite, which might change what it opens: recover or checkpoint the
  /// WAL of someone else's database. To be called before the first connection of this process (``OpenDatabases``).
  static func checkHeader(_ file: String, _ schema: Schema) throws(JournalError) {
    // The one who opened it has looked at its header.
    guard let head = try File.head(file, count: 100) else { return }
    func number(_ offset: Int) -> Int64 { head[offset..<offset + 4].reduce(0) { $0 << 8 | Int64($1) } }
    func refuse(_ text: String) -> JournalError {
      JournalError(kind: .notAJournal(text), operation: "open", object: file)
    }
    guard !head.isEmpty else {
      throw refuse(
        "the file is empty; a journal never is. A look with sqlite3 makes such a file where there is none: if that is so, remove it"
      )
    }
    guard head.count == 100, head.starts(with: Array("SQLite format 3\0".utf8)) else {
      throw refuse("no SQLite database")
    }
    guard number(68) == Schema.applicationID else {
      throw refuse("a SQLite database of another application (id \(number(68)))")
    }
    // PRAGMA user_version is signed.
    try schema.refuseNewer(Int(Int32(truncatingIfNeeded: number(60))), file)
  }

  /// Sets what belongs to a connection, and reads back what safety depends on.
  private static func configure(_ database: Database, _ settings: JournalSettings) throws(JournalError) {
    try database.configure(SQLITE_DBCONFIG_DEFENSIVE, true)
    // Nothing of ours needs one.
    try database.configure(SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
    database.setBusyTimeout(milliseconds: settings.busyMilliseconds)
    // Secure delete is on in Debian's library and makes pruning a third dearer. FAST zeroes only what is left of a page
    // that stays in use, again and again as a page empties, and leaves the pages that pruning sets free as they are.
    // No memory map: an I/O error stays an error code instead of SIGBUS. The cache is 4 MiB.
    try database.execute(
      """
      PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA secure_delete = OFF;
      PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA wal_autocheckpoint = 0;
      PRAGMA journal_size_limit = \(Maintenance.keptWALBytes)
      """, "configure")
    // A failed switch shows in the row that the pragma answers and nowhere else.
    let mode = try database.text("PRAGMA journal_mode = WAL", "switch to WAL")
    guard mode == "wal" else {
      throw JournalError(kind: .io("journal mode is \(mode)"), operation: "switch to WAL", object: database.path)
    }
    // FULL, not NORMAL: in WAL mode NORMAL does not sync at commit, and an acknowledgement rests on that commit.
    // https://www.sqlite.org/pragma.html#pragma_synchronous
    let wanted: Int64 = settings.durability == .full ? 2 : 0
    try database.execute("PRAGMA synchronous = \(wanted)", "set synchronous")
    let found = try database.integer("PRAGMA synchronous", "read synchronous")
    guard found == wanted else {
      throw JournalError(
        kind: .io("synchronous is \(found), not \(wanted)"), operation: "set synchronous", object: database.path)
    }
  }

  /// `SQLITE_ERROR` at preparing a statement of ours means that the table is missing or different.
  static func missingTable(_ error: JournalError) -> JournalError {
    guard case .library(SQLITE_ERROR, let text) = error.kind else { return error }
    return JournalError(kind: .corrupt(text), operation: error.operation, object: error.object)
  }

  /// The time of day for the name of a file: 20261124T213000Z.
  static func utcTime() -> String {
    var seconds = time(nil)
    var parts = unsafe tm()
    unsafe _ = gmtime_r(&seconds, &parts)
    func two(_ number: Int32) -> String { (number < 10 ? "0" : "") + "\(number)" }
    let date = unsafe "\(parts.tm_year + 1900)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))"
    return unsafe date + "T\(two(parts.tm_hour))\(two(parts.tm_min))\(two(parts.tm_sec))Z"
  }
}
