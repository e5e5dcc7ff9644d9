internal import CSQLite

/// When the journal's files are put in order. Pure, so that the rules have a table of tests.
struct Maintenance {
  /// WAL bytes from which a checkpoint is worth its two syncs.
  static let checkpointBytes: Int64 = 16 << 20
  /// WAL bytes from which a checkpoint waits a moment for readers, so that the next write starts the WAL anew.
  static let restartBytes: Int64 = 64 << 20
  /// WAL bytes that stay allocated after a burst.
  static let keptWALBytes: Int64 = 32 << 20
  /// Free bytes that are not worth giving back: steady traffic uses them again.
  static let floorBytes: Int64 = 4 << 20
  /// Bytes given back in one call, so that no call takes long.
  static let sliceBytes: Int64 = 4 << 20

  enum Checkpoint: Equatable { case none, passive, restart, truncate }

  /// - Parameters:
  ///   - wal: Bytes in the WAL after the last commit.
  ///   - attempted: What they were at the last attempt, 0 if the WAL was started anew since.
  static func checkpoint(wal: Int64, attempted: Int64, idle: Bool) -> Checkpoint {
    if idle { return wal > 0 ? .truncate : .none }
    // Not again at every commit while a reader holds an old snapshot: nothing could be copied.
    guard wal - attempted >= checkpointBytes else { return .none }
    return wal >= restartBytes ? .restart : .passive
  }

  /// How many bytes of free pages to give back to the file system now.
  static func vacuum(used: Int64, free: Int64, idle: Bool) -> Int64 {
    guard free > floorBytes, idle || free > used else { return 0 }
    return min(free - floorBytes, sliceBytes)
  }
}

extension Journal {
  /// Bytes of the WAL that are in use, in addition to the file.
  public var walBytes: Int64 {
    // A frame is a page and 24 bytes, after a header of 32 (https://www.sqlite.org/fileformat.html#walformat).
    let frames = Int64(database.walFrames)
    return frames == 0 ? 0 : 32 + frames * (pageSize + 24)
  }

  /// What a cap on space counts: ``usedBytes``, and what the WAL has grown beyond its usual size because an outside reader
  /// keeps it from being reused.
  public var boundedBytes: Int64 { usedBytes + max(0, walBytes - Maintenance.restartBytes) }

  /// Bytes by which the WAL has grown beyond its usual size because a reader holds a snapshot and an attempt to empty the WAL
  /// was refused for it; 0 otherwise.
  public var heldWALBytes: Int64 { isWALHeld ? max(0, walBytes - Maintenance.restartBytes) : 0 }

  /// Programs other than this one that hold a snapshot of the journal, as far as the system tells.
  public func snapshotHolders() -> [SnapshotHolder] { SnapshotHolder.find(journal: path) }

  /// Bytes that are free for this user on the file's disk, and the disk's size.
  public func disk() throws(JournalError) -> (free: Int64, size: Int64) {
    do throws(JournalError) { return try File.space(path) } catch {
      // That there is no such file has a reason of its own.
      try checkFiles()
      throw error
    }
  }

  /// Copies the WAL into the file and gives free space back, if it is time to.
  ///
  /// Call it between transactions, after each or every few; a call that has nothing to do costs nothing. One that has
  /// takes some milliseconds to tenths of a second, disk permitting. With `idle` (nothing to append for a while) it
  /// also empties the WAL and goes further in giving space back; repeat while it returns true.
  ///
  /// - Returns: True if another call would have more to do.
  /// - Throws: `.full`: nothing is lost, the WAL holds it; anything else fatal ends the journal.
  @discardableResult
  public func maintain(idle: Bool = false) throws(JournalError) -> Bool {
    try checkUsable()
    do throws(JournalError) {
      let slice = Maintenance.vacuum(used: usedBytes, free: freeBytes, idle: idle)
      if slice > 0 {
        try database.execute("PRAGMA incremental_vacuum(\(max(1, slice / pageSize)))", "give space back")
        (usedBytes, freeBytes) = try space()
      }
      try checkpoint(idle: idle)
      return Maintenance.vacuum(used: usedBytes, free: freeBytes, idle: idle) > 0
    } catch {
      throw spent(error)
    }
  }

  private func checkpoint(idle: Bool) throws(JournalError) {
    let frames = database.walFrames
    if frames < attemptedFrames { attemptedFrames = 0 }
    let attempted = Int64(attemptedFrames) * (pageSize + 24)
    switch Maintenance.checkpoint(wal: walBytes, attempted: attempted, idle: idle) {
    case .none: return
    case .passive: _ = try database.checkpoint(mode: SQLITE_CHECKPOINT_PASSIVE)
    case .restart:
      isWALHeld = try !startAnew(SQLITE_CHECKPOINT_RESTART)
    case .truncate:
      isWALHeld = try !startAnew(SQLITE_CHECKPOINT_TRUNCATE)
    }
    attemptedFrames = database.walFrames
  }

  /// Checkpoints so that the next write starts the WAL anew; waits for readers no longer than the emitter's short reads need.
  ///
  /// - Returns: False if a reader prevented it.
  func startAnew(_ mode: Int32) throws(JournalError) -> Bool {
    database.setBusyTimeout(milliseconds: 50)
    defer { database.setBusyTimeout(milliseconds: busyMilliseconds) }
    return try database.checkpoint(mode: mode)
  }
}
