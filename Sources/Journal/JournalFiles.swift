internal import CSQLite
internal import Glibc
internal import Platform

/// Which files an open journal consists of, told apart from whatever else may get their names.
///
/// An acknowledgement rests on the database file, its WAL, and the shared memory through which visitors agree with us about
/// the WAL. SQLite goes on with all three when somebody moves, deletes or replaces them: a commit then succeeds in a file
/// that nobody finds any more, or, without the shared memory, one that a visitor empties under us. So the names are
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

    /// Of what is at `path`, a symbolic link not followed; nil where there is nothing, or nobody may look.
    init?(at path: String) {
      var status = stat()
      guard unsafe lstat(path, &status) == 0 else { return nil }
      self.init(status)
    }
  }

  static let suffixes = ["", "-wal", "-shm"]
  private let path: String
  private let identities: [Identity?]

  /// The files of the journal at `path`, which was just opened and has been written to.
  ///
  /// - Throws: `.moved` where one of them is not open in this process: somebody was faster.
  init(at path: String) throws(JournalError) {
    self.path = path
    identities = Self.suffixes.map { Identity(at: path + $0) }
    // Without /proc there is nothing to compare with, and the moment between opening and this look is short.
    guard let open = Self.openFiles(), !identities.allSatisfy({ $0.map(open.keys.contains) ?? false }) else { return }
    throw JournalError(
      kind: .moved("a file was moved, deleted or replaced while it was opened"), operation: "open", object: path)
  }

  /// What happened to the first file whose name is not its own any more, and which it is; nil while all are in place.
  func change() -> (suffix: String, text: String)? {
    for (suffix, identity) in zip(Self.suffixes, identities) {
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

  /// Whether the open database file has a name anywhere; false also where that cannot be found out.
  var databaseHasName: Bool {
    guard let identity = identities[0], let links = Self.openFiles()?[identity] else { return false }
    return links > 0
  }

  /// Removes the WAL and the shared memory of a database that is gone, if they still have their names: SQLite would read
  /// them into whatever gets the database's name next.
  func removeRest() {
    for (suffix, identity) in zip(Self.suffixes, identities).dropFirst() where Identity(at: path + suffix) == identity {
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

extension Journal {
  /// Throws `.moved` where a file of the journal is not at its place any more: nothing may be acknowledged on the strength of
  /// it. Every ``write(_:)`` does this after its commit; whoever rests for long does it now and then.
  ///
  /// What was acknowledged before is brought to safety first: the WAL is copied into the database file, which then is
  /// complete by itself, wherever it is; of a database file that was deleted a copy is made, `PATH.rescued-TIME`.
  public func checkFiles() throws(JournalError) {
    guard let files, !isClosed, failure == nil, let change = files.change() else { return }
    let rescue = rescue(files, change.suffix)
    throw spent(
      JournalError(
        kind: .moved(
          "\(change.text) while it was in use. Nothing was acknowledged on the strength of it since. \(rescue)"),
        operation: "look for the files", object: path))
  }

  /// A number that changes when another connection commits. https://www.sqlite.org/pragma.html#pragma_data_version
  func readDataVersion() throws(JournalError) -> Int64 {
    defer { statements.dataVersion.reset() }
    return try statements.dataVersion.step() ? statements.dataVersion.integer(0) : 0
  }

  /// Saves what the open files hold as far as possible, and tells where it is.
  private func rescue(_ files: JournalFiles, _ changed: String) -> String {
    // With other shared memory a visitor does not see our locks, so nothing is written to the file.
    guard changed != "-shm" else {
      return "The database and its -wal file are as they were: stop whatever else uses them, and start again"
    }
    // A visitor that has written meanwhile has written to another WAL, by the index that it shares with us.
    guard (try? readDataVersion()) == dataVersion else {
      return "Somebody else has written to it since, so nothing was saved: put the file back as it was, with the others"
    }
    database.setBusyTimeout(milliseconds: 1_000)
    let isWhole = (try? database.checkpoint(mode: SQLITE_CHECKPOINT_TRUNCATE)) == true
    if isWhole && files.databaseHasName {
      return changed.isEmpty
        ? "The file that was moved holds all that was acknowledged, and needs no -wal file: put it back, and start again"
        : "The database holds all that was acknowledged, without that file: start again"
    }
    let copy = "\(path)\(Self.rescued)\(Self.utcTime())"
    let quoted = copy.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''")
    do throws(JournalError) {
      // SQLite writes into an empty file, and would make one that others may read.
      try File.create(copy)
      try database.execute("VACUUM INTO '\(quoted)'", "rescue")
      try File.sync(copy)
      try File.sync(File.resolve(copy).directory)
    } catch {
      // What is half written would be taken for what was saved.
      for suffix in ["", "-journal"] { try? File.remove(copy + suffix) }
      return
        "\(pendingRows) messages were not yet committed downstream, and could not be copied to another file: \(error). "
        + "Put the files back together"
    }
    if !files.databaseHasName { files.removeRest() }
    return
      "All that it held, \(pendingRows) pending messages among it, was copied to \(copy): remove what is left at \(path), "
      + "\(path)-wal and \(path)-shm, give that copy the name \(path), and start again"
  }

  /// What stands behind a journal's name in that of a copy that was saved of it.
  private static let rescued = ".rescued-"

  /// Throws where a copy that was saved of this journal waits for somebody to put it in its place: to begin a new journal, or
  /// to go on with half of the old one, would leave acknowledged messages behind in silence.
  public static func refuseRescued(at path: String) throws(JournalError) {
    let (directory, file) = try File.resolve(path)
    try refuseRescued(file, in: directory)
  }

  static func refuseRescued(_ file: String, in directory: String) throws(JournalError) {
    guard let copy = try File.names(in: directory).filter({ "\(directory)/\($0)".hasPrefix(file + rescued) }).max()
    else {
      return
    }
    throw JournalError(
      kind: .moved(
        "the journal was deleted while it was in use, and what it held was saved to \(directory)/\(copy). Remove \(file), "
          + "\(file)-wal and \(file)-shm, if they are there, and give that copy the name \(file); or, to go on without what "
          + "it holds, move it elsewhere"), operation: "open", object: file)
  }
}
