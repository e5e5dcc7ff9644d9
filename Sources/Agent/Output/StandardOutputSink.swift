/// Documents as lines on stdout. What was written counts as committed: the reader of the pipe has it.
struct StandardOutputSink: DocumentSink {
  let wait = Stall.reader
  var output: LineOutput
  func prefix(of index: Int) -> [UInt8] { [] }
  let suffix: [UInt8] = [0x0A]

  mutating func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    try output.write(documents.bytes)
    return Committed(through: checkpoint.through)
  }
}
