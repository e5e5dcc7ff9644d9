internal import Glibc

/// A program that holds a snapshot of a journal, so that its WAL cannot be used again and grows.
///
/// A reader of SQLite's WAL mode locks a byte of the file `PATH-shm` for as long as its transaction lasts
/// (https://www.sqlite.org/walformat.html#wal_locks). Who has it is read from `/proc/locks`: opening that file here, to ask
/// with `fcntl`, would give up this process's own locks on it when it is closed
/// (https://www.sqlite.org/howtocorrupt.html, 2.2). Programs in other containers are not in the list.
public struct SnapshotHolder: Equatable, Sendable, CustomStringConvertible {
  /// The process id, as this process sees it.
  public var pid: Int32
  /// The program's name, at most 15 characters; empty if the system does not tell.
  public var name: String

  public init(pid: Int32, name: String) {
    self.pid = pid
    self.name = name
  }

  /// The bytes that readers lock: `WAL_READ_LOCK(0)` to `WAL_READ_LOCK(4)`.
  private static let lockedBytes: ClosedRange<Int64> = 123...127

  /// For example `sqlite3 (pid 4711)`.
  public var description: String { name.isEmpty ? "pid \(pid)" : "\(name) (pid \(pid))" }

  /// The holders of a journal's snapshots, without this process; none if nothing can be found out.
  static func find(journal path: String) -> [SnapshotHolder] {
    var status = stat()
    guard unsafe lstat("\(path)-shm", &status) == 0, let locks = read("/proc/locks", limit: 1 << 20) else { return [] }
    return pids(locks: locks, inode: UInt64(status.st_ino)).filter { $0 != getpid() }.map { pid in
      SnapshotHolder(pid: pid, name: printable(read("/proc/\(pid)/comm", limit: 64) ?? ""))
    }
  }

  /// Who has a reader's lock on the file with `inode`, by the text of `/proc/locks`, each once.
  ///
  /// A line is `1: POSIX  ADVISORY  READ 4711 fe:00:9576592 124 124`: the inode after the device, first and last byte
  /// (https://man7.org/linux/man-pages/man5/proc_locks.5.html). The device is not compared: on btrfs and overlayfs it is another
  /// than stat(2) gives.
  static func pids(locks: String, inode: UInt64) -> [Int32] {
    var found: [Int32] = []
    for line in locks.split(separator: "\n") {
      let fields = line.split(separator: " ")
      // "->" stands in front of a lock that is only waited for.
      guard fields.count == 8, fields[1] == "POSIX" || fields[1] == "OFDLCK", fields[3] == "READ",
        let pid = Int32(fields[4]), pid > 0, !found.contains(pid),
        let number = fields[5].split(separator: ":").last, UInt64(number) == inode,
        let first = Int64(fields[6]), let last = fields[7] == "EOF" ? .max : Int64(fields[7]),
        first <= lockedBytes.upperBound, last >= lockedBytes.lowerBound
      else { continue }
      found.append(pid)
    }
    return found
  }

  /// A program names itself as it likes.
  private static func printable(_ name: String) -> String {
    String(name.unicodeScalars.filter { $0.properties.generalCategory != .control }.map(Character.init))
  }

  /// The text of one of the kernel's files, at most `limit` bytes of it; nil if it cannot be read.
  private static func read(_ path: String, limit: Int) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { Glibc.close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: limit)
    var count = 0
    while count < limit {
      let got = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe Glibc.read(descriptor, buffer.baseAddress! + count, buffer.count - count)
      }
      guard got >= 0 else { return nil }
      if got == 0 { break }
      count += got
    }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
