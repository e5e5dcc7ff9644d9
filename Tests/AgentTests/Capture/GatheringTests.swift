import AMQP
import Platform
import Support
import Testing

@testable import Agent

/// When deliveries go from the connection to the journal; the clock is a number.
struct GatheringTests {
  /// What one read of the socket left.
  private struct Read {
    var fresh: Int
    var waiting: Int
    var bytes = 1
    var unacknowledged: UInt64 = 1
    var now: Instant = 0
  }

  /// What is decided after each of `reads`; what goes to the journal is handed over.
  private func decisions(prefetch: Int, _ reads: Read...) -> [Bool] {
    var gathering = Gathering(prefetch: prefetch)
    return reads.map { read in
      let goes = gathering.read(
        fresh: read.fresh, waiting: read.waiting, bytes: read.bytes, unacknowledged: read.unacknowledged, at: read.now)
      if goes { gathering.handedOver() }
      return goes
    }
  }

  @Test func `at rest a delivery goes at once`() {
    #expect(decisions(prefetch: 500, Read(fresh: 1, waiting: 1), Read(fresh: 7, waiting: 7, now: 1)) == [true, true])
  }

  @Test func `nothing goes where nothing waits`() {
    #expect(decisions(prefetch: 500, Read(fresh: 0, waiting: 0, unacknowledged: 500)) == [false])
  }

  @Test func `while deliveries pour in they gather up to half a window`() {
    let goes = decisions(
      prefetch: 500, Read(fresh: 100, waiting: 100), Read(fresh: 149, waiting: 249, now: 0.001),
      Read(fresh: 8, waiting: 257, now: 0.002))
    #expect(goes == [false, false, true])
  }

  @Test func `a read that gives few ends the gathering`() {
    let goes = decisions(prefetch: 500, Read(fresh: 100, waiting: 100), Read(fresh: 0, waiting: 100, now: 0.001))
    #expect(goes == [false, true])
  }

  @Test func `nothing waits longer than it may, and what follows starts anew`() {
    let longest = Gathering.longest
    let goes = decisions(
      prefetch: 0, Read(fresh: 10, waiting: 10, now: 5), Read(fresh: 10, waiting: 20, now: Instant(5) + longest * 0.9),
      Read(fresh: 10, waiting: 30, now: Instant(5) + longest * 1.1),
      Read(fresh: 10, waiting: 10, now: Instant(5) + longest * 1.2))
    #expect(goes == [false, false, true, false])
  }

  @Test(arguments: [1, 2, 3, 100, 500]) func `with the window full nothing waits for what cannot come`(prefetch: Int) {
    let read = Read(fresh: 8, waiting: max(prefetch / 2 - 1, 1), unacknowledged: UInt64(prefetch))
    #expect(decisions(prefetch: prefetch, read) == [true])
  }

  @Test func `large bodies go by their bytes`() {
    let enough = Gathering.enoughBytes
    let goes = decisions(
      prefetch: 0, Read(fresh: 8, waiting: 8, bytes: enough - 1), Read(fresh: 8, waiting: 16, bytes: enough))
    #expect(goes == [false, true])
  }
}
