internal import CSQLite
internal import Glibc

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
      let found = Identity(at: path + suffix)
      if found != identity {
        return (suffix, found == nil ? "\(path)\(suffix) was moved or deleted" : "\(path)\(suffix) was replaced")
      }
    }
    return nil
  }

  /// Whether the open database file has a name anywhere; nil where that cannot be found out.
  var hasName: Bool? {
    guard let identity = identities[0], let links = Self.openFiles()?[identity] else { return nil }
    return links > 0
  }

  /// The files that this process has open, and how many names each has; nil without /proc. Looks, and opens none of them.
  private static func openFiles() -> [Identity: Int]? {
    guard let directory = unsafe opendir("/proc/self/fd") else { return nil }
    defer { unsafe closedir(directory) }
    var found: [Identity: Int] = [:]
    while let entry = unsafe readdir(directory) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { name in
        unsafe String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
      }
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

  /// Saves what the open files hold as far as possible, and tells where it is.
  private func rescue(_ files: JournalFiles, _ changed: String) -> String {
    // With other shared memory a visitor does not see our locks, so nothing is written to the file.
    guard changed != "-shm" else {
      return "The database and its -wal file are as they were: stop whatever else uses them, and start again"
    }
    database.setBusyTimeout(milliseconds: 1_000)
    let isWhole = (try? database.checkpoint(mode: SQLITE_CHECKPOINT_TRUNCATE)) == true
    guard changed == "" else {
      return isWhole
        ? "The database holds all that was acknowledged, without that file: start again"
        : "Its content could not be copied into the database: put it back before the next start"
    }
    if files.hasName == false {
      let copy = "\(path).rescued-\(Self.utcTime())"
      let quoted = copy.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''")
      do throws(JournalError) {
        try database.execute("VACUUM INTO '\(quoted)'", "rescue")
        return
          "What it held, \(pendingRows) pending messages among it, was copied to \(copy): to go on with it, give it the "
          + "journal's name"
      } catch {
        return
          "It held \(pendingRows) messages that were not yet committed downstream, and could not be copied: \(error)"
      }
    }
    return isWhole
      ? "The file that was moved holds all that was acknowledged, and needs no -wal file: put it back, and start again"
      : "Put it back together with its -wal file, and start again"
  }
}
