/// The place of one message in a journal: 1, 2, 3 … in the order of appending.
///
/// Positions only grow and are never used twice in one journal, also not after everything was pruned.
/// Zero (``origin``) stands before the first message.
public struct Position: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The number itself, 0 or more.
  public let rawValue: Int64

  public init(rawValue: Int64) { self.rawValue = rawValue }

  /// Before the first message of a journal.
  public static let origin = Position(rawValue: 0)

  public static func < (left: Position, right: Position) -> Bool { left.rawValue < right.rawValue }

  /// The position `count` messages later.
  public static func + (left: Position, count: Int) -> Position {
    Position(rawValue: left.rawValue + Int64(count))
  }

  /// How many messages lie after `right` up to and including `left`.
  public static func - (left: Position, right: Position) -> Int { Int(left.rawValue - right.rawValue) }

  public var description: String { String(rawValue) }
}
