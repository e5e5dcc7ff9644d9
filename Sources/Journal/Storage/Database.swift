internal import CSQLite
internal import CStorage
internal import Glibc

/// The one owner of a SQLite connection and of every statement prepared on it.
///
/// The two belong together because SQLite wants the statements finalized before the connection is closed. The
/// connection is opened with `SQLITE_OPEN_NOMUTEX`: it may move between threads but never be used by two at a time
/// (https://www.sqlite.org/threadsafe.html, "multi-thread"). Safe, because the pointers are private, live until
/// `close` or `deinit`, and `Statement` values do not leave the owner of this object.
@safe final class Database {
  /// The real path of the file.
  let path: String
  private var handle: OpaquePointer?
  private var statements: [OpaquePointer] = unsafe []
  /// Keeps everybody else here from the file.
  private var entry: OpenDatabases.Entry?
  /// Frames in the WAL after the last commit; written by the hook that SQLite calls on the committing thread.
  private let frames: UnsafeMutablePointer<Int>

  /// Once in the process.
  private static let prepared: Int32 = cstorage_prepare()

  /// Opens `path`, which must exist; symbolic links are refused in every component.
  init(path: String, readOnly: Bool) throws(JournalError) {
    _ = Self.prepared
    self.path = path
    entry = OpenDatabases.Entry(path)
    unsafe frames = .allocate(capacity: 1)
    unsafe frames.initialize(to: 0)
    var opened: OpaquePointer?
    let access = readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE
    let flags = access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE
    let code = unsafe sqlite3_open_v2(path, &opened, flags, nil)
    unsafe handle = opened
    guard code == SQLITE_OK else { throw error(code, "open") }
    let registered = unsafe RowDigest.register(handle)
    guard registered == SQLITE_OK else { throw error(registered, "register row_digest") }
  }

  /// Begins to count the WAL's frames. To be called after the pragmas: `wal_autocheckpoint` takes the one hook away
  /// (https://www.sqlite.org/c3ref/wal_hook.html).
  func countFrames() {
    unsafe _ = sqlite3_wal_hook(
      handle,
      { context, _, _, count in
        unsafe context?.assumingMemoryBound(to: Int.self).pointee = Int(count)
        return SQLITE_OK
      }, frames)
  }

  /// Error path and abandonment: no one to tell what closing said.
  deinit {
    finalizeStatements()
    unsafe sqlite3_close(handle)
    unsafe frames.deallocate()
  }

  /// Finalizes the statements and closes the connection; the last connection also checkpoints and removes the WAL.
  func close() throws(JournalError) {
    finalizeStatements()
    let code = unsafe sqlite3_close(handle)
    guard code == SQLITE_OK else { throw error(code, "close") }
    unsafe handle = nil
    entry = nil
  }

  private func finalizeStatements() {
    while let statement = unsafe statements.popLast() { unsafe _ = sqlite3_finalize(statement) }
  }

  /// How many frames the WAL held after the last commit of this connection.
  var walFrames: Int { unsafe frames.pointee }

  /// True while no transaction is open.
  var isAutocommit: Bool { unsafe sqlite3_get_autocommit(handle) != 0 }

  /// How many rows the last INSERT, UPDATE or DELETE touched.
  var changes: Int { Int(unsafe sqlite3_changes64(handle)) }

  /// Sets a `SQLITE_DBCONFIG_…` switch.
  func configure(_ option: Int32, _ on: Bool) throws(JournalError) {
    let code = unsafe csqlite_db_config(handle, option, on ? 1 : 0)
    guard code == SQLITE_OK else { throw error(code, "configure") }
  }

  /// How long a statement waits for another connection's lock; 0 does not wait.
  func setBusyTimeout(milliseconds: Int32) { unsafe _ = sqlite3_busy_timeout(handle, milliseconds) }

  /// Prepares one statement that lives as long as the connection.
  func prepare(_ sql: String, _ operation: StaticString) throws(JournalError) -> Statement {
    var raw: OpaquePointer?
    let code = unsafe sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &raw, nil)
    guard code == SQLITE_OK, let prepared = unsafe raw, let handle = unsafe handle else {
      throw error(code, "\(operation)")
    }
    unsafe statements.append(prepared)
    return unsafe Statement(raw: prepared, handle: handle, operation: operation)
  }

  /// Runs any number of statements, results ignored.
  func execute(_ sql: String, _ operation: String) throws(JournalError) {
    var number: Int32 = 0
    let code = unsafe csqlite_execute(handle, sql, &number)
    guard code == SQLITE_OK else { throw error(code, operation, errno: number) }
  }

  /// Prepares a statement for as long as the closure runs.
  func with<R>(
    _ sql: String, _ operation: StaticString, _ body: (Statement) throws(JournalError) -> R
  ) throws(JournalError) -> R {
    let statement = try prepare(sql, operation)
    defer {
      if let raw = unsafe statements.popLast() { unsafe sqlite3_finalize(raw) }
    }
    return try body(statement)
  }

  /// The first row of a query, as the closure reads it; nil if there is none.
  func first<R>(_ sql: String, _ operation: StaticString, _ body: (Statement) -> R) throws(JournalError) -> R? {
    try with(sql, operation) { statement throws(JournalError) in try statement.step() ? body(statement) : nil }
  }

  /// The integer that a query or pragma answers; 0 if it answers nothing.
  func integer(_ sql: String, _ operation: StaticString) throws(JournalError) -> Int64 {
    try first(sql, operation) { $0.integer(0) } ?? 0
  }

  /// The text that a query or pragma answers; empty if it answers nothing.
  func text(_ sql: String, _ operation: StaticString) throws(JournalError) -> String {
    try first(sql, operation) { $0.string(0) } ?? ""
  }

  /// Checkpoints the WAL.
  ///
  /// - Returns: True if every frame was copied into the database. That a reader prevented it is not an error.
  func checkpoint(mode: Int32) throws(JournalError) -> Bool {
    var frames: Int32 = 0
    var copied: Int32 = 0
    var number: Int32 = 0
    let code = unsafe csqlite_checkpoint(handle, mode, &frames, &copied, &number)
    if code & 0xff == SQLITE_BUSY { return false }
    guard code == SQLITE_OK else { throw error(code, "checkpoint", errno: number) }
    if mode == SQLITE_CHECKPOINT_TRUNCATE { unsafe self.frames.pointee = 0 }
    return frames == copied
  }

  /// Copies everything as of now to another database, which is empty. https://www.sqlite.org/backup.html
  ///
  /// In one step: a writer goes on meanwhile, and the copy is of one moment.
  func backup(to other: Database) throws(JournalError) {
    guard let copy = unsafe sqlite3_backup_init(other.handle, "main", handle, "main") else {
      throw unsafe other.error(sqlite3_errcode(other.handle), "begin the copy")
    }
    let code = unsafe sqlite3_backup_step(copy, -1)
    let ended = unsafe sqlite3_backup_finish(copy)
    guard code == SQLITE_DONE, ended == SQLITE_OK else { throw other.error(ended == SQLITE_OK ? code : ended, "copy") }
  }

  /// The error that SQLite reported last on this connection.
  ///
  /// - Parameter number: errno of the system call that failed; nil if the library keeps it, as it does for opening a file.
  private func error(_ code: Int32, _ operation: String, errno number: Int32? = nil) -> JournalError {
    .library(
      code: code, text: unsafe String(cString: handle == nil ? sqlite3_errstr(code) : sqlite3_errmsg(handle)),
      errno: unsafe number ?? sqlite3_system_errno(handle), operation: operation, object: path)
  }
}
