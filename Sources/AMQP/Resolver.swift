internal import Glibc
internal import Synchronization

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

/// Host names to addresses, with a time limit that `getaddrinfo` itself does not have.
enum Resolver {
  private enum Outcome: Sendable {
    case addresses([SocketAddress])
    case failure(String)
  }

  private final class Answer: Sendable {
    let outcome = Mutex<Outcome?>(nil)
    let ready = Wakeup()
  }

  /// The addresses of `host` in the order in which the system wants them tried.
  ///
  /// The look-up runs on a thread of its own, which is abandoned when it is late: nothing can interrupt it.
  static func addresses(host: String, port: Int, deadline: Double) throws(AMQPError) -> [SocketAddress] {
    let answer = Answer()
    OSThread.start("resolver") {
      let outcome = resolve(host: host, port: port)
      answer.outcome.withLock { $0 = outcome }
      answer.ready.signal()
    }
    let operation = "resolving \(host)"
    while answer.outcome.withLock({ $0 == nil }) {
      let left = deadline - SystemClock.now()
      if left <= 0 { throw AMQPError(.timedOut, during: operation) }
      var descriptor = pollfd(fd: answer.ready.descriptor, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&descriptor, 1, Int32(min(left * 1000 + 1, 60_000)))
    }
    switch answer.outcome.withLock({ $0 }) {
    case .addresses(let addresses) where !addresses.isEmpty: return addresses
    case .failure(let text): throw AMQPError(.nameNotResolved(text: text), during: operation)
    case .addresses, nil: throw AMQPError(.nameNotResolved(text: "no address"), during: operation)
    }
  }

  private static func resolve(host: String, port: Int) -> Outcome {
    var hints = unsafe addrinfo()
    unsafe hints.ai_family = AF_UNSPEC
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let status = unsafe getaddrinfo(host, String(port), &hints, &list)
    guard status == 0 else { return unsafe .failure(String(cString: gai_strerror(status))) }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
      let bytes = unsafe UnsafeRawBufferPointer(start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
      unsafe addresses.append(SocketAddress(family: entry.pointee.ai_family, bytes: Array(bytes)))
      unsafe next = entry.pointee.ai_next
    }
    return .addresses(addresses)
  }
}
