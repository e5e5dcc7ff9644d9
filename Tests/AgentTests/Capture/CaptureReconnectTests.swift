import AMQP
import Support
import Testing

@testable import Agent

/// When a capture connects again, and when it gives up.
struct CaptureReconnectTests {
  private static let passing = CaptureFailure(cause: "connection_lost", description: "lost", needsUser: false)
  private static let lasting = CaptureFailure(cause: "tls", description: "certificate", needsUser: true)

  enum Before: CaseIterable, Sendable { case new, failedOnce, consuming, lostOnce, stopped }

  private static func machine(_ before: Before, limit: Int?) -> ReconnectMachine {
    var machine = ReconnectMachine(delay: 5, limit: limit)
    switch before {
    case .new: break
    case .failedOnce: _ = machine.failed(passing, jitter: 0)
    case .consuming: machine.consuming()
    case .lostOnce:
      machine.consuming()
      _ = machine.failed(passing, jitter: 0)
    case .stopped: machine.stopRequested()
    }
    return machine
  }

  @Test(
    arguments: [
      (.new, .wait(5), .giveUp(.needsUser)), (.failedOnce, .wait(5), .giveUp(.needsUser)),
      (.consuming, .wait(5), .wait(5)), (.lostOnce, .wait(5), .wait(5)),
      (.stopped, .stop, .stop),
    ] as [(Before, ReconnectMachine.Action, ReconnectMachine.Action)])
  func `every state answers a failure`(
    before: Before, passing: ReconnectMachine.Action, lasting: ReconnectMachine.Action
  ) {
    var machine = Self.machine(before, limit: nil)
    #expect(machine.failed(Self.passing, jitter: 0) == passing)
    machine = Self.machine(before, limit: nil)
    #expect(machine.failed(Self.lasting, jitter: 0) == lasting)
  }

  @Test(arguments: Before.allCases)
  func `a stop is final in every state`(before: Before) {
    var machine = Self.machine(before, limit: nil)
    machine.stopRequested()
    machine.consuming()
    #expect(machine.failed(Self.passing, jitter: 0) == .stop)
    machine.stopRequested()
    #expect(machine.failed(Self.lasting, jitter: 0) == .stop)
  }

  @Test(
    arguments: [
      (0, false, []), (1, false, []), (3, false, [5, 5]), (0, true, []), (1, true, [5]), (3, true, [5, 5, 5]),
    ] as [(Int, Bool, [Duration])])
  func `the limit counts attempts that failed in a row`(limit: Int, consumed: Bool, waits: [Duration]) {
    var machine = ReconnectMachine(delay: 5, limit: limit)
    if consumed { machine.consuming() }
    for seconds in waits { #expect(machine.failed(Self.passing, jitter: 0) == .wait(seconds)) }
    // The loss of a running consumer is no failed attempt by itself.
    let count = waits.count + (consumed ? 0 : 1)
    #expect(machine.failed(Self.passing, jitter: 0) == .giveUp(.attemptsExhausted(count)))
    #expect(machine.failed(Self.passing, jitter: 0) == .stop)
  }

  @Test func `without a limit it never gives up, and a consumer resets the count`() {
    var endless = ReconnectMachine(delay: 1, limit: nil)
    for _ in 0..<1000 { #expect(endless.failed(Self.passing, jitter: 0) == .wait(1)) }
    var limited = ReconnectMachine(delay: 1, limit: 2)
    for _ in 0..<10 {
      #expect(limited.failed(Self.passing, jitter: 0) == .wait(1))
      limited.consuming()
      #expect(limited.failed(Self.passing, jitter: 0) == .wait(1))
    }
    #expect(limited.failed(Self.passing, jitter: 0) == .wait(1))
    #expect(limited.failed(Self.passing, jitter: 0) == .giveUp(.attemptsExhausted(2)))
  }

  @Test func `refused logins are spread out, up to a minute`() {
    let refused = CaptureFailure(cause: "c", description: "refused", needsUser: true, kind: .loginRefused)
    var machine = ReconnectMachine(delay: 2, limit: nil)
    machine.consuming()
    let waits = (0..<8).map { _ in machine.failed(refused, jitter: 0) }
    #expect(waits == [2, 4, 8, 16, 32, 60, 60, 60].map { .wait($0) })
    #expect(machine.failed(Self.passing, jitter: 0) == .wait(2))
    var slow = ReconnectMachine(delay: 300, limit: nil)
    slow.consuming()
    #expect(slow.failed(refused, jitter: 0) == .wait(300))
  }

  @Test(arguments: [(-1.0, 4.5), (0, 5), (1, 5.5)])
  func `jitter moves the delay by a tenth`(jitter: Double, seconds: Duration) {
    var machine = ReconnectMachine(delay: 5, limit: nil)
    #expect(machine.failed(Self.passing, jitter: jitter) == .wait(seconds))
    var none = ReconnectMachine(delay: 0, limit: nil)
    #expect(none.failed(Self.passing, jitter: jitter) == .wait(0))
  }

  @Test(
    arguments: [
      (.nameNotResolved(text: "x"), "name_not_resolved", false), (.notConnected(text: "x"), "not_connected", false),
      (.timedOut, "timed_out", false), (.tls(text: "x"), "tls", true), (.notAMQP(hint: "x"), "not_amqp", true),
      (.mechanismNotOffered(wanted: "a", offered: "b"), "mechanism_not_offered", true),
      (.heartbeatsMissed(intervalSeconds: 1), "heartbeats_missed", false),
      (.socket(code: 104, text: "x"), "connection_lost", false), (.endOfStream(hint: ""), "connection_lost", false),
      (.malformed(text: "x"), "protocol_error", false), (.unencodable(text: "x"), "unencodable", true),
      (.connectionClosed(code: 320, text: "x"), "connection_closed_320", false),
      (.connectionClosed(code: 403, text: "x"), "connection_closed_403", true),
      (.connectionClosed(code: 501, text: "x"), "connection_closed_501", false),
      (.connectionClosed(code: 530, text: "x"), "connection_closed_530", true), (.abandoned, "abandoned", false),
      (
        .connectionClosed(
          code: 530, text: "NOT_ALLOWED - Connection refused for user 'u': user connection limit (1) is reached"),
        "connection_limit", false
      ),
      (
        .connectionClosed(
          code: 530,
          text: "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit (1) is reached"),
        "connection_limit", false
      ),
      (
        .connectionClosed(
          code: 530,
          text: "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (1)"
        ),
        "channel_limit", false
      ),
      (.connectionClosed(code: 540, text: "x"), "connection_closed_540", true),
      (.connectionClosed(code: 541, text: "x"), "connection_closed_541", false),
      (
        .channelClosed(code: 403, text: "ACCESS_REFUSED - read access to queue 'exclusive' refused"),
        "channel_closed_403", true
      ),
      (
        .channelClosed(code: 403, text: "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
        "channel_closed_403", false
      ),
      (.channelClosed(code: 404, text: "NOT_FOUND"), "channel_closed_404", true),
      (
        .channelClosed(
          code: 404, text: "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible"),
        "channel_closed_404", false
      ),
      (.channelClosed(code: 405, text: "RESOURCE_LOCKED"), "channel_closed_405", false),
      (
        .channelClosed(
          code: 406,
          text: "PRECONDITION_FAILED - stream queue 'q' in vhost '/' does not have a running replica on the local node"),
        "channel_closed_406", false
      ),
      (.channelClosed(code: 406, text: "PRECONDITION_FAILED"), "channel_closed_406", true),
      (.channelClosed(code: 540, text: "NOT_IMPLEMENTED"), "channel_closed_540", true),
      (.channelClosed(code: 541, text: "INTERNAL_ERROR"), "channel_closed_541", false),
    ] as [(AMQPError.Kind, String, Bool)])
  func `each error of the broker's side is judged`(kind: AMQPError.Kind, cause: String, needsUser: Bool) {
    let error = AMQPError(kind, during: "testing")
    let kinds: [String: CaptureFailure.Kind] = [
      "abandoned": .abandoned, "channel_limit": .channelLimit, "connection_closed_403": .loginRefused,
      "connection_closed_541": .internalError, "channel_closed_541": .internalError,
    ]
    #expect(
      CaptureFailure(error)
        == CaptureFailure(
          cause: cause, description: error.description, needsUser: needsUser, kind: kinds[cause] ?? .other))
  }
}
