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

  /// Writes a whole line of the log.
  static func write(log line: [UInt8]) {
    status.withLock { status in
      put(status.isEmpty ? line : erase + line + status)
    }
  }

  /// Shows `text` (one line, no line feed) in the last line of the terminal, in the place of what it showed before; an
  /// empty one takes it away.
  static func show(_ text: String) {
    status.withLock { status in
      status = Array(PrintableText.escaped(text).utf8)
      put(erase + status)
    }
  }

  private static func put(_ bytes: [UInt8]) {
    // Nobody is left to tell about a failed write to stderr.
    _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
