import Platform

/// Finds out that the prefetch window bounds the throughput (docs/guarantees.md): the broker waits for acknowledgements, which wait for the
/// runtime's commits. That is said once, with the number to set.
///
/// A value without clock and I/O.
struct WindowHint: Equatable, Sendable {
  /// How long the window is observed.
  static let span = Duration.seconds(60)
  /// The share of that time in which it must be full, 0 to 1.
  static let share = 0.5

  private var wasFull = false
  private var last: Instant?
  private var observed = Duration.zero
  private var full = Duration.zero
  private var acknowledged = 0
  private var isTold = false

  /// What was measured.
  struct Finding: Equatable {
    /// So many came through.
    var messagesPerSecond: Double
    /// The count to set: at most four times the present one, and never less.
    var prefetch: Int
  }

  /// A channel begins: the time since the last turn belongs to no channel.
  mutating func channelBegan() {
    wasFull = false
    last = nil
  }

  /// A turn of the connection's loop.
  ///
  /// - Parameters:
  ///   - unacknowledged: Deliveries of the channel without an acknowledgement.
  ///   - prefetch: The channel's; 0 is no limit.
  ///   - acknowledged: How many messages were acknowledged since the last turn.
  /// - Returns: Once; nil before ``span`` has passed, if the window was not full for long enough, or once it was told.
  mutating func turned(unacknowledged: UInt64, prefetch: Int, acknowledged: Int, at now: Instant) -> Finding? {
    guard !isTold, prefetch > 0 else { return nil }
    let passed = last.map { now - $0 } ?? .zero
    observed += passed
    if wasFull { full += passed }
    self.acknowledged += acknowledged
    last = now
    wasFull = unacknowledged >= UInt64(prefetch)
    guard observed >= Self.span else { return nil }
    defer { (observed, full, self.acknowledged) = (.zero, .zero, 0) }
    guard full >= observed * Self.share, self.acknowledged >= prefetch else { return nil }
    isTold = true
    return Finding(
      messagesPerSecond: Double(self.acknowledged) / observed.inSeconds,
      prefetch: max(prefetch, min(prefetch * 4, DeduplicationPolicy.largestCarriedPrefetch)))
  }
}
