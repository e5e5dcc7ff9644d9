/// Looks for the next offset that a stream's broker can send (``UndeliverableOffsets``), before a channel begins: which offset is tried, what
/// else has to be known before anything follows from it, and what follows.
///
///   - A broker that fails where nothing is read fails for another reason, so after many failures that is tried.
///   - Nothing comes at the stream's end, nor from a stream that was made anew and is shorter: the last message tells.
///   - Nothing is gone past of a stream of which nothing shows that it is the one that was captured.
///
/// A value without I/O: it says what to look at, and is told what was found.
struct OffsetSearch: Equatable, Sendable {
  /// What is to be looked at, each time on a channel of its own of which nothing is captured.
  enum Look: Equatable, Sendable {
    /// What a channel brings that begins there. With `onEveryNode` it fails only if it does on each node of the settings: another one may
    /// have a copy that is whole.
    case offset(Int64, onEveryNode: Bool)
    /// The same of one that begins with what is published next.
    case next
    /// The same of one that begins with the stream's last chunk.
    case last
    /// Whether the message that was captured there still is there.
    case captured(Int64)
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
  /// The newest captured offset; nil before the first.
  let captured: Int64?
  private var state = State.probing
  private var failures = 0

  init(first: Int64, skips: Bool, captured: Int64?) {
    (self.first, self.skips, self.captured) = (first, skips, captured)
  }

  /// What comes first.
  func begin(_ offsets: UndeliverableOffsets) -> Step {
    offsets.probed.map { .look(.offset($0, onEveryNode: offsets.isConfirming)) } ?? .begin
  }

  /// What a look has brought, but for ``Look/captured(_:)``.
  mutating func saw(_ outcome: UndeliverableOffsets.Outcome, _ offsets: inout UndeliverableOffsets) -> Step {
    switch state {
    case .probing:
      guard skips else {
        offsets.sawAgain(outcome)
        return outcome == .fails ? .report : .begin
      }
      switch outcome {
      case .fails:
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
    // Only what ``saw(isStill:_:)`` is told counts then.
    case .comparing: return doubt(&offsets)
    }
  }

  /// What ``Look/captured(_:)`` has brought: nil if nothing shows whether the stream still is the same.
  mutating func saw(isStill: Bool?, _ offsets: inout UndeliverableOffsets) -> Step {
    guard case .comparing(let range) = state, let isStill else { return doubt(&offsets) }
    return isStill ? .pass(range) : .anotherStream
  }

  private mutating func decide(
    _ outcome: UndeliverableOffsets.Outcome, _ offsets: inout UndeliverableOffsets
  ) -> Step {
    state = .probing
    switch offsets.saw(outcome) {
    case .probe: return begin(offsets)
    case .goOn: return .begin
    case .tryLater: return .report
    case .pass(let range):
      guard let captured else { return .pass(range) }
      state = .comparing(range)
      return .look(.captured(captured))
    }
  }

  private func doubt(_ offsets: inout UndeliverableOffsets) -> Step {
    offsets.doubt()
    return .report
  }
}
