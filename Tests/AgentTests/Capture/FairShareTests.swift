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

  /// What has been delivered comes before what a silence would say.
  @Test func `a subscription whose batch waits for its share is not taken for silent`() {
    var journal = JournalMachine(
      [.anchored(0), .anchored(1)], written: JournalMachine.Written(), maxBytes: Int64(8 * Self.unit))
    let queue = QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false)
    let channel = Consuming(generation: 1, consumerTag: "c", queue: queue)
    _ = journal.subscriptions[1].began(channel, place: nil, at: 0)
    var decision = SubscriptionMachine.Decision()
    let again = RedeliveryMachine.Delivery(
      digest: DeliveryDigest(high: 0, low: 2), redelivered: true, marks: DeliveryMarks())
    #expect(journal.subscriptions[1].delivered(1, again, &decision) == .hold)
    var inbox = JournalInbox(subscriptions: 2)
    inbox.subscriptions[1].consuming = channel
    _ = journal.next(&inbox, at: 0)
    guard let deadline = journal.subscriptions[1].idleDeadline else {
      Issue.record("nothing is due")
      return
    }
    // The journal is full of its messages, and the rest of what comes again waits.
    journal.share.wrote(inUse: Int64(8 * Self.unit), committed: .origin)
    journal.share.appended(1, 8 * Self.unit, of: 1, through: Self.at(9))
    inbox.subscriptions[1].handover = Handover(channel: channel, batch: DeliveryBatch())
    for second in 0...20 {
      let next = journal.next(&inbox, at: deadline + .seconds(second))
      if case .now(.subscription) = next { Issue.record("\(next)") }
      if case .now(.batches) = next { Issue.record("\(next)") }
    }
    #expect(journal.share.waiting == [1])
    inbox.stopping = true
    #expect(journal.next(&inbox, at: deadline) == .now(.batches([1])))
  }
}
