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
  private var bytes: UnsafeMutableBufferPointer<UInt8>
  private var count = 0

  /// - Parameter index: The parameter; no one else may bind it.
  init(_ statement: Statement, _ index: Int32) {
    self.statement = statement
    self.index = index
    // AMQP's short strings have at most 255 bytes; more are possible, and make room for themselves.
    unsafe bytes = .allocate(capacity: 256)
  }

  deinit { unsafe bytes.deallocate() }

  /// What is bound is TEXT.
  private(set) var isText = true

  /// Binds `text` as TEXT if it is UTF-8 without NUL, else as BLOB.
  func bind(_ text: Span<UInt8>) throws(JournalError) {
    if bound && count == text.count {
      // `count` is what was copied to `bytes`.
      let isEqual = unsafe text.withUnsafeBytes {
        unsafe $0.isEmpty || memcmp($0.baseAddress!, bytes.baseAddress!, count) == 0
      }
      if isEqual { return }
    }
    bound = false
    if unsafe text.count > bytes.count {
      unsafe bytes.deallocate()
      unsafe bytes = .allocate(capacity: text.count)
    }
    count = unsafe text.withUnsafeBufferPointer { unsafe bytes.update(fromContentsOf: $0) }
    let kept = unsafe UnsafeBufferPointer(start: bytes.baseAddress, count: count)
    isText = try statement.bind(index, textOrBlob: unsafe kept.span)
    bound = true
  }
}
