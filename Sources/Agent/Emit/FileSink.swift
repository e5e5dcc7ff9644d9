import AMQP
import Glibc
import Journal

/// Documents as lines of JSONL files `STEM-000001.jsonl`, `STEM-000002.jsonl` …, exactly once.
///
/// A batch is written to one file, synced, and the file's number and length are recorded in the journal in the
/// transaction that commits the batch's positions. At the start the recorded file is cut back to the recorded length,
/// and the one behind it, which a crash may have left, is emptied before it is used: so a line that was written and not
/// recorded, whole or torn, stands there once in the end. A file that is followed by another one never changes again.
struct FileSink: DocumentSink {
  let prefix: [UInt8] = []
  let suffix: [UInt8] = [0x0A]
  private let directory: String
  private let stem: String
  private let rotation: FileRotation
  private let now: @Sendable () -> Int64
  private var descriptor: OutputDescriptor
  /// The file as it is on disk.
  private(set) var record: OutputRecord

  /// Opens or creates the file and cuts it back to what the journal knows of it.
  ///
  /// - Parameters:
  ///   - stem: What file names begin with; also the output's name in the journal.
  ///   - record: What the journal last recorded; nil where it never wrote to this output. Then the caller records
  ///     ``record`` before the first write: what a crash leaves in a file that the journal does not know would be taken
  ///     for somebody else's.
  ///   - now: The wall clock, microseconds since 1970.
  /// - Throws: Where the file lacks what the journal believes to be in it, or holds what this journal did not write.
  init(
    directory: String, stem: String, rotation: FileRotation = FileRotation(), record: OutputRecord?,
    now: @escaping @Sendable () -> Int64 = { SystemClock.wallMicroseconds() }
  ) throws(CaptureFailure) {
    self.directory = directory
    self.stem = stem
    self.rotation = rotation
    self.now = now
    self.record = record ?? OutputRecord(file: 1, length: 0, startedAt: 0)
    let path = Self.path(directory, stem, self.record.file)
    descriptor = try Self.open(path)
    let found = lseek(descriptor.descriptor, 0, Int32(SEEK_END))
    guard found >= self.record.length else {
      throw CaptureFailure(
        cause: "output",
        description:
          "\(path) has \(found) bytes, but the journal has committed \(self.record.length) of it; put the file back, or "
          + "give --output a new directory and a new journal", needsUser: true)
    }
    if record == nil && found > 0 {
      throw CaptureFailure(
        cause: "output",
        description:
          "\(path) holds \(found) bytes that this journal did not write; give --output another directory, or put the "
          + "journal back that wrote them", needsUser: true)
    }
    try cut()
    // A crash may have come between the next file's first line and the journal's word of it.
    let next = Self.path(directory, stem, self.record.file + 1)
    if record != nil, unsafe unlink(next) != 0, errno != ENOENT {
      throw Self.failure("removing \(next), which the journal does not know yet,", errno)
    }
    try Self.sync(directory: directory)
  }

  mutating func write(_ bytes: inout [UInt8], _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed? {
    // A checkpoint may have no documents.
    if bytes.isEmpty { return Committed(through: checkpoint.through, output: record) }
    let time = now()
    if rotation.isDue(record.length, startedAt: record.startedAt, now: time, adding: bytes.count) { try begin() }
    do throws(CaptureFailure) {
      try descriptor.write(bytes)
      guard fdatasync(descriptor.descriptor) == 0 else { throw Self.failure("syncing \(descriptor.name)", errno) }
    } catch {
      // What is half written goes, so that the same batch can be written again.
      if error.isFullDisk { try cut() }
      throw error
    }
    if record.length == 0 { record.startedAt = time }
    record.length += Int64(bytes.count)
    return Committed(through: checkpoint.through, output: record)
  }

  var secondsUntilRest: Double? {
    rotation.secondsLeft(record.length, startedAt: record.startedAt, now: now()).map { max($0, 0) }
  }

  /// Completes a file that has come of age although nothing follows, so that whoever takes complete files gets it.
  mutating func rest() throws(CaptureFailure) -> OutputRecord? {
    guard rotation.isDue(record.length, startedAt: record.startedAt, now: now(), adding: 0) else { return nil }
    try begin()
    return record
  }

  /// Begins the next file.
  private mutating func begin() throws(CaptureFailure) {
    let following = try Self.open(Self.path(directory, stem, record.file + 1))
    try Self.sync(directory: directory)
    close(descriptor.descriptor)
    descriptor = following
    record = OutputRecord(file: record.file + 1, length: 0, startedAt: 0)
    try cut()
  }

  /// Cuts the file back to what counts as written.
  private func cut() throws(CaptureFailure) {
    let (file, length) = (descriptor.descriptor, Int(record.length))
    guard ftruncate(file, length) == 0, lseek(file, length, Int32(SEEK_SET)) == length, fsync(file) == 0 else {
      throw Self.failure("cutting \(descriptor.name) back to \(length) bytes", errno)
    }
  }

  private static func path(_ directory: String, _ stem: String, _ number: Int64) -> String {
    let digits = String(number)
    let zeros = String(repeating: "0", count: max(0, 6 - digits.count))
    return "\(directory)/\(stem)-\(zeros)\(digits).jsonl"
  }

  private static func open(_ path: String) throws(CaptureFailure) -> OutputDescriptor {
    let file = unsafe Glibc.open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640)
    guard file >= 0 else { throw failure("opening \(path)", errno) }
    return OutputDescriptor(descriptor: file, name: path, isFile: true)
  }

  /// Makes the names of new files durable. https://man7.org/linux/man-pages/man2/fsync.2.html
  private static func sync(directory: String) throws(CaptureFailure) {
    let descriptor = unsafe Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("opening directory \(directory)", errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw failure("syncing directory \(directory)", errno) }
  }

  private static func failure(_ operation: String, _ code: Int32) -> CaptureFailure {
    CaptureFailure.output("\(operation): \(errnoText(code))", code)
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

extension CaptureFailure {
  /// What went wrong with the place where documents go; `code` is its errno, where that may be one that passes.
  static func output(_ description: String, _ code: Int32) -> CaptureFailure {
    CaptureFailure(
      cause: [ENOSPC, EDQUOT, EFBIG].contains(code) ? fullDisk : "output", description: description, needsUser: true)
  }

  /// True where the disk that documents go to is full, so that the same may work later.
  var isFullDisk: Bool { cause == Self.fullDisk }

  private static var fullDisk: String { "output_full" }
}
