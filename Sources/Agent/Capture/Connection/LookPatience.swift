import Platform

/// Decides how long a look into a stream waits for its message: so long without one, and as long as more of a large one comes.
///
/// A value without clock and I/O.
struct LookPatience: Equatable, Sendable {
  /// What heartbeats, which say nothing of the message, bring at the most between two looks.
  static let noise: UInt64 = 64

  private let time: Duration
  private var received: UInt64
  private var deadline: Instant

  /// - Parameter received: Bytes that have come on the connection.
  init(_ time: Duration, received: UInt64, at now: Instant) {
    (self.time, self.received, deadline) = (time, received, now + time)
  }

  /// What has come was read.
  ///
  /// - Parameter isArriving: The message has begun to arrive, and is not whole.
  /// - Returns: Until when to wait for more; nil if it was waited long enough.
  mutating func looked(isArriving: Bool, received bytes: UInt64, at now: Instant) -> Instant? {
    if isArriving, bytes - received > Self.noise { (received, deadline) = (bytes, now + time) }
    return now < deadline ? deadline : nil
  }
}
