/// What has come to pass on a channel that is narrow.
///
/// A value without I/O.
struct NarrowChannel: Equatable, Sendable {
  let isNarrow: Bool
  /// The consumer is cancelled, and nothing more comes.
  var isCancelled = false
  /// A message was captured by which the narrow channels end.
  private(set) var hasSucceeded = false
  private var acknowledged: UInt64 = 0
  /// Tags above `acknowledged` that were rejected, which no acknowledgement covers if they are the last.
  private var rejected: [UInt64] = []

  init(isNarrow: Bool) { self.isNarrow = isNarrow }

  /// Whether the consumer is to be cancelled before these commands are obeyed.
  func mustCancel(_ commands: ConnectionCommands, _ generation: Int) -> Bool {
    isNarrow && !isCancelled && (commands.cleared == generation || commands.fresh == generation)
  }

  /// The commands were obeyed, and everything up to the tag is acknowledged.
  mutating func received(_ commands: ConnectionCommands, _ generation: Int, acknowledged tag: UInt64) {
    guard isNarrow else { return }
    if commands.fresh == generation { hasSucceeded = true }
    acknowledged = tag
    rejected += commands.rejected.filter { $0.generation == generation }.map(\.tag)
    rejected.removeAll { $0 <= tag }
  }

  /// Whether all deliveries up to `newest` were acknowledged or rejected, and there were any.
  func isAllAcknowledged(upTo newest: UInt64) -> Bool {
    newest > 0 && acknowledged + UInt64(rejected.count { $0 <= newest }) >= newest
  }
}
