internal import Glibc

/// A socket address as the resolver gave it.
struct SocketAddress: Sendable {
  var family: Int32
  /// The bytes of a `sockaddr`.
  var bytes: [UInt8]

  /// The address in numbers, for messages.
  var text: String {
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let status = unsafe bytes.withUnsafeBytes { raw in
      unsafe getnameinfo(
        raw.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count), &host, socklen_t(host.count),
        nil, 0, NI_NUMERICHOST)
    }
    guard status == 0 else { return "an address" }
    return String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// An address of a node.
struct NodeAddress: Sendable {
  /// Which node.
  var index: Int
  var port: Int
  var address: SocketAddress
}
