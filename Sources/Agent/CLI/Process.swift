import AMQP
import ArgumentParser
import Glibc
import Logging

/// What belongs to the process as a whole: its log, its signals, its exit statuses.
enum Process {
  /// Wrong configuration (`EX_CONFIG` of sysexits.h).
  static let configurationStatus = ExitCode(78)

  static var log: Logger {
    Logger.standardError(level: environment("LOG_LEVEL"), format: environment("LOG_FORMAT"))
  }

  /// A variable of the environment; nil where it is not set.
  static func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
  }

  /// Logs the cause as the last line on stderr, where the runtime looks for it, and gives the status to end with.
  static func failed(_ cause: some CustomStringConvertible, log: Logger, status: ExitCode = .failure) -> ExitCode {
    log.error("\(cause)")
    return status
  }

  /// Calls `stop` at the first SIGTERM or SIGINT, and at a SIGHUP if there is no `hangup`, which is called instead. Another one
  /// ends the process at once, but counts only after a second: `timeout` and process groups send the same wish twice. To be
  /// called before any other thread starts, since threads inherit what is blocked. A closed pipe is an error of its write, not
  /// a signal.
  static func onStopSignal(hangup: (@Sendable () -> Void)? = nil, _ stop: @escaping @Sendable () -> Void) {
    signal(SIGPIPE, SIG_IGN)
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe sigaddset(&signals, SIGTERM)
    unsafe sigaddset(&signals, SIGINT)
    unsafe sigaddset(&signals, SIGHUP)
    unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
    let waited = signals
    OSThread.start("signals") {
      var signals = waited
      var stopped: Double?
      while true {
        var number: Int32 = 0
        unsafe sigwait(&signals, &number)
        if number == SIGHUP, let hangup {
          hangup()
        } else if let began = stopped {
          guard SystemClock.now() - began >= 1 else { continue }
          log.warning("a second signal (\(name(of: number))): ending at once")
          end(128 + number)
        } else {
          stopped = SystemClock.now()
          log.info("\(name(of: number)): stopping")
          stop()
        }
      }
    }
  }

  /// Ends at once, but for what was said last.
  static func end(_ status: Int32) -> Never {
    Terminal.flush()
    _exit(status)
  }

  private static func name(of signal: Int32) -> String {
    switch signal {
    case SIGTERM: "SIGTERM"
    case SIGINT: "SIGINT"
    case SIGHUP: "SIGHUP"
    default: "signal \(signal)"
    }
  }
}
