import Platform
import Support
import Testing

@testable import AMQP

/// When a heartbeat goes out and when the broker counts as gone: interval 10 s, begun at 100 s.
struct HeartbeatTests {
  @Test(
    arguments: [
      (100, true, false, .none), (104.9, true, false, .none), (105, true, false, .send), (119.9, true, false, .send),
      (120, true, false, .giveUp), (1000, true, false, .giveUp),
      // Unread on purpose: silence proves nothing.
      (104.9, false, false, .none), (105, false, false, .send), (120, false, false, .send), (1000, false, false, .send),
      // Bytes of ours wait: another heartbeat would not arrive either.
      (105, true, true, .none), (119.9, true, true, .none), (120, true, true, .giveUp), (119.9, false, true, .none),
      (120, false, true, .giveUp),
    ] as [(Instant, Bool, Bool, Heartbeat.Action)])
  func `time, listening and blocking decide`(now: Instant, listening: Bool, blocked: Bool, action: Heartbeat.Action) {
    let heartbeat = Heartbeat(intervalSeconds: 10, at: 100)
    #expect(heartbeat.action(at: now, listening: listening, blocked: blocked) == action)
    // An interval of 0 is off, whatever happens.
    #expect(Heartbeat(intervalSeconds: 0, at: 100).action(at: now, listening: listening, blocked: blocked) == .none)
  }

  @Test func `every byte moves its own limit`() {
    var heartbeat = Heartbeat(intervalSeconds: 10, at: 100)
    heartbeat.sent(at: 118)
    #expect(heartbeat.action(at: 119, listening: true, blocked: false) == .none)
    #expect(heartbeat.action(at: 120, listening: true, blocked: false) == .giveUp)
    heartbeat.heard(at: 120)
    #expect(heartbeat.action(at: 120, listening: true, blocked: false) == .none)
    #expect(heartbeat.action(at: 123, listening: true, blocked: false) == .send)
    #expect(heartbeat.action(at: 140, listening: true, blocked: false) == .giveUp)
  }

  @Test func `after a pause of ours the broker has one more interval`() {
    var heartbeat = Heartbeat(intervalSeconds: 10, at: 100)
    heartbeat.sent(at: 999)
    heartbeat.resumedListening(at: 1000)
    #expect(heartbeat.action(at: 1000, listening: true, blocked: false) == .none)
    #expect(heartbeat.action(at: 1010, listening: true, blocked: false) == .giveUp)
    // What was heard later than that stays.
    heartbeat.heard(at: 1005)
    heartbeat.resumedListening(at: 1006)
    #expect(heartbeat.nextDeadline(listening: true) == 1004)
    heartbeat.sent(at: 1024)
    #expect(heartbeat.nextDeadline(listening: true) == 1025)
  }

  @Test func `the next look is due when something can change`() {
    var heartbeat = Heartbeat(intervalSeconds: 10, at: 100)
    #expect(heartbeat.nextDeadline(listening: true) == 105)
    #expect(heartbeat.nextDeadline(listening: false) == 105)
    heartbeat.sent(at: 118)
    #expect(heartbeat.nextDeadline(listening: true) == 120)
    #expect(heartbeat.nextDeadline(listening: false) == 123)
    // Nothing can be sent, so there is nothing to do for it before the broker counts as gone.
    #expect(heartbeat.nextDeadline(listening: true, blocked: true) == 138)
    #expect(Heartbeat(intervalSeconds: 0, at: 100).nextDeadline(listening: true) == nil)
  }

  @Test func `the longest interval is an interval`() {
    let heartbeat = Heartbeat(intervalSeconds: .max, at: 0)
    #expect(heartbeat.nextDeadline(listening: true) == 32_767.5)
    #expect(heartbeat.action(at: 131_069.9, listening: true, blocked: false) == .send)
    #expect(heartbeat.action(at: 131_070, listening: true, blocked: false) == .giveUp)
  }
}
