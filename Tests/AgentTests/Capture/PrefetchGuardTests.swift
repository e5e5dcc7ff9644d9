import AMQP
import Testing

@testable import Agent

/// How narrow a channel is after the broker has ended others.
struct PrefetchGuardTests {
  /// What comes back is acknowledged first, then one message alone is tried, until one that is new gets through.
  @Test func `an error on a wide channel says nothing of one message`() {
    var machine = PrefetchGuard()
    machine.failed(isInternalError: true, hasAcknowledged: false)
    #expect(machine.next(returning: 0) == .stepping)
    machine.succeeded()
    // The channel after it is wide whether it was asked for or not.
    machine.failed(isInternalError: true, hasAcknowledged: false)
    #expect(machine.steps == 0 && machine.isNarrow)
  }

  @Test func `a message that the broker cannot send is tried alone`() {
    var narrow = PrefetchGuard()
    #expect(narrow.next(returning: 8) == .configured)
    narrow.failed(isInternalError: true, hasAcknowledged: true)
    #expect(narrow.next(returning: 8) == .clearing(8))
    narrow.cleared()
    for attempt in 1...20 {
      #expect(narrow.next(returning: 0) == .stepping)
      narrow.failed(isInternalError: true, hasAcknowledged: false)
      #expect(narrow.steps == attempt)
    }
    // Others get through in between, and it comes again after them.
    #expect(narrow.next(returning: 1) == .stepping)
    narrow.failed(isInternalError: true, hasAcknowledged: true)
    #expect(narrow.steps == 1)
    narrow.succeeded()
    #expect(narrow.steps == 0)
    #expect(narrow.next(returning: 1) == .configured)
  }

  @Test func `what does not come back is waited for twice`() {
    var narrow = PrefetchGuard()
    narrow.failed(isInternalError: true, hasAcknowledged: false)
    for _ in 0..<2 {
      #expect(narrow.next(returning: 8) == .clearing(8))
      narrow.failed(isInternalError: true, hasAcknowledged: false)
    }
    #expect(narrow.next(returning: 8) == .stepping)
  }

  @Test func `a network that breaks is no reason, and no success`() {
    var narrow = PrefetchGuard()
    for _ in 0..<9 { narrow.failed(isInternalError: false, hasAcknowledged: false) }
    #expect(narrow.next(returning: 8) == .configured)
    narrow.failed(isInternalError: true, hasAcknowledged: false)
    _ = narrow.next(returning: 0)
    narrow.failed(isInternalError: true, hasAcknowledged: false)
    narrow.failed(isInternalError: false, hasAcknowledged: false)
    #expect(narrow.next(returning: 0) == .stepping)
    #expect(narrow.steps == 1)
  }

  @Test func `a first channel is as narrow`() {
    var narrow = PrefetchGuard()
    narrow.beginNarrow()
    #expect(narrow.next(returning: 0) == .stepping)
    narrow.succeeded()
    #expect(narrow.next(returning: 0) == .configured)
  }

  @Test func `a width is never more than the settings say`() {
    #expect([0, 1, 4, 100].map(PrefetchGuard.Width.clearing(8).count) == [8, 1, 4, 8])
    #expect([0, 100].map(PrefetchGuard.Width.configured.count) == [0, 100])
    #expect([0, 100].map(PrefetchGuard.Width.stepping.count) == [1, 1])
  }

  @Test func `a narrow channel ends once all of it is acknowledged or rejected, behind a cancelled consumer`() {
    var channel = NarrowChannel(isNarrow: true)
    var commands = ConnectionCommands()
    #expect(!channel.mustCancel(commands, 3))
    commands.cleared = 2
    #expect(!channel.mustCancel(commands, 3), "of another channel")
    commands.cleared = 3
    #expect(channel.mustCancel(commands, 3))
    channel.isCancelled = true
    commands.rejected = [Acknowledgement(generation: 2, tag: 9), Acknowledgement(generation: 3, tag: 8)]
    channel.received(commands, 3, acknowledged: 6)
    #expect(!channel.isAllAcknowledged(upTo: 8))
    #expect(!channel.hasSucceeded)
    commands = ConnectionCommands()
    commands.fresh = 3
    channel.received(commands, 3, acknowledged: 7)
    #expect(channel.isAllAcknowledged(upTo: 8))
    #expect(!channel.isAllAcknowledged(upTo: 9))
    #expect(channel.hasSucceeded)
    #expect(!NarrowChannel(isNarrow: true).isAllAcknowledged(upTo: 0), "nothing came")
    var wide = NarrowChannel(isNarrow: false)
    wide.received(commands, 3, acknowledged: 7)
    #expect(!wide.mustCancel(commands, 3) && !wide.hasSucceeded)
  }

  /// One message that looks like a captured one proves nothing, whatever its place.
  @Test(arguments: [1, 7])
  func `a channel on which less fits than may come back recognises nothing`(prefetch: Int) {
    let window = (1...20).map { DeliveryDigest(high: UInt64($0), low: 0) }
    var machine = RedeliveryMachine(
      anchor: 8, windowLimit: 100, captured: 20, releasable: 20, window: window, priority: nil, prioritySince: 0,
      settled: 12)
    machine.channelBegan(.sole, on: .unknown, prefetch: prefetch)
    let alike = RedeliveryMachine.Delivery(digest: window[4], redelivered: true)
    #expect(machine.delivered(alike) == .capture)
    var one = RedeliveryMachine(
      anchor: 8, windowLimit: 100, captured: 20, releasable: 20, window: window, priority: nil, prioritySince: 0,
      settled: 19)
    one.channelBegan(.sole, on: .unknown, prefetch: 1)
    #expect(one.delivered(RedeliveryMachine.Delivery(digest: window[19], redelivered: true)) == .capture)
  }
}
