import AMQP
import Journal
import Platform
import Support
import Testing

@testable import Agent

/// How several subscriptions share a journal that is nearly full.
struct FairShareTests {
  private static func at(_ position: Int64) -> Position { Position(rawValue: position) }
  private static let unit = 100_000

  @Test func `one that floods waits alone, before the shares of the others, and goes on once there is room`() {
    // 8 units of which 7 are shared: a third of them is each one's own.
    var share = FairShare(3, maxBytes: Int64(8 * Self.unit))
    var position: Int64 = 0
    var inUse: Int64 = 0
    func append(_ index: Int) {
      position += 1
      inUse += Int64(Self.unit / 10)
      share.appended(1, Self.unit / 10 - 200, of: index, through: Self.at(position))
      share.wrote(inUse: inUse, committed: .origin)
    }
    var flooded = 0
    while share.takes(0), flooded < 1000 {
      append(0)
      flooded += 1
    }
    // A third of 70 tenths, and no more, since two others have had nothing yet.
    #expect((23...25).contains(flooded), "\(flooded)")
    #expect(share.waiting == [0])
    // The others have their shares.
    for index in [1, 2] {
      var count = 0
      while share.takes(index), count < 1000 {
        append(index)
        count += 1
      }
      #expect((22...24).contains(count), "\(count)")
    }
    #expect(share.waiting == [0, 1, 2])
    // What of one is committed makes room for that one first.
    share.wrote(inUse: inUse - Int64(Self.unit), committed: Self.at(10))
    #expect(share.takes(0) == true)
    #expect(share.waiting == [1, 2])
  }

  @Test func `what the others do not have is not wasted, and one that is alone shares with no one`() {
    var share = FairShare(2, maxBytes: Int64(8 * Self.unit))
    // More than its share, with the journal nearly empty: someone else's messages were committed.
    share.appended(1, 4 * Self.unit, of: 0, through: Self.at(1))
    share.wrote(inUse: 0, committed: .origin)
    #expect(share.takes(0) == true)
    var one = FairShare(1, maxBytes: 8)
    one.appended(1, 100, of: 0, through: Self.at(1))
    one.wrote(inUse: 100, committed: .origin)
    #expect(one.takes(0) == true)
  }

  /// What has been delivered comes before what a silence, or another channel, would say.
  @Test func `a subscription whose batch waits is neither idle nor begun anew`() throws {
    func machine(_ index: Int) -> SubscriptionMachine {
      SubscriptionMachine(
        SubscriptionMachine.Settings(index: index, mode: .journaled, trust: .none), redelivery: nil, captured: .origin,
        journaled: .origin, at: 0)
    }
    var journal = JournalMachine(
      [machine(0), machine(1)], written: JournalMachine.Written(), maxBytes: Int64(8 * Self.unit))
    journal.share.appended(1, 8 * Self.unit, of: 0, through: Self.at(1))
    journal.share.wrote(inUse: Int64(8 * Self.unit), committed: .origin)
    let classic = QueueNature(type: "classic", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    var inbox = JournalInbox(subscriptions: 2)
    for generation in [1, 2] {
      let channel = Consuming(generation: generation, consumerTag: "c\(generation)", queue: classic)
      inbox.subscriptions[0].consuming = channel
      if generation == 1 {
        guard case .now(.subscription(0, .begin)) = journal.next(&inbox, at: 0) else {
          // Without anything to find out it begins with its first batch.
          inbox.subscriptions[0].handover = Handover(
            channel: channel, batch: try deliveryBatch([TestDelivery(body: [1])]))
          guard case .now(.subscription(0, .begin(let begun))) = journal.next(&inbox, at: 0) else {
            Issue.record("the channel does not begin")
            return
          }
          _ = journal.subscriptions[0].began(begun, place: nil, at: 0)
          continue
        }
      }
    }
    // Its batch waits, though another channel consumes by now and long after.
    for second in 1...20 {
      let next = journal.next(&inbox, at: Instant(sinceBoot: .seconds(second)))
      if case .now(.subscription) = next { Issue.record("\(next)") }
      if case .now(.batches) = next { Issue.record("\(next)") }
    }
    #expect(journal.share.waiting == [0])
    inbox.stopping = true
    guard case .now(.batches([0])) = journal.next(&inbox, at: 30) else {
      Issue.record("a stop does not take it")
      return
    }
  }
}
