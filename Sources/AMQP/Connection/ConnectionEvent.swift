/// What a broker tells without being asked.
public enum ConnectionEvent: Equatable, Sendable {
  /// The broker ended our consumer: its queue was deleted, or moved to another node.
  case consumerCancelled(tag: String)
  /// The broker asks publishers to wait, for lack of memory or disk.
  case blocked(reason: String)
  case unblocked
}
