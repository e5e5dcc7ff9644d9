import NIOCore
import NIOHTTP1

/// What a request to the listener gets, decided from its head alone.
///
/// Only what is asked for by an address, or by a name that belongs to this listener, is answered: a page in someone's browser
/// whose own name was made to point here (DNS rebinding) sends that name as `Host`, and gets nothing.
/// https://www.rfc-editor.org/rfc/rfc9112#section-3.2 https://fetch.spec.whatwg.org/#dns-rebinding
enum StatusRequest: Equatable {
  /// What is served.
  enum Page: String, Equatable, Sendable {
    case metrics = "/metrics"
    case health = "/healthz"
    case readiness = "/readyz"
  }

  case page(Page)
  /// The status and its text. The connection ends after it if the request may have a body, which is not read.
  case refused(HTTPResponseStatus, String)

  /// - Parameter names: The names that this listener answers to, besides addresses.
  init(_ head: HTTPRequestHead, names: HostNames) {
    self = Self.decide(head, names)
  }

  private static func decide(_ head: HTTPRequestHead, _ names: HostNames) -> StatusRequest {
    if head.version.major != 1 { return .refused(.httpVersionNotSupported, "this speaks HTTP/1.0 and HTTP/1.1\n") }
    let hosts = head.headers["host"].map(trimmed)
    // A request of HTTP/1.0 may do without; a browser never does.
    if hosts.count > 1 || hosts.isEmpty && head.version.minor > 0 {
      return .refused(.badRequest, "a request needs one Host\n")
    }
    let (authority, path) = split(target: head.uri)
    if let host = authority ?? hosts.first, !names.accept(authority: host) {
      return .refused(
        .misdirectedRequest,
        "the Host of this request is neither an address nor a name of this listener: ask for an address, or allow the "
          + "name with --allow-host\n")
    }
    guard head.method == .GET || head.method == .HEAD else { return .refused(.methodNotAllowed, "only GET and HEAD\n") }
    if head.headers.contains(name: "transfer-encoding")
      || head.headers["content-length"].contains(where: { trimmed($0) != "0" })
    {
      return .refused(.badRequest, "a request here has no body\n")
    }
    guard let page = Page(rawValue: path) else {
      return .refused(.notFound, "here are /metrics, /healthz and /readyz\n")
    }
    return .page(page)
  }

  /// Without the blanks around it, which are none of a field's value. https://www.rfc-editor.org/rfc/rfc9110#section-5.5
  private static func trimmed(_ value: String) -> String {
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    guard let first = value.utf8.firstIndex(where: { !isBlank($0) }),
      let last = value.utf8.lastIndex(where: { !isBlank($0) })
    else { return "" }
    return String(value[first...last])
  }

  /// The path, and the authority before it if the target is a whole address: that counts then, and not `Host`.
  /// https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
  private static func split(target: String) -> (authority: String?, path: String) {
    let plain = target.prefix { $0 != "?" }
    guard plain.lowercased().hasPrefix("http://") else { return (nil, String(plain)) }
    let rest = plain.dropFirst("http://".count)
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    return (String(rest[..<slash]), slash == rest.endIndex ? "/" : String(rest[slash...]))
  }
}

/// The names that a listener answers to.
struct HostNames: Sendable {
  /// In lower case.
  private let names: Set<String>

  /// - Parameter names: Names of hosts, without ports; letters of either case.
  init(_ names: [String]) {
    self.names = Set((names + ["localhost"]).map { $0.lowercased() })
  }

  /// Whether `authority`, a `Host` header's value, is an address or one of the names; the port does not matter, since whoever
  /// forwards to here may have another one.
  func accept(authority: String) -> Bool {
    guard let (host, isBracketed) = Self.host(authority) else { return false }
    if isBracketed { return (try? SocketAddress(ipAddress: host, port: 0))?.protocol == .inet6 }
    // Four numbers: no name under any top-level domain looks so.
    return (try? SocketAddress(ipAddress: host, port: 0))?.protocol == .inet || names.contains(host.lowercased())
  }

  /// The host in `host[:port]` or `[address][:port]`; nil if it is neither.
  /// https://www.rfc-editor.org/rfc/rfc3986#section-3.2.2
  private static func host(_ authority: String) -> (String, isBracketed: Bool)? {
    let isBracketed = authority.first == "["
    let end: String.Index
    if isBracketed {
      guard let bracket = authority.firstIndex(of: "]") else { return nil }
      end = authority.index(after: bracket)
    } else {
      end = authority.firstIndex(of: ":") ?? authority.endIndex
    }
    let port = authority[end...]
    guard port.isEmpty || port.first == ":" && port.dropFirst().allSatisfy({ $0.isASCII && $0.isNumber }) else {
      return nil
    }
    let host = authority[..<end]
    if isBracketed { return (String(host.dropFirst().dropLast()), true) }
    // The root's dot is no part of the name.
    return (String(host.last == "." ? host.dropLast() : host), false)
  }
}
