/// A checkpoint and the documents before it, as the connector writes them.
struct ModelCheckpoint: Hashable {
  /// Messages whose documents it covers.
  var documents: [Int]
  /// The connector's state: what a new process starts from.
  var state: ModelRecord
}

/// The Flow runtime: commits checkpoints in order, one by one or several in one transaction, and acknowledges them
/// afterwards. Acknowledgements that are on their way when the connector ends are lost; so is what was not committed.
struct ModelRuntime {
  private(set) var received: [ModelCheckpoint] = []
  /// Messages whose documents are committed, in order.
  private(set) var committed: [Int] = []
  /// State of the last committed checkpoint.
  private(set) var state = ModelRecord()
  /// For each acknowledgement on its way: how many checkpoints it is about.
  private(set) var acknowledgements: [Int] = []

  mutating func receive(_ checkpoint: ModelCheckpoint) { received.append(checkpoint) }

  /// Commits the first `count` checkpoints in one transaction.
  mutating func commit(_ count: Int) {
    for checkpoint in received[..<count] {
      committed += checkpoint.documents
      state = checkpoint.state
    }
    received.removeFirst(count)
    acknowledgements.append(count)
  }

  /// - Returns: How many checkpoints were acknowledged.
  mutating func acknowledge() -> Int { acknowledgements.removeFirst() }

  /// The connector's process ended, and a new one starts from ``state``.
  mutating func connectorEnded() {
    received = []
    acknowledgements = []
  }

  func encode(into key: inout [UInt8]) {
    func byte(_ number: Int) -> UInt8 { UInt8(truncatingIfNeeded: number) }
    for checkpoint in received {
      key.append(byte(checkpoint.documents.count))
      for message in checkpoint.documents { key.append(byte(message)) }
      key.append(byte(checkpoint.state.releasable))
      key.append(byte(checkpoint.state.settled))
    }
    key.append(254)
    for message in committed { key.append(byte(message)) }
    key.append(byte(state.releasable))
    key.append(byte(state.settled))
    for count in acknowledgements { key.append(byte(count)) }
    key.append(255)
  }
}
