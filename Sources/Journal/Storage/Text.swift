internal import Glibc

/// Whether bytes can be stored as TEXT: UTF-8 without NUL.
///
/// A NUL is legal in UTF-8, but SQLite's functions and its shell end a text there.
func isPlainText(_ bytes: Span<UInt8>) -> Bool {
  guard bytes.count > 0 else { return true }
  let hasNUL = unsafe bytes.withUnsafeBytes { unsafe memchr($0.baseAddress!, 0, $0.count) != nil }
  return !hasNUL && (try? UTF8Span(validating: bytes)) != nil
}

extension String {
  /// The text of bytes that should be UTF-8; what is not becomes U+FFFD.
  package init(copying bytes: Span<UInt8>) {
    self = unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
  }
}

extension [UInt8] {
  package init(copying bytes: Span<UInt8>) {
    self = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
  }
}
