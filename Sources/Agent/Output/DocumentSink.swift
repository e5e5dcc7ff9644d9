import Journal

/// Where documents go: the Flow runtime, or a file.
///
/// Belongs to the emitter thread. A sink may block for as long as its reader does not read.
protocol DocumentSink {
  /// Stands before every document of the subscription with this index.
  func prefix(of index: Int) -> [UInt8]
  /// Stands after every document.
  var suffix: [UInt8] { get }

  /// True if a last checkpoint without documents is needed to end the capture in order (``Checkpoint/isLast``).
  var tellsLast: Bool { get }

  /// What the sink waits for while it writes.
  var wait: Stall { get }

  /// Writes documents, and that `checkpoint` covers them, so that they count as emitted.
  ///
  /// - Parameter documents: Whole ones (or none, if only the checkpoint has news) with prefix and suffix; the sink may append to it.
  /// - Returns: What is committed by that: nil if someone else says so later.
  /// - Throws: A failure of kind `shortage` if the same write may succeed later: it is tried again before anything else is written.
  mutating func write(_ documents: inout Documents, _ checkpoint: Checkpoint) throws(CaptureFailure) -> Committed?

  /// How long it takes until the sink wants ``rest()``, if no document comes before; nil if it never does.
  var timeUntilRest: Duration? { get }

  /// What is due although no document has come.
  ///
  /// - Returns: The output files that have changed, as they then are, of each subscription.
  mutating func rest() throws(CaptureFailure) -> [Int: OutputRecord]
}

extension DocumentSink {
  var tellsLast: Bool { false }
  var timeUntilRest: Duration? { nil }
  mutating func rest() throws(CaptureFailure) -> [Int: OutputRecord] { [:] }
}

/// Documents that are safe downstream.
struct Committed: Equatable, Sendable {
  var through: Position
  /// The output files that have changed, as they then are, of each subscription.
  var outputs: [Int: OutputRecord] = [:]
}
