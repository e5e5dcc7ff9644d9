import ArgumentParser
import Glibc
import Logging
import Platform

/// What belongs to the process as a whole: its log, its signals, its exit statuses.
enum Process {
  /// Wrong configuration (`EX_CONFIG` of sysexits.h).
  static let configurationStatus = ExitCode(78)

  static var log: Logger {
    Logger.standardError(level: environmentVariable("LOG_LEVEL"))
  }

  /// Logs the cause as the last line on stderr, where the runtime looks for it, and gives the status to end with.
  static func failed(_ cause: some CustomStringConvertible, log: Logger, status: ExitCode = .failure) -> ExitCode {
    log.error("\(cause)")
    return status
  }

  /// What a signal says last, if memory that is a file could not be read or written: the journal's `-shm`, of which SQLite has a mapping.
  private static let busError: StaticString = """
    source-amqp: SIGBUS: a file that is mapped into memory could not be read or written, most likely the journal's -shm, since its \
    disk is full or fails. Nothing that was acknowledged is lost; the next start goes on

    """

  /// Ends the process with a line about the cause at a SIGBUS, instead of a dump. https://man7.org/linux/man-pages/man7/signal-safety.7.html
  static func explainBusErrors() {
    var action = sigaction()
    unsafe action.__sigaction_handler.sa_handler = { _ in
      unsafe _ = write(STDERR_FILENO, Process.busError.utf8Start, Process.busError.utf8CodeUnitCount)
      _exit(1)
    }
    unsafe _ = sigaction(SIGBUS, &action, nil)
  }

  /// What the agent waits for, each with its meaning, in both modes (docs/standalone.md).
  private static let signals = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]

  /// Lets signals wait until ``onStopSignal(hangup:_:)`` asks for them: to be called first of all, since one that comes while the
  /// process starts would end it without a word. Threads inherit it. A closed pipe is an error of its write, not a signal.
  static func holdSignals() {
    signal(SIGPIPE, SIG_IGN)
    var held = waited
    unsafe pthread_sigmask(SIG_BLOCK, &held, nil)
  }

  /// All of them, but for a SIGHUP that is ignored (`nohup`). Shells start what runs in the background with SIGINT ignored, too, and whoever
  /// sends it by `kill` means it.
  private static let waited: sigset_t = {
    var set = sigset_t()
    unsafe sigemptyset(&set)
    for number in signals {
      var action = sigaction()
      guard unsafe sigaction(number, nil, &action) == 0, number != SIGHUP || !isIgnored(action) else { continue }
      unsafe sigaddset(&set, number)
    }
    return set
  }()

  private static func isIgnored(_ action: sigaction) -> Bool {
    // SIG_IGN is the address 1.
    unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
  }

  /// Calls `stop` at the first SIGTERM or SIGINT, and at a SIGHUP if there is no `hangup`, which is called instead. Another one
  /// ends the process at once, but counts only after a second: `timeout` and process groups send the same wish twice. SIGQUIT ends it at
  /// once in any case. SIGUSR1 and SIGUSR2 mean nothing here.
  static func onStopSignal(hangup: (@Sendable () -> Void)? = nil, _ stop: @escaping @Sendable () -> Void) {
    holdSignals()
    OSThread.start("signals") {
      var signals = waited
      var stopped: Instant?
      while true {
        var number: Int32 = 0
        unsafe sigwait(&signals, &number)
        if number == SIGUSR1 || number == SIGUSR2 {
          log.info("\(name(of: number)) means nothing here, and is ignored")
        } else if number == SIGQUIT {
          log.warning("SIGQUIT: ending at once")
          end(128 + number)
        } else if number == SIGHUP, let hangup {
          hangup()
        } else if let began = stopped {
          guard Instant.now - began >= .seconds(1) else { continue }
          log.warning("a second signal (\(name(of: number))): ending at once")
          end(128 + number)
        } else {
          stopped = Instant.now
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
    case SIGUSR1: "SIGUSR1"
    case SIGUSR2: "SIGUSR2"
    default: "signal \(signal)"
    }
  }
}
