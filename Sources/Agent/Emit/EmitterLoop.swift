import Journal
import Logging

/// The emitter thread: reads journaled rows in order, makes documents of them, writes them to the sink, and reports.
///
/// Rows come from the journal's file, or, where the emitter keeps pace, from `JournalTail`: the same rows, committed, and
/// still in memory. Which of the two does not show in the documents.
///
/// It never waits for acknowledgements, and nothing else waits for it: while its sink does not read, rows stay in the
/// journal.
struct EmitterLoop {
  /// Documents between two checkpoints at the most: the runtime combines what lies between, in memory.
  static let checkpointDocuments = 1000
  /// Bytes of documents between two checkpoints; the last document may go beyond.
  static let checkpointBytes = 4 << 20
  /// Seconds between attempts while the disk that documents go to is full.
  private static let fullDelay = 1.0

  let reader: JournalReader
  let inbox: Monitor<JournalInbox>
  let progress: Monitor<JournalProgress>
  /// Where the memory of batches goes back to.
  let mailbox: ConnectionMailbox
  let status: StatusBoard
  let document: DocumentOptions
  /// Emit what lies behind this position.
  let start: Position
  /// Follows what recognises redeliveries; nil where nothing does.
  let trail: RedeliveryTrail?
  /// Remembers where to go on; nil where the queue is no stream.
  let stream: StreamResumption?
  /// Told of what the sink has committed by itself.
  var committed: @Sendable (Checkpoint) -> Void = { _ in }

  /// Runs until the journal's last row is written to the sink; throws what ends the capture.
  func run(into sink: consuming some DocumentSink) throws(CaptureFailure) {
    var sink = sink
    var renderer = DocumentRenderer(options: document)
    var consumers: [Int64: ConsumerRecord] = [:]
    var emitted = start
    var buffer: [UInt8] = []
    var trail = trail
    var steps = 0
    emitting: while true {
      let through: Position
      var memory: JournaledBatch?
      switch try next(after: emitted, steps: steps, &sink) {
      case .end: break emitting
      case .settlement(let settlement):
        steps = settlement.number
        // Where acknowledgements rest on the journal, it is told that nothing is left of it to acknowledge or to emit.
        if settlement.isCarried || sink.tellsLast {
          try write(
            &buffer, through: emitted, settlement.step, isLast: settlement.step == .settled, &trail, into: &sink)
        }
        continue
      case .rows(.journal(let last)): through = last
      case .rows(.memory(let batch)):
        through = batch.last
        memory = batch
      }
      while emitted < through {
        let from = emitted
        do {
          try read(
            memory, after: &emitted, through: through, &renderer, &consumers, sink.prefix, sink.suffix, into: &buffer)
        } catch let failure as CaptureFailure {
          throw failure
        } catch {
          throw CaptureFailure.journal(error)
        }
        guard emitted > from else { break }
        try write(&buffer, through: emitted, nil, &trail, into: &sink)
        status.count { $0.emitted += emitted - from }
      }
      if let batch = memory.take()?.batch { mailbox.reuse(batch) }
    }
    if sink.tellsLast, progress.read({ $0.isSettled }), !inbox.read({ $0.failed }) {
      try write(&buffer, through: emitted, nil, isLast: true, &trail, into: &sink)
    }
  }

  /// Writes the documents of the buffer with their checkpoint, reports, and empties the buffer.
  private func write(
    _ buffer: inout [UInt8], through position: Position, _ step: Settlement.Step?, isLast: Bool = false,
    _ trail: inout RedeliveryTrail?, into sink: inout some DocumentSink
  ) throws(CaptureFailure) {
    var checkpoint: Checkpoint
    do throws(JournalError) {
      checkpoint =
        try trail?.checkpoint(through: position, step: step, reader: reader)
        ?? Checkpoint(through: position, releasable: position)
      if let stream, stream.isCarriedByCheckpoints {
        checkpoint.stream = try stream.state(through: position, reader: reader) ?? (isLast ? stream.newestState : nil)
      }
      checkpoint.isLast = isLast
    } catch {
      throw CaptureFailure.journal(error)
    }
    let committed = try retrying(sink.wait) { () throws(CaptureFailure) in try sink.write(&buffer, checkpoint) }
    let settled = committed.map { Checkpoint(through: $0.through, releasable: checkpoint.releasable) }
    inbox.update { inbox in
      inbox.emitted = max(inbox.emitted, position)
      if let committed, let settled {
        inbox.committed(settled)
        inbox.output = committed.output
      }
    }
    if let settled { self.committed(settled) }
    buffer.removeAll(keepingCapacity: buffer.capacity <= 4 * Self.checkpointBytes)
  }

  /// What to do next.
  ///
  /// - Parameter steps: The number of the newest step of a settling that was written.
  private func next(
    after emitted: Position, steps: Int, _ sink: inout some DocumentSink
  ) throws(CaptureFailure) -> JournalProgress.Work {
    while true {
      let found = progress.wait(atMost: sink.secondsUntilRest ?? .infinity) { $0.next(after: emitted, steps: steps) }
      if let found { return found }
      if let output = try retrying(sink.wait, { () throws(CaptureFailure) in try sink.rest() }) {
        inbox.update { $0.output = output }
      }
    }
  }

  /// Runs `body` again while the disk that documents go to is full; rows wait in the journal meanwhile.
  private func retrying<Result>(
    _ wait: Stall, _ body: () throws(CaptureFailure) -> Result
  ) throws(CaptureFailure) -> Result {
    while true {
      do throws(CaptureFailure) {
        let result = try status.waiting(for: wait, body)
        status.resumed(.output)
        return result
      } catch {
        guard error.isShortage else { throw error }
        status.paused(.output, reason: error.description)
        // Nobody waits for a capture that is to end: what is not written is in the journal.
        if inbox.wait(atMost: Self.fullDelay, until: { $0.stopping ? true : nil }) != nil { throw error }
      }
    }
  }

  /// Documents of the next rows, up to a checkpoint's bounds: of `memory`, else of the journal, of which no snapshot is
  /// held after it returns.
  private func read(
    _ memory: JournaledBatch?, after emitted: inout Position, through: Position, _ renderer: inout DocumentRenderer,
    _ consumers: inout [Int64: ConsumerRecord], _ prefix: [UInt8], _ suffix: [UInt8], into buffer: inout [UInt8]
  ) throws {
    let start = emitted
    var current = memory?.consumer
    let limit = min(Self.checkpointDocuments, through - start)
    func take(_ row: borrowing Row) throws -> Bool {
      // Neighbours nearly always have the same one.
      if current?.id != row.consumer { current = try consumer(row.consumer, &consumers) }
      buffer.append(contentsOf: prefix)
      switch renderer.append(row, consumer: current!, to: &buffer) {
      case .appended, .truncated: break
      case .damaged: throw Self.damage(row, reader.path)
      case .tooLarge(let bytes):
        // Intake lets none in; this one was journaled under a larger document.max_bytes or another policy.
        throw CaptureFailure(
          cause: "oversize",
          description:
            "the journaled message at position \(row.position) makes a document of \(bytes) bytes, more than "
            + "document.max_bytes. Raise it, or set document.oversize to truncate", needsUser: true)
      }
      buffer.append(contentsOf: suffix)
      emitted = row.position
      return buffer.count < Self.checkpointBytes
    }
    if let memory {
      _ = try memory.read(after: start, limit: limit, take)
    } else if try reader.read(after: start, limit: limit, take) == 0 {
      // A salvaged journal may end with what could not be read.
      emitted = try reader.skippingGap(after: start)
    }
  }

  /// The error of a row of which no document can be made.
  static func damage(_ row: borrowing Row, _ path: String) -> JournalError {
    JournalError(
      kind: .corrupt("the properties of the message at position \(row.position) are no JSON object"),
      operation: "make a document", object: path)
  }

  private func consumer(_ id: Int64, _ known: inout [Int64: ConsumerRecord]) throws -> ConsumerRecord {
    if let record = known[id] { return record }
    let record = try reader.consumer(id)
    // A handful are in use at a time; more only after very many reconnections.
    if known.count > 64 { known.removeAll() }
    known[id] = record
    return record
  }
}
