/// What is said of an outage, so that hours of it do not flood the log: each cause once, then how long it has lasted each ten
/// minutes, and one line when it is over. Losses that follow on one another within a minute are one outage.
///
/// A value without clock and I/O; times are of one monotonic clock, in seconds.
struct OutageLog: Equatable, Sendable {
  /// Seconds between two reminders.
  static let reminder = 600.0
  /// Seconds of consuming after which a loss is another outage.
  static let stable = 60.0

  /// What to say of a failed attempt.
  enum Telling: Equatable {
    /// All of it: the cause is new.
    case cause
    /// That it still lasts: for how many seconds, after how many attempts, and how often a consumer was lost meanwhile.
    case reminder(seconds: Double, attempts: Int, losses: Int)
    /// Nothing: it was told.
    case nothing
  }

  private var began: Double?
  /// When the newest consumer was lost, and when the present one began, if one runs.
  private var lost = 0.0
  private var ended: Double?
  private var told = 0.0
  private var attempts = 0
  private var losses = 0
  private var causes: Set<String> = []

  /// Nothing is consumed, and that has been told.
  var isOpen: Bool { began != nil && ended == nil }

  /// A consumer was lost, or an attempt to get one failed.
  mutating func failed(cause: String, at now: Double) -> Telling {
    if let end = ended {
      if now - end >= Self.stable { self = OutageLog() } else { losses += 1 }
      ended = nil
      lost = now
    }
    if began == nil { lost = now }
    let since = began ?? now
    began = since
    attempts += 1
    if causes.insert(cause).inserted {
      told = now
      return .cause
    }
    guard now - told >= Self.reminder else { return .nothing }
    told = now
    return .reminder(seconds: now - since, attempts: attempts, losses: losses)
  }

  /// A consumer runs.
  ///
  /// - Returns: How long none did, and how many attempts failed; nil if there was no outage, or if that was short, and it has been
  ///   told before that it was over.
  mutating func recovered(at now: Double) -> (seconds: Double, attempts: Int)? {
    guard isOpen else { return nil }
    ended = now
    isRepeated = losses > 0 && now - lost < Self.stable
    return isRepeated ? nil : (now - lost, attempts)
  }

  /// A consumer that was told to be back was lost soon after, and runs again.
  private(set) var isRepeated = false
}
