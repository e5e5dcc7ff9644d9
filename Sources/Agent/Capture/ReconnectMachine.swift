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
    /// Not connected; `failed` attempts in a row so far. Leaves by `consuming` or `stopRequested`.
    case down(failed: Int)
    /// A consumer runs. Leaves by `lost` or `stopRequested`.
    case consuming
    /// Final.
    case stopped
  }

  /// At the most between logins that are refused one after the other; they begin with the delay.
  static let longestLoginDelay = Duration.seconds(60)

  /// Between attempts.
  let delay: Duration
  /// Attempts in a row before giving up; nil never gives up.
  let limit: Int?
  private var state = State.down(failed: 0)
  /// The capture has no other subscription.
  let isAlone: Bool
  /// A consumer has run at least once, or beside others a connection was made.
  private(set) var everConsumed = false
  /// The present attempt has got a connection.
  private var isConnected = false

  init(delay: Duration, limit: Int?, isAlone: Bool = true) {
    self.delay = delay
    self.limit = limit
    self.isAlone = isAlone
  }

  /// The capture begins.
  func started() -> Action { .connect }

  /// A connection was made.
  mutating func connected() {
    isConnected = true
    if !isAlone { everConsumed = true }
  }

  /// The broker confirmed the consumer.
  mutating func consuming() {
    if state == .stopped { return }
    everConsumed = true
    state = .consuming
  }

  /// An attempt to connect and consume failed, or a running consumer was lost.
  ///
  /// - Parameter jitter: −1…1, spreads the delay by ±10 %, so that many agents do not come back in step.
  mutating func failed(_ failure: CaptureFailure, jitter: Double) -> Action {
    defer { isConnected = false }
    let failedBefore: Int
    switch state {
    case .stopped: return .stop
    case .consuming: failedBefore = 0
    case .down(let failed): failedBefore = isAlone || !isConnected ? failed + 1 : 0
    }
    if !everConsumed && failure.needsUser {
      state = .stopped
      return .giveUp(.needsUser)
    }
    if let limit, failedBefore >= limit, isAlone || !isConnected {
      state = .stopped
      return .giveUp(.attemptsExhausted(failedBefore))
    }
    state = .down(failed: failedBefore)
    var wait = delay
    if failure.kind == .loginRefused {
      // Each of them costs the broker, or a directory behind it, and may lock the user out.
      wait = max(delay, min(max(delay, .seconds(1)) * (1 << min(failedBefore, 6)), Self.longestLoginDelay))
    }
    return .wait(wait * (1 + 0.1 * jitter))
  }

  /// The capture is to end.
  mutating func stopRequested() { state = .stopped }
}
