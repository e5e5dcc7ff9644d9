import AMQP
import Journal
import Platform
import Support
import Testing

@testable import Agent

/// What a transaction writes of what emitter and runtime have reported, and when it prunes.
struct WrittenTests {
  typealias Written = JournalMachine.Written

  private static func position(_ value: Int64) -> Position { Position(rawValue: value) }

  @Test func `what was committed was emitted, even if the emitter's own word is late`() {
    var written = Written(emitted: Self.position(2), committed: Self.position(1))
    let entries = written.catchUp(with: Written(emitted: Self.position(3), committed: Self.position(5)), bytes: 10)
    #expect(entries == Written.Entries(emitted: Self.position(5), committed: Self.position(5)))
    #expect(written.emitted == Self.position(5) && written.committed == Self.position(5))
    #expect(written.bytesSincePrune == 10)
  }

  @Test func `what is older is not written`() {
    var written = Written(emitted: Self.position(5), committed: Self.position(5))
    #expect(written.catchUp(with: Written(emitted: Self.position(3)), bytes: 0) == Written.Entries())
    #expect(written.emitted == Self.position(5) && written.committed == Self.position(5))
  }

  @Test func `an output file is written once, and stays until there is another`() {
    var (written, reported) = (Written(), Written())
    let file = OutputRecord(file: 1, length: 4, startedAt: 0)
    reported.outputs = [1: file]
    #expect(written.catchUp(with: reported, bytes: 0).outputs == [1: file])
    #expect(written.catchUp(with: reported, bytes: 0).outputs.isEmpty)
    #expect(written.catchUp(with: Written(), bytes: 0).outputs.isEmpty)
    // Of another subscription.
    reported.outputs[0] = file
    #expect(written.catchUp(with: reported, bytes: 0).outputs == [0: file])
    #expect(written.outputs == [0: file, 1: file])
  }

  @Test func `pruning waits until it is worth it, or nothing else is to be done`() {
    var written = Written()
    let worth = Written.pruneWorth
    #expect(written.prunes(isBusy: false))
    written.toPrune = worth.rows - 1
    #expect(!written.prunes(isBusy: true))
    written.toPrune = worth.rows
    #expect(written.prunes(isBusy: true))
    written.pruned(left: 1)
    _ = written.catchUp(with: Written(), bytes: worth.bytes - 1)
    #expect(!written.prunes(isBusy: true))
    _ = written.catchUp(with: Written(), bytes: 1)
    #expect(written.prunes(isBusy: true))
    written.pruned(left: 1)
    #expect(!written.prunes(isBusy: true))
  }

  @Test
  func
    `a batch that waits for room is taken if the capture is to stop, and before that makes room by what was committed`()
  {
    let machine = JournalMachine([SubscriptionMachine.recognising(nil)], written: Written())
    var inbox = JournalInbox()
    func meanwhile(at now: Instant) -> Next<JournalMachine.Meanwhile> { machine.meanwhile(inbox, since: 5, at: now) }
    #expect(meanwhile(at: 5) == .later(6))
    #expect(meanwhile(at: 6) == .now(.tidyUp))
    inbox.committed = Self.position(1)
    #expect(meanwhile(at: 5) == .now(.bookkeep))
    inbox.stopping = true
    #expect(meanwhile(at: 5) == .now(.takeIt))
  }

  @Test func `a stream that is another one is told of, forgotten, and read on another channel`() {
    var machine = SubscriptionMachine.recognising(nil)
    let stream = QueueNature(type: "stream", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    let known = DeliveryDigest(high: 1, low: 1)
    _ = machine.began(
      Consuming(generation: 3, consumerTag: "c", queue: stream), place: StreamPlace(offset: 7, digest: known), at: 0)
    var decision = SubscriptionMachine.Decision()
    #expect(machine.delivered(1, offset: 7, DeliveryDigest(high: 2, low: 2), &decision) == .startOver)
    let actions = machine.written(decision, through: .origin, releasable: nil, at: 0)
    #expect(
      actions.suffix(3) == [
        .notify(.anotherStream), .forgetStream, .startOver(StartOver(generation: 3, reason: .anotherStream)),
      ])
  }

  @Test(arguments: [false, true]) func `a stream is confirmed once it has come to what was captured`(isLooking: Bool) {
    var machine = SubscriptionMachine.recognising(nil)
    let stream = QueueNature(type: "stream", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    _ = machine.began(
      Consuming(generation: 1, consumerTag: "c", queue: stream), place: StreamPlace(offset: isLooking ? 7 : nil), at: 0)
    #expect(machine.place?.isLooking == isLooking)
    let actions = machine.written(SubscriptionMachine.Decision(), through: .origin, releasable: nil, at: 0)
    #expect(actions.contains(.confirmed) != isLooking)
  }

  /// A stream with a prefetch count of 1 would give nothing else.
  @Test(arguments: [(nil, true), (Position(rawValue: 2), false)] as [(Position?, Bool)])
  func `what was committed before is acknowledged when it comes again, before any checkpoint`(
    committed: Position?, isAcknowledged: Bool
  ) {
    var machine = SubscriptionMachine(
      SubscriptionMachine.Settings(mode: .committed), redelivery: nil, captured: Self.position(3), committed: committed,
      journaled: Self.position(9), at: 0)
    let stream = QueueNature(type: "stream", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    let digest = DeliveryDigest(high: 1, low: 1)
    _ = machine.began(
      Consuming(generation: 1, consumerTag: "c", queue: stream), place: StreamPlace(offset: 7, digest: digest), at: 0)
    var decision = SubscriptionMachine.Decision()
    #expect(machine.delivered(1, offset: 7, digest, &decision) == .pass)
    let acknowledgement = SubscriptionMachine.Action.acknowledge(Acknowledgement(generation: 1, tag: 1))
    let actions = machine.written(decision, through: Self.position(9), releasable: nil, at: 0)
    #expect(actions.contains(acknowledgement) == isAcknowledged)
    #expect(machine.bookkept(releasable: Self.position(3), at: 0).contains(acknowledgement) != isAcknowledged)
  }

  /// A subscription to which something comes all the time keeps no other from coming to rest.
  @Test func `what is due of one is done before the batches of another`() {
    var journal = JournalMachine([.anchored(0), .anchored(1)], written: Written())
    let queue = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)
    let channel = Consuming(generation: 1, consumerTag: "c", queue: queue)
    for index in 0...1 { _ = journal.subscriptions[index].began(channel, place: nil, at: 0) }
    // It waits for what shows whether it is old.
    var decision = SubscriptionMachine.Decision()
    let again = RedeliveryMachine.Delivery(
      digest: DeliveryDigest(high: 0, low: 2), redelivered: true, marks: DeliveryMarks())
    #expect(journal.subscriptions[1].delivered(1, again, &decision) == .hold)
    var inbox = JournalInbox(subscriptions: 2)
    for index in 0...1 { inbox.subscriptions[index].consuming = channel }
    inbox.subscriptions[0].handover = Handover(channel: channel, batch: DeliveryBatch())
    #expect(journal.next(&inbox, at: 0) == .now(.batches([0])))
    guard let deadline = journal.subscriptions[1].idleDeadline else {
      Issue.record("nothing is due")
      return
    }
    #expect(journal.next(&inbox, at: deadline) == .now(.subscription(1, .idle)))
    #expect(journal.next(&inbox, at: deadline - .milliseconds(1)) == .now(.batches([0])))
  }
}
