internal import Platform

/// Bounds what a broker may tell without being asked: a broker of good will says little, and rarely.
struct NoticeLimit {
  /// How many in a second.
  static let perSecond = 100
  private var began = Instant.distantPast
  private var count = 0

  /// Whether one more is bearable.
  private mutating func allows(at now: Instant) -> Bool {
    if now - began >= .seconds(1) {
      began = now
      count = 0
    }
    count += 1
    return count <= Self.perSecond
  }

  /// Throws if one more is not.
  mutating func check(at now: Instant) throws(AMQPError) {
    guard !allows(at: now) else { return }
    throw AMQPError(
      .malformed(text: "a flood of connection.blocked, connection.unblocked or basic.cancel"),
      during: "using the connection")
  }
}
