internal import Glibc
internal import Platform

/// The one owner of a connected, non-blocking TCP socket; closed exactly once.
final class Socket {
  let descriptor: Int32

  private init(descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// What a read or write did.
  enum Progress: Equatable {
    case bytes(Int)
    /// Nothing can be done now; poll for it.
    case wouldBlock
    /// The peer closed its side.
    case endOfStream
  }

  struct Failure: Error { var text: String }

  /// Begins to connect; poll for `POLLOUT`, then look at ``connectFailure()``.
  static func begin(_ address: SocketAddress) -> Result<Socket, Failure> {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = Glibc.socket(address.family, type, 0)
    guard descriptor >= 0 else { return .failure(Failure(text: systemText(errno))) }
    let socket = Socket(descriptor: descriptor)
    let status = unsafe address.bytes.withUnsafeBytes { raw in
      unsafe Glibc.connect(descriptor, raw.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
    }
    guard status == 0 || errno == EINPROGRESS else { return .failure(Failure(text: systemText(errno))) }
    return .success(socket)
  }

  /// Why a connect that has come to its end failed; nil if it is connected.
  func connectFailure() -> Failure? {
    var code: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
    return code == 0 ? nil : Failure(text: systemText(code))
  }

  /// This socket, set up for a connection that has just been made.
  func connected() -> Socket {
    set(Self.tcp, TCP_NODELAY, to: 1)
    set(SOL_SOCKET, SO_KEEPALIVE, to: 1)
    return self
  }

  private static let tcp = Int32(IPPROTO_TCP)

  private func set(_ level: Int32, _ option: Int32, to value: Int32) {
    var value = value
    unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  /// The kernel gives the connection up when what was sent stays unconfirmed for this long (`TCP_USER_TIMEOUT`), so
  /// that a vanished broker is noticed also while we only send.
  func setUserTimeout(milliseconds: Int32) { set(Self.tcp, TCP_USER_TIMEOUT, to: milliseconds) }

  /// Between two looks at whether a wait is still wanted.
  static let look = Duration.milliseconds(250)

  /// Waits until one of `events` or an error is there; false at the deadline, and soon after `isAbandoned` has become true.
  func wait(for events: Int16, until deadline: Instant, isAbandoned: () -> Bool) -> Bool {
    while !isAbandoned() {
      if wait(for: events, until: min(deadline, Instant.now + Self.look)) { return true }
      if Instant.now >= deadline { return false }
    }
    return false
  }

  /// Waits until one of `events` or an error is there; false at the deadline.
  func wait(for events: Int16, until deadline: Instant) -> Bool {
    while true {
      let left = deadline - Instant.now
      if left <= .zero { return false }
      var poll = pollfd(fd: descriptor, events: events, revents: 0)
      if unsafe Glibc.poll(&poll, 1, left.pollMilliseconds) > 0 { return true }
    }
  }

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Progress {
    while true {
      let count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
      if count > 0 { return .bytes(count) }
      if count == 0 { return .endOfStream }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      default: throw Self.failure("reading from the broker")
      }
    }
  }

  func write(_ buffer: UnsafeRawBufferPointer) throws(AMQPError) -> Progress {
    while true {
      let count = unsafe send(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
      if count >= 0 { return .bytes(count) }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      default: throw Self.failure("writing to the broker")
      }
    }
  }

  private static func failure(_ operation: String) -> AMQPError {
    let code = errno
    return AMQPError(.socket(code: code, text: systemText(code)), during: operation)
  }
}
