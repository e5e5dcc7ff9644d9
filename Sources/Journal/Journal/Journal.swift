internal import CSQLite

/// A durable, ordered list of messages between a broker and whatever takes them onwards.
///
/// # Duty
/// A message is appended once, gets the next ``Position``, and stays until it is committed downstream and pruned. The
/// caller may acknowledge to the broker what a returned ``write(_:)`` appended: with durability `.full` it is on
/// stable storage. The module knows SQLite only.
///
/// # Invariants
/// - `committedThrough <= emittedThrough <= last`; none of them ever goes back.
/// - Positions are gapless: 1, 2, 3 … over the journal's whole life, also after everything was pruned. The counter
///   is a column, changed in the transaction that inserts the rows; SQLite's own row ids would start again.
/// - Only rows at or below `committedThrough` are deleted, oldest first. So the rows are always one unbroken range that
///   ends at `last`, and a gap is damage.
/// - One transaction is all or nothing: rows, counters and the output's length change together.
/// - There is one writer: a `flock` on `PATH.lock` (see `FileLock`), and after it an epoch that is counted up at
///   every opening and compared in every transaction.
///
/// # Format
/// One SQLite database in WAL mode, mode 0600, tables and views in `Schema`. It is built under the name `PATH.new`
/// and gets its own name when it is complete and synced, so what has the name is a whole journal. A file at that place
/// that is empty, truncated or foreign is therefore never a new journal: it is refused and left as it is, because
/// starting again from position 1 would make every consumer downstream skip what follows.
///
/// # After a crash
/// The kernel drops the lock; the next opening recovers the WAL by its checksums up to the last complete commit, so
/// there is everything that a returned `write` promised, and of a transaction cut short there is nothing. It may
/// happen that a commit is there whose `write` never returned; no one acknowledged on the strength of it.
///
/// # Other hands
/// Visitors may look, back up, checkpoint and vacuum through SQLite whenever they like: locks keep them from what would
/// hurt, as long as this process keeps its own (see `OpenDatabases`). If someone moves, deletes or replaces a file of the
/// journal, `write` throws `.moved` instead of returning (see `JournalFiles`).
///
/// # Errors
/// `.full` and `.busy` leave everything as it was and may be retried. After any other failure of SQLite (first of all a
/// failed sync, after which the kernel forgets the unwritten pages and the next sync succeeds) and after `.moved` the object is spent:
/// every further call throws the same error, and even closing does not touch the database file again.
///
/// # Space
/// The WAL is copied into the file at 16 MiB. An outside reader that holds a snapshot for long keeps it from being
/// reused: writes go on and ``walBytes`` grows, so a cap on space counts it beside ``usedBytes``. After a backlog
/// was drained, ``maintain(idle:)`` gives the file's pages back bit by bit.
///
/// Unchecked Sendable: opening and using may happen on different threads, but one at a time, ordered by whatever hands
/// the object over. SQLite's multi-thread mode asks for just that, and the object shares no state with any other.
public final class Journal: @unchecked Sendable {
  /// The real path of the file.
  public let path: String
  /// UUID made with the file, lower case.
  public let identifier: String
  /// `(page_count - freelist_count) * page_size` as of the last commit: bytes that messages and tables fill.
  public internal(set) var usedBytes: Int64 = 0
  /// Bytes of the file that hold nothing, as of the last commit; they are used again first.
  public internal(set) var freeBytes: Int64 = 0

  let database: Database
  let statements: Statements
  let pageSize: Int64
  let epoch: Int64
  let busyMilliseconds: Int32
  let lock: FileLock
  /// What the names of its files are compared with; nil if no acknowledgement rests on them.
  var files: JournalFiles?
  /// What tells whether someone else has written since the files were last seen in place.
  var dataVersion: Int64 = 0
  /// The private directory to remove at the end; nil for a lasting journal.
  let temporaryDirectory: String?

  /// What is durable.
  var durable: Counters
  /// What will be durable when the open transaction commits.
  var working: Counters
  var isWriting = false
  /// The first failure inside the open transaction: it must not be committed even if the caller swallowed it.
  var transactionFailure: JournalError?
  /// Why the journal cannot be used any more.
  private(set) var failure: JournalError?
  /// The subscriptions as the last commit left them, and as they are in the open transaction.
  var durableSubscriptions = Subscriptions()
  var workingSubscriptions = Subscriptions()
  /// The newest session of each subscription that this process has begun, and its newest consumer.
  var sessions: [Session] = []
  var newestConsumers: [Int64: Int64] = [:]
  /// Consumers that append no more, the oldest first, and the newest position when that began: messages up to there may name them. The
  /// first entry stands for all of former processes.
  var ended: [(consumers: ClosedRange<Int64>, through: Int64)] = []
  /// The number of the newest message when digests were pruned last, by ``SubscriptionRecord/origin``.
  var digestsPruned: [Int64: Int64] = [:]
  /// WAL frames at the last attempt to checkpoint.
  var attemptedFrames = 0
  /// The last attempt to start the WAL anew was refused, because a reader still needs what stands in it.
  var isWALHeld = false

  /// One start of the connector on a subscription.
  public struct Session: Equatable, Sendable {
    /// The session's number in the file.
    let number: Int64
    /// The UUID that the caller gave.
    public let id: String
    /// Whose messages are captured.
    public let subscription: SubscriptionRecord
    /// The number of the last message before the session: a message's `sequence` is its number less this.
    public let base: Position
  }

  init(
    database: Database, statements: Statements, settings: JournalSettings, identifier: String, epoch: Int64,
    counters: Counters, lock: FileLock, temporaryDirectory: String?
  ) throws(JournalError) {
    path = database.path
    self.database = database
    self.statements = statements
    self.identifier = identifier
    self.epoch = epoch
    self.lock = lock
    self.temporaryDirectory = temporaryDirectory
    busyMilliseconds = settings.busyMilliseconds
    durable = counters
    working = counters
    durableSubscriptions = try Subscriptions(reading: database, last: counters.last)
    workingSubscriptions = durableSubscriptions
    let newest = try database.integer("SELECT coalesce(max(id), 0) FROM consumer", "look for consumers")
    if newest > 0 { ended = [(consumers: 0...newest, through: counters.last)] }
    pageSize = try database.integer("PRAGMA page_size", "read the page size")
    (usedBytes, freeBytes) = try space()
  }

  deinit { removeTemporary() }

  /// How far the journal has come: copies in memory of what is durable.
  public var positions: Positions { durable.positions }

  /// How many messages are not yet committed downstream.
  public var pendingRows: Int { Int(durable.last - durable.committed) }

  /// Remembers a fatal error; returns it unchanged.
  func spent(_ error: JournalError) -> JournalError {
    if error.isFatal { fail(error) }
    return error
  }

  func fail(_ error: JournalError) {
    guard failure == nil else { return }
    failure = error
    // Closing would copy the WAL into the database. After a failed sync memory and disk may differ; the next opening
    // reads the WAL by its checksums instead. Cannot fail for a known switch, and there is nothing left to protect.
    try? database.configure(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
  }

  /// Reads how many bytes of the file are used and free; two look-ups in the header page.
  func space() throws(JournalError) -> (used: Int64, free: Int64) {
    let pages = try statements.pageCount.step() ? statements.pageCount.integer(0) : 0
    statements.pageCount.reset()
    let free = try statements.freePages.step() ? statements.freePages.integer(0) : 0
    statements.freePages.reset()
    return ((pages - free) * pageSize, free * pageSize)
  }

  func invalid(_ text: String, _ operation: String) -> JournalError {
    JournalError(kind: .invalid(text), operation: operation, object: path)
  }

  // MARK: Closing

  /// Copies the WAL into the file, closes it and gives the lock back; a temporary journal is removed.
  ///
  /// Closing twice is legal. After a fatal error nothing is written any more.
  ///
  /// - Throws: `.moved` too; then a call that follows closes what is open, and leaves the files as they are.
  public func close() throws(JournalError) {
    if isWriting { throw invalid("inside of a transaction", "close") }
    // SQLite removes the WAL by its name, which may be another journal's by now.
    try checkFiles()
    let isFirst = !isClosed
    isClosed = true
    guard isFirst else { return }
    // Closing does it only if no visitor has the file open. What cannot be copied now the next opening reads from the WAL.
    if failure == nil { _ = try? startAnew(SQLITE_CHECKPOINT_TRUNCATE) }
    failure = failure ?? invalid("closed", "use the journal")
    try database.close()
    lock.release()
    removeTemporary()
  }
  private(set) var isClosed = false

  private func removeTemporary() {
    if let temporaryDirectory { File.removeJournal(in: temporaryDirectory) }
  }

  // MARK: Seams

  /// Lets commits return before they are on stable storage: the control that a test of power cuts must catch.
  package func stopSyncingCommits() throws(JournalError) {
    try database.execute("PRAGMA synchronous = NORMAL", "set synchronous")
  }

  /// Sets the largest size of the file in pages, so that tests can fill it.
  package func limitPages(_ count: Int) throws(JournalError) {
    try database.execute("PRAGMA max_page_count = \(count)", "limit the pages")
  }
}
