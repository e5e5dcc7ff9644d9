internal import COpenSSL

/// Why a TLS setting cannot be used; `text` begins with the setting's name.
struct TLSProblem: Error {
  var text: String
  init(_ text: String) { self.text = text }
}

/// The oldest entry of this thread's OpenSSL error queue: the cause, where later ones are its consequences.
struct TLSLibraryError: Equatable {
  /// The library's reason code; alerts of the peer are 1000 plus their number.
  var reason: Int32
  /// The number of the library that raised it (`ERR_LIB_SSL`, `ERR_LIB_PEM`, …).
  var library: Int32
  /// OpenSSL's words for it.
  var text: String

  /// Takes it and empties the queue, so that nothing is left for a later call to find.
  static func take() -> TLSLibraryError {
    let code = ERR_get_error()
    ERR_clear_error()
    guard code != 0 else { return TLSLibraryError(reason: 0, library: 0, text: "no reason given") }
    var text = "error \(code)"
    if let words = unsafe ERR_reason_error_string(code) { unsafe text = String(cString: words) }
    return TLSLibraryError(reason: ERR_GET_REASON(code), library: ERR_GET_LIB(code), text: text)
  }

  /// A PEM text has no (further) block of the kind that was looked for.
  var isNoStartLine: Bool { library == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE }

  /// The number of the alert that the peer sent; nil if it sent none.
  /// https://www.iana.org/assignments/tls-parameters/tls-parameters.xhtml#tls-parameters-6
  var alert: Int32? { library == ERR_LIB_SSL && (1000..<1256).contains(reason) ? reason - 1000 : nil }

  /// The failure of a handshake, or of an established connection, in words that say what to change.
  func explained(withCertificate presentsCertificate: Bool) -> String {
    guard let alert else {
      if library == ERR_LIB_SSL && reason == SSL_R_UNSUPPORTED_PROTOCOL {
        return "the broker speaks no TLS 1.2 or newer (\(text)). Enable TLS 1.2 or 1.3 on the broker"
      }
      return text
    }
    switch alert {
    case 40, 116:
      // TLS 1.2 has only handshake_failure for a missing certificate, 1.3 has certificate_required.
      if !presentsCertificate {
        return "the broker ended the handshake (\(text)). It may require a client certificate: set tls.client_cert and "
          + "tls.client_key"
      }
      return "the broker ended the handshake (\(text)). The broker's log tells why"
    case 45: return "the broker refuses the certificate in tls.client_cert: it has expired (\(text)). Renew it"
    case 42, 43, 44, 46, 48, 51:
      return "the broker refuses the certificate in tls.client_cert (\(text)). It must come from an authority that the "
        + "broker trusts, followed by its intermediate certificates"
    case 70: return "the broker speaks no TLS 1.2 or newer (\(text)). Enable TLS 1.2 or 1.3 on the broker"
    case 112: return "the broker knows no such host (\(text)). Check host and tls.server_name"
    default: return "the broker ended the connection (\(text)). The broker's log tells why"
    }
  }
}
