import Journal

/// Where a session begins to emit, from what the runtime remembers and what the journal has.
///
/// The runtime's state is the truth about what is committed; the journal's own mark is only a copy that may lag. A
/// journal that knows less than the runtime went back in time, and a capture on it could lose what it would then skip.
enum ResumeDecision: Equatable {
  /// Emit what lies after `after`; `warning` tells what is unusual about it.
  case resume(after: Position, warning: String?)
  /// Do not capture: `reason` says why and what to do.
  case refuse(reason: String)

  /// What a checkpoint's state says about a journal.
  struct Mark: Equatable, Sendable {
    var journal: String
    var position: Position
  }

  /// - Parameters:
  ///   - state: The committed checkpoint's mark; nil if the capture has none (it is new, or was reset).
  ///   - journal: The journal's identifier.
  ///   - last: The last position ever appended to it.
  ///   - committed: The last position that the journal recorded as committed; it may have deleted rows up to there.
  static func decide(state: Mark?, journal: String, last: Position, committed: Position) -> ResumeDecision {
    guard let state else {
      let gone = committed > .origin
      return .resume(
        after: committed,
        warning: gone
          ? "the capture has no state, but the journal was captured up to position \(committed) before; "
            + "what was captured then is not captured again" : nil)
    }
    guard state.journal == journal else {
      return .resume(
        after: committed,
        warning: "the capture's state belongs to another journal (\(state.journal), position \(state.position)); "
          + "this one begins after position \(committed)")
    }
    if state.position > last {
      return .refuse(
        reason: "the journal went back in time: the runtime has committed position \(state.position), the journal ends "
          + "at \(last). It was probably restored from an old copy. Restore the newest one, or give "
          + "journal.path a new file to start over; what only the lost journal held is lost")
    }
    if state.position < committed {
      return .resume(
        after: committed,
        warning: "the runtime remembers position \(state.position), but had acknowledged \(committed) before; "
          + "what lies between is no longer in the journal")
    }
    return .resume(after: state.position, warning: nil)
  }
}
