import Glibc
import Synchronization

/// stderr, shared by the log and the line that shows progress on a terminal: a log line stands above that line.
enum Terminal {
  private static let status = Mutex<[UInt8]>([])
  /// Back to the first column, and erase the line (ECMA-48 EL).
  private static let erase = Array("\r\u{1B}[K".utf8)

  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Columns of the terminal; 80 where it does not say.
  static var columns: Int {
    var size = winsize()
    guard unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  private static let queue = LogQueue { line in write(line) }
  /// Seconds that what was said last may take until somebody has read it, before the process ends.
  private static let patience = 2.0

  /// Hands a whole line of the log over, and waits for nobody.
  ///
  /// - Parameter tell: Makes the line that says how many lines were left out, since nobody read.
  static func write(log line: [UInt8], tell: @escaping @Sendable (Int) -> [UInt8]) {
    _ = flushesAtExit
    queue.put(status.withLock { $0.isEmpty ? line : erase + line + $0 }, tell: tell)
  }

  /// Shows `text` (one line, no line feed) in the last line of the terminal, in the place of what it showed before; an
  /// empty one takes it away.
  static func show(_ text: String) {
    let line = status.withLock { status in
      status = Array(PrintableText.escaped(text).utf8)
      return erase + status
    }
    queue.put(line, tell: { _ in [] })
  }

  /// Waits until what was said is written, but not for long: to be called before a process ends by `_exit`; `exit` does it.
  static func flush() { queue.flush(atMost: patience) }

  private static let flushesAtExit: Void = {
    atexit { Terminal.flush() }
  }()

  /// Writes all of it, for as long as that takes. Nobody is left to tell about a failure.
  private static func write(_ bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(STDERR_FILENO, buffer.baseAddress.map { unsafe $0 + done }, buffer.count - done)
      }
      if count > 0 {
        done += count
      } else if errno == EAGAIN {
        var polled = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&polled, 1, -1)
      } else if errno != EINTR {
        return
      }
    }
  }
}
