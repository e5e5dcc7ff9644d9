internal import Glibc

/// What cannot be done without, and the system refuses: the process ends as it would for any other failure, with the cause as the last
/// line on stderr. Nothing was acknowledged that is not safe.
enum SystemLimit {
  static func end(_ cause: String) -> Never {
    let line = Array("source-amqp: \(cause)\n".utf8)
    // A pipe that nobody reads must not keep it from ending.
    var polled = pollfd(fd: 2, events: Int16(POLLOUT), revents: 0)
    if unsafe poll(&polled, 1, 2_000) > 0 { _ = unsafe write(2, line, line.count) }
    _exit(1)
  }
}
