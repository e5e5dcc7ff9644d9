internal import Glibc
internal import Platform

/// The exclusive right to write one journal, or one series of files, held as long as this object lives.
///
/// It is `flock` on a file of its own: closing any descriptor of the database file would drop SQLite's own locks
/// (https://www.sqlite.org/howtocorrupt.html §2.2). The kernel releases it when the process dies, however it dies,
/// and `O_CLOEXEC` keeps it from children. Unchecked Sendable: one owner at a time uses it. The first line of the file (pid, host and
/// command) only serves the error message; that of a journal has a second line, the ``HighWaterMark``.
public final class FileLock: @unchecked Sendable {
  private var descriptor: Int32
  /// What the last holder remembered; nil if it remembered nothing, or it cannot be read.
  private(set) var mark: HighWaterMark?

  /// - Throws: `.locked` with the holder's text if someone else has it.
  public init(path: String) throws(JournalError) {
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .system(errno, "open the lock file", path) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let number = errno
      // All fields are set, so `deinit` runs and closes the descriptor.
      guard number == EWOULDBLOCK else { throw .system(number, "lock", path) }
      throw JournalError(
        kind: .locked(holder: Self.named(in: path)), operation: "open",
        object: path.hasSuffix(".lock") ? String(path.dropLast(5)) : path)
    }
    var text = Array(
      "pid \(getpid()) on host \(Self.hostName ?? "unknown")\(Self.command)".utf8.prefix(HighWaterMark.offset - 1))
    text += [UInt8](repeating: UInt8(ascii: " "), count: HighWaterMark.offset - 1 - text.count) + [UInt8(ascii: "\n")]
    // A failure to write the text costs the error message of the second process its holder, nothing else.
    write(text, at: 0)
    mark = HighWaterMark(lockFile: path)
  }

  /// The machine's own name; nil if the system does not say.
  package static var hostName: String? {
    var name = [UInt8](repeating: 0, count: 256)
    let result = unsafe name.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return Int32(-1) }
      return unsafe gethostname(base.assumingMemoryBound(to: CChar.self), buffer.count - 1)
    }
    return result == 0 ? String(decoding: name.prefix { $0 != 0 }, as: UTF8.self) : nil
  }

  /// Writes down how far the journal has come, without syncing it.
  ///
  /// - Returns: As ``doubtOfSync()``. Any other failure costs what it is there for, nothing else.
  @discardableResult
  func remember(_ mark: HighWaterMark) -> String? {
    guard mark != self.mark else { return nil }
    self.mark = mark
    return doubtOfSync()
  }

  /// Writes what is remembered once more, after a sync of another file of the same file system, to see whether that still works.
  ///
  /// A file system that is being given up for an error of its disk may let a sync succeed that has written nothing: seen of ext4, whose
  /// `fdatasync` returned 0 while its journal was aborted, and every call after it failed. A write that works after the sync shows that
  /// it was before that.
  ///
  /// - Returns: Why what the sync before has said cannot be relied on; nil if the file system still takes writes.
  public func doubtOfSync() -> String? {
    guard let mark, let number = write(mark.line, at: HighWaterMark.offset), number == EROFS || number == EIO else {
      return nil
    }
    return
      "the file system failed right after a sync (\(systemText(number))), so what that has written may not be there"
  }

  /// The journal whose series it is, and the newest file of it; nil if no one has said so.
  public var series: Series? { mark.map { Series(journal: $0.identifier, file: $0.last) } }

  /// What is remembered of a series of files beside them.
  public struct Series: Equatable, Sendable {
    /// The journal's identifier.
    public var journal: String
    /// The number of the newest file; starts at 1.
    public var file: Int64

    public init(journal: String, file: Int64) { (self.journal, self.file) = (journal, file) }
  }

  /// Writes down, durably, which journal's series it is and which file of it is the newest.
  public func remember(_ series: Series) {
    var counters = Counters()
    counters.last = series.file
    let mark = HighWaterMark(identifier: series.journal, counters)
    guard mark != self.mark else { return }
    remember(mark)
    // Without it a power cut leaves an older number, and a file that was moved is missed in vain.
    _ = fsync(descriptor)
  }

  /// What is remembered in the lock file at `path`, held or not.
  public static func series(path: String) -> Series? {
    HighWaterMark(lockFile: path).map { Series(journal: $0.identifier, file: $0.last) }
  }

  /// - Returns: The errno of a failure.
  @discardableResult
  private func write(_ bytes: [UInt8], at offset: Int) -> Int32? {
    let count = unsafe bytes.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, offset) }
    return count < 0 ? errno : nil
  }

  /// Who has the lock at `path`; nil if no one has it, or there is none. It is held shared for an instant.
  public static func holder(path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { Glibc.close(descriptor) }
    return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK ? named(in: path) : nil
  }

  /// What its holder has written into the file.
  private static func named(in path: String) -> String {
    let text = String(decoding: (try? File.head(path, count: HighWaterMark.offset)) ?? [], as: UTF8.self)
    guard let line = text.split(separator: "\n").first else { return "another process" }
    return String(line.reversed().drop { $0 == " " }.reversed())
  }

  /// This process's command line, in brackets; empty if it is not known.
  /// https://man7.org/linux/man-pages/man5/proc_pid_cmdline.5.html
  private static var command: String {
    let bytes = (try? File.head("/proc/self/cmdline", count: 200)) ?? []
    let words = bytes.split(separator: 0).map { word in
      String(decoding: word.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 }, as: UTF8.self)
    }
    guard let program = words.first else { return "" }
    let name = program.split(separator: "/").last.map(String.init) ?? program
    return " (\(([name] + words.dropFirst()).joined(separator: " ")))"
  }

  /// Gives the lock back; closing the one descriptor does it. The file stays: removing it would let two processes
  /// lock two files of the same name.
  public func release() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }

  deinit { release() }
}
