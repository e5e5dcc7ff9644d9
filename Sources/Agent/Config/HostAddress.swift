/// A host as settings name it: `name`, `name:port`, `[address]:port`, or an address alone.
struct HostAddress: Sendable, Equatable {
  /// Host name, IPv4 address, or IPv6 address without brackets.
  let name: String
  /// 1 to 65535; nil if none is given.
  let port: Int?

  /// What a setting takes such a text for.
  enum Role: Sendable, Equatable {
    /// `host`, which has its port beside it.
    case host
    /// An item of `hosts`.
    case node
    /// `tls.server_name`.
    case serverName
  }

  /// Why a text is no host, as far as that says where its parts belong.
  enum Problem: Error, Equatable {
    /// `amqp://…`
    case scheme
    /// A user before `@`.
    case user
    /// A slash, and what may be a virtual host after it.
    case path
    /// Blanks or commas: perhaps several hosts.
    case several
    /// A port if none may be, or what is no port.
    case port
    case brackets
    /// What no name and no address has: `?password=…` of a pasted URL.
    case characters
  }

  init(_ text: String) throws(Problem) {
    if text.contains("://") { throw .scheme }
    if text.contains("@") { throw .user }
    if text.contains("/") { throw .path }
    let separators = text.unicodeScalars.contains { scalar in
      scalar == "," || scalar == ";" || scalar.properties.isWhitespace || scalar.properties.generalCategory == .control
    }
    if separators { throw .several }
    if text.first == "[" {
      guard let end = text.firstIndex(of: "]") else { throw .brackets }
      name = String(text[text.index(after: text.startIndex)..<end])
      guard Self.isIPv6(name) else { throw .brackets }
      let rest = text[text.index(after: end)...]
      if rest.isEmpty {
        port = nil
      } else {
        guard rest.first == ":" else { throw .brackets }
        port = try Self.port(rest.dropFirst())
      }
      return
    }
    if text.contains("[") || text.contains("]") { throw .brackets }
    if Self.isIPv6(text) {
      (name, port) = (text, nil)
      return
    }
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    // A text of `:5672` has no name.
    guard let first = parts.first, !first.isEmpty else { throw .port }
    name = String(first)
    // Names in other scripts are left to the resolver.
    let isName = name.unicodeScalars.allSatisfy { scalar in
      !scalar.isASCII || scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
        || ".-_".unicodeScalars.contains(scalar)
    }
    guard isName else { throw .characters }
    port = parts.count == 2 ? try Self.port(parts[1]) : nil
  }

  private static func port(_ text: Substring) throws(Problem) -> Int {
    guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(text),
      (1...65535).contains(number)
    else { throw .port }
    return number
  }

  /// Whether a text looks like an IPv6 address, with or without a zone: no name and no port has two colons.
  private static func isIPv6(_ text: String) -> Bool {
    let address = text.prefix { $0 != "%" }
    let digits = address.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "A")...UInt8(ascii: "F"), UInt8(ascii: ":"), UInt8(ascii: "."):
        true
      default: false
      }
    }
    return digits && address.utf8.count(where: { $0 == UInt8(ascii: ":") }) >= 2
  }
}

extension HostAddress.Problem {
  /// What the setting must be, and where else the part belongs that it must not have. Shows nothing of the text: an
  /// address may have a password in it.
  func advice(for role: HostAddress.Role) -> String {
    switch role {
    case .host: "must be a host name or address alone: \(whereto)"
    case .serverName: "must be a host name or address alone, \(without)"
    case .node: "must be a node, such as mq2, mq2:5672 or [2001:db8::2]:5672, \(nodeWithout)"
    }
  }

  private var whereto: String {
    switch self {
    case .scheme:
      "put the parts of an amqp:// address into host, port, username, password and virtual_host, and for amqps:// set "
        + "tls.enabled"
    case .user: "put the user into username, and the password into password"
    case .path: "put a virtual host into virtual_host"
    case .several: "leave out blanks and commas, and put further nodes into hosts"
    case .port: "put the port into port"
    case .brackets: "write an IPv6 address with both brackets or none, and put the port into port"
    case .characters: "it has characters that no host name has, such as ? or ="
    }
  }

  private var without: String {
    switch self {
    case .scheme: "without a scheme"
    case .user: "without a user"
    case .path: "without a path"
    case .several: "without blanks and commas"
    case .port: "without a port"
    case .brackets: "an IPv6 address with both brackets or none"
    case .characters: "without characters that no host name has, such as ? or ="
    }
  }

  private var nodeWithout: String {
    switch self {
    case .port: "with a port from 1 to 65535"
    case .several: "without blanks and commas: each node is an item of its own"
    case .user: "without a user: username and password are the same for all nodes"
    case .path: "without a path: virtual_host is the same for all nodes"
    case .scheme: "without a scheme: username, password, virtual_host and tls are the same for all nodes"
    case .characters: "without characters that no host name has, such as ? or ="
    case .brackets: "an IPv6 address in brackets"
    }
  }
}
