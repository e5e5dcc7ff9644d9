/// Decides when to connect, when to wait, and when to give up (docs/troubleshooting.md).
///
/// Before the first successful consume, what a user must fix ends the capture at once; after it, everything is tried
/// again. Every failed attempt counts until a consumer runs.
///
/// Beside other subscriptions only what keeps a connection from being made counts, or ends the capture: what is wrong with one queue is no
/// reason for the others to stop, so that is tried again for as long as it takes.
struct ReconnectMachine {
  enum Action: Equatable {
    case connect
    /// Wait so long, then connect.
    case wait(Duration)
    /// End the capture with this failure.
    case giveUp(GiveUp)
    /// The capture was asked to end; there is nothing to do.
    case stop
  }

  enum GiveUp: Equatable {
    /// A user must change something; trying again would not help.
    case needsUser
    /// As many attempts failed in a row as the settings allow.
    case attemptsExhausted(Int)
  }

  private enum State: Equatable {
    /// Not connected; `failed` attempts in a row so far. Leaves by `consuming`, `stopRequested`, or
    /// `failed` when it gives up.
    case down(failed: Int)
    /// A consumer runs. Leaves by `failed` or `stopRequested`.
    case consuming
    /// Final.
    case stopped
  }

  /// Refused logins are tried after `delay` (1 s at least), doubled for each in a row, up to this; a longer `delay` stays as it is. Jitter
  /// comes on top. The intervals of ``RefusedMessage`` grow no further, either.
  static let longestBackoff = Duration.seconds(60)

  /// Between attempts.
  let delay: Duration
  /// Attempts in a row before giving up; nil never gives up.
  let limit: Int?
  private var state = State.down(failed: 0)
  /// The capture has no other subscription.
  let isAlone: Bool
  /// What a user must fix is tried again, too: a consumer has run, or, beside other subscriptions, a connection was made.
  private(set) var retriesEverything = false
  /// The present attempt has got a connection.
  private var isConnected = false

  init(delay: Duration, limit: Int?, isAlone: Bool = true) {
    self.delay = delay
    self.limit = limit
    self.isAlone = isAlone
  }

  /// A connection was made.
  mutating func connected() {
    isConnected = true
    if !isAlone { retriesEverything = true }
  }

  /// The broker confirmed the consumer.
  mutating func consuming() {
    if state == .stopped { return }
    retriesEverything = true
    state = .consuming
  }

  /// An attempt to connect and consume failed, or a running consumer was lost.
  ///
  /// - Parameter jitter: −1…1, spreads the delay by ±10 %, so that many agents do not come back in step.
  mutating func failed(_ failure: CaptureFailure, jitter: Double) -> Action {
    defer { isConnected = false }
    let failedAttempts: Int
    switch state {
    case .stopped: return .stop
    case .consuming: failedAttempts = 0
    case .down(let failed): failedAttempts = isAlone || !isConnected ? failed + 1 : 0
    }
    if !retriesEverything && failure.needsUser {
      state = .stopped
      return .giveUp(.needsUser)
    }
    if let limit, failedAttempts >= limit, isAlone || !isConnected {
      state = .stopped
      return .giveUp(.attemptsExhausted(failedAttempts))
    }
    state = .down(failed: failedAttempts)
    var wait = delay
    if failure.kind == .loginRefused {
      // Each of them costs the broker, or a directory behind it, and may lock the user out.
      wait = max(delay, min(max(delay, .seconds(1)) * (1 << min(failedAttempts, 6)), Self.longestBackoff))
    }
    return .wait(wait * (1 + 0.1 * jitter))
  }

  /// The capture is to end.
  mutating func stopRequested() { state = .stopped }
}
