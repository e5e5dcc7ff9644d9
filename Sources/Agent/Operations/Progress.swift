import AMQP
import Journal
import Logging

/// Shows how a capture goes on: a line that is redrawn on a terminal, a log line a minute elsewhere (SPEC §6).
struct Progress {
  /// Seconds between two looks.
  private static let redrawSeconds = 0.5
  private static let logSeconds = 60.0

  private var last: (counters: StatusBoard.Counters, at: Double)?

  /// Looks for as long as the process lives, on a thread of its own.
  static func start(log: Logger, snapshot: @escaping @Sendable () -> OperationsSnapshot) {
    let redraws = Terminal.isTerminal && Process.environment("LOG_FORMAT") != "json"
    OSThread.start("progress") {
      var progress = Progress()
      let pause = Monitor(())
      _ = progress.line(snapshot(), at: SystemClock.now())
      while true {
        let _: Void? = pause.wait(atMost: redraws ? redrawSeconds : logSeconds) { _ in nil }
        let now = snapshot()
        let line = progress.line(now, at: SystemClock.now())
        if redraws {
          Terminal.show(now.state == .stopping ? "" : String(line.prefix(max(1, Terminal.columns - 1))))
        } else {
          log.info("\(line)")
        }
      }
    }
  }

  /// One line: state, rate since the line before, backlog, age of the oldest pending message, total.
  ///
  /// - Parameter at: Seconds on a clock that is never set back.
  mutating func line(_ now: OperationsSnapshot, at time: Double) -> String {
    let counters = now.counters
    defer { last = (counters, time) }
    var rate = 0.0
    if let last, time > last.at { rate = Double(counters.journaled - last.counters.journaled) / (time - last.at) }
    var parts = [now.state.name, "\(Self.grouped(Int(rate.rounded()))) messages/s"]
    if let journal = now.journal {
      parts.append("\(Self.grouped(journal.pendingRows)) pending (\(Self.size(journal.pendingBytes)))")
      if journal.oldestReceivedAt != nil { parts.append("oldest \(Self.age(now.oldestAge))") }
    }
    parts.append("\(Self.grouped(counters.emitted)) documents")
    return parts.joined(separator: ", ")
  }

  /// 1234567 as `1,234,567`.
  static func grouped(_ number: Int) -> String {
    let digits = String(number.magnitude)
    var text = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return text
  }

  /// Bytes in the largest unit that leaves a number of 1 or more, with one digit behind the point.
  static func size(_ bytes: Int64) -> String {
    var value = Double(bytes)
    var unit = "B"
    for larger in ["KiB", "MiB", "GiB", "TiB"] where value >= 1024 {
      value /= 1024
      unit = larger
    }
    return unit == "B" ? "\(bytes) B" : "\((value * 10).rounded() / 10) \(unit)"
  }

  /// Seconds as `0.4 s`, `3 min 5 s`, `2 h 0 min`, `5 d 3 h`.
  static func age(_ seconds: Double) -> String {
    let whole = Int(seconds)
    switch whole {
    case ..<60: return "\((seconds * 10).rounded() / 10) s"
    case ..<3600: return "\(whole / 60) min \(whole % 60) s"
    case ..<86400: return "\(whole / 3600) h \(whole % 3600 / 60) min"
    default: return "\(whole / 86400) d \(whole % 86400 / 3600) h"
    }
  }
}
