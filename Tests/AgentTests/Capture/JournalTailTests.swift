import Journal
import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

/// Rows that the emitter takes from memory instead of the journal's file: the same ones, each once, in order.
struct JournalTailTests {
  private static let consumer = ConsumerRecord(
    id: 1, sessionID: "s-1", sessionBase: .origin, tag: "c-1", queue: "orders", virtualHost: "/")

  /// A batch of one delivery for each body, every other one redelivered, with tags from `tag` on.
  private static func batch(_ bodies: [[UInt8]], tag: Int = 1) throws -> DeliveryBatch {
    try deliveryBatch(
      bodies.enumerated().map { TestDelivery(body: $1, redelivered: $0 & 1 == 1) }, firstTag: UInt64(tag))
  }

  private static func journaled(_ count: Int, last: Int, size: Int = 1) throws -> JournaledBatch {
    let batch = try batch(Array(repeating: [UInt8](repeating: 0x61, count: size), count: count))
    var intake = Intake(document: DocumentOptions())
    var machine = SubscriptionMachine.recognising(nil)
    let plan = intake.prepare(batch, consumer: consumer, &machine)
    return JournaledBatch(plan, of: batch, consumer: consumer, last: Position(rawValue: Int64(last)))
  }

  /// From where rows come: `memory 4…6`, or `journal …6`.
  private static func next(_ tail: inout JournalTail, after: Int, through: Int) -> String {
    switch tail.next(after: Position(rawValue: Int64(after)), through: Position(rawValue: Int64(through))) {
    case .memory(let batch): "memory \(batch.first)…\(batch.last)"
    case .journal(let through): "journal …\(through)"
    }
  }

  @Test func `an emitter that keeps pace takes each batch from memory, once`() throws {
    var tail = JournalTail()
    #expect(tail.offer(try Self.journaled(3, last: 3)) == nil)
    #expect(Self.next(&tail, after: 0, through: 3) == "memory 1…3")
    #expect(tail.offer(try Self.journaled(2, last: 5)) == nil)
    #expect(Self.next(&tail, after: 3, through: 5) == "memory 4…5")
    #expect(Self.next(&tail, after: 3, through: 5) == "journal …5", "it is not there any more")
  }

  @Test func `rows in front of a batch in memory come from the journal, up to the batch`() throws {
    var tail = JournalTail()
    #expect(tail.offer(try Self.journaled(3, last: 10)) == nil)
    #expect(Self.next(&tail, after: 2, through: 20) == "journal …7")
    #expect(Self.next(&tail, after: 7, through: 20) == "memory 8…10")
    #expect(Self.next(&tail, after: 10, through: 20) == "journal …20")
  }

  @Test func `a batch that was emitted in part is read from there on, and one that was emitted is forgotten`() throws {
    var tail = JournalTail()
    #expect(tail.offer(try Self.journaled(3, last: 3)) == nil)
    #expect(tail.offer(try Self.journaled(3, last: 6)) == nil)
    guard case .memory(let batch) = tail.next(after: Position(rawValue: 4), through: Position(rawValue: 6)) else {
      Issue.record("the second batch is in memory")
      return
    }
    var seen: [Int64] = []
    let count = batch.read(after: Position(rawValue: 4), limit: 10) { row in
      seen.append(row.position.rawValue)
      return true
    }
    #expect(seen == [5, 6])
    #expect(count == 2)
    #expect(batch.read(after: .origin, limit: 2) { _ in true } == 2)
    #expect(batch.read(after: .origin, limit: 3) { _ in false } == 1)
  }

  @Test func `what is too much or too large is left to the journal`() throws {
    var tail = JournalTail()
    #expect(tail.offer(try Self.journaled(1, last: 1, size: JournalTail.mostBytes + 1))?.last == Position(rawValue: 1))
    for last in 1...JournalTail.mostBatches { #expect(tail.offer(try Self.journaled(1, last: last)) == nil) }
    let more = JournalTail.mostBatches + 1
    #expect(tail.offer(try Self.journaled(1, last: more))?.last == Position(rawValue: Int64(more)))
    #expect(Self.next(&tail, after: 0, through: more) == "memory 1…1")
  }

  /// Documents as they come, a permit for each write.
  private struct GatedSink: DocumentSink {
    struct State {
      var permits = 0
      var text: [UInt8] = []
      var writes = 0
    }
    let state: Monitor<State>
    let wait = Stall.output
    func prefix(of index: Int) -> [UInt8] { [] }
    var suffix: [UInt8] { [0x0A] }

    mutating func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
      let taken = documents.bytes
      _ = state.wait { state -> Bool? in
        guard state.permits > 0 else { return nil }
        state.permits -= 1
        return true
      }
      state.update { state in
        state.text += taken
        state.writes += 1
      }
      return Committed(through: checkpoint.through)
    }
  }

  /// The journal's thread and the emitter's, as a capture runs them. Between batches the sink may be held, so that rows
  /// come from memory, from the journal, and from both by turns; every document must be there once, in order, and equal
  /// to the one that the journal's row makes.
  @Test(arguments: 0..<6 as Range<UInt64>) func `documents do not tell where their rows came from`(seed: UInt64) throws
  {
    var random = Seeded(seed)
    try withJournal { journal in
      let capture = Monitor(CaptureMachine(Lifecycle()))
      let mailbox = ConnectionMailbox()
      let status = StatusBoard(log: quietLog)
      let sink = GatedSink(state: Monitor(GatedSink.State()))
      let ended = Monitor(0)
      let writer = JournalLoop(
        journal: journal, capture: capture, mailbox: mailbox, status: status, log: quietLog,
        maxBytes: .max,
        acknowledgementMode: nil, outputName: "o", document: DocumentOptions(), resumption: .none)
      let emitter = EmitterLoop(
        reader: try JournalReader(path: journal.path), capture: capture, mailboxes: [mailbox], indices: [:],
        status: status, document: DocumentOptions(), start: .origin,
        trail: CheckpointTrail([(.none, captured: .origin)]))
      OSThread.start("journal") {
        try? writer.run()
        ended.update { $0 += 1 }
      }
      OSThread.start("emitter") {
        try? emitter.run(into: sink)
        ended.update { $0 += 1 }
      }

      // The oracle: the same messages, rendered by hand.
      var expected: [UInt8] = []
      var renderer = DocumentRenderer(options: DocumentOptions())
      var intake = Intake(document: DocumentOptions())
      var last = 0
      for _ in 0..<20 {
        // One batch in eight is too large for the tail.
        let isLarge = Int.random(in: 0..<8, using: &random) == 0
        let bodies = (0..<Int.random(in: 1...40, using: &random)).map { index in
          let size = isLarge && index == 0 ? JournalTail.mostBytes + 1 : Int.random(in: 0...20, using: &random)
          return [UInt8](repeating: UInt8.random(in: 0x20...0x7E, using: &random), count: size)
        }
        let batch = try Self.batch(bodies, tag: last + 1)
        var machine = SubscriptionMachine.recognising(nil)
        let plan = intake.prepare(batch, consumer: Self.consumer, &machine)
        last += bodies.count
        let rows = JournaledBatch(plan, of: batch, consumer: Self.consumer, last: Position(rawValue: Int64(last)))
        _ = rows.read(after: .origin, limit: .max) { row in
          #expect(renderer.append(row, consumer: Self.consumer, to: &expected) == .appended)
          expected.append(0x0A)
          return true
        }
        capture.update {
          $0.inbox.handover = Handover(
            channel: Consuming(generation: 1, consumerTag: "c-1", queue: .unknown), batch: batch)
        }
        #expect(
          capture.wait(as: CaptureMachine.emitter, atMost: 60) { $0.progress.journaled.rawValue == last ? true : nil }
            == true)
        let permits = Int.random(in: 0...2, using: &random)
        sink.state.update { $0.permits += permits }
        // Half of the time the emitter catches up, so that the next batch is taken from memory.
        if Bool.random(using: &random) {
          sink.state.update { $0.permits = 1_000_000 }
          #expect(capture.wait(atMost: 60) { $0.inbox.emitted.rawValue == last ? true : nil } == true)
          sink.state.update { $0.permits = 0 }
        }
      }
      sink.state.update { $0.permits = 1_000_000 }
      capture.report { $0.intakeEnded(of: 0) }
      #expect(capture.wait(atMost: 60) { $0.inbox.emitted.rawValue == last ? true : nil } == true)
      capture.update { $0.inbox.closing = true }
      #expect(ended.wait(atMost: 60) { $0 == 2 ? true : nil } == true)
      let text = sink.state.read { $0.text }
      #expect(text == expected)
      #expect(text.count { $0 == 0x0A } == last)
    }
  }
}
