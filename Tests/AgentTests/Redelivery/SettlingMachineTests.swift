import AMQP
import Platform
import Support
import Testing

@testable import Agent

/// When a queue is settled, and when it is known that the broker has heard of it. The model shows that the steps are enough.
struct SettlingMachineTests {
  private static let classic = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)

  /// A machine that has captured `count` messages of which `releasable` may be acknowledged.
  private static func redelivery(_ count: Int, releasable: Int) -> RedeliveryMachine {
    var machine = RedeliveryMachine(
      anchor: 8, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0, prefetch: 50
    )
    machine.channelBegan(.exclusive, on: classic)
    for number in 0..<count {
      _ = machine.delivered(.init(digest: DeliveryDigest(high: 0, low: UInt64(number)), redelivered: false))
    }
    machine.released(through: Int64(releasable))
    return machine
  }

  /// A settling machine on a channel on which something new came at 0.
  private static func machine() -> SettlingMachine {
    var machine = SettlingMachine(at: 0)
    machine.channelOpened(isAlone: false, at: 0)
    machine.moved(captured: 1, at: 0)
    return machine
  }

  @Test func `a rest is half a second in which nothing but the anchor is unacknowledged`() {
    var machine = Self.machine()
    let resting = Self.redelivery(20, releasable: 12)
    #expect(machine.due(resting, at: 0.49) == nil)
    #expect(machine.due(resting, at: 0.5) == .release)
    #expect(machine.due(resting, at: 100) == nil, "once")
    // The runtime has yet to commit one.
    #expect(Self.machine().deadline(Self.redelivery(20, releasable: 11)) == nil)
    #expect(Self.machine().deadline(Self.redelivery(50, releasable: 0)) == nil, "a full window is no rest")
  }

  @Test func `what was captured before only is settled at once`() {
    var machine = SettlingMachine(at: 0)
    machine.channelOpened(isAlone: false, at: 0)
    machine.moved(captured: 0, at: 1)
    #expect(machine.deadline(Self.redelivery(20, releasable: 12)) == 1.1)
  }

  @Test func `the second answer counts, to a question a second after the first`() {
    var machine = Self.machine()
    var redelivery = Self.redelivery(20, releasable: 12)
    #expect(machine.due(redelivery, at: 0.5) == .release)
    redelivery.settling()
    machine.moved(captured: 0, at: 0.6)
    #expect(machine.due(redelivery, at: 0.6) == .ask)
    #expect(machine.due(redelivery, at: 9) == nil, "once")
    #expect(machine.answered(consumers: 1, messages: 0, at: 9) == nil)
    #expect(machine.due(redelivery, at: 9.9) == nil)
    #expect(machine.due(redelivery, at: 10) == .ask)
    #expect(machine.answered(consumers: 1, messages: 0, at: 10.1) == .conclude)
    redelivery.confirmSettled()
    #expect(machine.deadline(redelivery) == nil)
  }

  @Test(arguments: [(0, 0), (1, 5)] as [(UInt32, UInt32)])
  func `a node without a leader, or one that has messages and delivers none, tells nothing`(
    consumers: UInt32, messages: UInt32
  ) {
    var machine = Self.machine()
    var redelivery = Self.redelivery(20, releasable: 12)
    redelivery.settling()
    #expect(machine.due(redelivery, at: 1) == .ask)
    #expect(machine.answered(consumers: consumers, messages: messages, at: 2) == nil)
    #expect(machine.deadline(redelivery) == 3, "it is asked again")
  }

  @Test func `an answer behind a delivery, or on another channel, is no answer`() {
    var redelivery = Self.redelivery(20, releasable: 12)
    redelivery.settling()
    var machine = Self.machine()
    #expect(machine.due(redelivery, at: 1) == .ask)
    var other = machine
    machine.moved(captured: 1, at: 1.1)
    #expect(machine.answered(consumers: 1, messages: 0, at: 1.2) == nil)
    other.channelOpened(isAlone: true, at: 1.1)
    #expect(other.answered(consumers: 1, messages: 0, at: 1.2) == nil)
  }

  /// A single active consumer may wait behind an earlier consumer, which holds what was settled.
  @Test(arguments: [true, false])
  func `a channel on which nothing came is asked only where nobody else can consume`(isAlone: Bool) {
    var redelivery = Self.redelivery(20, releasable: 12)
    redelivery.settling()
    var machine = Self.machine()
    machine.channelOpened(isAlone: isAlone, at: 5)
    #expect(machine.deadline(redelivery) == (isAlone ? 5 : nil))
  }

  /// A broker's `consumer_timeout` may be a minute.
  @Test func `nothing waits much longer than ten seconds, however the messages trickle`() {
    var machine = Self.machine()
    let resting = Self.redelivery(20, releasable: 12)
    var (now, held, longest) = (Instant(0), Instant(0), Duration.zero)
    for number in 0..<400 {
      let next = now + ([0.6, 3, 6, 9, 9.9, 0.1] as [Duration])[number % 6]
      if let deadline = machine.deadline(resting), deadline <= next {
        #expect(machine.due(resting, at: deadline) == .release)
        longest = max(longest, deadline - held)
        held = next
      }
      now = next
      machine.moved(captured: 1, at: now)
    }
    #expect(longest > 5)
    #expect(longest <= 20.5, "the message that is settled last came less than ten seconds after the oldest")
  }

  @Test func `a trickle is settled ever more rarely, down to every ten seconds`() {
    var machine = Self.machine()
    let resting = Self.redelivery(20, releasable: 12)
    var now = Instant(0)
    var rests: [Duration] = []
    for _ in 0..<7 {
      let deadline = machine.deadline(resting)!
      rests.append(deadline - now)
      #expect(machine.due(resting, at: deadline) == .release)
      now = deadline + 1
      machine.moved(captured: 1, at: now)
    }
    #expect(rests == [0.5, 1, 2, 4, 8, 10, 10])
    // A minute without a message, and all is forgotten.
    #expect(machine.due(resting, at: now + 10) == .release)
    machine.moved(captured: 1, at: now + 71)
    #expect(machine.deadline(resting) == now + 71.5)
  }
}

struct TakenBackTests {
  @Test func `channels that are given up soon after one another have a pause between them`() {
    var machine = TakenBack()
    #expect(machine.pause(at: 100) == 0)
    #expect(machine.pause(at: 101) == 0.5)
    #expect((2...7).map { machine.pause(at: Instant(100 + $0 * 4)) } == [1, 2, 4, 8, 8, 8])
    #expect(machine.pause(at: 200) == 0)
  }

  @Test func `a channel to which nothing comes again is given up, three times`() {
    var machine = TakenBack()
    let nothing = machine.giveUpIfMissing(since: 0, at: 100)
    #expect(!nothing, "nothing was taken back")
    var now = Instant(100)
    _ = machine.pause(at: now)
    for _ in 0..<3 {
      let found = [
        machine.giveUpIfMissing(since: now, at: now + 4.9), machine.giveUpIfMissing(since: now, at: now + 5),
      ]
      #expect(found == [false, true])
      now += 5
      _ = machine.pause(at: now)
    }
    let fourth = machine.giveUpIfMissing(since: now, at: now + 100)
    #expect(!fourth)
    // Taken back once more.
    _ = machine.pause(at: now + 1)
    let again = machine.giveUpIfMissing(since: now + 1, at: now + 6)
    #expect(again)
  }

  @Test func `where something came again, nothing is missing`() {
    var machine = TakenBack()
    _ = machine.pause(at: 0)
    machine.cameAgain()
    let found = machine.giveUpIfMissing(since: 0, at: 100)
    #expect(!found)
  }
}
