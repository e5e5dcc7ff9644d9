/// How many deliveries may be unacknowledged on the next channel, so that a message that ends each channel takes no others along.
///
/// There are messages that a broker cannot send: RabbitMQ 4 closes the connection with 541 when an AMQP 1.0 message does not
/// translate. Each such end counts as a failed delivery of everything that was on its way with that message, and a quorum queue of
/// RabbitMQ 4 drops or dead-letters what failed twenty times. With a window of a hundred that is a hundred messages for one.
///
/// So if the broker ends a channel by an error of its own, the next ones are narrow:
///
///   1. *Clearing*: what was captured and not acknowledged comes back first. The channel is as wide as that, and its consumer is
///      cancelled as soon as it is there, before the acknowledgements make room. Then the channel is closed.
///   2. *Stepping*: one delivery at a time. If its channel ends as well, only that message counts a failed delivery, until the queue's
///      delivery limit takes it out.
///
/// A quorum queue keeps what was taken back apart, in a queue of its own before all else, and puts what is taken back once more
/// at that queue's end. So as long as anything of it is left, more than one delivery at a time could come back out of order, and what
/// comes would be captured twice. The first message that was never delivered before shows that nothing is left. Its consumer is
/// cancelled, it is acknowledged, the channel is closed, and the next channel is wide. The broker's answer to that close shows that it has
/// all the acknowledgements, so later look-alikes are not mistaken for these messages.
/// https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
///
/// If earlier processes may have ended before they acknowledged anything, the first channel lets one delivery through, too, unless
/// something can come back: then a series of crashes costs that message alone.
///
/// A value without I/O.
struct PrefetchGuard: Equatable, Sendable {
  enum Width: Equatable, Sendable {
    /// What the settings say.
    case configured
    /// So many come back, and nothing else is to come.
    case clearing(Int)
    /// One.
    case stepping
    /// So many of a stream (``UndeliverableOffsets``).
    case few(Int)

    /// The prefetch count, if the settings say `configured`.
    func count(_ configured: Int) -> Int {
      switch self {
      case .configured: configured
      case .clearing(let count): configured == 0 ? count : min(count, configured)
      case .stepping: 1
      case .few(let count): count
      }
    }
  }

  /// Channels on which what comes back was to be acknowledged, and was not, before one message at a time is tried all the same.
  private static let clearings = 2

  /// The next channels are narrow. Begins with an error of the broker's own, ends with a success.
  private(set) var isNarrow = false
  private var width = Width.configured
  /// How many clearing channels in a row have failed.
  private var uncleared = 0
  /// How many channels in a row the broker ended with one message alone.
  private(set) var steps = 0

  /// The next channel is to be narrow: the capture's first one, if nothing can come back, or one that may bring a message that is refused.
  mutating func beginNarrow() { isNarrow = true }

  /// A channel ended by a failure.
  ///
  /// - Parameters:
  ///   - isInternalError: The broker ended it by an error of its own (541).
  ///   - hasAcknowledged: Something was acknowledged on it.
  mutating func failed(isInternalError: Bool, hasAcknowledged: Bool) {
    guard isInternalError else { return }
    switch width {
    case .configured, .few: break
    case .clearing: uncleared = hasAcknowledged ? 0 : uncleared + 1
    case .stepping: steps = hasAcknowledged ? 1 : steps + 1
    }
    isNarrow = true
  }

  /// How wide the next channel is.
  ///
  /// - Parameter returning: How many captured messages may come again on it: what was not acknowledged, or was, and the broker may
  ///   not know.
  mutating func next(returning: Int) -> Width {
    if !isNarrow {
      width = .configured
    } else if returning > 1, uncleared < Self.clearings {
      width = .clearing(returning)
    } else {
      width = .stepping
    }
    return width
  }

  /// What came back was acknowledged.
  mutating func cleared() { uncleared = 0 }

  /// A message was captured and acknowledged that was never delivered before: nothing of what was taken back is left.
  mutating func succeeded() { self = PrefetchGuard() }
}
