internal import Glibc

/// The exclusive right to write one journal, or one series of files, held as long as this object lives.
///
/// It is `flock` on a file of its own: closing any descriptor of the database file would drop SQLite's own locks
/// (https://www.sqlite.org/howtocorrupt.html §2.2). The kernel releases it when the process dies, however it dies,
/// and `O_CLOEXEC` keeps it from children. Unchecked Sendable: one owner at a time uses it. The text in the file (pid and host) only serves the error message.
public final class FileLock: @unchecked Sendable {
  private var descriptor: Int32

  /// - Throws: `.locked` with the holder's text where somebody else has it.
  public init(path: String) throws(JournalError) {
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .system(errno, "open the lock file", path) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let number = errno
      // All fields are set, so `deinit` runs and closes the descriptor.
      guard number == EWOULDBLOCK else { throw .system(number, "lock", path) }
      let text = String(decoding: (try? File.head(path, count: 256)) ?? [], as: UTF8.self)
      let holder = text.split(separator: "\n").first.map(String.init) ?? "another process"
      throw JournalError(kind: .locked(holder: holder), operation: "lock", object: path)
    }
    var host = [UInt8](repeating: 0, count: 256)
    let named = unsafe host.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return Int32(-1) }
      return unsafe gethostname(base.assumingMemoryBound(to: CChar.self), buffer.count - 1)
    }
    let name = named == 0 ? String(decoding: host.prefix { $0 != 0 }, as: UTF8.self) : "unknown"
    let text = Array("pid \(getpid()) on host \(name)\n".utf8)
    // A failure to write the text costs the error message of the second process its holder, nothing else.
    _ = ftruncate(descriptor, 0)
    unsafe text.withUnsafeBytes { unsafe _ = pwrite(descriptor, $0.baseAddress, $0.count, 0) }
  }

  /// Gives the lock back; closing the one descriptor does it. The file stays: removing it would let two processes
  /// lock two files of the same name.
  public func release() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }

  deinit { release() }
}
