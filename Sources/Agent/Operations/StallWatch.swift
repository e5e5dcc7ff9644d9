/// What a capture waits for that takes too long.
enum Stall: String, CaseIterable, Sendable {
  /// The journal's disk: nothing is acknowledged meanwhile.
  case journal
  /// The disk of the output files.
  case output
  /// Whoever reads the documents from a pipe.
  case reader
  /// The Flow runtime, which says when documents are safe.
  case runtime

  /// Seconds from which it takes too long.
  var limit: Double {
    switch self {
    case .journal, .output: 3
    case .reader: 15
    // Transactions of a runtime may take minutes.
    case .runtime: 300
    }
  }

  /// Seconds without such a wait until it is over: the next sync of a slow disk is likely to be as slow.
  var calm: Double {
    switch self {
    case .journal, .output: 10
    // It may take some from time to time.
    case .reader: 30
    case .runtime: 0
    }
  }

  /// What is wrong, for a user: the same words for as long as it lasts.
  var reason: String {
    switch self {
    case .journal:
      "the journal's disk takes more than \(Int(limit)) s to write or sync; nothing is acknowledged meanwhile"
    case .output:
      "the disk of the output files takes more than \(Int(limit)) s to write or sync; documents wait in the journal"
    case .reader: "whoever reads the documents has taken nothing for \(Int(limit)) s; they wait in the journal"
    case .runtime: "the runtime has acknowledged no checkpoint for \(Int(limit / 60)) minutes although some wait for it"
    }
  }
}

/// Knows which waits last, and which lasted, too long. No clock of its own: times are seconds of a monotonic one.
///
/// Each kind is idle, or being waited for since a moment. A wait that has lasted ``Stall/limit`` is a stall, at once and without being
/// told; one that ended stays one for ``Stall/calm``.
struct StallWatch: Equatable, Sendable {
  private var since: [Stall: Double] = [:]
  private var until: [Stall: Double] = [:]

  /// It is waited for from now on; no change if it is already.
  mutating func began(_ stall: Stall, at now: Double) { if since[stall] == nil { since[stall] = now } }

  /// Something came of it, and it is waited for again.
  mutating func progressed(_ stall: Stall, at now: Double) {
    guard since[stall] != nil else { return }
    ended(stall, at: now)
    since[stall] = now
  }

  mutating func ended(_ stall: Stall, at now: Double) {
    guard let since = since.removeValue(forKey: stall), now - since >= stall.limit else { return }
    until[stall] = now + stall.calm
  }

  /// The first of what takes too long; nil if nothing does.
  func stall(at now: Double) -> Stall? {
    Stall.allCases.first { stall in
      if let since = since[stall], now - since >= stall.limit { return true }
      return until[stall].map { now < $0 } ?? false
    }
  }
}
