import Journal
import Logging
import Platform

/// The emitter thread: reads journaled rows in order, makes documents of them, writes them to the sink, and reports.
///
/// Rows come from the journal's file, or, if the emitter keeps pace, from `JournalTail`: the same rows, committed, and
/// still in memory. Which of the two does not show in the documents.
///
/// It never waits for acknowledgements, and nothing else waits for it: while its sink does not read, rows stay in the
/// journal.
struct EmitterLoop {
  let reader: JournalReader
  let capture: Monitor<CaptureMachine>
  /// Where the memory of batches goes back to.
  let mailbox: ConnectionMailbox
  let status: StatusBoard
  let document: DocumentOptions
  /// Emit what lies after this position.
  let start: Position
  /// Makes the checkpoints.
  let trail: CheckpointTrail

  /// Runs until the journal's last row is written to the sink; throws what ends the capture.
  func run(into sink: consuming some DocumentSink) throws(CaptureFailure) {
    var sink = sink
    var renderer = DocumentRenderer(options: document)
    var consumers: [Int64: ConsumerRecord] = [:]
    var machine = EmissionMachine(start: start, tellsLast: sink.tellsLast)
    var buffer: [UInt8] = []
    var trail = trail
    while true {
      let through: Position
      var memory: JournaledBatch?
      switch try next(&machine, &sink) {
      case .end: return
      case .checkpoint(let step, let isLast):
        try write(&buffer, through: machine.emitted, step, isLast: isLast, &trail, into: &sink)
        continue
      case .rows(.journal(let last)): through = last
      case .rows(.memory(let batch)):
        through = batch.last
        memory = batch
      }
      while machine.emitted < through {
        let from = machine.emitted
        var emitted = from
        do {
          try read(
            memory, after: &emitted, through: through, &renderer, &consumers, sink.prefix, sink.suffix, into: &buffer)
        } catch let failure as CaptureFailure {
          throw failure
        } catch {
          throw CaptureFailure.journal(error)
        }
        try write(&buffer, through: emitted, nil, &trail, into: &sink)
        machine.wrote(through: emitted)
        status.count { $0.emitted += emitted - from }
      }
      if let batch = memory.take()?.batch { mailbox.reuse(batch) }
    }
  }

  /// Writes the documents of the buffer with their checkpoint, reports, and empties the buffer.
  private func write(
    _ buffer: inout [UInt8], through position: Position, _ step: Settlement.Step?, isLast: Bool = false,
    _ trail: inout CheckpointTrail, into sink: inout some DocumentSink
  ) throws(CaptureFailure) {
    let checkpoint: Checkpoint
    do throws(JournalError) {
      checkpoint = try trail.checkpoint(through: position, step: step, isLast: isLast, reader: reader)
    } catch {
      throw CaptureFailure.journal(error)
    }
    let committed = try retrying(sink.wait) { () throws(CaptureFailure) in try sink.write(&buffer, checkpoint) }
    let covered = committed.map { Checkpoint(through: $0.through, releasable: checkpoint.releasable) }
    capture.report { $0.emitted(through: position, covered, committed?.output) }
    buffer.removeAll(keepingCapacity: buffer.capacity <= 4 * EmissionMachine.checkpointBytes)
  }

  /// What to do next; what the sink does while there is nothing is done meanwhile.
  private func next(
    _ machine: inout EmissionMachine, _ sink: inout some DocumentSink
  ) throws(CaptureFailure) -> EmissionMachine.Work {
    while true {
      let found = capture.wait(as: CaptureMachine.emitter, atMost: sink.timeUntilRest) {
        machine.next(&$0)
      }
      if let found { return found }
      if let output = try retrying(sink.wait, { () throws(CaptureFailure) in try sink.rest() }) {
        capture.report { $0.rotated(output) }
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
        guard error.kind == .shortage else { throw error }
        status.paused(.output, reason: error.description)
        guard capture.waitForRoom(as: CaptureMachine.emitter) else { throw error }
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
    let limit = EmissionMachine.documents(from: start, through: through)
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
      return !EmissionMachine.isFull(bytes: buffer.count)
    }
    if let memory {
      _ = try memory.read(after: start, limit: limit, take)
    } else if try reader.read(after: start, limit: limit, take) == 0 {
      // A salvaged journal may end with what could not be read.
      emitted = try reader.skippingGap(after: start)
    }
    guard emitted > start else { throw Self.missing(start + 1, through, reader.path) }
  }

  /// The error of rows that are not there, though no gap says so.
  private static func missing(_ first: Position, _ last: Position, _ path: String) -> JournalError {
    JournalError(
      kind: .corrupt("no message stands between positions \(first) and \(last), which were committed"),
      operation: "read messages", object: path)
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
