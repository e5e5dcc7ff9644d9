internal import Glibc

/// A parameter whose value hardly changes from one execution to the next, like the exchange of a queue's messages: it is
/// checked and bound anew only when it does.
///
/// SQLite keeps the bindings of a statement when it is reset (https://www.sqlite.org/c3ref/reset.html), but does not copy
/// them; so the bytes are kept here. Safe, because the memory is private, and lives as long as the owner of the
/// statement.
@safe final class RepeatedText {
  private let statement: Statement
  private let index: Int32
  private var bound = false
  private var bytes: UnsafeMutableRawBufferPointer
  private var count = 0

  /// - Parameter index: The parameter; nobody else may bind it.
  init(_ statement: Statement, _ index: Int32) {
    self.statement = statement
    self.index = index
    // AMQP's short strings have at most 255 bytes; more are possible, and make room for themselves.
    unsafe bytes = .allocate(byteCount: 256, alignment: 1)
  }

  deinit { unsafe bytes.deallocate() }

  /// Binds `text` as TEXT where it is UTF-8 without NUL, else as BLOB.
  func bind(_ text: UnsafeRawBufferPointer) throws(JournalError) {
    if bound && count == text.count {
      guard let base = text.baseAddress, count > 0 else { return }
      if unsafe memcmp(base, bytes.baseAddress!, count) == 0 { return }
    }
    bound = false
    if unsafe text.count > bytes.count {
      unsafe bytes.deallocate()
      unsafe bytes = .allocate(byteCount: text.count, alignment: 1)
    }
    unsafe bytes.copyMemory(from: text)
    count = text.count
    unsafe try statement.bind(index, textOrBlob: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    bound = true
  }
}
