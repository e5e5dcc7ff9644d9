import Platform

/// Decides when a queue is consumed again of which a message was refused (`document.oversize: fail`), while other queues of the capture go on.
///
/// A queue may count deliveries, and drop what was delivered too often, with all that was on its way with it. Such a queue is only looked at,
/// and consumed again once there is less in it than at the look before, or nothing, or it is not there any more: someone may have taken
/// the message out of it. That is tried a few times at the most; then only a start, or an empty queue, tries again. A queue that does not
/// count is consumed again and again. The intervals grow.
///
/// A value without clock and I/O.
struct RefusedMessage: Sendable {
  /// The intervals grow no more after so many attempts that brought nothing else.
  private static let most = 16

  /// How often a message that is refused may be delivered to find out that it is still there: well below what queues allow.
  private static let mostDeliveries = 5
  /// The shortest first interval.
  private static let leastDelay = Duration.milliseconds(100)

  /// Why; nil if none was refused, or what was refused may be gone.
  private(set) var failure: CaptureFailure?
  /// How many messages the queue had when it was looked at; nil before.
  private var messages: UInt32?
  /// Attempts in a row that brought nothing else, and how many of them were deliveries.
  private var attempts = 0
  private var deliveries = 0

  /// A channel ended by it.
  ///
  /// - Parameters:
  ///   - isCounted: The queue may count deliveries.
  ///   - hasAcknowledged: Something was acknowledged on the channel.
  mutating func refused(_ failure: CaptureFailure, isCounted: Bool, hasAcknowledged: Bool) {
    attempts = hasAcknowledged ? 0 : min(attempts + 1, Self.most)
    deliveries = hasAcknowledged ? 1 : deliveries + 1
    messages = nil
    self.failure = isCounted ? failure : nil
  }

  /// The queue was looked at, and it is still there.
  mutating func isStillThere() { attempts = min(attempts + 1, Self.most) }

  /// How long to wait before the next attempt.
  ///
  /// - Parameter delay: Between attempts in general.
  func pause(_ delay: Duration) -> Duration {
    min(max(delay, Self.leastDelay) * (1 << attempts), max(delay, ReconnectMachine.longestBackoff))
  }

  /// The queue was looked at.
  ///
  /// - Parameter count: How many messages are ready in it; nil if there is no such queue.
  /// - Returns: Whether it is consumed.
  mutating func consumes(holding count: UInt32?) -> Bool {
    guard failure != nil else { return true }
    defer { messages = count }
    let isEmpty = (count ?? 0) == 0
    let hasFewer = if let messages, let count { count < messages } else { false }
    guard isEmpty || hasFewer && deliveries < Self.mostDeliveries else { return false }
    failure = nil
    return true
  }
}
