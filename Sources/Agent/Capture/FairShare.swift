import Journal

/// Decides whose batches wait when `journal.max_bytes` comes near, so that a queue that floods does not stop the others.
///
/// Each of several subscriptions has a share of the journal, which is its own whatever the others have. Beyond it, it may take what the
/// others leave of theirs: so one that floods fills all but the shares of the others, and then waits alone. It goes on when what is
/// committed, and pruned, has made some room. The broker stops it at its prefetch count meanwhile.
///
/// What each has is estimated by what its batches took; what all have together is known. With one subscription there is nothing to share,
/// and ``SpaceGate`` alone decides.
///
/// A value without clock and I/O.
struct FairShare: Hashable, Sendable {
  /// What a message takes beside its bytes, with its row and its pages: an estimate.
  static let messageBytes: Int64 = 200
  /// The part of `journal.max_bytes` that is shared. The rest is for what is written meanwhile, so that no one is at the limit of all.
  static let part = (of: Int64(8), shared: Int64(7))
  /// One that waits goes on once there is room for this part of what is shared.
  static let resumePart: Int64 = 16

  /// A batch that is not committed, and what it took.
  private struct Batch: Hashable, Sendable {
    var last: Position
    var bytes: Int64
  }

  /// Bytes that are shared.
  private let limit: Int64
  /// What each has that is not committed, oldest first, and the sum of it.
  private var batches: [[Batch]]
  private var held: [Int64]
  /// Bytes of the journal in use by all.
  private(set) var inUse: Int64 = 0
  /// Those whose batches wait.
  private(set) var waiting: Set<Int> = []

  /// - Parameters:
  ///   - count: How many subscriptions there are.
  ///   - maxBytes: `journal.max_bytes`.
  init(_ count: Int, maxBytes: Int64) {
    limit = maxBytes / Self.part.of * Self.part.shared
    batches = Array(repeating: [], count: count)
    held = Array(repeating: 0, count: count)
  }

  /// What is each one's own.
  private var share: Int64 { limit / Int64(held.count) }

  /// A batch was written.
  mutating func appended(_ messages: Int, _ bytes: Int, of index: Int, through last: Position) {
    guard messages > 0, held.count > 1 else { return }
    let took = Int64(bytes) + Int64(messages) * Self.messageBytes
    batches[index].append(Batch(last: last, bytes: took))
    held[index] += took
  }

  /// What is in use after a transaction, and what is committed.
  mutating func wrote(inUse bytes: Int64, committed: Position) {
    inUse = bytes
    guard held.count > 1 else { return }
    for index in batches.indices {
      let done = batches[index].prefix { $0.last <= committed }
      held[index] -= done.reduce(0) { $0 + $1.bytes }
      batches[index].removeFirst(done.count)
    }
  }

  /// Whether a batch of this subscription is taken now.
  mutating func takes(_ index: Int) -> Bool {
    guard held.count > 1 else { return true }
    let reserved = held.indices.reduce(0) { $0 + ($1 == index ? 0 : max(0, share - held[$1])) }
    let room = limit - inUse - reserved
    let wanted = waiting.contains(index) ? limit / Self.resumePart / Int64(held.count) : 0
    let takes = held[index] < share || room > wanted
    if takes { waiting.remove(index) } else { waiting.insert(index) }
    return takes
  }
}
