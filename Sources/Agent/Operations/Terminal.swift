import Glibc
import Logging
import Platform

/// stderr, shared by the log and the line that shows progress on a terminal: a log line stands above that line.
enum Terminal {
  private static let status = Locked<[UInt8]>([])
  /// Back to the first column, and erase the line (ECMA-48 EL).
  private static let erase = Array("\r\u{1B}[K".utf8)

  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  /// Columns of the terminal; 80 if it does not say.
  static var columns: Int {
    var size = winsize()
    guard unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  /// No one is left to tell about a failure.
  private static let queue = LogQueue(
    write: { line in
      do throws(CaptureFailure) { try OutputDescriptor(descriptor: STDERR_FILENO, name: "stderr").write(line) } catch {}
    }, tell: { FlowLogHandler(logLevel: .warning, style: .ofStandardError, write: { _ in }).line(leftOut: $0) })
  /// How long what was said last may take until someone has read it, before the process ends.
  private static let patience = Duration.seconds(2)

  /// Hands a whole line of the log over, and waits for no one.
  static func write(log line: [UInt8]) {
    _ = flushesAtExit
    queue.put(status.withLock { $0.isEmpty ? line : erase + line + $0 })
  }

  /// Shows `text` (one line, no line feed) in the last line of the terminal, in the place of what it showed before; an
  /// empty one takes it away.
  static func show(_ text: String) {
    let line = status.withLock { status in
      status = Array(PrintableText.escaped(text).utf8)
      return erase + status
    }
    queue.put(line)
  }

  /// Waits until what was said is written, but not for long: to be called before a process ends by `_exit`; `exit` does it.
  static func flush() { queue.flush(atMost: patience) }

  private static let flushesAtExit: Void = {
    atexit { Terminal.flush() }
  }()
}

extension FlowLogHandler.Style {
  /// Plain text if stderr is a terminal and no one asks for JSON (`LOG_FORMAT`).
  static let ofStandardError = Terminal.isTerminal && environmentVariable("LOG_FORMAT") != "json" ? plain : json
}

extension Logger {
  /// The process's log on stderr, from the level on that a `LOG_LEVEL` means.
  static func standardError(level: String?) -> Logger {
    Logger(label: "source-amqp") { _ in
      FlowLogHandler(
        logLevel: FlowLogHandler.level(named: level) ?? .info, style: .ofStandardError,
        write: { line in Terminal.write(log: line) })
    }
  }
}
