internal import COpenSSL

/// OpenSSL as a part of the process.
package enum TLSLibrary {
  /// Keeps OpenSSL from taking itself apart when the process exits, while threads that go on until the very end still use it: they
  /// would crash, and the process end by a signal instead of by its status. To be called before anything else uses the library.
  /// https://docs.openssl.org/3.0/man3/OPENSSL_init_crypto/
  package static func outliveThreads() {
    _ = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
  }
}
