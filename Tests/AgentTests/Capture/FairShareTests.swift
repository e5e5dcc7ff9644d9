import Journal
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
}
