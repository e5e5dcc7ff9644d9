import Platform

/// Documents as `captured` lines and a `checkpoint` line after them, on the runtime's pipe.
struct FlowSink: DocumentSink {
  let wait = Stall.reader
  let suffix = FlowResponse.capturedSuffix
  /// Of each subscription's binding.
  let bindings: [FlowBinding]
  let journal: String
  /// The journal outlives the process.
  let isKept: Bool
  /// It has messages that no capture emits at present.
  let hasParked: Bool
  /// Shared with the reader of acknowledgements.
  let ledger: Monitor<CheckpointLedger>
  let status: StatusBoard
  let output: OutputDescriptor

  var tellsLast: Bool { isKept }

  func prefix(of index: Int) -> [UInt8] { bindings[index].prefix }

  mutating func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    documents.bytes.append(
      contentsOf:
        FlowResponse.checkpoint(checkpoint, bindings, journal: journal, isKept: isKept, hasParked: hasParked))
    // First the entry, then the line: the acknowledgement may be faster than the return of this call.
    ledger.update {
      $0.written(checkpoint)
      status.began(.runtime)
    }
    try output.write(documents.bytes)
    return nil
  }
}
