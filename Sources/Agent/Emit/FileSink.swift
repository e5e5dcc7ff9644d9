import Glibc
import Journal

/// Documents as lines of one JSONL file, exactly once.
///
/// A batch is written, synced, and its end recorded in the journal in the transaction that commits its positions. At the
/// start the file is cut back to the recorded length, so a line that a crash left behind, whole or torn, is written
/// again and stands there once.
struct FileSink: DocumentSink {
  let prefix: [UInt8] = []
  let suffix: [UInt8] = [0x0A]
  private let descriptor: OutputDescriptor
  private var length: Int64

  /// Opens or creates the file and cuts it back to what the journal knows of it.
  ///
  /// - Parameter record: What the journal last recorded; nil where it never wrote to this output.
  /// - Throws: Where the file lacks what the journal believes to be in it, or holds what this journal did not write.
  init(path: String, record: OutputRecord?) throws(CaptureFailure) {
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640)
    guard file >= 0 else { throw Self.failure("opening \(path)", errno) }
    descriptor = OutputDescriptor(descriptor: file, name: path)
    length = record?.length ?? 0
    let found = lseek(file, 0, Int32(SEEK_END))
    guard found >= length else {
      throw CaptureFailure(
        cause: "output",
        description:
          "\(path) has \(found) bytes, but the journal has committed \(length) of it; put the file back, or give "
          + "--output a new directory and a new journal", needsUser: true)
    }
    if record == nil && found > 0 {
      throw CaptureFailure(
        cause: "output",
        description:
          "\(path) holds \(found) bytes that this journal did not write; give --output another directory, or put the "
          + "journal back that wrote them", needsUser: true)
    }
    guard ftruncate(file, Int(length)) == 0, lseek(file, Int(length), Int32(SEEK_SET)) == length, fsync(file) == 0
    else {
      throw Self.failure("cutting \(path) back to \(length) bytes", errno)
    }
  }

  mutating func write(_ bytes: inout [UInt8], _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    try descriptor.write(bytes)
    guard fdatasync(descriptor.descriptor) == 0 else { throw Self.failure("syncing \(descriptor.name)", errno) }
    length += Int64(bytes.count)
    return Committed(through: checkpoint.through, output: OutputMark(file: 1, length: length))
  }

  private static func failure(_ operation: String, _ code: Int32) -> CaptureFailure {
    CaptureFailure(cause: "output", description: "\(operation): \(errnoText(code))", needsUser: true)
  }
}

/// Documents as lines on stdout. What was written counts as committed: whoever reads the pipe has it.
struct StandardOutputSink: DocumentSink {
  let prefix: [UInt8] = []
  let suffix: [UInt8] = [0x0A]

  mutating func write(_ bytes: inout [UInt8], _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    try OutputDescriptor.standardOutput.write(bytes)
    return Committed(through: checkpoint.through, output: nil)
  }
}
