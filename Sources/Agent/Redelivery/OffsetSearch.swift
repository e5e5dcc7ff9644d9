import AMQP

/// Looks for the next offset that a stream's broker can send (``UndeliverableOffsets``), before a channel begins: which offset is tried, what
/// else has to be known before anything follows from it, and what follows.
///
///   - A broker that fails even when nothing is read fails for another reason; after many failures that is tried.
///   - Nothing comes at the stream's end, nor from a stream that was made anew and is shorter: the last message tells.
///   - Nothing is gone past of a stream of which nothing shows that it is the one that was captured.
///
/// A value without clock and I/O: it says what to look at, and is told what was found.
struct OffsetSearch: Equatable, Sendable {
  /// What is to be looked at, each time on a channel of its own of which nothing is captured.
  enum Look: Equatable, Sendable {
    /// What a channel brings that begins there, on this node of the settings; nil for whichever answers.
    case offset(Int64, node: Int?)
    /// The same of one that begins with what is published next.
    case next
    /// The same of one that begins with the stream's last chunk.
    case last
    /// The same of one that begins with what was captured last.
    case captured(Int64)
  }

  /// What a channel has brought.
  enum Found: Equatable, Sendable {
    /// First came this message.
    case message(StreamEnd.Message)
    /// Nothing came for a while.
    case nothing
    /// The broker ended it by an error of its own (541).
    case fails
  }

  /// What a look has found whose channel or connection has failed.
  ///
  /// - Throws: The failure, if it says nothing of the offset.
  static func found(_ failure: CaptureFailure) throws(CaptureFailure) -> Found {
    guard failure.kind == .internalError else { throw failure }
    return .fails
  }

  /// The newest message that was captured.
  struct Captured: Equatable, Sendable {
    var offset: Int64
    /// Nil in a state of version 0.1.0.
    var digest: DeliveryDigest?
  }

  enum Step: Equatable, Sendable {
    case look(Look)
    /// A channel may begin.
    case begin
    /// A channel may begin after these, which are gone past.
    case pass(ClosedRange<Int64>)
    /// A channel may begin where the settings say: the stream was made anew.
    case anotherStream
    /// What stands in the way is reported, and tried again later.
    case report
  }

  private enum State: Equatable {
    /// An offset is tried.
    case probing
    /// It has failed, as did many before it, and now the broker is tried where nothing is read.
    case doubting
    /// It brought nothing, and now the stream's end is looked at.
    case atEnd
    /// These would be gone past, if the stream still is the same.
    case comparing(ClosedRange<Int64>)
  }

  /// After so many failures in a row it is asked whether the broker can send anything at all.
  static let sanity = 100

  /// The first offset that cannot be sent.
  let first: Int64
  /// What cannot be sent is gone past; else it is only tried whether it still cannot.
  let skips: Bool
  /// Nil before the first.
  let captured: Captured?
  /// What is to be gone past has to fail on each of so many: another one may have a copy that is whole.
  let nodes: Int
  private var state = State.probing
  private var failures = 0
  /// The node on which an offset is tried.
  private var node = 0

  init(first: Int64, skips: Bool, captured: Captured?, nodes: Int = 1) {
    (self.first, self.skips, self.captured, self.nodes) = (first, skips, captured, nodes)
  }

  /// What comes first.
  func begin(_ offsets: UndeliverableOffsets) -> Step {
    offsets.probed.map { .look(.offset($0, node: offsets.isConfirming ? 0 : nil)) } ?? .begin
  }

  /// What a look has brought.
  mutating func looked(_ found: Found, _ offsets: inout UndeliverableOffsets) -> Step {
    let outcome: UndeliverableOffsets.Outcome =
      switch found {
      case .message(let message): .sends(message.offset)
      case .nothing: .isQuiet
      case .fails: .fails
      }
    switch state {
    case .probing:
      guard skips else {
        offsets.lookedAgain(outcome)
        return outcome == .fails ? .report : .begin
      }
      switch outcome {
      case .fails:
        if offsets.isConfirming, let probed = offsets.probed, node + 1 < nodes {
          node += 1
          return .look(.offset(probed, node: node))
        }
        failures += 1
        guard failures.isMultiple(of: Self.sanity) else { break }
        state = .doubting
        return .look(.next)
      case .isQuiet:
        state = .atEnd
        return .look(.last)
      case .sends, .isMissing: break
      }
      return decide(outcome, &offsets)
    case .doubting:
      guard outcome != .fails else { return doubt(&offsets) }
      return decide(.fails, &offsets)
    case .atEnd:
      if case .sends(let last) = outcome, last < first { return decide(.isMissing, &offsets) }
      return decide(.isQuiet, &offsets)
    case .comparing(let range):
      guard let isStill = isStill(found) else { return doubt(&offsets) }
      return isStill ? .pass(range) : .anotherStream
    }
  }

  /// Whether the stream still has the newest captured message where it was; nil if that does not tell.
  private func isStill(_ found: Found) -> Bool? {
    guard let captured else { return true }
    guard case .message(let message) = found, message.offset <= captured.offset else { return nil }
    return message.offset == captured.offset && (captured.digest == nil || captured.digest == message.digest)
  }

  private mutating func decide(
    _ outcome: UndeliverableOffsets.Outcome, _ offsets: inout UndeliverableOffsets
  ) -> Step {
    (state, node) = (.probing, 0)
    switch offsets.looked(outcome) {
    case .probe: return begin(offsets)
    case .goOn: return .begin
    case .tryLater: return .report
    case .pass(let range):
      guard let captured else { return .pass(range) }
      state = .comparing(range)
      return .look(.captured(captured.offset))
    }
  }

  private func doubt(_ offsets: inout UndeliverableOffsets) -> Step {
    offsets.doubt()
    return .report
  }
}
