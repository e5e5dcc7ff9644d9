import Platform

/// What a capture waits for that takes too long.
enum Stall: String, CaseIterable, Sendable {
  /// The journal's disk: nothing is acknowledged meanwhile.
  case journal
  /// The disk of the output files.
  case output
  /// The reader of documents from a pipe.
  case reader
  /// The Flow runtime, which says when documents are safe.
  case runtime

  /// From then on it takes too long.
  var limit: Duration {
    switch self {
    case .journal, .output: .seconds(3)
    case .reader: .seconds(15)
    // Transactions of a runtime may take minutes.
    case .runtime: .seconds(300)
    }
  }

  /// How long without such a wait until it is over: the next sync of a slow disk is likely to be as slow.
  var calm: Duration {
    switch self {
    case .journal, .output: .seconds(10)
    // It may take some from time to time.
    case .reader: .seconds(30)
    case .runtime: .zero
    }
  }

  /// What is wrong, for a user: the same words for as long as it lasts.
  var reason: String {
    switch self {
    case .journal:
      "the journal's disk takes more than \(limit.components.seconds) s to write or sync; nothing is acknowledged meanwhile"
    case .output:
      "the disk of the output files takes more than \(limit.components.seconds) s to write or sync; documents wait in the journal"
    case .reader:
      "the reader of the documents has taken nothing for \(limit.components.seconds) s; they wait in the journal"
    case .runtime:
      "the runtime has acknowledged no checkpoint for \(limit.components.seconds / 60) minutes although some wait for it"
    }
  }
}

/// Knows which waits last, and which lasted, too long. No clock of its own.
///
/// Each kind is idle, or being waited for since a moment. A wait that has lasted ``Stall/limit`` is a stall, at once and without being
/// told; one that ended stays one for ``Stall/calm``.
struct StallWatch: Equatable, Sendable {
  private var since: [Stall: Instant] = [:]
  private var until: [Stall: Instant] = [:]

  /// It is waited for from now on; no change if it is already.
  mutating func began(_ stall: Stall, at now: Instant) { if since[stall] == nil { since[stall] = now } }

  /// Something came of it, and it is waited for again.
  mutating func progressed(_ stall: Stall, at now: Instant) {
    guard since[stall] != nil else { return }
    ended(stall, at: now)
    since[stall] = now
  }

  mutating func ended(_ stall: Stall, at now: Instant) {
    guard let since = since.removeValue(forKey: stall), now - since >= stall.limit else { return }
    until[stall] = now + stall.calm
  }

  /// The first of what takes too long; nil if nothing does.
  func stall(at now: Instant) -> Stall? {
    Stall.allCases.first { stall in
      if let since = since[stall], now - since >= stall.limit { return true }
      return until[stall].map { now < $0 } ?? false
    }
  }
}
