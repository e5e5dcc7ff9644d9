internal import Glibc

/// Whether bytes can be stored as TEXT: UTF-8 without NUL.
///
/// A NUL is legal in UTF-8, but SQLite's functions and its shell end a text there.
func isPlainText(_ bytes: UnsafeRawBufferPointer) -> Bool {
  guard let base = bytes.baseAddress, bytes.count > 0 else { return true }
  guard unsafe memchr(base, 0, bytes.count) == nil else { return false }
  let units = unsafe UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: bytes.count)
  return (try? UTF8Span(validating: unsafe units.span)) != nil
}

extension [UInt8] {
  /// `withUnsafeBytes` with a typed error, which the standard library's lacks.
  func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws(JournalError) -> R) throws(JournalError) -> R {
    let result = unsafe withUnsafeBytes { pointer in
      Result { () throws(JournalError) in unsafe try body(pointer) }
    }
    return try result.get()
  }
}
