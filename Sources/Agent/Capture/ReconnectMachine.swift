import AMQP

/// Decides when to connect, when to wait, and when to give up (SPEC §5).
///
/// Before the first successful consume, what a user must fix ends the capture at once; after it, everything is tried
/// again. Every failed attempt counts until a consumer runs.
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
  /// A consumer has run at least once.
  private(set) var everConsumed = false

  init(delay: Duration, limit: Int?) {
    self.delay = delay
    self.limit = limit
  }

  /// The capture begins.
  func started() -> Action { .connect }

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
    let failedBefore: Int
    switch state {
    case .stopped: return .stop
    case .consuming: failedBefore = 0
    case .down(let failed): failedBefore = failed + 1
    }
    if !everConsumed && failure.needsUser {
      state = .stopped
      return .giveUp(.needsUser)
    }
    if let limit, failedBefore >= limit {
      state = .stopped
      return .giveUp(.attemptsExhausted(failedBefore))
    }
    state = .down(failed: failedBefore)
    var wait = delay
    if failure.cause == CaptureFailure.loginRefused {
      // Each of them costs the broker, or a directory behind it, and may lock the user out.
      wait = max(delay, min(max(delay, .seconds(1)) * (1 << min(failedBefore, 6)), Self.longestLoginDelay))
    }
    return .wait(wait * (1 + 0.1 * jitter))
  }

  /// The capture is to end.
  mutating func stopRequested() { state = .stopped }
}

/// Why there is no consumer: an error of the connection, or an end that the broker announced.
struct CaptureFailure: Error, Equatable, CustomStringConvertible {
  /// A short name for logs and metrics, for example `connection_lost`.
  var cause: String
  /// What happened and what to do, in a sentence. What has the shape of credentials is hidden in it.
  var description: String
  /// Trying again cannot help before a user changes something.
  var needsUser: Bool
  /// A disk, a quota or a limit of size is used up: the same may work later, and nothing was changed.
  var isShortage = false

  /// The cause of a failure that the capture itself has asked for.
  static let abandoned = "abandoned"
  /// As many channels as a user or a node may have.
  static let channelLimit = "channel_limit"
  /// The cause of a message that the broker cannot send.
  static let undeliverable = "undeliverable"
  /// The cause of a login that was refused.
  static let loginRefused = "connection_closed_403"

  init(cause: String, description: String, needsUser: Bool) {
    self.cause = cause
    self.description = Disclosure.text(description)
    self.needsUser = needsUser
  }

  /// The one place where an error of the broker's side is judged.
  init(_ error: AMQPError) {
    description = Disclosure.text(error.description)
    switch error.kind {
    case .nameNotResolved: (cause, needsUser) = ("name_not_resolved", false)
    case .notConnected: (cause, needsUser) = ("not_connected", false)
    case .timedOut: (cause, needsUser) = ("timed_out", false)
    case .abandoned: (cause, needsUser) = (Self.abandoned, false)
    case .tls: (cause, needsUser) = ("tls", true)
    case .notAMQP: (cause, needsUser) = ("not_amqp", true)
    case .mechanismNotOffered: (cause, needsUser) = ("mechanism_not_offered", true)
    case .heartbeatsMissed: (cause, needsUser) = ("heartbeats_missed", false)
    case .socket, .endOfStream: (cause, needsUser) = ("connection_lost", false)
    case .malformed: (cause, needsUser) = ("protocol_error", false)
    case .unencodable: (cause, needsUser) = ("unencodable", true)
    case .everyNode(let failures):
      // One node that may come good makes it worth trying again, unless another one refused the login for them all.
      let judged = failures.map { CaptureFailure($0) }
      let decisive = judged.first { $0.cause == Self.loginRefused } ?? judged.first { !$0.needsUser } ?? judged[0]
      (cause, needsUser) = (decisive.cause, decisive.needsUser)
    case .connectionClosed(530, let text) where BrokerLimit(text) != nil:
      (cause, needsUser) = (BrokerLimit(text)?.isOfChannels == true ? Self.channelLimit : "connection_limit", false)
    case .connectionClosed(let code, _):
      cause = "connection_closed_\(code)"
      // 403 ACCESS_REFUSED (credentials), 530 NOT_ALLOWED (virtual host), 540 NOT_IMPLEMENTED (no_ack on a stream); 320
      // and 541 pass by themselves.
      needsUser = [403, 530, 540].contains(code)
    case .channelClosed(let code, let text):
      cause = "channel_closed_\(code)"
      // 403 permissions, 404 missing, 406 other properties, 540 not implemented by this queue type. What is held
      // exclusively may be held by the connection that we have just lost, and is free again soon; a broker that has
      // just started may still be looking for the node that has the queue.
      let passes =
        code == 405 || code == 406 && Topology.hasNoReplica(text) || code == 403 && Topology.isHeldByConsumer(text)
        || code == 404 && Topology.isUnavailable(text)
      needsUser = [403, 404, 406, 540].contains(code) && !passes
    }
  }
}
