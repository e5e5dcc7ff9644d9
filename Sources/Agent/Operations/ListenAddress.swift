import ArgumentParser
import Glibc
import NIOCore

/// Where to listen: `ADDRESS:PORT`, the address in numbers; `[::1]:9090` for IPv6, `:9090` for every IPv4 address of the machine.
struct ListenAddress: Equatable, Sendable, CustomStringConvertible {
  enum Host: Equatable, Sendable {
    case any
    case ip4(String)
    case ip6(String)
  }

  var host: Host
  /// 0 lets the system choose.
  var port: UInt16

  init?(argument: String) {
    guard let colon = argument.lastIndex(of: ":"), let port = UInt16(argument[argument.index(after: colon)...]) else {
      return nil
    }
    let name = String(argument[..<colon])
    if name.isEmpty {
      host = .any
    } else if name.hasPrefix("["), name.hasSuffix("]") {
      host = .ip6(String(name.dropFirst().dropLast()))
    } else if name == "localhost" {
      host = .ip4("127.0.0.1")
    } else if name.contains(":") {
      return nil
    } else {
      host = .ip4(name)
    }
    self.port = port
  }

  /// What to say of one that is taken.
  static let taken = "another process listens there (ss -ltnp shows which one)"

  /// As ``init(argument:)``, with words for what is wrong.
  static func parsed(_ text: String) throws -> ListenAddress {
    guard let address = ListenAddress(argument: text) else {
      throw ValidationError("it needs ADDRESS:PORT, the address in numbers, such as 127.0.0.1:9090 or [::1]:9090")
    }
    return address
  }

  /// - Throws: If the address is none in numbers.
  func socketAddress() throws -> SocketAddress {
    switch host {
    case .any: try SocketAddress(ipAddress: "0.0.0.0", port: Int(port))
    case .ip4(let address), .ip6(let address): try SocketAddress(ipAddress: address, port: Int(port))
    }
  }

  /// 0, or why the address cannot be listened on; it is taken and given back.
  func bindError() -> Int32 {
    guard let address = try? socketAddress() else { return EADDRNOTAVAIL }
    return unsafe address.withSockAddr { place, size in
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
      let descriptor = unsafe socket(Int32(place.pointee.sa_family), type, 0)
      guard descriptor >= 0 else { return errno }
      defer { close(descriptor) }
      var yes: Int32 = 1
      _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
      return unsafe bind(descriptor, place, socklen_t(size)) == 0 && listen(descriptor, 1) == 0 ? 0 : errno
    }
  }

  var description: String {
    switch host {
    case .any: ":\(port)"
    case .ip4(let address): "\(address):\(port)"
    case .ip6(let address): "[\(address)]:\(port)"
    }
  }
}
