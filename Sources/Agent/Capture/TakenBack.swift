/// What follows when a queue has taken back what the channel held, and a new channel is to bring it again.
///
/// While the nodes of a cluster lose each other again and again, a queue does so at each time; then there is a pause. And what
/// the queue's leader sends to the new channel may be lost between nodes: the channel notices that at the next message only, so
/// where nothing comes it is given up for another (seen on RabbitMQ 4.0.5).
///
/// A value without clock and I/O; times are of one monotonic clock, in seconds.
struct TakenBack: Equatable, Sendable {
  /// Seconds without a delivery after which another channel is tried, and how often.
  static let patience = 5.0
  static let limit = 3
  /// Seconds between two channels, if they follow soon on one another.
  static let pause = 0.5

  /// When a channel was given up.
  private var last: Double?
  /// How many channels may yet be given up because nothing comes.
  private var attempts = 0
  /// The newest channel was given up because nothing came.
  private var wasMissing = false

  /// A channel is given up: how many seconds to wait until the next one.
  mutating func pause(at now: Double) -> Double {
    if !wasMissing { attempts = Self.limit }
    wasMissing = false
    defer { last = now }
    guard let last, now - last < Self.patience * 2 else { return 0 }
    return Self.pause
  }

  /// Something is delivered.
  mutating func cameAgain() { attempts = 0 }

  /// Whether the channel that began then is to be given up, since nothing of what was taken back has come.
  mutating func isMissing(since began: Double, at now: Double) -> Bool {
    guard attempts > 0, now - began >= Self.patience else { return false }
    attempts -= 1
    wasMissing = true
    return true
  }
}
