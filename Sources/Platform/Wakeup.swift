internal import Glibc

/// Wakes a thread that waits in `poll`. Any thread may ``signal()``; the waiting one polls ``descriptor`` and calls
/// ``drain()``. Signals that come before it is awake are one.
public final class Wakeup: Sendable {
  /// The descriptor to poll for reading.
  package let descriptor: Int32
  private let writer: Int32

  /// Ends the process if the system has no descriptors for it: a thread that cannot be woken is of no use.
  public convenience init() {
    do throws(SystemError) {
      try self.init(orThrow: ())
    } catch {
      SystemLimit.end(error.text)
    }
  }

  /// The same, for what can be tried again.
  package init(orThrow: Void) throws(SystemError) {
    var ends: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      throw SystemError(
        text: "no socket pair to wake threads with: \(systemText(errno)) (the limit of open files, ulimit -n)")
    }
    descriptor = ends[0]
    writer = ends[1]
  }

  /// What there is too little of.
  package struct SystemError: Error {
    /// For a person: the call, and what the system said.
    package var text: String
  }

  deinit {
    close(descriptor)
    close(writer)
  }

  /// Wakes the waiting thread. A full buffer is as good as one byte.
  public func signal() {
    var byte: UInt8 = 1
    _ = unsafe write(writer, &byte, 1)
  }

  /// Waits for a signal until `deadline`, and forgets it.
  public func wait(until deadline: Instant) {
    let left = deadline - Instant.now
    if left <= .zero { return }
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    if unsafe poll(&polled, 1, left.pollMilliseconds) > 0 { drain() }
  }

  /// Forgets the signals so far.
  public func drain() {
    var bytes = [UInt8](repeating: 0, count: 64)
    while unsafe read(descriptor, &bytes, bytes.count) == bytes.count {}
  }
}
