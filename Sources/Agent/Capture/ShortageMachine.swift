import Journal

/// Decides whether a write that has failed is tried again: if there was no room for it, or another program held the journal, nothing was
/// changed, and time may help.
///
/// ```
///              failed, of a kind that passes
///   writing ─────────────────────────────────► paused ─┐ failed again
///      ▲                                        │  ▲───┘
///      └──────────── succeeded ─────────────────┘
/// ```
///
/// Each failure of another kind ends the capture. So does one that passes, if no one waits for room any more
/// (``CaptureMachine/waitsForRoom``).
///
/// A value without clock and I/O; a thread that writes has one for each write.
struct ShortageMachine: Equatable, Sendable {
  /// How a write has failed.
  enum Failure: Equatable, Sendable {
    /// There is no room on the disk; tidying up the journal may make some by emptying the WAL.
    case full
    /// Nothing was changed, and only time helps.
    case passing
    /// It would fail again.
    case lasting
  }

  /// What follows a failure.
  enum Step: Equatable, Sendable {
    /// It is tried again after a while.
    ///
    /// - Parameters:
    ///   - isNews: The pause has not been reported yet.
    ///   - tidiesUp: The journal is tidied up before the next attempt.
    case pause(isNews: Bool, tidiesUp: Bool)
    case end
  }

  /// Nothing is written since a failure.
  private(set) var isPaused = false

  /// A write has failed.
  mutating func failed(_ failure: Failure) -> Step {
    switch failure {
    case .lasting: return .end
    case .passing, .full:
      defer { isPaused = true }
      return .pause(isNews: !isPaused, tidiesUp: failure == .full)
    }
  }

  /// A write has succeeded.
  ///
  /// - Returns: Whether that is news.
  mutating func succeeded() -> Bool {
    defer { isPaused = false }
    return isPaused
  }
}

extension JournalError {
  /// What kind of failure it is of a write.
  var writeFailure: ShortageMachine.Failure {
    switch kind {
    // A read-only disk stays so, however empty the WAL is.
    case .full(.readOnly): .passing
    case .full: .full
    default: isRetryable ? .passing : .lasting
    }
  }
}

extension CaptureFailure {
  /// What kind of failure it is of a write of documents.
  var writeFailure: ShortageMachine.Failure { kind == .shortage ? .passing : .lasting }
}
