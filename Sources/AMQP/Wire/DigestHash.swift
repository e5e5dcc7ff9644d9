internal import COpenSSL
internal import Platform

/// SHA-256, cut to 128 bits, of bytes that come one after the other.
///
/// Belongs to one thread. Safe: the context is private, made and freed here.
@safe final class DigestHash {
  private let context: OpaquePointer
  private let algorithm: OpaquePointer

  init() {
    guard let context = unsafe EVP_MD_CTX_new(), let algorithm = unsafe EVP_MD_fetch(nil, "SHA256", nil) else {
      fatalError("OpenSSL has no SHA-256")
    }
    unsafe self.context = context
    unsafe self.algorithm = algorithm
  }

  deinit {
    unsafe EVP_MD_CTX_free(context)
    unsafe EVP_MD_free(algorithm)
  }

  /// Begins anew, with these bytes.
  func begin(_ bytes: borrowing ScratchBytes) {
    let bytes = unsafe bytes.bytes
    let done =
      unsafe EVP_DigestInit_ex2(context, algorithm, nil) == 1
      && EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
    precondition(done, "OpenSSL could not compute SHA-256")
  }

  /// The next bytes.
  func update(_ bytes: Span<UInt8>) {
    let done = unsafe bytes.withUnsafeBytes { unsafe EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    precondition(done == 1, "OpenSSL could not compute SHA-256")
  }

  /// The first 128 bits of the digest of all bytes since the beginning.
  func end() -> (high: UInt64, low: UInt64) {
    var hash: InlineArray<32, UInt8> = InlineArray(repeating: 0)
    var written: UInt32 = 0
    var span = hash.mutableSpan
    let done = unsafe span.withUnsafeMutableBufferPointer { hash in
      unsafe EVP_DigestFinal_ex(context, hash.baseAddress, &written)
    }
    precondition(done == 1, "OpenSSL could not compute SHA-256")
    return (hash.span.bigEndian(at: 0), hash.span.bigEndian(at: 8))
  }
}
