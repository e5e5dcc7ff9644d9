import Platform

/// What follows when a queue has taken back what the channel held, and a new channel is to bring it again.
///
/// While the nodes of a cluster lose each other, a queue does so again and again; then there are pauses, each twice as long as the
/// one before, so that the few channels that there are (``RedeliveryMachine``) outlast it. And what
/// the queue's leader sends to the new channel may be lost between nodes: the channel notices that at the next message only, so
/// if nothing comes it is given up for another (seen on RabbitMQ 4.0.5).
///
/// A value without clock and I/O.
struct TakenBack: Equatable, Sendable {
  /// How long without a delivery until another channel is tried, and how often.
  static let patience = Duration.seconds(5)
  static let limit = 3
  /// Between two channels, if they follow soon on one another: at first, and at the most.
  static let pauses = (least: Duration.milliseconds(500), most: Duration.seconds(8))

  /// When a channel was given up, and for how long none was tried then.
  private var last: Instant?
  private var newest = Duration.zero
  /// How many channels may yet be given up because nothing comes.
  private var attempts = 0
  /// The newest channel was given up because nothing came.
  private var wasMissing = false

  /// A channel is given up: how long to wait until the next one.
  mutating func pause(at now: Instant) -> Duration {
    if !wasMissing { attempts = Self.limit }
    wasMissing = false
    let isSoon = last.map { now - $0 < newest + Self.patience * 2 } ?? false
    newest = isSoon ? min(max(Self.pauses.least, newest * 2), Self.pauses.most) : .zero
    last = now
    return newest
  }

  /// Something is delivered.
  mutating func cameAgain() { attempts = 0 }

  /// When the channel that began then is to be looked at, even if nothing comes; nil for never.
  func deadline(since began: Instant) -> Instant? { attempts > 0 ? began + Self.patience : nil }

  /// Whether the channel that began then is to be given up, since nothing of what was taken back has come.
  mutating func giveUpIfMissing(since began: Instant, at now: Instant) -> Bool {
    guard attempts > 0, now - began >= Self.patience else { return false }
    attempts -= 1
    wasMissing = true
    return true
  }
}
