internal import Platform

/// The databases that SQLite has open in this process: while it has, nothing else here may open their files.
///
/// A process that closes any descriptor of a file gives up all POSIX locks that it has on that file, whichever descriptor
/// they were taken with (https://www.sqlite.org/howtocorrupt.html §2.2). Without its locks on a journal the next visitor
/// takes itself for the last connection, copies the WAL into the file, and deletes it under us; what is acknowledged
/// after that is in a file without a name. So ``File`` opens nothing that is listed here, and does what it does with a
/// descriptor while no database can be opened.
enum OpenDatabases {
  /// How many connections there are to a path.
  private static let connections = Locked<[String: Int]>([:])

  /// One connection, for as long as this object lives. It is made before the file is opened, and goes after it was closed.
  final class Entry: Sendable {
    private let path: String

    init(_ path: String) {
      self.path = path
      OpenDatabases.connections.withLock { $0[path, default: 0] += 1 }
    }

    deinit {
      OpenDatabases.connections.withLock { connections in
        let left = (connections[path] ?? 1) - 1
        connections[path] = left > 0 ? left : nil
      }
    }
  }

  /// Runs `body` if SQLite does not have `path` open, neither as a database nor as the WAL or the shared memory of one, and
  /// lets no one open a database meanwhile.
  ///
  /// - Returns: Nil if SQLite has it open, and `body` did not run.
  static func whileClosed<R>(_ path: String, _ body: () throws(JournalError) -> R) throws(JournalError) -> R? {
    var database = path
    for suffix in ["-wal", "-shm"] where path.hasSuffix(suffix) { database = String(path.dropLast(suffix.count)) }
    var result: Result<R, JournalError>?
    connections.withLock { connections in
      guard connections[database] == nil, connections[path] == nil else { return }
      result = Result { () throws(JournalError) in try body() }
    }
    return try result?.get()
  }
}
