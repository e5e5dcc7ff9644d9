import Journal

/// Decides when intake pauses for want of space, and when it goes on.
///
/// Between the two lies a distance, so that a capture at its limit does not pause and go on with every batch. What is left
/// free of the disk while intake is paused is for the journal itself: recording what is committed and pruning it also
/// write.
///
/// States: open, to paused when a limit is reached; paused, to open when every limit is far enough away.
struct SpaceGate: Equatable, Sendable {
  /// What there is, in bytes.
  struct Space: Equatable, Sendable {
    /// What the journal takes: pages in use, and what the WAL has grown beyond its usual size.
    var inUse: Int64
    /// How much of it is the WAL because a reader holds a snapshot: it comes back when the reader goes, and only then.
    var held: Int64 = 0
    /// Some of that will be given up: messages are not yet committed, or not yet pruned.
    var isShrinking: Bool
    /// Free on the journal's disk for this user, and the disk's size.
    var free: Int64
    var disk: Int64
  }

  /// Why intake is paused.
  enum Reason: Equatable, Sendable {
    /// `journal.max_bytes` is reached.
    case cap(inUse: Int64, of: Int64)
    /// The limit would not be reached if no reader held a snapshot: `held` bytes are the WAL's, `disk` tells which limit.
    case reader(held: Int64, disk: Bool)
    case disk(free: Int64, of: Int64, resume: Int64)

    var isReader: Bool {
      if case .reader = self { return true }
      return false
    }

    /// For a log and for people.
    ///
    /// - Parameter holders: The programs that hold a snapshot, as far as they are known.
    func text(holders: [SnapshotHolder]) -> String {
      switch self {
      case .cap(let inUse, let maxBytes):
        return "the journal is at journal.max_bytes (\(inUse) of \(maxBytes) bytes in use)"
      case .disk(let free, let size, let resume):
        return "the journal's disk is nearly full (\(free) of \(size) bytes free; intake goes on at \(resume))"
      case .reader(let held, let disk):
        let names = holders.map(\.description).joined(separator: ", ")
        return
          "another program holds an old snapshot of the journal\(names.isEmpty ? "" : ": \(names)"); until it closes it the "
          + "journal's -wal file cannot be emptied: that has \(held) bytes too many, and "
          + (disk ? "the disk is nearly full" : "journal.max_bytes is reached")
      }
    }
  }

  /// `journal.max_bytes`.
  let maxBytes: Int64
  private(set) var isPaused = false

  init(maxBytes: Int64) { self.maxBytes = maxBytes }

  /// Free bytes of a disk at which intake pauses; it goes on at twice as many.
  static func reserve(of disk: Int64) -> Int64 { min(disk / 20, 64 << 20) }

  /// In use, from which a paused intake goes on.
  var resumeBytes: Int64 { maxBytes / 4 * 3 }

  /// Looks at what there is now.
  ///
  /// - Returns: Why intake is paused; nil if it is open.
  mutating func check(_ space: Space) -> Reason? {
    let reserve = Self.reserve(of: space.disk)
    let cap = isPaused && space.isShrinking ? resumeBytes + 1 : maxBytes
    let isCapped = space.inUse >= cap
    let isDiskFull = space.free < (isPaused ? 2 * reserve : reserve)
    isPaused = isCapped || isDiskFull
    if isCapped {
      guard space.held > 0, space.inUse - space.held < cap else { return .cap(inUse: space.inUse, of: maxBytes) }
      return .reader(held: space.held, disk: false)
    }
    if isDiskFull {
      guard space.held > 0, space.free + space.held >= reserve else {
        return .disk(free: space.free, of: space.disk, resume: 2 * reserve)
      }
      return .reader(held: space.held, disk: true)
    }
    return nil
  }
}

/// What was told of a pause of intake: again only if it has another cause, or another program holds the journal, than before.
///
/// A value without clock and I/O.
struct PauseReport: Sendable {
  private var told: (isReader: Bool, holders: [SnapshotHolder])?

  /// - Parameters:
  ///   - isReader: It lasts since a program holds a snapshot.
  ///   - holders: Those programs.
  /// - Returns: Whether that is news.
  mutating func found(isReader: Bool, _ holders: [SnapshotHolder]) -> Bool {
    if let told, told.isReader == isReader, told.holders.allSatisfy(holders.contains) { return false }
    told = (isReader, holders)
    return true
  }
}
