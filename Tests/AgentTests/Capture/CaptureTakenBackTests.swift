import AMQP
import Testing

@testable import Agent

/// What kind of queue it is decides what a redelivery looks like, and a queue may deliver again within a channel.
struct CaptureTakenBackTests {
  private static let classic = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)
  private static let quorum = QueueNature(kind: .quorum, hasPriorities: false, countsAcquisitions: false)
  private static let quorum43 = QueueNature(kind: .quorum, hasPriorities: false, countsAcquisitions: true)

  private static func digest(_ number: Int) -> DeliveryDigest { DeliveryDigest(high: UInt64(number), low: 7) }

  private static func old(
    _ number: Int, _ returns: Int64? = nil, priority: UInt8? = nil, acquired: Int64? = nil
  ) -> RedeliveryMachine.Delivery {
    .init(
      digest: digest(number), redelivered: true,
      marks: DeliveryMarks(priority: priority, deliveryCount: returns, acquiredCount: acquired))
  }

  private static func new(
    _ number: Int, priority: UInt8? = nil, returns: Int64? = nil
  ) -> RedeliveryMachine.Delivery {
    .init(
      digest: digest(number), redelivered: false, marks: DeliveryMarks(priority: priority, deliveryCount: returns))
  }

  /// A machine in a session that has captured 1…n, all of them new.
  private static func flowing(
    _ n: Int, _ trust: RedeliveryMachine.Trust = .sole, on queue: QueueNature = quorum,
    priority: (Int) -> UInt8? = { _ in nil }
  ) -> RedeliveryMachine {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0, prefetch: 12
    )
    machine.channelBegan(trust, on: queue)
    for number in 1...n { #expect(machine.delivered(new(number, priority: priority(number))) == .capture) }
    _ = machine.committing()
    return machine
  }

  private static func verdicts(
    _ machine: inout RedeliveryMachine, _ deliveries: [RedeliveryMachine.Delivery]
  ) -> [RedeliveryMachine.Verdict] { deliveries.map { machine.delivered($0) } }

  // MARK: Within a channel

  @Test func `a queue that delivers again within the channel is asked to on another, and recognised there`() {
    var machine = Self.flowing(10)
    #expect(machine.delivered(Self.old(8, 1)) == .startOver)
    #expect(machine.captured == 10)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [Self.old(8, 2), Self.old(9, 2), Self.old(10, 2), Self.new(11)]) == [
        .hold, .hold, .recognised(count: 3), .capture,
      ])
  }

  @Test func `it may do so before anything new came, and while deliveries wait`() {
    var machine = Self.flowing(10)
    machine.channelBegan(.sole, on: Self.quorum)
    // 8, 9, 10 are old; 11 and 12 had been delivered and not captured.
    #expect(
      Self.verdicts(&machine, [8, 9, 10, 11, 12].map { Self.old($0, 1) }) == [
        .hold, .hold, .recognised(count: 3), .capture, .capture,
      ])
    _ = machine.committing()
    #expect(machine.delivered(Self.old(10, 2)) == .startOver)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [Self.old(10, 3), Self.old(11, 3), Self.old(10, 4)]) == [.hold, .hold, .startOver])
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [10, 11, 12].map { Self.old($0, 5) }) == [.hold, .hold, .recognised(count: 3)])
  }

  @Test func `what was delivered before and not captured is new, and no reason to start over`() {
    var machine = Self.flowing(10)
    machine.channelBegan(.sole, on: Self.quorum)
    let came = Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 2) } + [Self.old(11, 2), Self.old(12, 1)])
    #expect(came == [.hold, .hold, .recognised(count: 3), .capture, .capture])
    // It looks like nothing that this channel holds.
    _ = machine.delivered(Self.new(13))
    #expect(machine.delivered(Self.old(42, 1)) == .capture)
  }

  @Test func `messages that are alike are captured within the channel, since what somebody gave back looks the same`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0)
    machine.channelBegan(.sole, on: Self.quorum)
    for _ in 1...10 { _ = machine.delivered(Self.new(1)) }
    _ = machine.committing()
    // Ten alike were captured, and one more that someone has looked at comes: it is in the queue beside the anchor.
    #expect(machine.delivered(Self.old(1, 1)) == .capture)
    #expect(machine.captured == 11 && machine.lineStart == 10)
  }

  @Test func `what starts over again and again without progress is captured`() {
    var machine = Self.flowing(10)
    for _ in 0..<8 {
      machine.channelBegan(.sole, on: Self.quorum)
      #expect(Self.verdicts(&machine, [Self.old(8, 1), Self.old(9, 2)]) == [.hold, .startOver])
    }
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(Self.verdicts(&machine, [Self.old(8, 1), Self.old(9, 2)]) == [.hold, .captureHeld])
  }

  @Test(arguments: [(RedeliveryMachine.Trust.none, quorum), (.exclusive, quorum)])
  func `where nothing is recognised, nothing starts over`(trust: RedeliveryMachine.Trust, queue: QueueNature) {
    var machine = Self.flowing(10, trust, on: queue)
    #expect(machine.delivered(Self.old(8, 1)) == .capture)
    // Quorum queues ignore exclusive consumption.
    machine.channelBegan(trust, on: queue)
    #expect(Self.verdicts(&machine, [9, 10, 8].map { Self.old($0, 1) }) == [.capture, .capture, .capture])
  }

  /// Its acknowledgement meant nothing to a queue whose leader could not commit.
  @Test(arguments: [false, true])
  func `what the queue takes back after a settling is looked for on a new channel`(isSettled: Bool) {
    var machine = Self.flowing(10)
    machine.settling()
    if isSettled { machine.confirmSettled() }
    #expect(machine.awaitsSettled != isSettled)
    // Once the broker has answered for it, what looks like it is new: at worst a duplicate.
    guard !isSettled else {
      #expect(machine.delivered(Self.old(8, 1)) == .capture)
      return
    }
    #expect(machine.delivered(Self.old(8, 1)) == .startOver)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [Self.old(8, 1), Self.old(9, 1), Self.old(10, 1)]) == [
        .hold, .hold, .recognised(count: 3),
      ])
    #expect(machine.awaitsSettled)
  }

  /// As while the nodes of a cluster lose each other again and again: an acknowledgement that the broker has answered for was
  /// lost with a leader. What is captured twice then does not show that publishers repeat themselves.
  @Test func `what was captured once more is recognised when the queue takes it back again`() {
    var machine = Self.flowing(10)
    machine.settling()
    machine.confirmSettled()
    #expect(Self.verdicts(&machine, [Self.old(8, 1), Self.old(9, 1)]) == [.capture, .startOver])
    machine.channelBegan(.sole, on: Self.quorum)
    let again = Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 2) })
    #expect(again == [.recognised(count: 1), .capture, .capture])
    _ = machine.committing()
    #expect(machine.delivered(Self.old(8, 3)) == .startOver)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [Self.old(8, 4), Self.old(9, 4), Self.old(10, 4), Self.new(11)]) == [
        .hold, .hold, .recognised(count: 3), .capture,
      ])
    #expect(machine.captured == 14)
  }

  @Test func `so it is if it first comes again on a new channel`() {
    var machine = Self.flowing(10)
    machine.settling()
    machine.confirmSettled()
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 1) }) == [.capture, .capture, .capture])
    _ = machine.committing()
    #expect(machine.delivered(Self.old(8, 2)) == .startOver)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(
      Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 3) }) == [.hold, .hold, .recognised(count: 3)])
  }

  @Test func `publishers that repeat themselves after that are known to`() {
    var machine = Self.flowing(10)
    machine.settling()
    machine.confirmSettled()
    machine.channelBegan(.sole, on: Self.quorum)
    _ = Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 1) } + [8, 9, 10].map { Self.new($0) })
    _ = machine.committing()
    // Twice in one line: three of them tell nothing by themselves.
    #expect(machine.delivered(Self.old(8, 1)) == .startOver)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(Self.verdicts(&machine, [8, 9, 10].map { Self.old($0, 2) }) == [.hold, .hold, .hold])
    #expect(machine.silent() && machine.isAmbiguous)
  }

  /// What was acknowledged need not come again, so a look-alike that was delivered before is new if publishers may repeat themselves.
  @Test func `messages that are alike are never taken for what was settled, though one was captured again`() {
    for queue in [Self.classic, Self.quorum] {
      var machine = RedeliveryMachine(
        anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0,
        prefetch: 12)
      machine.channelBegan(.sole, on: queue)
      for _ in 1...2 { #expect(machine.delivered(Self.new(1)) == .capture) }
      machine.settling()
      machine.confirmSettled()
      #expect(machine.delivered(Self.new(1)) == .capture)
      machine.channelBegan(.sole, on: queue)
      // The third comes again, and is captured again: nothing tells it from the two before.
      #expect(Self.verdicts(&machine, [Self.old(1, 1)]).last != .recognised(count: 1))
      _ = machine.silent()
      machine.settling()
      // A fourth had been delivered before the connection was lost.
      machine.channelBegan(.sole, on: queue)
      #expect(machine.delivered(Self.old(1, 1)) == .capture)
    }
  }

  @Test func `what one message stands for still counts among what was acknowledged`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0, prefetch: 12
    )
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(machine.delivered(Self.new(1)) == .capture)
    machine.settling()
    machine.confirmSettled()
    machine.channelBegan(.sole, on: Self.quorum)
    // The same, or one that is alike: captured.
    #expect(machine.delivered(Self.old(1, 1)) == .capture)
    machine.settling()
    // And so is a third, which need not be either of them.
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(machine.delivered(Self.old(1, 1)) == .capture)
  }

  @Test func `of messages that are alike, one captured again does not stand for all before it`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0, prefetch: 12
    )
    machine.channelBegan(.sole, on: Self.quorum)
    for _ in 1...4 { _ = machine.delivered(Self.new(1)) }
    machine.settling()
    machine.confirmSettled()
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(machine.delivered(Self.old(1, 1)) == .capture)
    machine.channelBegan(.sole, on: Self.quorum)
    #expect(machine.isAmbiguous)
  }

  // MARK: Counts and priorities

  @Test func `on a classic queue counts in the headers are the publisher's`() {
    var machine = Self.flowing(10, on: Self.classic)
    machine.channelBegan(.sole, on: Self.classic)
    #expect(
      Self.verdicts(&machine, [Self.old(8, 3), Self.old(9, 4), Self.old(10, 5)]) == [
        .hold, .hold, .recognised(count: 3),
      ])
    #expect(machine.digestForm == .complete)
  }

  @Test func `before RabbitMQ 4.3 a count of acquisitions is the publisher's`() {
    var machine = Self.flowing(10)
    machine.channelBegan(.sole, on: Self.quorum)
    let deliveries = (8...10).map { Self.old($0, 1, acquired: Int64($0)) }
    #expect(Self.verdicts(&machine, deliveries) == [.hold, .hold, .recognised(count: 3)])
    machine.channelBegan(.sole, on: Self.quorum43)
    #expect(Self.verdicts(&machine, Array(deliveries[..<2])) == [.hold, .startOver])
  }

  @Test func `priorities mean nothing where they make no order of their own`() {
    for queue in [Self.classic, Self.quorum, Self.quorum43] {
      var machine = Self.flowing(10, on: queue) { UInt8($0) }
      machine.channelBegan(.sole, on: queue)
      let deliveries = (8...10).map { Self.old($0, queue.kind == .quorum ? 1 : nil, priority: UInt8($0)) }
      #expect(Self.verdicts(&machine, deliveries) == [.hold, .hold, .recognised(count: 3)])
    }
  }

  @Test func `priorities that differ are not recognised where they make an order of their own`() {
    let queue = QueueNature(kind: .classic, hasPriorities: true, countsAcquisitions: true)
    var mixed = Self.flowing(10, on: queue) { $0 == 9 ? 5 : nil }
    mixed.channelBegan(.sole, on: queue)
    #expect(
      Self.verdicts(&mixed, (8...10).map { Self.old($0, 1, priority: $0 == 9 ? 5 : nil) }) == [
        .hold, .captureHeld, .capture,
      ])
  }

  // MARK: Digests

  @Test func `a redelivery is looked for as it is stored, and as it may have been stored before`() {
    var machine = Self.flowing(10)
    machine.channelBegan(.sole, on: Self.quorum)
    var deliveries = (8...10).map { Self.old($0 + 100, 1) }
    for index in deliveries.indices { deliveries[index].otherDigests = [Self.digest(77), Self.digest(8 + index)] }
    #expect(Self.verdicts(&machine, deliveries) == [.hold, .hold, .recognised(count: 3)])
  }

  @Test func `on a queue that may be a quorum queue, exclusive consumption recognises nothing`() {
    var machine = Self.flowing(10, .exclusive, on: Self.classic)
    #expect(machine.digestForm == .complete && machine.otherForms == [.withoutBrokers, .first])
    machine.channelBegan(.exclusive, on: .unknown)
    #expect(machine.delivered(Self.old(8)) == .capture)
    machine.channelBegan(.sole, on: .unknown)
    #expect(machine.digestForm == .withoutBrokers && machine.otherForms == [.first, .complete])
  }

  // MARK: What is known of a queue

  @Test(
    arguments: [
      ("classic", false, "4.0.5", QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)),
      ("classic", nil, "3.10.8", QueueNature(kind: .classic, hasPriorities: true, countsAcquisitions: false)),
      ("classic", true, "3.10.8", QueueNature(kind: .classic, hasPriorities: true, countsAcquisitions: false)),
      ("quorum", false, "3.13.7", quorum), ("quorum", nil, "4.0.5", quorum), ("quorum", nil, "4.3.6", quorum43),
      ("quorum", nil, "10.0", quorum43), ("quorum", nil, "", quorum),
      (nil, false, "3.10.8", QueueNature(kind: .unknown, hasPriorities: true, countsAcquisitions: false)),
      ("x-custom", false, "4.3.6", QueueNature(kind: .unknown, hasPriorities: true, countsAcquisitions: true)),
    ] as [(String?, Bool?, String, QueueNature)])
  func `type, declaration and release tell the nature of a queue`(
    type: String?, hasLevels: Bool?, version: String, nature: QueueNature
  ) {
    var found = QueueNature(type: type, hasLevels: hasLevels, brokerVersion: version)
    let hasLimit = nature.kind == .quorum && !version.hasPrefix("3.")
    #expect(found.deliveryLimit == (hasLimit ? 20 : nil))
    found.deliveryLimit = nil
    #expect(found == nature)
  }

  @Test func `a delivery limit is the queue's own, or the release's`() {
    func nature(_ limit: Int64?, _ version: String = "4.0.5", type: String = "quorum") -> QueueNature {
      QueueNature(type: type, hasLevels: nil, deliveryLimit: limit, brokerVersion: version)
    }
    #expect(nature(3, "3.10.8").deliveryLimit == 3)
    #expect(nature(nil, "3.10.8").deliveryLimit == nil)
    #expect(nature(-1).deliveryLimit == nil)
    #expect(nature(5, type: "classic").deliveryLimit == nil)
    #expect(!nature(nil).isNearLimit(returns: 14) && nature(nil).isNearLimit(returns: 15))
    #expect(!nature(3).isNearLimit(returns: 0) && nature(3).isNearLimit(returns: 1))
    #expect(!nature(-1).isNearLimit(returns: 1000))
  }
}
