/// Documents of one checkpoint, one after the other in the journal's order, and whose they are.
struct Documents: Equatable, Sendable {
  /// Neighbours of one subscription.
  private struct Run: Equatable, Sendable {
    var index: Int
    var start: Int
  }

  /// All of them, each with its prefix and suffix.
  var bytes: [UInt8] = []
  private var runs: [Run] = []

  init() {}

  /// Documents of one subscription.
  init(_ bytes: [UInt8], of index: Int = 0) {
    belong(to: index)
    self.bytes = bytes
  }

  var isEmpty: Bool { bytes.isEmpty }

  /// What is appended from now on is of the subscription with this index.
  mutating func belong(to index: Int) {
    if runs.last?.index != index { runs.append(Run(index: index, start: bytes.count)) }
  }

  /// Those of each subscription, in order.
  var parts: [Int: [UInt8]] {
    var parts: [Int: [UInt8]] = [:]
    for (place, run) in runs.enumerated() {
      let end = place + 1 < runs.count ? runs[place + 1].start : bytes.count
      if run.start < end { parts[run.index, default: []] += bytes[run.start..<end] }
    }
    return parts
  }

  /// Forgets all; memory beyond `bytes` is given back.
  mutating func removeAll(keeping capacity: Int) {
    bytes.removeAll(keepingCapacity: bytes.capacity <= capacity)
    runs.removeAll(keepingCapacity: true)
  }
}
