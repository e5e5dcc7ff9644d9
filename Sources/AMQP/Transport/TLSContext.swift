internal import COpenSSL

/// The one owner of an OpenSSL context (`SSL_CTX`): what we trust and what we present, for one connection.
///
/// Safe because the pointer stays inside, texts outlive the calls that read them, and every object is freed here or
/// handed to the library if its manual says that it takes it.
@safe struct TLSContext: ~Copyable {
  private let context: OpaquePointer

  private init(_ context: OpaquePointer) { unsafe self.context = context }

  /// - Throws: `.tls` with the name of the setting that cannot be used and why.
  static func make(_ settings: TLSSettings, during operation: String) throws(AMQPError) -> TLSContext {
    ERR_clear_error()
    guard let new = unsafe SSL_CTX_new(TLS_client_method()) else {
      throw AMQPError(.tls(text: "OpenSSL: \(TLSLibraryError.take().text)"), during: operation)
    }
    let made = unsafe TLSContext(new)
    do throws(TLSProblem) { try made.configure(settings) } catch {
      throw AMQPError(.tls(text: error.text), during: operation)
    }
    return made
  }

  private borrowing func configure(_ settings: TLSSettings) throws(TLSProblem) {
    unsafe _ = SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    // Fewer and larger reads of the socket: otherwise each record costs two.
    unsafe _ = SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, nil)
    // SSL_MODE_ENABLE_PARTIAL_WRITE, and SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER: the output may grow, and so move, while a
    // write waits for the socket.
    unsafe _ = SSL_CTX_ctrl(context, SSL_CTRL_MODE, 0x1 | 0x2, nil)
    try trust(settings.trustedCertificates)
    if let chain = settings.certificateChain { try present(chain, key: settings.privateKey) }
  }

  deinit { unsafe SSL_CTX_free(context) }

  /// A connection that verifies what `verification` says, over `transport`. The caller frees it; it keeps the context
  /// alive by itself.
  func connection(
    over transport: TLSTransport, _ verification: TLSVerification, during operation: String
  ) throws(AMQPError) -> OpaquePointer {
    guard let ssl = unsafe SSL_new(context), let bio = unsafe transport.makeBIO() else {
      throw AMQPError(.tls(text: "OpenSSL: \(TLSLibraryError.take().text)"), during: operation)
    }
    unsafe SSL_set_bio(ssl, bio, bio)
    guard unsafe verification.apply(to: ssl) else {
      unsafe SSL_free(ssl)
      throw AMQPError(
        .tls(text: "tls.server_name: \"\(verification.name)\" cannot be verified as a name"), during: operation)
    }
    return unsafe ssl
  }

  private func trust(_ text: String?) throws(TLSProblem) {
    guard let text else {
      guard unsafe SSL_CTX_set_default_verify_paths(context) == 1 else {
        throw TLSProblem("the system's certificate store: \(TLSLibraryError.take().text)")
      }
      return
    }
    let store = unsafe SSL_CTX_get_cert_store(context)
    // Whatever is listed is trusted as it stands, an intermediate authority without its root too.
    unsafe _ = X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
    unsafe try Self.forEachCertificate(in: text, setting: "tls.ca_cert") { certificate in
      defer { unsafe X509_free(certificate) }
      return unsafe X509_STORE_add_cert(store, certificate) == 1
    }
  }

  private func present(_ chain: String, key text: String?) throws(TLSProblem) {
    let setting = "tls.client_cert"
    var isFirst = true
    let context = unsafe self.context
    unsafe try Self.forEachCertificate(in: chain, setting: setting) { certificate in
      if isFirst {
        isFirst = false
        defer { unsafe X509_free(certificate) }
        return unsafe SSL_CTX_use_certificate(context, certificate) == 1
      }
      // Takes the certificate over if it succeeds.
      let status = unsafe SSL_CTX_ctrl(context, SSL_CTRL_CHAIN_CERT, 0, UnsafeMutableRawPointer(certificate))
      if status != 1 { unsafe X509_free(certificate) }
      return status == 1
    }
    guard let text else { throw TLSProblem("tls.client_key: missing; tls.client_cert is of use only with its key") }
    let key = unsafe try Self.privateKey(text)
    defer { unsafe EVP_PKEY_free(key) }
    guard unsafe X509_check_private_key(SSL_CTX_get0_certificate(context), key) == 1 else {
      ERR_clear_error()
      throw TLSProblem("tls.client_key: is not the key of the first certificate in tls.client_cert")
    }
    guard unsafe SSL_CTX_use_PrivateKey(context, key) == 1 else {
      throw TLSProblem("tls.client_key: \(TLSLibraryError.take().text)")
    }
  }

  /// Hands each certificate of a PEM text to `use`, which frees or keeps it, and answers whether OpenSSL took it.
  ///
  /// - Throws: If there is none, one is damaged, or one is refused.
  private static func forEachCertificate(
    in text: String, setting: String, use: (OpaquePointer) -> Bool
  ) throws(TLSProblem) {
    let bytes = Array(text.utf8)
    var count = 0
    let problem: TLSProblem? = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
        return TLSProblem("\(setting): \(TLSLibraryError.take().text)")
      }
      defer { unsafe BIO_free_all(bio) }
      ERR_clear_error()
      // OpenSSL's own form (TRUSTED CERTIFICATE) is read as well.
      while let certificate = unsafe PEM_read_bio_X509_AUX(bio, nil, nil, nil) {
        count += 1
        guard unsafe use(certificate) else {
          return TLSProblem("\(setting): certificate \(count) is refused: \(TLSLibraryError.take().text)")
        }
      }
      let end = TLSLibraryError.take()
      // The list ends when no further start line follows.
      if end.isNoStartLine { return nil }
      return TLSProblem("\(setting): certificate \(count + 1) is damaged: \(end.text)")
    }
    if let problem { throw problem }
    if count == 0 {
      throw TLSProblem("\(setting): holds no certificate in PEM form")
    }
  }

  private static func privateKey(_ text: String) throws(TLSProblem) -> OpaquePointer {
    let bytes = Array(text.utf8)
    var isEncrypted = false
    let key: OpaquePointer? = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else { return nil }
      defer { unsafe BIO_free_all(bio) }
      ERR_clear_error()
      return unsafe withUnsafeMutableBytes(of: &isEncrypted) { flag in
        // Without a callback of ours OpenSSL would ask for the password on the terminal.
        unsafe PEM_read_bio_PrivateKey(
          bio, nil,
          { _, _, _, flag in
            unsafe flag?.storeBytes(of: true, as: Bool.self)
            return -1
          }, flag.baseAddress)
      }
    }
    let error = TLSLibraryError.take()
    if let key = unsafe key { return unsafe key }
    if isEncrypted {
      throw TLSProblem("tls.client_key: is encrypted; give it without a password (openssl pkey -in KEY -out PLAIN_KEY)")
    }
    // If no block is a key, OpenSSL only calls the text unsupported.
    if !text.contains("PRIVATE KEY-----") {
      throw TLSProblem("tls.client_key: holds no private key in PEM form")
    }
    throw TLSProblem("tls.client_key: cannot be read: \(error.text)")
  }
}
