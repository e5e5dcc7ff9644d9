import Journal
import Logging
import Platform

/// Shows how a capture goes on (docs/standalone.md): a line that is redrawn on a terminal; elsewhere a log line a minute if something happened,
/// else each ten minutes.
struct Progress {
  /// Between two looks, and between two lines.
  private static let redrawTime = Duration.milliseconds(500)
  private static let lookTime = Duration.seconds(1)
  private static let logTime = Duration.seconds(60)
  /// How many looks without news there are to a line.
  private static let quietLooks = 10

  private var last: (counters: StatusBoard.Counters, at: Instant)?
  /// What had happened by the newest line, and how many looks ago that was.
  private var told: [Int] = []
  private var looks = 0

  /// Looks for as long as the process lives, on a thread of its own.
  ///
  /// - Parameter redraws: A terminal has a line for it, unless its log is JSON.
  static func start(log: Logger, redraws: Bool, source: OperationsSource) {
    let redraws = redraws && Terminal.isTerminal && environmentVariable("LOG_FORMAT") != "json"
    OSThread.start("progress") {
      var progress = Progress()
      let pause = Monitor(())
      let begin = source.withJournal()
      var next = Instant.now + logTime
      _ = (progress.line(begin, at: Instant.now), progress.isNews(begin))
      while true {
        let _: Void? = pause.wait(atMost: redraws ? redrawTime : lookTime) { _ in nil }
        source.status.look()
        guard redraws || Instant.now >= next else { continue }
        next = Instant.now + logTime
        let now = source.withJournal()
        if redraws {
          let line = progress.line(now, at: Instant.now)
          Terminal.show(now.state == .stopping ? "" : String(line.prefix(max(1, Terminal.columns - 1))))
        } else if progress.isNews(now) {
          log.info("\(progress.line(now, at: Instant.now))")
        }
      }
    }
  }

  /// Whether a look is worth a line: messages went somewhere, or nothing was said for long. Of an outage others tell that it lasts.
  mutating func isNews(_ now: OperationsSnapshot) -> Bool {
    looks += 1
    let counters = now.counters
    let happened = [counters.received, counters.journaled, counters.acknowledged, counters.emitted, counters.committed]
    let lasts = if case .reconnecting = now.state { true } else { false }
    guard happened != told || looks >= Self.quietLooks && !lasts else { return false }
    (told, looks) = (happened, 0)
    return true
  }

  /// One line: state, rate since the line before, what waits for a commit and since when, the queue's backlog, how long commits of the
  /// journal took, redeliveries, and documents in all.
  mutating func line(_ now: OperationsSnapshot, at time: Instant) -> String {
    let counters = now.counters
    defer { last = (counters, time) }
    var rate = 0.0
    if let last, time > last.at {
      rate = Double(counters.journaled - last.counters.journaled) / (time - last.at).inSeconds
    }
    var parts = [now.state.name, "\(Quantity.rate(rate)) messages/s"]
    if let journal = now.journal {
      parts.append(
        "\(Quantity.grouped(journal.pendingRows)) wait for a commit (\(Quantity.size(journal.pendingBytes)))")
      if journal.oldestReceivedAt != nil { parts.append("oldest \(Quantity.age(now.oldestAge))") }
    }
    if let backlog = now.backlog { parts.append("\(Quantity.grouped(backlog)) in the queue") }
    let commits = counters.commits.count - (last?.counters.commits.count ?? 0)
    if commits > 0 {
      let seconds = (counters.commits.sum - (last?.counters.commits.sum ?? 0)) / Double(commits)
      parts.append("journal commits of \((seconds * 10_000).rounded() / 10) ms")
    }
    if counters.redelivered > 0 { parts.append("\(Quantity.grouped(counters.redelivered)) redelivered") }
    parts.append("\(Quantity.grouped(counters.emitted)) documents in all")
    return parts.joined(separator: ", ")
  }

  /// What came of it all, for the log's last lines.
  static func totals(_ counters: StatusBoard.Counters) -> Logger.Metadata {
    [
      "received": .stringConvertible(counters.received), "journaled": .stringConvertible(counters.journaled),
      "acknowledged": .stringConvertible(counters.acknowledged), "emitted": .stringConvertible(counters.emitted),
      "committed": .stringConvertible(counters.committed), "redelivered": .stringConvertible(counters.redelivered),
      "recognised": .stringConvertible(counters.recognised),
    ]
  }
}
