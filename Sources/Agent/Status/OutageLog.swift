import Platform

/// What is said of an outage, so that hours of it do not flood the log: each cause once, then how long it has lasted each ten
/// minutes, and one line when it is over. Losses that follow on one another within a minute are one outage, of which only the number is told, until
/// one of them lasts a minute: that is an outage of its own.
///
/// A value without clock and I/O.
struct OutageLog: Equatable, Sendable {
  /// Between two reminders.
  static let reminder = Duration.seconds(600)
  /// After so long consuming a loss is another outage.
  static let stable = Duration.seconds(60)

  /// What to say of a failed attempt.
  enum Report: Equatable {
    /// All of it: the cause is new.
    case cause
    /// That it still lasts: for how long, after how many attempts, and how often a consumer was lost meanwhile.
    case reminder(lasting: Duration, attempts: Int, losses: Int)
    /// Nothing: it was told.
    case nothing
  }

  /// When the first consumer of it was lost, and the newest one.
  private var began: Instant?
  private var lost = Instant.distantPast
  /// When the present consumer began, if one runs.
  private var ended: Instant?
  private var told = Instant.distantPast
  /// Since the newest loss.
  private var attempts = 0
  private var losses = 0
  private var causes: Set<String> = []

  /// Nothing is consumed, and that has been told.
  var isOpen: Bool { began != nil && ended == nil }

  /// A consumer was lost, or an attempt to get one failed.
  mutating func failed(cause: String, at now: Instant) -> Report {
    if let end = ended {
      if now - end >= Self.stable {
        self = OutageLog()
      } else {
        losses += 1
        attempts = 0
        lost = now
      }
      ended = nil
    }
    if began == nil { (began, lost) = (now, now) }
    attempts += 1
    if losses > 0, now - lost >= Self.stable {
      (began, losses) = (lost, 0)
      causes.removeAll()
    }
    if causes.insert(cause).inserted {
      told = now
      return .cause
    }
    guard now - told >= Self.reminder else { return .nothing }
    told = now
    return .reminder(lasting: now - (began ?? now), attempts: attempts, losses: losses)
  }

  /// A consumer runs.
  ///
  /// - Returns: How long none did, and how many attempts failed; nil if there was no outage, or if that was short, and it has been
  ///   told before that it was over.
  mutating func recovered(at now: Instant) -> (time: Duration, attempts: Int)? {
    guard isOpen else { return nil }
    ended = now
    isRepeated = losses > 0 && now - lost < Self.stable
    return isRepeated ? nil : (now - lost, attempts)
  }

  /// A consumer that was told to be back was lost soon after, and runs again.
  private(set) var isRepeated = false
}
