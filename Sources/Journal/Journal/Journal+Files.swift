internal import CSQLite
internal import Glibc

extension Journal {
  /// Throws `.moved` if a file of the journal is not at its place any more: nothing may be acknowledged on the strength of
  /// it. Every ``write(_:)`` does this after its commit; a thread that rests for long does it now and then.
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
      return "Someone else has written to it since, so nothing was saved: put the file back as it was, with the others"
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

  /// What stands after a journal's name in that of a copy that was saved of it.
  private static let rescued = ".rescued-"

  /// Throws if a copy that was saved of this journal waits for someone to put it in its place: to begin a new journal, or
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
