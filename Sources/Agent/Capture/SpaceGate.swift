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
    /// Some of that will be given up: messages are not yet committed, or not yet pruned.
    var isShrinking: Bool
    /// Free on the journal's disk for this user, and the disk's size.
    var free: Int64
    var disk: Int64
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
  /// - Returns: Why intake is paused; nil where it is open.
  mutating func check(_ space: Space) -> String? {
    let reserve = Self.reserve(of: space.disk)
    let isCapped =
      space.inUse >= maxBytes || (isPaused && space.isShrinking && space.inUse > resumeBytes)
    let isDiskFull = space.free < (isPaused ? 2 * reserve : reserve)
    isPaused = isCapped || isDiskFull
    if isCapped { return "the journal is at journal.max_bytes (\(space.inUse) of \(maxBytes) bytes in use)" }
    if isDiskFull {
      return "the journal's disk is nearly full (\(space.free) of \(space.disk) bytes free; intake goes on at "
        + "\(2 * reserve))"
    }
    return nil
  }
}
