import Glibc
import Platform

/// Certificates for one test, made with openssl below a directory of the test's own.
public struct Certificates: Sendable {
  public let directory: String

  /// Begins with an authority, `ca`, of its own.
  public init(in directory: String) throws {
    self.directory = directory
    try key("ca")
    try openssl(
      "req", "-x509", "-new", "-key", path("ca.key"), "-days", "30", "-subj", "/CN=another CA", "-out", path("ca.pem"))
  }

  public func path(_ name: String) -> String { directory + "/" + name }

  /// The text of a file.
  public func text(_ name: String) throws -> String { try contents(ofFile: path(name)) }

  /// A certificate `NAME.pem` of the authority, with its key in `NAME.key`.
  ///
  /// - Parameter days: Days of validity from now; a negative number makes it expired.
  /// - Parameter issuer: Another authority: the path of its certificate and key, without `.pem` and `.key`.
  public func issue(
    _ name: String, subject: String, extensions: String = "", days: Int = 30, rsa: Bool = false, issuer: String? = nil
  ) throws {
    if rsa {
      try openssl("genrsa", "-out", path(name + ".key"), "2048")
    } else {
      try key(name)
    }
    let issuer = issuer ?? path("ca")
    try openssl("req", "-new", "-key", path(name + ".key"), "-subj", subject, "-out", path(name + ".csr"))
    try run(
      "/bin/sh", ["-c", "printf '%s\\n' \"$1\" >\"$0\"", path(name + ".ext"), extensions])
    try openssl(
      "x509", "-req", "-in", path(name + ".csr"), "-CA", issuer + ".pem", "-CAkey", issuer + ".key", "-set_serial", "2",
      "-days", String(days), "-extfile", path(name + ".ext"), "-out", path(name + ".pem"))
  }

  /// An elliptic curve key; quick to make.
  public func key(_ name: String) throws {
    try openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path(name + ".key"))
  }

  @discardableResult
  public func openssl(_ arguments: String...) throws -> String {
    try run("/usr/bin/env", ["openssl"] + arguments)
  }
}

/// A TLS server that is no broker: `openssl s_server` on a port of its own.
public final class OddServer: Sendable {
  public let port: Int
  private let child: ChildProcess

  /// - Parameter arguments: Further arguments, the certificate among them.
  public init(_ arguments: [String]) throws {
    let output = Monitor((lines: [String](), ended: false))
    child = try ChildProcess(
      "/usr/bin/env", ["openssl", "s_server", "-accept", "127.0.0.1:0"] + arguments
    ) { event in
      output.update {
        switch event {
        case .line(let line): $0.lines.append(String(decoding: line, as: UTF8.self))
        case .end: $0.ended = true
        }
      }
    } onError: { _ in
    }
    // `ACCEPT 127.0.0.1:40123`.
    let found = output.wait(atMost: generousLimit) { state -> Int?? in
      for line in state.lines where line.hasPrefix("ACCEPT ") {
        if let port = line.split(separator: ":").last.flatMap({ Int($0) }), port > 0 { return .some(port) }
      }
      return state.ended ? .some(nil) : nil
    }
    guard case .some(.some(let port)) = found else { throw SupportError("openssl s_server does not listen") }
    self.port = port
  }

  deinit { try? child.kill() }
}

/// A peer whose TCP connections are accepted by the kernel and never answered.
public final class SilentPeer: Sendable {
  public let port: Int
  private let descriptor: Int32

  public init() throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = descriptor
    let status = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        guard unsafe bind(descriptor, generic, size) == 0, listen(descriptor, 8) == 0 else { return Int32(-1) }
        return unsafe getsockname(descriptor, generic, &size)
      }
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    guard status == 0 else { throw SupportError("no port to listen on") }
  }

  deinit { close(descriptor) }
}
