import Platform

/// Decides when deliveries that have arrived go to the journal, so that commits are large under load and nothing waits
/// at rest.
///
/// A commit costs about the same for ten messages as for a hundred: pages, a sync, an acknowledgement, a checkpoint. So
/// while deliveries pour in they gather up to half a prefetch window; the other half is on its way meanwhile, and the
/// broker never has to wait for an acknowledgement. As soon as a read gives few, or nothing more can come, what is there
/// goes at once.
///
/// A value without clock and I/O.
struct Gathering {
  /// A batch this large is handed over before more is read. One message may go beyond.
  static let largestBytes = 4 << 20
  static let mostDeliveries = 8192
  /// A read that gives at least this many deliveries says that more are about to come.
  static let busyDeliveries = 8
  /// How long a delivery waits for others at the most.
  static let longest = Duration.milliseconds(5)
  /// A batch with so many bytes is large enough: its commit costs what its bytes cost.
  static let enoughBytes = 1 << 20
  /// How many are enough if no prefetch count bounds what is on its way.
  private static let enoughUnbounded = 1024

  /// Unacknowledged deliveries after which the broker sends nothing more; nil if there is no such number.
  private let window: UInt64?
  private let enough: Int
  /// When the oldest delivery that waits was read.
  private var since: Instant?

  /// - Parameter prefetch: The prefetch count in use; 0 if the broker knows no bound, or expects no acknowledgements.
  init(prefetch: Int) {
    window = prefetch > 0 ? UInt64(prefetch) : nil
    enough = prefetch > 0 ? max(prefetch / 2, 1) : Self.enoughUnbounded
  }

  /// A read is over, and `waiting` deliveries of `bytes` bytes have not been handed over.
  ///
  /// - Parameters:
  ///   - fresh: How many of them this read gave.
  ///   - unacknowledged: Deliveries of the channel that were not acknowledged yet.
  /// - Returns: True if they go to the journal now; false if it is better to wait a moment for more, and ask again.
  mutating func read(fresh: Int, waiting: Int, bytes: Int, unacknowledged: UInt64, at now: Instant) -> Bool {
    guard waiting > 0 else {
      since = nil
      return false
    }
    let oldest = since ?? now
    since = oldest
    if fresh < Self.busyDeliveries || waiting >= enough || bytes >= Self.enoughBytes { return true }
    if let window, unacknowledged >= window { return true }
    return now - oldest >= Self.longest
  }

  /// What waited was handed over.
  mutating func handedOver() { since = nil }
}
