import AMQP
import Glibc
import Platform

extension Topology {
  /// What TLS is to verify and to present; nil without TLS. Files are read anew for every connection, so that renewed
  /// certificates take effect with the next one.
  static func settings(_ tls: TLSConfiguration) throws(CaptureFailure) -> TLSSettings? {
    guard tls.enabled else { return nil }
    return TLSSettings(
      verify: tls.verifyCertificate, serverName: tls.serverName,
      trustedCertificates: try tls.caCertificate?.read(for: "tls.ca_cert"),
      certificateChain: try tls.clientCertificate?.read(for: "tls.client_cert"),
      privateKey: try tls.clientKey?.read(for: "tls.client_key"))
  }
}

extension PEMSource {
  /// Larger than any bundle of a system's authorities (some 250 KiB), and small enough to refuse a file given by mistake.
  static let largestFile = 4 << 20

  /// The PEM text.
  ///
  /// - Parameter setting: Where the source comes from, to name in errors. A key pasted without its first line is taken
  ///   for a path, so the path of a key is shown only if it cannot be one.
  func read(for setting: String) throws(CaptureFailure) -> String {
    switch self {
    case .text(let text): return PEMText.normalised(text.value)
    case .file(let path):
      let named = Self.mayBeShown(path, setting) ? "\"\(path)\"" : "the file that it names"
      func failure(_ reason: String) -> CaptureFailure {
        CaptureFailure(cause: "tls", description: "\(setting): cannot read \(named): \(reason)", needsUser: true)
      }
      let bytes: [UInt8]
      do throws(UnreadFile) {
        bytes = try readFile(path, limit: Self.largestFile, flags: O_NONBLOCK)
      } catch {
        switch error {
        case .system(let code): throw failure(errnoText(code))
        case .isLarger: throw failure("it is larger than \(Self.largestFile) bytes")
        }
      }
      return PEMText.normalised(String(decoding: bytes, as: UTF8.self))
    }
  }

  /// A path of `tls.client_key` is shown only if it has a dot, which base64 never has.
  private static func mayBeShown(_ path: String, _ setting: String) -> Bool {
    setting != "tls.client_key" || path.contains(".")
  }
}
