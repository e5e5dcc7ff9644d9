/// What is said of an outage, so that hours of it do not flood the log: each cause once, then how long it has lasted each ten
/// minutes, and one line when it is over.
///
/// A value without clock and I/O; times are of one monotonic clock, in seconds.
struct OutageLog: Equatable, Sendable {
  /// Seconds between two reminders.
  static let reminder = 600.0

  /// What to say of a failed attempt.
  enum Telling: Equatable {
    /// All of it: the cause is new.
    case cause
    /// That it still lasts: for how many seconds, after how many attempts.
    case reminder(seconds: Double, attempts: Int)
    /// Nothing: it was told.
    case nothing
  }

  private var began: Double?
  private var told = 0.0
  private var attempts = 0
  private var causes: Set<String> = []

  /// Nothing is consumed, and that has been told.
  var isOpen: Bool { began != nil }

  /// A consumer was lost, or an attempt to get one failed.
  mutating func failed(cause: String, at now: Double) -> Telling {
    let since = began ?? now
    began = since
    attempts += 1
    if causes.insert(cause).inserted {
      told = now
      return .cause
    }
    guard now - told >= Self.reminder else { return .nothing }
    told = now
    return .reminder(seconds: now - since, attempts: attempts)
  }

  /// A consumer runs: how long none did, and how many attempts failed; nil if there was no outage.
  mutating func ended(at now: Double) -> (seconds: Double, attempts: Int)? {
    defer { self = OutageLog() }
    return began.map { (now - $0, attempts) }
  }
}
