internal import Glibc

/// What cannot be done without, and the system refuses: the process ends as it would for any other failure, with the cause as the last
/// line on stderr. Nothing was acknowledged that is not safe.
package enum SystemLimit {
  /// Descriptors that are always enough: the journal, five for each of many queues (a socket, a pipe, a file and its lock), and those who
  /// look at the metrics.
  private static let descriptors: rlim_t = 8192

  /// Raises the soft limit of open files, which shells and services set low, as far as the hard one allows; fewer than that may do.
  /// https://man7.org/linux/man-pages/man2/getrlimit.2.html
  package static func raiseDescriptors() {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < descriptors
    else { return }
    limit.rlim_cur = min(limit.rlim_max, descriptors)
    unsafe _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  /// Puts something in the place of each of stdin, stdout and stderr that is closed, or the first files that are opened would get their
  /// numbers, and what is written to stdout would go into one of them. To be called before anything else. What is written to a stdout
  /// that was closed fails with EBADF, as it should; what is said on stderr goes nowhere.
  package static func fillStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
      // The lowest number that is free.
      _ = unsafe open("/dev/null", number == STDOUT_FILENO ? O_RDONLY : O_RDWR)
    }
  }

  /// How many descriptors the process may have open.
  package static func openFiles() -> Int {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return Int(descriptors) }
    return Int(clamping: limit.rlim_cur)
  }

  /// Why so many descriptors cannot be had just now, an errno; nil if they can.
  package static func shortage(descriptors count: Int) -> Int32? {
    var taken: [Int32] = []
    defer { for descriptor in taken { close(descriptor) } }
    while taken.count < count {
      let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else { return errno }
      taken.append(descriptor)
    }
    return nil
  }

  /// Ends the process with status 1 and `cause` as the last line on stderr.
  package static func end(_ cause: String) -> Never {
    let line = Array("source-amqp: \(cause)\n".utf8)
    // A pipe that no one reads must not keep it from ending.
    var polled = pollfd(fd: 2, events: Int16(POLLOUT), revents: 0)
    if unsafe poll(&polled, 1, 2_000) > 0 { _ = unsafe write(2, line, line.count) }
    _exit(1)
  }
}
