internal import Glibc
internal import Platform

/// Host names to addresses, with a time limit that `getaddrinfo` itself does not have.
enum Resolver {
  private enum Outcome: Sendable {
    case addresses([SocketAddress])
    case failure(String)
  }

  private final class Answer: Sendable {
    let outcome = Locked<Outcome?>(nil)
    /// Nil if the system has no descriptors for it; then the outcome is there from the beginning.
    let ready: Wakeup?

    init() {
      do throws(Wakeup.SystemError) {
        ready = try Wakeup(orThrow: ())
      } catch {
        ready = nil
        outcome.withLock { $0 = .failure(error.text) }
      }
    }
  }

  /// For how many seconds a name may keep the other nodes waiting, once there is an address to dial.
  private static let patience = Duration.seconds(1)

  /// The addresses of all nodes, in their order, and the failures of those that have none, by their index.
  ///
  /// All names are looked up at once.
  static func candidates(
    for nodes: [BrokerNode], deadline: Instant, isAbandoned: () -> Bool = { false }
  ) -> (found: [NodeAddress], unknown: [Int: AMQPError]) {
    let answers = nodes.map { begin(host: $0.host, port: $0.port) }
    let started = Instant.now
    var found: [Int: [SocketAddress]] = [:]
    var unknown: [Int: AMQPError] = [:]
    // Those that are there first, so that a slow name is waited for only as long as it is worth it.
    let ready = nodes.indices.filter { answers[$0].outcome.withLock { $0 != nil } }
    for index in ready + nodes.indices.filter({ !ready.contains($0) }) {
      let limit = found.isEmpty ? deadline : min(deadline, started + patience)
      do throws(AMQPError) {
        found[index] = try addresses(of: nodes[index].host, from: answers[index], deadline: limit, isAbandoned)
      } catch {
        unknown[index] = error
      }
    }
    let candidates = nodes.indices.flatMap { index in
      (found[index] ?? []).map { NodeAddress(index: index, port: nodes[index].port, address: $0) }
    }
    return (candidates, unknown)
  }

  /// The addresses of `host` in the order in which the system wants them tried.
  static func addresses(host: String, port: Int, deadline: Instant) throws(AMQPError) -> [SocketAddress] {
    try addresses(of: host, from: begin(host: host, port: port), deadline: deadline) { false }
  }

  /// The look-up runs on a thread of its own, which is abandoned when it is late: nothing can interrupt it.
  private static func begin(host: String, port: Int) -> Answer {
    let answer = Answer()
    guard let ready = answer.ready else { return answer }
    let status = OSThread.tryToStart("resolver") {
      let outcome = resolve(host: host, port: port)
      answer.outcome.withLock { $0 = outcome }
      ready.signal()
    }
    // It is tried again with the next attempt to connect.
    if status != 0 { answer.outcome.withLock { $0 = .failure("no thread to look it up: \(systemText(status))") } }
    return answer
  }

  private static func addresses(
    of host: String, from answer: Answer, deadline: Instant, _ isAbandoned: () -> Bool
  ) throws(AMQPError) -> [SocketAddress] {
    let operation = "resolving \(host)"
    while answer.outcome.withLock({ $0 == nil }) {
      let left = deadline - Instant.now
      if left <= .zero || isAbandoned() { throw AMQPError(.timedOut, during: operation) }
      var descriptor = pollfd(fd: answer.ready?.descriptor ?? -1, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&descriptor, 1, min(left, Socket.look).pollMilliseconds)
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
