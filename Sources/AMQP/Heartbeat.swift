/// Decides when a heartbeat has to be sent and when the broker counts as gone. Times are seconds of a clock that goes
/// on while the machine sleeps, so that a process that was stopped for long finds its connection dead.
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

  /// Seconds; 0 is off.
  let interval: Double
  private var sent: Double
  private var heard: Double

  init(intervalSeconds: UInt16, at now: Double) {
    interval = Double(intervalSeconds)
    sent = now
    heard = now
  }

  mutating func sent(at now: Double) { sent = now }

  mutating func heard(at now: Double) { heard = now }

  /// Reading begins again after it was paused by us: what lies unread in the socket is not the broker's silence.
  mutating func resumedListening(at now: Double) { heard = max(heard, now - interval) }

  /// What to do now. Without `listening` (the socket is left unread on purpose) silence proves nothing; with `blocked`,
  /// bytes wait because the broker does not take them.
  func action(at now: Double, listening: Bool, blocked: Bool) -> Action {
    if interval == 0 { return .none }
    if blocked { return now - sent >= 2 * interval ? .giveUp : .none }
    if listening && now - heard >= 2 * interval { return .giveUp }
    return now - sent >= interval / 2 ? .send : .none
  }

  /// When to ask again; nil where heartbeats are off.
  func nextDeadline(listening: Bool) -> Double? {
    if interval == 0 { return nil }
    return listening ? min(sent + interval / 2, heard + 2 * interval) : sent + interval / 2
  }
}
