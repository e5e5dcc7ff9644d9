import Journal

/// Documents as lines of files, a series for each subscription (``FileSink``).
///
/// One checkpoint may have documents of several: they are in all their files, and synced, before it is committed, and one transaction of
/// the journal records all the files' lengths with it. If a disk is full in between, what was written stays, and the rest is written once
/// there is room.
///
/// Unchecked Sendable: made by the thread that starts the capture, and used by the emitter's from then on.
final class FileSinks: DocumentSink, @unchecked Sendable {
  func prefix(of index: Int) -> [UInt8] { [] }
  let suffix: [UInt8] = [0x0A]
  let wait = Stall.output
  /// By the subscriptions' indices.
  private let sinks: [FileSink]
  /// What of a batch that could not be written whole has been.
  private var written: Set<Int> = []
  /// The files as they were reported.
  private var reported: [OutputRecord]

  init(_ sinks: [FileSink]) {
    self.sinks = sinks
    reported = sinks.map(\.record)
  }

  func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    if !documents.isEmpty {
      if sinks.count == 1 {
        try sinks[0].write(documents.bytes)
      } else {
        for (index, bytes) in documents.parts where !written.contains(index) {
          try sinks[index].write(bytes)
          written.insert(index)
        }
        written.removeAll()
      }
    }
    return Committed(through: checkpoint.through, outputs: changes())
  }

  var timeUntilRest: Duration? { sinks.map(\.timeUntilRest).min() }

  func rest() throws(CaptureFailure) -> [Int: OutputRecord] {
    for sink in sinks { try sink.rest() }
    return changes()
  }

  /// The files that are not as they were reported, from now on reported.
  private func changes() -> [Int: OutputRecord] {
    var changes: [Int: OutputRecord] = [:]
    for (index, sink) in sinks.enumerated() where sink.record != reported[index] {
      changes[index] = sink.record
      reported[index] = sink.record
    }
    return changes
  }
}
