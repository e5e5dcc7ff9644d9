internal import CSQLite
internal import Glibc
internal import Platform

/// Which files an open journal consists of, told apart from whatever else may get their names.
///
/// An acknowledgement rests on the database file, its WAL, and the shared memory through which visitors agree with us about
/// the WAL. SQLite goes on with all three when someone moves, deletes or replaces them: a commit then succeeds in a file
/// that no one finds any more, or, without the shared memory, one that a visitor empties under us. So the names are
/// compared with what is open after every commit, by device and inode. It takes three calls of lstat(2) and opens nothing.
struct JournalFiles: Equatable {
  /// What tells files apart, whatever their names.
  struct Identity: Hashable {
    var device: UInt64
    var inode: UInt64

    init(_ status: stat) {
      device = UInt64(status.st_dev)
      inode = UInt64(status.st_ino)
    }

    /// Of what is at `path`, a symbolic link not followed; nil if there is nothing, or no one may look.
    init?(at path: String) {
      var status = stat()
      guard unsafe lstat(path, &status) == 0 else { return nil }
      self.init(status)
    }
  }

  private let path: String
  private let identities: [Identity?]

  /// The files of the journal at `path`, which was just opened and has been written to.
  ///
  /// - Throws: `.moved` if one of them is not open in this process: someone was faster.
  init(at path: String) throws(JournalError) {
    self.path = path
    identities = File.journalSuffixes.map { Identity(at: path + $0) }
    // Without /proc there is nothing to compare with, and the moment between opening and this look is short.
    guard let open = Self.openFiles(), !identities.allSatisfy({ $0.map(open.keys.contains) ?? false }) else { return }
    throw JournalError(
      kind: .moved("a file was moved, deleted or replaced while it was opened"), operation: "open", object: path)
  }

  /// What happened to the first file whose name is not its own any more, and which it is; nil while all are in place.
  func change() -> (suffix: String, text: String)? {
    for (suffix, identity) in zip(File.journalSuffixes, identities) {
      var status = stat()
      guard unsafe lstat(path + suffix, &status) == 0 else {
        let isGone = errno == ENOENT || errno == ENOTDIR
        let text = isGone ? "was moved or deleted" : "can't be looked at (\(systemText(errno)))"
        return (suffix, "\(path)\(suffix) \(text)")
      }
      if Identity(status) != identity { return (suffix, "\(path)\(suffix) was replaced") }
    }
    return nil
  }

  /// Whether the open database file has a name anywhere; false also if that cannot be found out.
  var databaseHasName: Bool {
    guard let identity = identities[0], let links = Self.openFiles()?[identity] else { return false }
    return links > 0
  }

  /// Removes the WAL and the shared memory of a database that is gone, if they still have their names: SQLite would read
  /// them into whatever gets the database's name next.
  func removeRest() {
    for (suffix, identity) in zip(File.journalSuffixes, identities).dropFirst()
    where Identity(at: path + suffix) == identity {
      try? File.remove(path + suffix)
    }
  }

  /// The files that this process has open, and how many names each has; nil without /proc. Looks, and opens none of them.
  private static func openFiles() -> [Identity: Int]? {
    guard let names = try? File.names(in: "/proc/self/fd") else { return nil }
    var found: [Identity: Int] = [:]
    for name in names {
      var status = stat()
      if unsafe stat("/proc/self/fd/\(name)", &status) == 0 { found[Identity(status)] = Int(status.st_nlink) }
    }
    return found
  }
}
