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

  /// Calls `stop` at the first SIGTERM or SIGINT; a second one ends the process at once. To be called before any other
  /// thread starts, since threads inherit what is blocked. A closed pipe is an error of its write, not a signal.
  static func onStopSignal(_ stop: @escaping @Sendable () -> Void) {
    signal(SIGPIPE, SIG_IGN)
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe sigaddset(&signals, SIGTERM)
    unsafe sigaddset(&signals, SIGINT)
    unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
    let waited = signals
    OSThread.start("signals") {
      var signals = waited
      var number: Int32 = 0
      unsafe sigwait(&signals, &number)
      stop()
      unsafe sigwait(&signals, &number)
      _exit(128 + number)
    }
  }
}
