internal import COpenSSL

/// Verifies the broker's certificate inside the handshake, and keeps the reason if it is refused.
///
/// Safe because OpenSSL's reference to it is unretained and the owner of both, ``TLSStream``, keeps it alive longer.
@safe final class TLSVerification {
  /// The name or IP address that the certificate must be for.
  let name: String
  private let isRequired: Bool
  private let hasAuthorities: Bool
  /// Why the certificate was refused, and what to do, in words; nil if it was not.
  private(set) var problem: String?

  init(_ settings: TLSSettings, host: String) {
    name = settings.serverName ?? host
    isRequired = settings.verify
    hasAuthorities = settings.trustedCertificates != nil
  }

  /// Sets the name to verify and to send (SNI; never for an address, https://www.rfc-editor.org/rfc/rfc6066#section-3).
  ///
  /// - Returns: False if the name is none.
  func apply(to ssl: OpaquePointer) -> Bool {
    let parameters = unsafe SSL_get0_param(ssl)
    if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, name) != 1 {
      ERR_clear_error()
      unsafe X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
      guard unsafe X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1 else { return false }
      var text = Array(name.utf8) + [0]
      let sent = unsafe text.withUnsafeMutableBytes { buffer in
        unsafe SSL_ctrl(
          ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name), buffer.baseAddress)
      }
      guard sent == 1 else { return false }
    }
    // Index 0 is the application's own (SSL_set_app_data).
    unsafe SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    guard isRequired else {
      unsafe SSL_set_verify(ssl, SSL_VERIFY_NONE, nil)
      return true
    }
    unsafe SSL_set_verify(ssl, SSL_VERIFY_PEER) { accepted, store in
      guard accepted != 1, let store = unsafe store else { return accepted }
      let index = SSL_get_ex_data_X509_STORE_CTX_idx()
      guard let ssl = unsafe X509_STORE_CTX_get_ex_data(store, index),
        let data = unsafe SSL_get_ex_data(OpaquePointer(ssl), 0)
      else { return 0 }
      unsafe Unmanaged<TLSVerification>.fromOpaque(data).takeUnretainedValue().refused(store)
      return 0
    }
    return true
  }

  private func refused(_ store: OpaquePointer) {
    let code = unsafe X509_STORE_CTX_get_error(store)
    let depth = unsafe X509_STORE_CTX_get_error_depth(store)
    var reason = "error \(code)"
    if let text = unsafe X509_verify_cert_error_string(Int(code)) { unsafe reason = String(cString: text) }
    let subject = unsafe X509_STORE_CTX_get_current_cert(store).map { unsafe Self.subject(of: $0) } ?? "unknown"
    problem = "the broker's certificate is refused: \(reason) (depth \(depth), subject \(subject))"
    if let advice = advice(code) { problem?.append(". \(advice)") }
  }

  private func advice(_ code: Int32) -> String? {
    switch code {
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      "It is not for \"\(name)\": set host, or tls.server_name, to a name that it is for"
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE:
      hasAuthorities
        ? "Its authority is not in tls.ca_cert, or the broker does not send its intermediate certificates"
        : "Its authority is not in the system's store: set tls.ca_cert to the authority's certificate"
    case X509_V_ERR_CERT_HAS_EXPIRED: "Renew it on the broker"
    case X509_V_ERR_CERT_NOT_YET_VALID: "Check the clocks of both machines"
    default: nil
    }
  }

  /// A certificate's subject, for example `CN=localhost,O=Acme` (RFC 2253); at most 512 bytes of it.
  private static func subject(of certificate: OpaquePointer) -> String {
    guard let bio = unsafe BIO_new(BIO_s_mem()) else { return "unknown" }
    defer { unsafe BIO_free_all(bio) }
    // XN_FLAG_RFC2253, a macro that Swift does not import: escaped, in UTF-8, commas between, most specific first.
    unsafe X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, 0x111_0317)
    var text = [UInt8](repeating: 0, count: 512)
    let count = unsafe text.withUnsafeMutableBytes { unsafe BIO_read(bio, $0.baseAddress, Int32($0.count)) }
    return String(decoding: text.prefix(max(0, Int(count))), as: UTF8.self)
  }
}
