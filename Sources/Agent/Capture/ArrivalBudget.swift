/// How much memory each of several subscriptions may use for what arrives, so that all together use little more than one alone: what a read
/// brings, and the batches on their way to the journal. One message may always go beyond it.
struct ArrivalBudget: Equatable, Sendable {
  /// Bytes of the batches of all, of which each has two or three at a time.
  private static let batches = 16 << 20
  /// Bytes that all read at once.
  private static let reads = 4 << 20

  /// A batch this large is handed over before more is read.
  let batchBytes: Int
  /// One read takes up to this much.
  let readBytes: Int

  /// - Parameter count: How many subscriptions there are.
  init(_ count: Int) {
    batchBytes = min(max(Self.batches / max(count, 1), 64 << 10), Gathering.largestBytes)
    readBytes = min(max(Self.reads / max(count, 1), 16 << 10), 256 << 10)
  }
}
