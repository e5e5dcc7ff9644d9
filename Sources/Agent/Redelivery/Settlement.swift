import Journal

/// A step of a settling that a checkpoint of its own is to carry (``SettlingMachine``).
struct Settlement: Hashable, Sendable {
  enum Step: Hashable, Sendable {
    /// Everything captured may be acknowledged.
    case settling
    /// The broker has the acknowledgement.
    case settled
  }

  /// Which of the capture's subscriptions it is of.
  var index = 0
  /// The position of the newest message that was captured of it so far; void once there is more.
  var position: Position
  /// That message's number.
  var captured: Position
  var step: Step
  /// Acknowledgements rest on the checkpoint.
  var isCarried: Bool
  /// Counts the steps of the process, from 1.
  var number: Int
}
