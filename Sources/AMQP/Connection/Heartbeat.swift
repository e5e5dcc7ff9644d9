internal import Platform

/// Decides when a heartbeat has to be sent and when the broker counts as gone. A process that
/// was stopped for long finds its connection dead, since ``Instant`` counts that time.
///
/// A peer sends a frame at least every interval; RabbitMQ closes after two missed ones, and so do we. Any byte
/// counts as life. https://www.rabbitmq.com/docs/heartbeats
struct Heartbeat {
  enum Action: Equatable {
    case none
    /// Nothing was sent for half an interval.
    case send
    /// Nothing was heard for two intervals while we were listening, or nothing of ours was taken.
    case giveUp
  }

  /// 0 is off.
  let interval: Duration
  /// Half of it, after which a frame is due, and twice that, after which a peer is gone.
  private let (half, double): (Duration, Duration)
  private var sent: Instant
  private var heard: Instant

  init(intervalSeconds: UInt16, at now: Instant) {
    interval = .seconds(Int(intervalSeconds))
    (half, double) = (interval / 2, interval * 2)
    sent = now
    heard = now
  }

  mutating func sent(at now: Instant) { sent = now }

  mutating func heard(at now: Instant) { heard = now }

  /// Reading begins again after it was paused by us: what lies unread in the socket is not the broker's silence.
  mutating func resumedListening(at now: Instant) { heard = max(heard, now - interval) }

  /// What to do now. Without `listening` (the socket is left unread on purpose) silence proves nothing; with `blocked`,
  /// bytes wait because the broker does not take them.
  func action(at now: Instant, listening: Bool, blocked: Bool) -> Action {
    if interval == .zero { return .none }
    if blocked { return now - sent >= double ? .giveUp : .none }
    if listening && now - heard >= double { return .giveUp }
    return now - sent >= half ? .send : .none
  }

  /// When to ask again; nil if heartbeats are off. With `blocked` nothing can be sent before that.
  func nextDeadline(listening: Bool, blocked: Bool = false) -> Instant? {
    if interval == .zero { return nil }
    if blocked { return sent + double }
    return listening ? min(sent + half, heard + double) : sent + half
  }
}
