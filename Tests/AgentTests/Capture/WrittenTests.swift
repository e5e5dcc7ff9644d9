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
    #expect(entries == Written.Entries(emitted: Self.position(5), committed: Self.position(5), output: nil))
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
    reported.output = file
    #expect(written.catchUp(with: reported, bytes: 0).output == file)
    #expect(written.catchUp(with: reported, bytes: 0).output == nil)
    #expect(written.catchUp(with: Written(), bytes: 0).output == nil)
    #expect(written.output == file)
  }

  @Test func `pruning waits until it is worth it, or nothing else is to be done`() {
    var written = Written()
    let worth = Written.pruneWorth
    #expect(written.prunes(isBusy: false, prunable: 0))
    #expect(!written.prunes(isBusy: true, prunable: worth.rows - 1))
    #expect(written.prunes(isBusy: true, prunable: worth.rows))
    _ = written.catchUp(with: Written(), bytes: worth.bytes - 1)
    #expect(!written.prunes(isBusy: true, prunable: 1))
    _ = written.catchUp(with: Written(), bytes: 1)
    #expect(written.prunes(isBusy: true, prunable: 1))
  }

  @Test
  func
    `a batch that waits for room is taken if the capture is to stop, and before that makes room by what was committed`()
  {
    let machine = JournalMachine([SubscriptionMachine.recognising(nil)], written: Written())
    var inbox = JournalInbox()
    #expect(machine.meanwhile(inbox) == nil)
    inbox.committed = Self.position(1)
    #expect(machine.meanwhile(inbox) == .bookkeep)
    inbox.stopping = true
    #expect(machine.meanwhile(inbox) == .takeIt)
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
}
