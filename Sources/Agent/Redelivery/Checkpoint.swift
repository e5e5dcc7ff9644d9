import Journal

/// What a checkpoint covers.
struct Checkpoint: Hashable, Sendable {
  /// What it says of one subscription.
  struct Part: Hashable, Sendable {
    /// Which of the capture's subscriptions.
    var index: Int
    /// Once the checkpoint is committed, the broker may forget messages up to this number.
    var releasable: Position
    /// What recognises redeliveries, for a connector whose journal does not outlive it.
    var redelivery: RedeliveryState?
    /// Where to go on in a stream; also if the journal knows it, which may be taken away.
    var stream: StreamResumption.State?
  }

  /// All documents up to here.
  var through: Position
  /// Of the subscriptions of which it covers anything new.
  var parts: [Part] = []
  /// Everything is emitted and acknowledged: a journal could be taken away.
  var isLast = false

  /// What both cover: nothing goes back.
  mutating func merge(_ newer: Checkpoint) {
    through = max(through, newer.through)
    for part in newer.parts {
      guard let index = parts.firstIndex(where: { $0.index == part.index }) else {
        parts.append(part)
        continue
      }
      parts[index].releasable = max(parts[index].releasable, part.releasable)
    }
  }

  /// It covers all that `other` does, as far as numbers tell.
  func covers(_ other: Checkpoint) -> Bool {
    through >= other.through
      && other.parts.allSatisfy { owed in parts.contains { $0.index == owed.index && $0.releasable >= owed.releasable }
      }
  }

  /// Without what only the runtime needs, which may be large.
  var numbers: Checkpoint {
    Checkpoint(
      through: through, parts: parts.map { Part(index: $0.index, releasable: $0.releasable) }, isLast: isLast)
  }
}
