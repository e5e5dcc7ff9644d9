import Platform

/// Documents as `captured` lines and a `checkpoint` line after them, on the runtime's pipe.
struct FlowSink: DocumentSink {
  let wait = Stall.reader
  let prefix = FlowResponse.capturedPrefix
  let suffix = FlowResponse.capturedSuffix
  let stateKey: String
  let journal: String
  /// The journal outlives the process.
  let isKept: Bool
  /// ``FlowState/stale``.
  let stale: [String]
  /// Shared with the reader of acknowledgements.
  let ledger: Monitor<CheckpointLedger>
  let status: StatusBoard
  let output: OutputDescriptor

  var tellsLast: Bool { isKept }

  mutating func write(_ bytes: inout [UInt8], _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    bytes.append(
      contentsOf:
        FlowResponse.checkpoint(checkpoint, stateKey: stateKey, journal: journal, isKept: isKept, stale: stale))
    // First the entry, then the line: the acknowledgement may be faster than the return of this call.
    ledger.update {
      $0.written(checkpoint)
      status.began(.runtime)
    }
    try output.write(bytes)
    return nil
  }
}
