import Glibc
import Journal
import Platform

/// Documents as lines of JSONL files `STEM-000001.jsonl`, `STEM-000002.jsonl` …, exactly once.
///
/// A batch is written to one file, synced, and the file's number and length are recorded in the journal in the
/// transaction that commits the batch's positions. At the start, what stands after the recorded end is cut off, and
/// files after it are removed, if a crash explains it (``OutputSurplus``); so a line that was written and not recorded,
/// whole or torn, stands there once in the end. Anything else that was written is never taken back. A file that is
/// followed by another one never changes again.
///
/// Before and after each batch the open file is compared with the one of its name. If someone moved, deleted, replaced,
/// cut or lengthened it, documents go on in the next file, and a batch that was being written is written again there; out
/// of a file that was moved it is taken first, where it still stands at the end. The same holds at a start: a file that was moved
/// while no one looked is somewhere else, not gone back in time. The journal knows it by its inode; if it is not in the directory any
/// more, the series' lock file tells that this is the directory, and that it is not an older copy: it knows the journal and the newest file.
/// Unchecked Sendable: made by the thread that starts the capture, and used by the emitter's from then on.
final class FileSink: @unchecked Sendable {
  private let series: OutputSeries
  private let rotation: FileRotation
  private let now: @Sendable () -> Int64
  private let warn: @Sendable (String) -> Void
  private let nextFile: NextFileRequest
  /// The right to write the series.
  private let lock: FileLock?
  private let journal: String
  private var descriptor: OutputDescriptor
  /// The file as it is on disk.
  private(set) var record: OutputRecord
  /// So many bytes after the record's length are of a write that failed.
  private var half: Int64 = 0
  /// Someone else has written into the file, and the next one could not be begun yet.
  private var isShared = false

  /// Between two looks at the file while nothing is written.
  private static let lookInterval = Duration.seconds(1)
  /// Files that may be taken away while one batch is written.
  private static let attempts = 10

  /// Opens or creates the file and cuts it back to what the journal knows of it.
  ///
  /// - Parameters:
  ///   - lock: The right to write the series, which is kept as long as the sink.
  ///   - journal: The journal's identifier.
  ///   - record: What the journal last recorded; nil if it never wrote to this output. If ``record`` is another
  ///     afterwards, the caller records it before the first write: what a crash leaves in a file that the journal does
  ///     not know would be taken for someone else's.
  ///   - pending: The documents that the journal has yet to commit, in order.
  ///   - continues: What cannot be explained is left as it is, and documents go on in a new file after it.
  ///   - nextFile: Asks for the next file.
  ///   - now: Microseconds since 1970, by a clock that no one sets back or forward meanwhile.
  ///   - warn: Gets what someone did to the files.
  /// - Throws: If the file lacks what the journal believes to be in it, or holds what this journal does not know, unless
  ///   `continues`. Nothing was changed then.
  init(
    _ series: OutputSeries, lock: FileLock? = nil, journal: String = "", rotation: FileRotation = FileRotation(),
    record: OutputRecord?,
    pending: @escaping () throws(CaptureFailure) -> DocumentKey? = { () throws(CaptureFailure) in nil },
    continues: Bool = false, nextFile: NextFileRequest = NextFileRequest(),
    now: @escaping @Sendable () -> Int64 = { SystemClock.steadyMicroseconds() },
    warn: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(CaptureFailure) {
    self.series = series
    self.lock = lock
    self.journal = journal
    self.rotation = rotation
    self.now = now
    self.warn = warn
    self.nextFile = nextFile
    let known = record ?? OutputRecord(file: 1, length: 0, startedAt: 0)
    let following = try series.numbers(after: known.file)
    let problem = try Self.problem(
      series, record, following, pending, isKnownDirectory: Self.isKnown(lock?.series, journal, known))
    let size = try OutputChange.Facts.of(series.path(known.file))?.size ?? 0
    if let problem {
      guard continues else {
        throw CaptureFailure(cause: "output", description: problem.text + "; " + problem.remedy, needsUser: true)
      }
      self.record = OutputRecord(file: (following.last ?? known.file) + 1, length: 0, startedAt: 0)
      warn("\(problem.text); documents go on in \(series.path(self.record.file))")
    } else {
      for number in following.reversed() { try Self.remove(series.path(number)) }
      self.record = known
      if size < known.length {
        self.record = OutputRecord(file: known.file + 1, length: 0, startedAt: 0)
        let moved = try Self.moved(series, known)
        // What a crash left behind its end is written again.
        if let moved, try Self.isExplained(moved, from: known.length, pending) { try Self.cut(moved, to: known.length) }
        warn(
          "\(series.path(known.file)) was \(moved.map { "moved to \($0)" } ?? "taken away or cut to \(size) of \(known.length) bytes"); "
            + "documents go on in \(series.path(self.record.file))")
      }
    }
    descriptor = try Self.open(series.path(self.record.file), isNew: self.record.file != known.file)
    self.record.inode = Self.inode(descriptor)
    // Of a clock that was set back while the agent was stopped. A file cannot be of tomorrow.
    self.record.startedAt = min(self.record.startedAt, now())
    // What comes after what the journal knows is its own, or was refused.
    half = max(0, (OutputChange.Facts.of(descriptor.descriptor)?.size ?? 0) - self.record.length)
    try cut()
    try Self.sync(directory: series.directory)
    remember()
  }

  deinit { close(descriptor.descriptor) }
  /// Lets the lock file know the newest file.
  private func remember() { lock?.remember(FileLock.Series(journal: journal, file: record.file)) }

  /// Whether what a lock file remembers is of this journal, and no older than its record.
  static func isKnown(_ series: FileLock.Series?, _ journal: String, _ record: OutputRecord) -> Bool {
    series.map { $0.journal == journal && $0.file >= record.file } ?? false
  }

  /// Why documents cannot go on after what is there, and what to do; nil if they can. Nothing is changed.
  ///
  /// - Parameter isKnownDirectory: ``isKnown(_:_:_:)``.
  static func refusal(
    _ series: OutputSeries, _ record: OutputRecord?, isKnownDirectory: Bool,
    pending: @escaping () throws(CaptureFailure) -> DocumentKey?
  ) throws(CaptureFailure) -> String? {
    let following = try series.numbers(after: record?.file ?? 1)
    return try problem(series, record, following, pending, isKnownDirectory: isKnownDirectory)
      .map { "\($0.text); \($0.remedy)" }
  }

  /// The same in two parts.
  private static func problem(
    _ series: OutputSeries, _ record: OutputRecord?, _ following: [Int64],
    _ pending: @escaping () throws(CaptureFailure) -> DocumentKey?, isKnownDirectory: Bool
  ) throws(CaptureFailure) -> (text: String, remedy: String)? {
    let goOn = "to leave what is there and go on in a new file after it, start once with --continue-output"
    guard let record else {
      for path in [series.path(1)] + following.map({ series.path($0) }) {
        // What is no file is an error of its opening.
        guard let size = try OutputChange.Facts.of(path)?.size, size > 0, isFile(path) else { continue }
        return (
          "\(path) holds \(size) bytes that this journal did not write",
          "give --output another directory, or put the journal back that wrote them; \(goOn)"
        )
      }
      return nil
    }
    let path = series.path(record.file)
    var surplus = OutputSurplus(pending: pending)
    let size = try OutputChange.Facts.of(path)?.size ?? 0
    if size > record.length, isFile(path) { try surplus.read(path, from: record.length) }
    for number in following { try surplus.read(series.path(number), from: 0) }
    if !surplus.isExplained {
      return (
        "the journal went back in time, or someone else wrote into its files: " + surplus.description,
        "nothing was changed. If the journal was restored from an old copy, or came without its -wal, put the newest "
          + "one back, or give --output a new directory; \(goOn)"
      )
    }
    // The next file exists if the agent itself noticed it, and was killed before the journal knew.
    if size < record.length, following.isEmpty, try !isElsewhere(series, record, isKnownDirectory: isKnownDirectory) {
      return (
        isFile(path)
          ? "\(path) has \(size) bytes, but the journal has committed \(record.length) of it"
          : "\(path) is missing, and the journal has committed \(record.length) bytes of it",
        "put the file back, or give --output a new directory and a new journal; \(goOn)"
      )
    }
    if record.length > 0, size >= record.length, isFile(path), try byte(path, record.length - 1) != 0x0A {
      return (
        "\(path) is not the file that the journal wrote: no line ends at byte \(record.length), where the journal's "
          + "last document ends", "put the right file back; \(goOn)"
      )
    }
    return nil
  }

  /// Whether the file that the journal wrote is somewhere else, whole.
  private static func isElsewhere(
    _ series: OutputSeries, _ record: OutputRecord, isKnownDirectory: Bool
  ) throws(CaptureFailure) -> Bool {
    if try moved(series, record) != nil { return true }
    // An empty file in its place is what logrotate's `create` puts there.
    guard let named = try OutputChange.Facts.of(series.path(record.file)) else { return isKnownDirectory }
    return isKnownDirectory && named.size == 0 && record.inode != nil && record.inode != Int64(bitPattern: named.inode)
  }

  /// Where in the directory the file that the journal wrote stands under another name, whole; nil if it does not.
  private static func moved(_ series: OutputSeries, _ record: OutputRecord) throws(CaptureFailure) -> String? {
    guard let inode = record.inode else { return nil }
    let own = series.path(record.file)
    // As rotating programs name it: an inode alone may be any other file's by now.
    for path in try series.files() where path.hasPrefix(own) && path != own {
      guard let facts = try OutputChange.Facts.of(path), Int64(bitPattern: facts.inode) == inode,
        facts.size >= record.length, record.length > 0, isFile(path), try byte(path, record.length - 1) == 0x0A
      else { continue }
      return path
    }
    return nil
  }

  /// Whether nothing but a crash is needed to explain what stands in a file after its end.
  private static func isExplained(
    _ path: String, from length: Int64, _ pending: @escaping () throws(CaptureFailure) -> DocumentKey?
  ) throws(CaptureFailure) -> Bool {
    var surplus = OutputSurplus(pending: pending)
    try surplus.read(path, from: length)
    return surplus.isExplained
  }

  private static func cut(_ path: String, to length: Int64) throws(CaptureFailure) {
    guard unsafe truncate(path, Int(length)) == 0 else {
      throw failure("cutting \(path) back to \(length) bytes", errno)
    }
  }

  private static func inode(_ descriptor: OutputDescriptor) -> Int64? {
    OutputChange.Facts.of(descriptor.descriptor).map { Int64(bitPattern: $0.inode) }
  }

  /// Writes lines, and syncs them.
  ///
  /// - Returns: The file as it then is.
  /// - Throws: A failure of kind `shortage` if the same write may succeed later; nothing of it is written then.
  @discardableResult
  func write(_ bytes: [UInt8]) throws(CaptureFailure) -> OutputRecord {
    try look()
    let time = now()
    if rotation.isDue(record.length, startedAt: record.startedAt, now: time, adding: bytes.count) { try begin() }
    // What of the batch has yet to be written: all of it, or what a file that goes its own way does not have on lines of its own. Nothing
    // is copied before someone has touched the file.
    var rest = bytes
    var attempt = 1
    // Against someone who writes half lines into each next file before the batch is there.
    var leadsWithLine = false
    while let change = try append(rest) {
      attempt += 1
      if leadsWithLine { rest.removeFirst() }
      rest = try left(of: rest, after: change)
      guard attempt <= Self.attempts else {
        throw CaptureFailure(
          cause: "output", description: "\(descriptor.name) \(change.description(record.length)), again and again",
          needsUser: true)
      }
      guard !rest.isEmpty else {
        // Whole, in a file that others write to as well.
        record.length += Int64(bytes.count)
        if record.startedAt == 0 { record.startedAt = time }
        do throws(CaptureFailure) { try begin(after: change) } catch {
          warn("\(descriptor.name) \(change.description(record.length)), and no other can be begun yet: \(error)")
          record.length = OutputChange.Facts.of(descriptor.descriptor)?.size ?? record.length
          isShared = true
        }
        return record
      }
      try begin(after: change)
      leadsWithLine = attempt > Self.attempts / 3
      if leadsWithLine { rest.insert(UInt8(ascii: "\n"), at: 0) }
    }
    if record.length == 0 { record.startedAt = time }
    record.length += Int64(rest.count)
    return record
  }

  /// Writes and syncs; tells what someone did to the file by then.
  private func append(_ bytes: [UInt8]) throws(CaptureFailure) -> OutputChange? {
    let (file, length) = (descriptor.descriptor, record.length)
    // A write that met a full disk goes on only if no one has emptied the file meanwhile: else the rest would begin in the middle of a line.
    let (written, code) = descriptor.attempt(bytes, in: bytes.indices, piece: .max) { done in
      OutputChange.Facts.of(file)?.size == length + Int64(done)
    }
    half = Int64(written)
    do throws(CaptureFailure) {
      if let code { throw descriptor.failure(code, mayPass: true) }
      if written == bytes.count {
        guard fdatasync(file) == 0 else { throw Self.failure("syncing \(descriptor.name)", errno) }
        if let doubt = lock?.doubtOfSync() { throw CaptureFailure.output("syncing \(descriptor.name): \(doubt)", 0) }
      }
    } catch {
      // What is half written goes, now or before anything else, so that the same batch can be written again.
      if error.kind == .shortage { try cut() }
      throw error
    }
    let change = try change(expected: length + half)
    half = 0
    guard written < bytes.count, change == nil else { return change }
    // It is as it was expected again, but the rest of the batch is missing.
    half = Int64(written)
    try cut()
    return .shortened(to: length)
  }

  private func change(expected: Int64) throws(CaptureFailure) -> OutputChange? {
    guard let open = OutputChange.Facts.of(descriptor.descriptor) else {
      throw Self.failure("looking at \(descriptor.name)", errno)
    }
    return OutputChange.find(open: open, named: try OutputChange.Facts.of(descriptor.name), expected: expected)
  }

  /// Most bytes of a file that someone else writes to among which a batch is looked for.
  private static let regionBytes = 64 << 20

  /// What of a batch that was written has to be written again, into the next file, since this one goes its own way. What is not on
  /// lines of its own there is taken back, as far as that takes nothing from anybody else.
  private func left(of batch: [UInt8], after change: OutputChange) throws(CaptureFailure) -> [UInt8] {
    switch change {
    case .deleted: return batch
    case .moved, .replaced, .shortened:
      // In a file that was cut to nothing it may stand at the beginning.
      let size = OutputChange.Facts.of(descriptor.descriptor)?.size ?? 0
      if size == record.length + Int64(batch.count) || size == batch.count, !takeBack(batch.count, from: size) {
        warn(
          "\(descriptor.name) could not be cut: \(batch.count) bytes of documents in it stand in the next file as well")
      }
      return batch
    case .lengthened(let size):
      let region = try region(from: record.length, to: size)
      let first = Array(batch.prefix { $0 != UInt8(ascii: "\n") }) + [UInt8(ascii: "\n")]
      switch BatchPlace(of: batch, in: region) {
      case .inPlace: return []
      // If it is not at the end any more it stays, but for its first line.
      case .gluedAtEnd: return takeBack(batch.count, from: size) ? batch : first
      case .glued: return first
      case .missing: return batch
      }
    }
  }

  /// A part of the file.
  private func region(from start: Int64, to end: Int64) throws(CaptureFailure) -> [UInt8] {
    let file = unsafe Glibc.open(descriptor.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0 else { throw Self.failure("opening \(descriptor.name)", errno) }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: Int(min(end - start, Int64(Self.regionBytes))))
    let count = unsafe pread(file, &bytes, bytes.count, Int(start))
    guard count >= 0 else { throw Self.failure("reading \(descriptor.name)", errno) }
    return Array(bytes.prefix(count))
  }

  /// Takes a batch, which is not committed, off the end of a file that goes its own way, so that it is nowhere twice.
  ///
  /// - Parameter size: The file's when the batch was seen there: if it has grown since, someone else's bytes are at its end.
  /// - Returns: Whether it is gone.
  private func takeBack(_ count: Int, from size: Int64) -> Bool {
    guard let open = OutputChange.Facts.of(descriptor.descriptor) else { return false }
    if open.links == 0 { return true }
    return open.size == size && ftruncate(descriptor.descriptor, Int(size) - count) == 0
      && fsync(descriptor.descriptor) == 0
  }

  /// How long it takes until ``rest()`` is due, if nothing is written before.
  var timeUntilRest: Duration {
    let left = rotation.timeLeft(record.length, startedAt: record.startedAt, now: now()).map { max($0, .zero) }
    return min(left ?? Self.lookInterval, Self.lookInterval)
  }

  /// Completes a file that has come of age although nothing follows, so that a program that takes complete files gets it, and
  /// leaves one that was taken away.
  ///
  /// - Returns: The file as it then is, if it has changed.
  @discardableResult
  func rest() throws(CaptureFailure) -> OutputRecord? {
    if try look() { return record }
    guard rotation.isDue(record.length, startedAt: record.startedAt, now: now(), adding: 0) else { return nil }
    try begin()
    return record
  }

  /// Begins the next file if that is asked for, or the file is not what it was.
  @discardableResult
  private func look() throws(CaptureFailure) -> Bool {
    if half > 0 { try cut() }
    let isAsked = nextFile.isPending
    let change = try change(expected: record.length)
    if change != nil || isShared || isAsked && record.length > 0 { try begin(after: change) }
    if isAsked { nextFile.honoured() }
    defer { isShared = false }
    return change != nil || isShared || isAsked
  }

  /// Begins the next file, after the last one that exists.
  private func begin(after change: OutputChange? = nil) throws(CaptureFailure) {
    let number = (try series.numbers(after: record.file).last ?? record.file) + 1
    let path = series.path(number)
    let following = try Self.open(path, isNew: true)
    do throws(CaptureFailure) { try Self.sync(directory: series.directory) } catch {
      close(following.descriptor)
      try Self.remove(path)
      throw error
    }
    if let change { warn("\(descriptor.name) \(change.description(record.length)); documents go on in \(path)") }
    close(descriptor.descriptor)
    descriptor = following
    record = OutputRecord(file: number, length: 0, startedAt: 0, inode: Self.inode(following))
    remember()
  }

  /// Cuts the file back to what counts as written.
  private func cut() throws(CaptureFailure) {
    guard let open = OutputChange.Facts.of(descriptor.descriptor) else {
      throw Self.failure("looking at \(descriptor.name)", errno)
    }
    switch open.size - record.length {
    case half:
      guard ftruncate(descriptor.descriptor, Int(record.length)) == 0, fsync(descriptor.descriptor) == 0 else {
        throw Self.failure("cutting \(descriptor.name) back to \(record.length) bytes", errno)
      }
    // Someone has emptied it, perhaps to make room, and what was half written is gone with it.
    case ..<half: break
    default:
      // What comes after it is someone else's.
      warn("\(descriptor.name) has the beginning of a document before what someone else wrote into it")
      isShared = true
    }
    half = 0
  }
}
