import Journal
import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

/// The journal's thread and the emitter's, of several subscriptions.
struct SeveralSubscriptionsTests {
  private static let classic = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)
  private static let names = ["a", "b", "c"]

  /// Documents and checkpoints, as the emitter gives them away; all of it is committed at once.
  private struct Sink: DocumentSink {
    struct State {
      var text: [UInt8] = []
      var checkpoints: [Checkpoint] = []
    }
    let state = Monitor(State())
    let wait = Stall.output
    var suffix: [UInt8] { [0x0A] }
    func prefix(of index: Int) -> [UInt8] { Array("\(index) ".utf8) }

    mutating func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
      let taken = documents.bytes
      state.update { state in
        state.text += taken
        state.checkpoints.append(checkpoint)
      }
      return Committed(through: checkpoint.through)
    }
  }

  /// A capture of `names` without a broker.
  private struct Fixture {
    let journal: Journal
    let capture: Monitor<CaptureMachine>
    let mailboxes: [ConnectionMailbox]
    let sink = Sink()
    let ended = Monitor(0)
    let channels: [Consuming]

    init(_ journal: Journal, _ mode: AcknowledgementMode = .journaled, recognises: Set<Int> = []) throws {
      self.journal = journal
      let wakeup = Wakeup()
      mailboxes = names.map { _ in ConnectionMailbox(wakeup) }
      capture = Monitor(
        CaptureMachine(
          Lifecycle(), subscriptions: names.count, journaled: journal.positions.last,
          start: journal.positions.committedThrough))
      channels = names.map { Consuming(generation: 1, consumerTag: $0, queue: SeveralSubscriptionsTests.classic) }
      let records = try journal.subscriptions(names.map { .init($0, queue: $0, virtualHost: "/") })
      let configuration = try ConfigSupport.parse(#"{"queue":{"name":"q"},"consumer":{"prefetch_count":20}}"#)
      let policy = DeduplicationPolicy(trust: .exclusive, reason: "of a test")
      var resumptions: [Resumption] = []
      for (index, record) in records.enumerated() {
        guard recognises.contains(index) else {
          resumptions.append(.none)
          continue
        }
        let keeper = try RedeliveryKeeper(
          policy, configuration, journal: journal, record, isTemporary: false, isCarried: false, state: nil)
        resumptions.append(.position(try #require(keeper)))
      }
      let sessions = try records.map {
        try journal.beginSession(of: $0, id: "s\($0.key)-\(journal.positions.last)", startedAt: 0)
      }
      let (status, sink) = (
        StatusBoard(log: quietLog, subscriptions: names.map { .init(stream: $0, queue: $0) }), sink
      )
      let loop = JournalLoop(
        journal: journal, capture: capture,
        subscriptions: names.indices.map {
          JournalLoop.Subscription(
            session: sessions[$0], mailbox: mailboxes[$0], acknowledgementMode: mode, resumption: resumptions[$0],
            prefetch: 20, log: quietLog)
        }, status: status, log: quietLog, maxBytes: .max, document: DocumentOptions())
      let emitter = EmitterLoop(
        reader: try JournalReader(path: journal.path), capture: capture, mailboxes: mailboxes,
        indices: Dictionary(uniqueKeysWithValues: records.enumerated().map { ($1.key, $0) }), status: status,
        document: DocumentOptions(), start: journal.positions.committedThrough,
        trail: CheckpointTrail(zip(resumptions, sessions).map { ($0, captured: $1.base) }))
      OSThread.start("journal") { [ended] in
        try? loop.run()
        ended.update { $0 += 1 }
      }
      OSThread.start("emitter") { [ended] in
        try? emitter.run(into: sink)
        ended.update { $0 += 1 }
      }
    }

    /// Hands batches to the journal's thread, of each subscription one, at one moment.
    ///
    /// - Parameter redelivered: How many of each the broker has sent before.
    func handOver(_ bodies: [Int: [String]], firstTag: UInt64, redelivered: [Int: Int] = [:]) throws {
      var batches: [(Int, DeliveryBatch)] = []
      for (index, texts) in bodies {
        var (batch, assembler) = (DeliveryBatch(), DeliveryAssembler(consumer: ""))
        // Those of before, whose tags the channel has had.
        var former = DeliveryBatch()
        for tag in 1..<max(firstTag, 1) {
          try assembler.deliver(([0] + Wire.big(tag) + [0, 0, 0]).span, into: &former)
          try assembler.header(([0, 60, 0, 0] + Wire.big(UInt64(0)) + [0, 0]).span, at: 0, into: &former)
        }
        for (number, text) in texts.enumerated() {
          let tag = Wire.big(firstTag + UInt64(number))
          let flag: UInt8 = number < redelivered[index] ?? 0 ? 1 : 0
          try assembler.deliver(([0] + tag + [flag, 0, 0]).span, into: &batch)
          try assembler.header(
            ([0, 60, 0, 0] + Wire.big(UInt64(text.utf8.count)) + [0, 0]).span, at: 0, into: &batch)
          try assembler.body(Array(text.utf8).span, at: 0, into: &batch)
        }
        batches.append((index, batch))
      }
      capture.update { capture in
        for (index, batch) in batches {
          capture.inbox.subscriptions[index].consuming = channels[index]
          _ = capture.handedOver(Handover(channel: channels[index], batch: batch), of: index)
        }
      }
    }

    func waitForCommit(through last: Int64) {
      #expect(
        capture.wait(as: CaptureMachine.journal, atMost: 60) { $0.inbox.committed.rawValue >= last ? true : nil }
          == true)
    }

    func end() {
      for index in names.indices { capture.report { $0.intakeEnded(of: index) } }
      #expect(capture.wait(as: CaptureMachine.end, atMost: 60) { $0.progress.ended ? true : nil } == true)
      capture.update { $0.inbox.closing = true }
      #expect(ended.wait(atMost: 60) { $0 == 2 ? true : nil } == true)
    }

    /// The index before each document, its session and its sequence, in order.
    var documents: [String] {
      String(decoding: sink.state.read { $0.text }, as: UTF8.self).split(separator: "\n").map { line in
        let json = try? JSONValue.parse(Array(line.dropFirst(2).utf8))
        return "\(line.prefix(1)) \(json?["session_id"]?.stringValue ?? "?") \(json?["sequence"]?.int64Value ?? -1)"
      }
    }
  }

  @Test(arguments: [AcknowledgementMode.journaled, .committed])
  func `each counts, is acknowledged and checkpointed by its own numbers, in one transaction`(
    mode: AcknowledgementMode
  ) throws {
    try withJournal { journal in
      let fixture = try Fixture(journal, mode)
      try fixture.handOver([0: ["x", "x"], 1: ["x"], 2: ["x", "x", "x"]], firstTag: 1)
      fixture.waitForCommit(through: 6)
      let before = journal.positions.last
      try fixture.handOver([1: ["y", "y"]], firstTag: 2)
      fixture.waitForCommit(through: before.rawValue + 2)
      fixture.end()
      var seen: [String: Int] = [:]
      for document in fixture.documents {
        let parts = document.split(separator: " ")
        seen["\(parts[0]) \(parts[1])", default: 0] += 1
        #expect(Int(parts[2]) == seen["\(parts[0]) \(parts[1])"], "\(document)")
      }
      #expect(seen.values.sorted() == [2, 3, 3] && seen.count == 3)
      let acknowledged = fixture.mailboxes.map { $0.take().acknowledgement?.tag }
      #expect(acknowledged == [2, 3, 3])
      let parts = fixture.sink.state.read { $0.checkpoints.flatMap(\.parts) }
      for (index, newest) in [2, 3, 3].enumerated() {
        #expect(parts.last { $0.index == index }?.releasable == Position(rawValue: Int64(newest)), "\(index)")
      }
      #expect(fixture.sink.state.read { $0.checkpoints.last?.parts.map(\.index) } == [1], "only what it touches")
    }
  }

  /// Two of three are recognised by their place; the third is not, and comes in between.
  @Test func `redeliveries of each are recognised after a restart, whatever the others captured`() throws {
    try withJournal { journal in
      func texts(_ range: ClosedRange<Int>) -> [String] { range.map { "m\($0)" } }
      var fixture = try Fixture(journal, recognises: [0, 2])
      try fixture.handOver([0: texts(1...9), 1: ["x"], 2: texts(1...4)], firstTag: 1)
      fixture.waitForCommit(through: 14)
      fixture.capture.update { $0.inbox.failed = true }
      fixture.end()
      let anchors = fixture.mailboxes.map { $0.take().acknowledgement?.tag }
      #expect(anchors[0] == 4 && anchors[1] == 1 && anchors[2] == nil, "\(anchors)")

      let again = try Journal.open(JournalSettings(path: journal.path))
      fixture = try Fixture(again, recognises: [0, 2])
      try fixture.handOver(
        [0: texts(5...9) + ["new"], 1: ["y"], 2: texts(1...4) + ["new", "newer"]], firstTag: 1,
        redelivered: [0: 5, 2: 4])
      fixture.waitForCommit(through: 18)
      fixture.end()
      #expect(
        Set(fixture.documents) == ["0 s1-14 1", "1 s2-14 1", "2 s3-14 1", "2 s3-14 2"], "\(fixture.documents)")
      let reopened = try Journal.open(JournalSettings(path: journal.path))
      #expect(reopened.positions.last == .origin + 18)
      let records = try reopened.subscriptions(Self.names.map { .init($0, queue: $0, virtualHost: "/") })
      #expect(try records.map { try reopened.captured(of: $0).rawValue } == [10, 2, 6])
      try reopened.close()
    }
  }
}
