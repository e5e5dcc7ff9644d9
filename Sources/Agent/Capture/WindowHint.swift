import Platform

/// Finds out that the prefetch window bounds the throughput (docs/guarantees.md): the broker waits for acknowledgements, which wait for the
/// runtime's commits. That is said once, with the number to set.
///
/// A value without clock and I/O.
struct WindowHint: Equatable, Sendable {
  /// How long messages are looked at, and how much of that time the window must be full.
  static let span = Duration.seconds(60)
  static let share = 0.5

  private var wasFull = false
  private var last: Instant?
  private var observed = Duration.zero
  private var full = Duration.zero
  private var acknowledged = 0
  private var isTold = false

  /// What was seen: of how many messages a second, at the most, the window allows now.
  struct Finding: Equatable {
    var messagesPerSecond: Double
    /// What to set.
    var prefetch: Int
  }

  /// A channel begins: what passed since the last turn was no time of a window.
  mutating func began() {
    wasFull = false
    last = nil
  }

  /// A turn of the connection's loop.
  ///
  /// - Parameters:
  ///   - unacknowledged: Deliveries of the channel without an acknowledgement.
  ///   - prefetch: The channel's; 0 is no limit.
  ///   - acknowledged: How many messages were acknowledged since the last turn.
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
