import Foundation
import Journal
import Logging
import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

struct JournalLoopTests {
  private static let classic = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)

  /// While there is no channel the settling's acknowledgement goes nowhere. Everything would come again, and nothing
  /// would be recognised.
  @Test func `a capture that ends while the broker is away keeps the anchor`() throws {
    try withJournal { journal in
      let configuration = try ConfigSupport.parse(#"{"queue": {"name": "orders"}, "consumer": {"exclusive": true}}"#)
      let policy = DeduplicationPolicy(trust: .exclusive, reason: "of a test")

      let consumer = try journal.beginConsumer(tag: "c-1")
      // Ten messages as an earlier process left them: an anchor of eight.
      try journal.write { (tx) in
        for tag in 1...10 {
          try tx.append(
            consumer: consumer.id, deliveryTag: UInt64(tag), redelivered: false, receivedAt: 0, exchange: Span(),
            routingKey: Span(), properties: Span(), rawProperties: Span(), body: Span())
        }
        try tx.appendDigests(
          (1...10).flatMap { [UInt8](repeating: 0, count: 15) + [$0] }, priority: nil, since: Position(rawValue: 1),
          window: RedeliveryKeeper.positionWindow)
        try tx.setRedelivery(
          RedeliveryRecord(
            queue: "\(configuration.host):\(configuration.port)/\(configuration.virtualHost)/orders",
            releasable: Position(rawValue: 2), prefetch: 100, priority: nil, prioritySince: Position(rawValue: 1)))
      }
      let keeper = try #require(
        try RedeliveryKeeper(
          policy, configuration, journal: journal, try journal.only, isTemporary: false, isCarried: false, state: nil))
      #expect(keeper.machine.unacknowledged == 8)

      var inbox = JournalInbox()
      inbox.intakeEnded = true
      inbox.closing = true
      let loop = JournalLoop(
        journal: journal, capture: Self.shared(inbox), mailbox: ConnectionMailbox(),
        status: StatusBoard(log: quietLog), log: quietLog, maxBytes: .max, acknowledgementMode: .journaled,
        outputName: "o",
        document: DocumentOptions(configuration.document), resumption: .position(keeper))
      try loop.run()

      let reopened = try Journal.open(JournalSettings(path: journal.path))
      #expect(try reopened.redelivery()?.releasable == Position(rawValue: 2))
      try reopened.close()
    }
  }

  /// Between what the journal says of the settling and its acknowledgement there is a moment in which a kill repeats the
  /// anchor. One who breaks the pipes of a capture is likely to kill it next.
  @Test(arguments: [false, true])
  func `a capture that fails keeps the anchor, one that is stopped does not`(failed: Bool) throws {
    try withJournal { journal in
      let configuration = try ConfigSupport.parse(#"{"queue": {"name": "orders"}, "consumer": {"exclusive": true}}"#)
      let policy = DeduplicationPolicy(trust: .exclusive, reason: "of a test")
      let keeper = try #require(
        try RedeliveryKeeper(
          policy, configuration, journal: journal, try journal.only, isTemporary: false, isCarried: false, state: nil))
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler(consumer: "")
      for tag in 1...10 as ClosedRange<UInt8> {
        try assembler.deliver(([0] + [0, 0, 0, 0, 0, 0, 0, tag] + [0, 0, 0] as [UInt8]).span, into: &batch)
        try assembler.header(
          ([0, 60, 0, 0] + Array(repeating: 0, count: 8) + [0, 0] as [UInt8]).span, at: 0, into: &batch)
      }
      var inbox = JournalInbox()
      inbox.handover = Handover(
        channel: Consuming(generation: 1, consumerTag: "c-1", queue: Self.classic), batch: batch)
      inbox.consuming = Consuming(generation: 1, consumerTag: "c-1", queue: Self.classic)
      inbox.failed = failed
      inbox.intakeEnded = true
      inbox.closing = true
      let mailbox = ConnectionMailbox()
      let loop = JournalLoop(
        journal: journal, capture: Self.shared(inbox), mailbox: mailbox,
        status: StatusBoard(log: quietLog), log: quietLog, maxBytes: .max, acknowledgementMode: .journaled,
        outputName: "o", document: DocumentOptions(), resumption: .position(keeper))
      try loop.run()

      #expect(mailbox.take().acknowledgement == Acknowledgement(generation: 1, tag: failed ? 2 : 10))
      let reopened = try Journal.open(JournalSettings(path: journal.path))
      #expect(try reopened.redelivery()?.releasable == Position(rawValue: failed ? 2 : 10))
      try reopened.close()
    }
  }

  /// A shell that someone left open keeps the WAL from being emptied, and nothing is pending.
  @Test func `a program that holds a snapshot is named as the cause of a pause, which ends with it`() throws {
    try withJournal { journal in
      let consumer = try journal.beginConsumer(tag: "c-1")
      let shell = Foundation.Process()
      shell.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      shell.arguments = ["sqlite3", journal.path]
      let (input, output) = (Pipe(), Pipe())
      (shell.standardInput, shell.standardOutput) = (input, output)
      try shell.run()
      defer { shell.terminate() }
      try input.fileHandleForWriting.write(contentsOf: Data("BEGIN; SELECT count(*) FROM message;\n".utf8))
      #expect(output.fileHandleForReading.availableData == Data("0\n".utf8))
      let rows = 70
      let body = [UInt8](repeating: 0, count: 1 << 20)
      for tag in 1...rows {
        _ = try journal.write { (tx) in
          try tx.append(
            consumer: consumer.id, deliveryTag: UInt64(tag), redelivered: false, receivedAt: 0, exchange: Span(),
            routingKey: Span(), properties: Span(), rawProperties: Span(), body: body.span)
        }
        try journal.maintain()
      }
      try journal.write { (tx) in
        try tx.setEmitted(through: .origin + rows)
        try tx.setCommitted(through: .origin + rows)
        _ = try tx.prune(limit: rows)
      }
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler(consumer: "")
      try assembler.deliver(([0] + [0, 0, 0, 0, 0, 0, 0, 1] + [0, 0, 0] as [UInt8]).span, into: &batch)
      try assembler.header(
        ([0, 60, 0, 0] + Array(repeating: 0, count: 8) + [0, 0] as [UInt8]).span, at: 0, into: &batch)
      var content = JournalInbox()
      content.handover = Handover(
        channel: Consuming(generation: 1, consumerTag: "c-2", queue: Self.classic), batch: batch)
      content.emitted = .origin + rows
      content.committed = .origin + rows
      let capture = Self.shared(content)
      let states = Monitor<[String]>([])
      let status = StatusBoard(
        log: Logger(label: "test") { _ in
          FlowLogHandler(logLevel: .info, style: .plain) { line in
            states.update { $0.append(String(decoding: line, as: UTF8.self)) }
          }
        })
      status.changed(to: .consuming)
      let loop = JournalLoop(
        journal: journal, capture: capture, mailbox: ConnectionMailbox(), status: status, log: quietLog,
        maxBytes: 6 << 20, acknowledgementMode: .journaled, outputName: "o", document: DocumentOptions(),
        resumption: .none)
      let ended = Monitor(false)
      OSThread.start("journal") {
        try? loop.run()
        ended.update { $0 = true }
      }
      let pause = try #require(states.wait(atMost: 60) { $0.first { $0.contains("paused") } })
      #expect(pause.contains("snapshot of the journal: sqlite3 (pid \(shell.processIdentifier))"))
      #expect(capture.read { $0.progress.journaled } == .origin, "nothing was taken")
      try input.fileHandleForWriting.close()
      shell.waitUntilExit()
      Self.end(capture, ended, after: .origin + (rows + 1))
      #expect(status.state == .consuming)
    }
  }

  /// Pruning takes a bounded number of rows at a time; what it leaves must be taken too, or the cap is never left.
  @Test func `intake goes on once everything that was committed is pruned`() throws {
    try withJournal { journal in
      let consumer = try journal.beginConsumer(tag: "c-1")
      let rows = 10_000
      let body = [UInt8](repeating: 0, count: 2000)
      try journal.write { (tx) in
        for tag in 1...rows {
          try tx.append(
            consumer: consumer.id, deliveryTag: UInt64(tag), redelivered: false, receivedAt: 0, exchange: Span(),
            routingKey: Span(), properties: Span(), rawProperties: Span(), body: body.span)
        }
      }
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler(consumer: "")
      try assembler.deliver(([0] + [0, 0, 0, 0, 0, 0, 0, 1] + [0, 0, 0] as [UInt8]).span, into: &batch)
      try assembler.header(
        ([0, 60, 0, 0] + Array(repeating: 0, count: 8) + [0, 0] as [UInt8]).span, at: 0, into: &batch)

      var content = JournalInbox()
      content.handover = Handover(
        channel: Consuming(generation: 1, consumerTag: "c-2", queue: Self.classic), batch: batch)
      content.emitted = .origin + rows
      content.committed = .origin + rows
      let capture = Self.shared(content)
      let loop = JournalLoop(
        journal: journal, capture: capture, mailbox: ConnectionMailbox(),
        status: StatusBoard(log: quietLog),
        log: quietLog, maxBytes: 4 << 20, acknowledgementMode: .journaled, outputName: "o", document: DocumentOptions(),
        resumption: .none)
      let ended = Monitor(false)
      OSThread.start("journal") {
        try? loop.run()
        ended.update { $0 = true }
      }
      Self.end(capture, ended, after: .origin + (rows + 1))
    }
  }

  /// What the threads share, with something for the journal's thread to do.
  private static func shared(_ inbox: JournalInbox) -> Monitor<CaptureMachine> {
    var capture = CaptureMachine(Lifecycle())
    capture.inbox = inbox
    return Monitor(capture)
  }

  /// Waits until everything up to `last` is journaled, and for the end after that.
  private static func end(_ capture: Monitor<CaptureMachine>, _ ended: Monitor<Bool>, after last: Position) {
    #expect(
      capture.wait(as: CaptureMachine.emitter, atMost: 60) { $0.progress.journaled == last ? true : nil } == true)
    capture.update {
      $0.inbox.stopping = true
      $0.inbox.intakeEnded = true
      $0.inbox.closing = true
    }
    #expect(ended.wait(atMost: 60) { $0 ? true : nil } == true)
  }
}
