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
  /// Where the memory of batches goes back to, of each subscription.
  let mailboxes: [ConnectionMailbox]
  /// Which of the capture's subscriptions a key of the journal is of. What is of none of them, since a salvage could not tell whose it is,
  /// goes where the first one's documents go, and counts for none.
  let indices: [Int64: Int]
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
    var consumers = Consumers(indices)
    var machine = EmissionMachine(start: start, tellsLast: sink.tellsLast)
    var documents = Documents()
    var trail = trail
    while true {
      let through: Position
      var memory: JournaledBatch?
      switch try next(&machine, &sink) {
      case .end: return
      case .checkpoint(let settlement, let isLast):
        try write(&documents, through: machine.emitted, [:], settlement, isLast: isLast, &trail, into: &sink)
        continue
      case .rows(.journal(let last)): through = last
      case .rows(.memory(let batch)):
        through = batch.last
        memory = batch
      }
      while var chunk = machine.chunk(through: through) {
        do {
          try read(memory, &chunk, &renderer, &consumers, &trail, sink, into: &documents)
        } catch let failure as CaptureFailure {
          throw failure
        } catch {
          throw CaptureFailure.journal(error)
        }
        try write(&documents, through: chunk.emitted, chunk.numbers, nil, &trail, into: &sink)
        machine.wrote(through: chunk.emitted)
        status.count { $0.emitted += chunk.emitted - chunk.start }
      }
      if let batch = memory.take() { mailboxes[batch.index].reuse(batch.batch) }
    }
  }

  /// Writes the documents with their checkpoint, reports, and forgets them.
  private func write(
    _ documents: inout Documents, through position: Position, _ numbers: [Int: Position], _ settlement: Settlement?,
    isLast: Bool = false, _ trail: inout CheckpointTrail, into sink: inout some DocumentSink
  ) throws(CaptureFailure) {
    let checkpoint: Checkpoint
    do throws(JournalError) {
      checkpoint = try trail.checkpoint(
        through: position, numbers, settlement: settlement, isLast: isLast, reader: reader)
    } catch {
      throw CaptureFailure.journal(error)
    }
    let committed = try retrying(sink.wait) { () throws(CaptureFailure) in try sink.write(&documents, checkpoint) }
    let covered = committed.map { Checkpoint(through: $0.through, parts: checkpoint.numbers.parts) }
    capture.report { $0.emitted(through: position, covered, committed?.outputs ?? [:]) }
    documents.removeAll(keeping: 4 * EmissionMachine.checkpointBytes)
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
      let outputs = try retrying(sink.wait) { () throws(CaptureFailure) in try sink.rest() }
      if !outputs.isEmpty { capture.report { $0.rotated(outputs) } }
    }
  }

  /// Runs `body` again while the disk that documents go to is full; rows wait in the journal meanwhile.
  private func retrying<Result>(
    _ wait: Stall, _ body: () throws(CaptureFailure) -> Result
  ) throws(CaptureFailure) -> Result {
    var shortage = ShortageMachine()
    while true {
      do throws(CaptureFailure) {
        let result = try status.waiting(for: wait, body)
        status.resumed(.output)
        return result
      } catch {
        switch shortage.failed(error.writeFailure) {
        case .end: throw error
        case .pause:
          status.paused(.output, reason: error.description)
          guard capture.waitForRoom(as: CaptureMachine.emitter) else { throw error }
        }
      }
    }
  }

  /// Documents of the next rows, up to a checkpoint's bounds: of `memory`, else of the journal, of which no snapshot is
  /// held after it returns.
  private func read(
    _ memory: JournaledBatch?, _ chunk: inout EmissionMachine.Chunk, _ renderer: inout DocumentRenderer,
    _ consumers: inout Consumers, _ trail: inout CheckpointTrail, _ sink: some DocumentSink,
    into documents: inout Documents
  ) throws {
    var current = memory.map {
      Consumers.Known(record: $0.consumer, index: $0.index, prefix: sink.prefix(of: $0.index))
    }
    let suffix = sink.suffix
    if let current { documents.belong(to: current.index ?? 0) }
    func take(_ row: borrowing Row) throws -> Bool {
      // Neighbours nearly always have the same one.
      if current?.record.id != row.consumer {
        current = try consumers.known(row.consumer, reader, sink)
        documents.belong(to: current!.index ?? 0)
      }
      documents.bytes.append(contentsOf: current!.prefix)
      switch renderer.append(row, consumer: current!.record, to: &documents.bytes) {
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
      documents.bytes.append(contentsOf: suffix)
      if let began = chunk.took(row.position, row.number, of: current!.index) { trail.began(began, at: row.number) }
      return !EmissionMachine.isFull(bytes: documents.bytes.count)
    }
    if let memory {
      _ = try memory.read(after: chunk.start, limit: chunk.limit, take)
    } else {
      _ = try reader.read(after: chunk.start, limit: chunk.limit, take)
    }
    switch chunk.ended() {
    case .covers: return
    case .looksForGap: break
    }
    guard chunk.skips(through: try reader.skippingGap(after: chunk.start)) else {
      throw Self.missing(chunk.start + 1, chunk.through, reader.path)
    }
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
}

/// The consumers that rows name, and what their documents have in common.
private struct Consumers {
  struct Known {
    var record: ConsumerRecord
    /// Which of the capture's subscriptions it is of; nil if it is of none.
    var index: Int?
    /// What stands before each document.
    var prefix: [UInt8]
  }

  /// A few for each subscription are in use at a time; more only after very many reconnections.
  private static let most = 1024

  private let indices: [Int64: Int]
  private var all: [Int64: Known] = [:]

  /// - Parameter indices: By the subscriptions' keys.
  init(_ indices: [Int64: Int]) { self.indices = indices }

  mutating func known(
    _ id: Int64, _ reader: JournalReader, _ sink: some DocumentSink
  ) throws(JournalError) -> Known {
    if let known = all[id] { return known }
    let record = try reader.consumer(id)
    let index = indices[record.subscription]
    let known = Known(record: record, index: index, prefix: sink.prefix(of: index ?? 0))
    if all.count > Self.most { all.removeAll() }
    all[id] = known
    return known
  }
}
