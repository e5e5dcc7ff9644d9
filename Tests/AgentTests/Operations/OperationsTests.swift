import AMQP
import Logging
import Platform
import Support
import Synchronization
import Testing

@testable import Agent
@testable import Journal

/// What operators see: metrics, health, progress, tables.
struct OperationsTests {
  private static func snapshot(_ change: (StatusBoard) -> Void = { _ in }, journal: JournalStatus? = nil)
    -> OperationsSnapshot
  {
    let board = StatusBoard(log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    change(board)
    return OperationsSnapshot(state: board.state, counters: board.counters, journal: journal, now: 20_000_000)
  }

  private static let journal = JournalStatus(
    identifier: "6f0e1b5e-0000-4000-8000-000000000000", schemaVersion: 1, createdAt: 0,
    positions: Positions(
      last: Position(rawValue: 1_234_567), emittedThrough: Position(rawValue: 1_234_000),
      committedThrough: Position(rawValue: 1_233_333)),
    pendingRows: 1234, pendingBytes: 5 << 20, oldestReceivedAt: 12_500_000, sessions: 2, usedBytes: 3 << 30)

  @Test func `of several queues the one that is furthest from consuming shows, and says whose it is`() {
    let board = StatusBoard(
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      subscriptions: ["a", "b", "c"].map { .init(stream: $0, queue: "q-\($0)") })
    for index in 0..<3 { board.changed(to: .consuming, of: index) }
    #expect(board.state == .consuming)
    board.changed(to: .reconnecting(cause: "closed", reason: "gone"), of: 1)
    #expect(board.state == .reconnecting(cause: "closed", reason: "\"b\" (1 of 3 queues): gone"))
    // The newest of those that are equally bad.
    board.changed(to: .reconnecting(cause: "closed", reason: "gone, too"), of: 2)
    #expect(board.state == .reconnecting(cause: "closed", reason: "\"c\" (2 of 3 queues): gone, too"))
    board.changed(to: .consuming, of: 2)
    board.changed(to: .standby(reason: "another one"), of: 2)
    #expect(board.state == .reconnecting(cause: "closed", reason: "\"b\" (1 of 3 queues): gone"))
    board.changed(to: .consuming, of: 1)
    #expect(board.state == .standby(reason: "\"c\" (1 of 3 queues): another one"))
    board.count(of: 0) { $0.received += 2 }
    board.count(of: 2) { $0.received += 3 }
    #expect(board.counters.received == 5 && board.counters.reconnects == ["closed": 2])
    board.stops()
    #expect(board.state == .stopping)
  }

  @Test func `each queue has metrics of its own, whatever it is called, and a line of its own in health`() {
    let board = StatusBoard(
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      subscriptions: [.init(stream: "a\"b\\c\nd", queue: "q"), .init(stream: "plain", queue: "p")])
    board.changed(to: .consuming, of: 1)
    board.found(inQueue: 7, of: 1)
    let snapshot = OperationsSnapshot(
      state: board.state, counters: board.counters, journal: nil, subscriptions: board.subscriptions, now: 0)
    let text = snapshot.prometheusText
    #expect(text.contains(#"source_amqp_subscription_consuming{stream="a\"b\\c\nd",queue="q"} 0"#))
    #expect(text.contains(#"source_amqp_subscription_ready_messages{stream="plain",queue="p"} 7"#))
    #expect(snapshot.details.split(separator: "\n").count == 2, "\(snapshot.details)")
    #expect(snapshot.details.hasSuffix("\"plain\", queue \"p\": consuming\n"))
  }

  @Test func `neither a lost connection nor a pause hides the other`() {
    let board = StatusBoard(log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    board.changed(to: .consuming)
    board.paused(.intake, reason: "full")
    #expect(board.state == .paused(.intake, reason: "full"))
    board.changed(to: .reconnecting(cause: "connection_lost", reason: "gone"))
    board.resumed(.intake)
    #expect(board.state == .reconnecting(cause: "connection_lost", reason: "gone"))
    board.paused(.output, reason: "no space")
    board.changed(to: .consuming)
    #expect(board.state == .paused(.output, reason: "no space"))
    board.resumed(.output)
    #expect(board.state == .consuming)
    #expect(board.counters.consumersStarted == 2)
    #expect(board.counters.reconnects == ["connection_lost": 1])
  }

  @Test func `healthy is only what consumes, and ready what has consumed and goes on`() {
    let starting = Self.snapshot()
    #expect(!starting.health.isHealthy && !starting.isReady)
    let consuming = Self.snapshot { $0.changed(to: .consuming) }
    #expect(consuming.health == (true, "consuming") && consuming.isReady)
    let lost = Self.snapshot {
      $0.changed(to: .consuming)
      $0.changed(to: .reconnecting(cause: "c", reason: "the broker has gone away"))
    }
    #expect(lost.health == (false, "Not consuming, trying again: the broker has gone away") && lost.isReady)
    let full = Self.snapshot {
      $0.changed(to: .consuming)
      $0.paused(.intake, reason: "the disk is full")
    }
    #expect(full.health == (false, "Intake is paused: the disk is full"))
    let ending = Self.snapshot {
      $0.changed(to: .consuming)
      $0.changed(to: .stopping)
    }
    #expect(!ending.health.isHealthy && !ending.isReady)
  }

  @Test func `metrics are Prometheus text with a help and a type for each family`() {
    let text = Self.snapshot(
      { board in
        board.changed(to: .consuming)
        board.changed(to: .reconnecting(cause: "heartbeats_missed", reason: "x"))
        board.count { counters in
          counters.received = 7
          for seconds in [0.0005, 0.003, 99] { counters.commits.observe(seconds) }
        }
      }, journal: Self.journal
    ).prometheusText
    let lines = text.split(separator: "\n").map(String.init)
    for line in [
      "source_amqp_received_messages_total 7", #"source_amqp_reconnects_total{cause="heartbeats_missed"} 1"#,
      #"source_amqp_state{state="reconnecting"} 1"#, #"source_amqp_state{state="consuming"} 0"#,
      "source_amqp_healthy 0",
      "source_amqp_pending_messages 1234", "source_amqp_pending_bytes 5242880",
      "source_amqp_oldest_pending_age_seconds 7.5", #"source_amqp_commit_duration_seconds_bucket{le="0.0005"} 1"#,
      #"source_amqp_commit_duration_seconds_bucket{le="0.0025"} 1"#,
      #"source_amqp_commit_duration_seconds_bucket{le="0.005"} 2"#,
      #"source_amqp_commit_duration_seconds_bucket{le="10.0"} 2"#,
      #"source_amqp_commit_duration_seconds_bucket{le="+Inf"} 3"#, "source_amqp_commit_duration_seconds_count 3",
    ] {
      #expect(lines.contains(line), "\(line) is not in \(text)")
    }
    let named = lines.filter { $0.hasPrefix("# TYPE") }.count
    #expect(named == lines.filter { $0.hasPrefix("# HELP") }.count)
    // Without the journal's numbers there are none, instead of wrong ones.
    #expect(!Self.snapshot().prometheusText.contains("pending_messages"))
  }

  @Test func `the progress line has rate, backlog and age`() {
    var progress = Progress()
    #expect(progress.line(Self.snapshot(), at: 1) == "starting, 0 messages/s, 0 documents in all")
    var later = Self.snapshot(
      {
        $0.changed(to: .consuming)
        $0.count { counters in
          (counters.journaled, counters.emitted, counters.redelivered) = (5000, 4200, 3)
          for seconds in [0.001, 0.003] { counters.commits.observe(seconds) }
        }
      }, journal: Self.journal)
    later.backlog = 77
    #expect(
      progress.line(later, at: 3)
        == "consuming, 2,500 messages/s, 1,234 wait for a commit (5.0 MiB), oldest 7.5 s, 77 in the queue, journal commits of 2.0 ms, "
        + "3 redelivered, 4,200 documents in all")
    later.counters.journaled += 1
    #expect(progress.line(later, at: 5).contains(" 0.5 messages/s, "))
  }

  @Test func `a look is worth a line if something happened, else each tenth is`() {
    var progress = Progress()
    var now = Self.snapshot { $0.changed(to: .consuming) }
    var told = [progress.isNews(now)]
    for _ in 1...20 { told.append(progress.isNews(now)) }
    #expect(told.first == true && told.count { $0 } == 3)
    now.counters.received += 1
    told = [progress.isNews(now), progress.isNews(now)]
    #expect(told == [true, false])
    // Attempts are no messages.
    now.state = .reconnecting(cause: "timed_out", reason: "no answer")
    told = []
    for _ in 1...20 {
      now.counters.reconnects["timed_out", default: 0] += 1
      told.append(progress.isNews(now))
    }
    #expect(!told.contains(true))
  }

  @Test func `of an outage each cause is told once, then how long it lasts each ten minutes`() {
    var outage = OutageLog()
    #expect(outage.recovered(at: 0) == nil)
    var told: [OutageLog.Report] = []
    // An attempt each five seconds for an hour, two causes in turn.
    for attempt in 0...720 {
      let report = outage.failed(
        cause: attempt.isMultiple(of: 2) ? "timed_out" : "not_connected", at: Instant(attempt * 5))
      if report != .nothing { told.append(report) }
    }
    #expect(told.count == 7 && Array(told[..<2]) == [.cause, .cause])
    #expect(told[2] == .reminder(lasting: 605, attempts: 122, losses: 0))
    #expect(outage.isOpen)
    let end = outage.recovered(at: 3605)
    #expect(end?.time == 3605 && end?.attempts == 721 && !outage.isOpen)
    #expect(outage.failed(cause: "timed_out", at: 4000) == .cause)
  }

  @Test func `losses in a row are one outage`() {
    var outage = OutageLog()
    #expect(outage.failed(cause: "connection_lost", at: 0) == .cause)
    #expect(outage.recovered(at: 1) != nil && !outage.isRepeated)
    var told: [OutageLog.Report] = []
    for second in stride(from: 2, through: 700, by: 2) {
      told.append(outage.failed(cause: "connection_lost", at: Instant(second)))
      #expect(outage.recovered(at: Instant(second + 1)) == nil && outage.isRepeated)
    }
    #expect(told.filter { $0 != .nothing } == [.reminder(lasting: 600, attempts: 1, losses: 300)])
    #expect(outage.failed(cause: "connection_lost", at: 800) == .cause)
  }

  @Test func `a loss soon after another is told as soon as it lasts`() {
    var outage = OutageLog()
    #expect(outage.failed(cause: "connection_lost", at: 0) == .cause)
    #expect(outage.recovered(at: 2) != nil)
    var told: [(Int, OutageLog.Report)] = []
    for second in stride(from: 7, through: 707, by: 5) {
      let report = outage.failed(cause: "connection_lost", at: Instant(second))
      if report != .nothing { told.append((second, report)) }
    }
    #expect(told.map(\.0) == [67, 667])
    #expect(told.map(\.1) == [.cause, .reminder(lasting: 660, attempts: 133, losses: 0)])
    let end = outage.recovered(at: 710)
    #expect(end?.time == 703 && !outage.isRepeated)
  }

  /// As `ConnectionLoop` and `Progress` put the parts together: an attempt each five seconds, a look each minute.
  @Test func `an hour of an outage takes at most ten lines of the log`() {
    let lines = Mutex<[String]>([])
    let time = Mutex(Instant(0))
    let log = Logger(label: "test") { _ in
      FlowLogHandler(
        logLevel: .info, style: .json,
        write: { line in lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) } })
    }
    let board = StatusBoard(log: log, clock: { time.withLock { $0 } })
    board.changed(to: .connecting)
    board.changed(to: .consuming)
    var outage = OutageLog()
    var progress = Progress()
    func look() -> Bool {
      progress.isNews(OperationsSnapshot(state: board.state, counters: board.counters, journal: nil, now: 0))
    }
    _ = look()
    lines.withLock { $0.removeAll() }
    for second in stride(from: 5, through: 3600, by: 5) {
      time.withLock { $0 = Instant(second) }
      let cause = second < 10 ? "connection_lost" : "not_connected"
      if outage.failed(cause: cause, at: Instant(second)) != .nothing { log.warning("not consuming") }
      board.changed(to: .reconnecting(cause: cause, reason: "\(cause) at \(second)"))
      if second.isMultiple(of: 60), look() { log.info("progress") }
    }
    if outage.recovered(at: 3601) != nil { log.info("consuming again") }
    board.changed(to: .consuming)
    // Two of them are of the connection's loss itself.
    #expect(lines.withLock { $0.count } <= 2 + 10, "\(lines.withLock { $0 })")
  }

  @Test func `statuses of an outage are logged once each, until messages flow again`() {
    let lines = Mutex<[String]>([])
    let time = Mutex(Instant(0))
    let board = StatusBoard(
      log: Logger(label: "test") { _ in
        FlowLogHandler(
          logLevel: .info, style: .plain,
          write: { line in lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) } })
      }, clock: { time.withLock { $0 } })
    func lose(_ cause: String, _ reason: String) { board.changed(to: .reconnecting(cause: cause, reason: reason)) }
    for attempt in 1...100 {
      lose("timed_out", "no answer, \(attempt)")
      lose("not_connected", "refused, \(attempt)")
    }
    #expect(lines.withLock { $0.count } == 2)
    #expect(board.state == .reconnecting(cause: "not_connected", reason: "refused, 100"))
    board.changed(to: .consuming)
    lose("timed_out", "no answer")
    board.changed(to: .consuming)
    #expect(lines.withLock { $0.count } == 3, "at once it is one outage")
    lose("timed_out", "no answer")
    lose("timed_out", "no answer")
    #expect(lines.withLock { $0.count } == 3)
    // One that lasts is told, though its words are the same.
    time.withLock { $0 = 61 }
    lose("timed_out", "no answer")
    #expect(lines.withLock { $0.count } == 4 && lines.withLock { $0.last }?.contains("no answer") == true)
  }

  @Test func `a window that is full most of a minute is said to bound the throughput, once`() {
    func findings(unacknowledged: (Int) -> UInt64, acknowledged: Int = 100, prefetch: Int = 100) -> [WindowHint.Finding]
    {
      var hint = WindowHint()
      return (0...200).compactMap { second in
        hint.turned(
          unacknowledged: unacknowledged(second), prefetch: prefetch, acknowledged: acknowledged, at: Instant(second))
      }
    }
    let full = findings { _ in 100 }
    #expect(full.count == 1 && full[0].prefetch == 400 && (95...105).contains(full[0].messagesPerSecond))
    #expect(findings { $0.isMultiple(of: 3) ? 100 : 99 }.isEmpty)
    // A runtime that commits nothing is another matter.
    #expect(findings(unacknowledged: { _ in 100 }, acknowledged: 0).isEmpty)
    #expect(findings(unacknowledged: { _ in 100 }, prefetch: 0).isEmpty)
    // An hour's outage that begins with a full window is no time of a window.
    var hint = WindowHint()
    #expect(hint.turned(unacknowledged: 100, prefetch: 100, acknowledged: 100, at: 0) == nil)
    hint.channelBegan()
    #expect(hint.turned(unacknowledged: 1, prefetch: 100, acknowledged: 100, at: 3600) == nil)
  }

  @Test func `amounts are shown with their units`() {
    #expect([0, 12, 1234, -1234, 1_234_567].map(Quantity.grouped) == ["0", "12", "1,234", "-1,234", "1,234,567"])
    #expect([0, 1023, 1024, 1536, 5 << 30].map(Quantity.size) == ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"])
    #expect(
      [0.04, 59.9, 60, 3725, 90_000].map(Quantity.age) == ["0.0 s", "59.9 s", "1 min 0 s", "1 h 2 min", "1 d 1 h"])
  }

  @Test(arguments: [
    ("127.0.0.1:9090", "127.0.0.1:9090"), ("localhost:1", "127.0.0.1:1"), ("[::1]:0", "[::1]:0"), (":9090", ":9090"),
    ("9090", nil), ("::1:9090", nil), ("127.0.0.1:", nil), ("127.0.0.1:65536", nil), ("", nil),
  ])
  func `an address to listen on is ADDRESS colon PORT`(text: String, shown: String?) {
    #expect(ListenAddress(argument: text)?.description == shown)
  }

  @Test func `bytes and times have units on the command line`() {
    #expect(["1", "64k", "128M", "2G"].map { ByteCount(argument: $0)?.bytes } == [1, 65536, 128 << 20, 2 << 30])
    #expect(["", "0", "-1", "1X", "k", "99999999999G", "1.5M"].allSatisfy { ByteCount(argument: $0) == nil })
    #expect(["90", "90s", "15m", "1h", "1d"].map { Seconds(argument: $0)?.duration } == [90, 90, 900, 3600, 86400])
    #expect(["", "0", "-1s", "1w", "s", "99999999999"].allSatisfy { Seconds(argument: $0) == nil })
  }

  @Test func `no control character of a message reaches a terminal`() {
    #expect(
      PrintableText.escaped("a\u{1B}[31mb\r\n\u{9B}ü\u{202E}\u{7F}\u{2028}\\")
        == "a\\u{1b}[31mb\\r\\n\\u{9b}ü\\u{202e}\\u{7f}\\u{2028}\\")
    #expect(JournalReport.table([], of: 0) == "nothing is pending\n")
  }

  @Test func `of several streams each has a line, and what is parked is shown`() {
    let streams = [
      StreamStatus(key: 0, stream: "orders", queue: "shop.orders", pendingRows: 1200, pendingBytes: 2048),
      StreamStatus(key: 1, stream: "gone", queue: "old", parkedRows: 3, parkedBytes: 30),
    ]
    let table = JournalReport.table(Self.journal, streams, path: "/a/journal.db")
    #expect(table.contains("\norders  shop.orders  1,200 "), "\(table)")
    #expect(table.contains("\ngone    old          0 ") && table.contains("  3, 30 "), "\(table)")
    let json = JournalReport.json(Self.journal, streams).text
    #expect(json.contains(#""stream":"gone","queue":"old","pending_messages":0"#), "\(json)")
    // One that is captured alone has all that is said above it.
    #expect(!JournalReport.table(Self.journal, [streams[0]], path: "/a/journal.db").contains("shop.orders"))
  }

  @Test func `a journal's numbers as a table and as JSON`() {
    let table = JournalReport.table(Self.journal, [], path: "/a/journal.db")
    #expect(table.contains("pending         1,234 messages, 5.0 MiB of bodies\n"), "\(table)")
    #expect(table.contains("committed to    1,233,333\n"), "\(table)")
    let json = JournalReport.json(Self.journal, []).text
    #expect(
      json.contains(#""pending_messages":1234"#) && json.contains(#""oldest_received_at":"1970-01-01T00:00:12.5"#),
      "\(json)")
  }
}
