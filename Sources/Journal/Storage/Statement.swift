internal import CSQLite

/// A prepared statement of a ``Database``, which owns it.
///
/// Parameters count from 1, columns from 0. The bytes of a bound span are not copied: the span must live until the
/// statement was stepped (`SQLITE_STATIC`), as a parameter of the function that does both lives; they are never looked at
/// afterwards, because every parameter is bound anew before the next step. Safe, because the pointers are private and the
/// database outlives the values that its owner keeps.
@safe struct Statement {
  private let raw: OpaquePointer
  private let handle: OpaquePointer
  private let operation: StaticString

  init(raw: OpaquePointer, handle: OpaquePointer, operation: StaticString) {
    unsafe self.raw = raw
    unsafe self.handle = handle
    self.operation = operation
  }

  func bind(_ index: Int32, _ value: Int64) throws(JournalError) {
    try check(unsafe sqlite3_bind_int64(raw, index, value))
  }

  func bindNull(_ index: Int32) throws(JournalError) {
    try check(unsafe sqlite3_bind_null(raw, index))
  }

  /// Binds bytes as TEXT; they should be UTF-8 without NUL, for others' sake: SQLite itself does not look at them.
  func bind(_ index: Int32, text bytes: Span<UInt8>) throws(JournalError) {
    try check(
      unsafe bytes.withUnsafeBufferPointer { bytes in
        // A null pointer would be the value NULL.
        guard let base = bytes.baseAddress else {
          return unsafe sqlite3_bind_text64(raw, index, emptyText, 0, nil, UInt8(SQLITE_UTF8))
        }
        return unsafe base.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
          unsafe sqlite3_bind_text64(raw, index, $0, UInt64(bytes.count), nil, UInt8(SQLITE_UTF8))
        }
      })
  }

  /// Binds bytes as BLOB, or NULL if there are none.
  func bind(_ index: Int32, blob bytes: Span<UInt8>) throws(JournalError) {
    guard bytes.count > 0 else { return try bindNull(index) }
    try check(
      unsafe bytes.withUnsafeBufferPointer {
        unsafe sqlite3_bind_blob64(raw, index, $0.baseAddress, UInt64($0.count), nil)
      })
  }

  /// Binds bytes as TEXT if they are that, else as BLOB.
  ///
  /// - Returns: True for TEXT.
  @discardableResult
  func bind(_ index: Int32, textOrBlob bytes: Span<UInt8>) throws(JournalError) -> Bool {
    let isText = isPlainText(bytes)
    if isText { try bind(index, text: bytes) } else { try bind(index, blob: bytes) }
    return isText
  }

  /// Binds a copy of a text: for what is bound rarely, or does not live as long as the step takes.
  func bind(_ index: Int32, copying text: String) throws(JournalError) {
    let bytes = Array(text.utf8)
    try check(unsafe csqlite_bind_copy(raw, index, bytes, UInt64(bytes.count), 1))
  }

  /// Binds a copy of bytes as BLOB.
  func bind(_ index: Int32, copying bytes: [UInt8]) throws(JournalError) {
    try check(unsafe csqlite_bind_copy(raw, index, bytes, UInt64(bytes.count), 0))
  }

  /// Binds what a column of another statement's current row holds; the value is copied.
  func bind(_ index: Int32, column: Int32, of other: Statement) throws(JournalError) {
    try check(unsafe sqlite3_bind_value(raw, index, sqlite3_column_value(other.raw, column)))
  }

  /// Steps once.
  ///
  /// - Returns: True for a row; false at the end, where the statement was reset.
  func step() throws(JournalError) -> Bool {
    var number: Int32 = 0
    let code = unsafe csqlite_step(raw, &number)
    if code == SQLITE_ROW { return true }
    if code == SQLITE_DONE {
      unsafe _ = sqlite3_reset(raw)
      return false
    }
    let failure = error(code, number)
    unsafe _ = sqlite3_reset(raw)
    throw failure
  }

  /// Steps through all rows and resets.
  func run() throws(JournalError) { while try step() {} }

  /// Ends the statement's read transaction.
  func reset() { unsafe _ = sqlite3_reset(raw) }

  /// What a number read from a file can be: sums and differences of a few never overflow.
  static let numbers: ClosedRange<Int64> = -(1 << 61)...(1 << 61)

  /// A number, or the nearest in ``numbers``: no journal counts that far, and whatever a damaged one says must not end the process.
  func integer(_ column: Int32) -> Int64 {
    let value = unsafe sqlite3_column_int64(raw, column)
    return min(max(value, Self.numbers.lowerBound), Self.numbers.upperBound)
  }

  /// The 64 bits of an unsigned number.
  func bits(_ column: Int32) -> UInt64 { UInt64(bitPattern: unsafe sqlite3_column_int64(raw, column)) }

  /// A number as it stands.
  func signed(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(raw, column) }

  func isText(_ column: Int32) -> Bool { unsafe sqlite3_column_type(raw, column) == SQLITE_TEXT }

  func isNull(_ column: Int32) -> Bool { unsafe sqlite3_column_type(raw, column) == SQLITE_NULL }

  /// The bytes of a TEXT or BLOB. They are SQLite's, and hold until the next step or reset, which the compiler does not see:
  /// who keeps the span in a variable must not step meanwhile.
  @_lifetime(borrow self)
  func bytes(_ column: Int32) -> Span<UInt8> {
    // `sqlite3_column_blob` hands out a TEXT as it is stored, which is UTF-8 in every journal; the pointer comes
    // first, the size after it (https://www.sqlite.org/c3ref/column_blob.html).
    let start = unsafe sqlite3_column_blob(raw, column)?.assumingMemoryBound(to: UInt8.self)
    let bytes = unsafe UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(raw, column)))
    return unsafe _overrideLifetime(Span(_unsafeElements: bytes), borrowing: self)
  }

  func string(_ column: Int32) -> String { String(copying: bytes(column)) }

  /// A copy of the bytes of a TEXT or BLOB.
  func array(_ column: Int32) -> [UInt8] { Array(copying: bytes(column)) }

  private func check(_ code: Int32) throws(JournalError) {
    guard code == SQLITE_OK else { throw error(code, 0) }
  }

  private func error(_ code: Int32, _ number: Int32) -> JournalError {
    let path = unsafe sqlite3_db_filename(handle, "main").map { unsafe String(cString: $0) } ?? ""
    return .library(
      code: code, text: unsafe String(cString: sqlite3_errmsg(handle)), errno: number,
      operation: "\(operation)", object: path)
  }
}

/// An address of no bytes, for texts without any; a constant, never written after this.
nonisolated(unsafe) private let emptyText: UnsafePointer<CChar> = {
  let terminator = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
  unsafe terminator.initialize(to: 0)
  return unsafe UnsafePointer(terminator)
}()
