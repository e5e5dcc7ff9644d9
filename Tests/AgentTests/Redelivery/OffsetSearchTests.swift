import AMQP
import Testing

@testable import Agent

/// What is looked at before something of a stream is gone past.
struct OffsetSearchTests {
  /// Blocked at offset 5, which could not be sent alone.
  private static func blocked() -> UndeliverableOffsets {
    var offsets = UndeliverableOffsets()
    for _ in 0..<3 {
      offsets.channelBegins(after: 4)
      offsets.failed(newest: 4, next: 5, configured: 1)
    }
    return offsets
  }

  private static func message(_ offset: Int64, _ number: UInt64 = 1) -> OffsetSearch.Found {
    .message(StreamEnd.Message(offset: offset, digest: DeliveryDigest(high: number, low: 0)))
  }

  private static func search(skips: Bool = true, hasCaptured: Bool = true, nodes: Int = 1) -> OffsetSearch {
    let captured = OffsetSearch.Captured(offset: 4, digest: DeliveryDigest(high: 1, low: 0))
    return OffsetSearch(first: 5, skips: skips, captured: hasCaptured ? captured : nil, nodes: nodes)
  }

  @Test func `what fails twice, with something behind it that is sent, is gone past if the stream is the same`() {
    for (found, last) in [
      (Self.message(4), .pass(5...6)), (Self.message(4, 2), .anotherStream), (Self.message(3), .anotherStream),
      (Self.message(5), .report), (.nothing, .report), (.fails, .report),
    ] as [(OffsetSearch.Found, OffsetSearch.Step)] {
      var (offsets, search) = (Self.blocked(), Self.search())
      #expect(search.begin(offsets) == .look(.offset(5, node: nil)))
      #expect(search.looked(.fails, &offsets) == .look(.offset(6, node: nil)))
      #expect(search.looked(.fails, &offsets) == .look(.offset(7, node: nil)))
      #expect(search.looked(Self.message(7), &offsets) == .look(.offset(5, node: 0)))
      #expect(search.looked(.fails, &offsets) == .look(.offset(6, node: 0)))
      #expect(search.looked(.fails, &offsets) == .look(.captured(4)))
      #expect(search.looked(found, &offsets) == last, "\(found)")
      #expect(offsets.isBlocked == false)
    }
  }

  @Test func `if nothing was captured there is nothing to compare`() {
    var (offsets, search) = (Self.blocked(), Self.search(hasCaptured: false))
    for outcome in [.fails, Self.message(6)] as [OffsetSearch.Found] { _ = search.looked(outcome, &offsets) }
    #expect(search.looked(.fails, &offsets) == .pass(5...5))
  }

  @Test func `nothing that comes is the stream's end, or a shorter stream`() {
    for (last, step) in [
      (Self.message(4), .begin), (.nothing, .look(.offset(5, node: 0))),
      (Self.message(9), .look(.offset(5, node: 0))),
    ] as [(OffsetSearch.Found, OffsetSearch.Step)] {
      var (offsets, search) = (Self.blocked(), Self.search())
      _ = search.looked(.fails, &offsets)
      #expect(search.looked(.nothing, &offsets) == .look(.last))
      #expect(search.looked(last, &offsets) == step, "\(last)")
    }
  }

  @Test(arguments: [true, false]) func `a broker that fails where nothing is read is not asked on`(fails: Bool) {
    var (offsets, search) = (Self.blocked(), Self.search())
    var step = search.begin(offsets)
    for _ in 0..<OffsetSearch.sanity { step = search.looked(.fails, &offsets) }
    #expect(step == .look(.next))
    step = search.looked(fails ? .fails : .nothing, &offsets)
    let following = OffsetSearch.Step.look(.offset(5 + Int64(OffsetSearch.sanity), node: nil))
    #expect(step == (fails ? .report : following))
  }

  @Test func `without skip one look tells whether it can be sent by now`() {
    var (offsets, search) = (Self.blocked(), Self.search(skips: false))
    #expect(search.looked(.fails, &offsets) == .report && offsets.isBlocked)
    search = Self.search(skips: false)
    #expect(search.looked(Self.message(5), &offsets) == .begin && !offsets.isBlocked)
  }

  @Test func `a state without a digest knows the stream by the offset alone`() {
    var offsets = Self.blocked()
    var search = OffsetSearch(first: 5, skips: true, captured: .init(offset: 4, digest: nil))
    for found in [.fails, Self.message(6), .fails] { _ = search.looked(found, &offsets) }
    #expect(search.looked(Self.message(4, 9), &offsets) == .pass(5...5))
  }

  @Test func `what is gone past has failed on each node`() {
    var (offsets, search) = (Self.blocked(), Self.search(nodes: 3))
    #expect(search.looked(.fails, &offsets) == .look(.offset(6, node: nil)), "one node is enough for a first look")
    #expect(search.looked(Self.message(6), &offsets) == .look(.offset(5, node: 0)))
    #expect(search.looked(.fails, &offsets) == .look(.offset(5, node: 1)))
    #expect(search.looked(.fails, &offsets) == .look(.offset(5, node: 2)))
    #expect(search.looked(.fails, &offsets) == .look(.captured(4)))
    (offsets, search) = (Self.blocked(), Self.search(nodes: 3))
    for found in [.fails, Self.message(6), .fails] { _ = search.looked(found, &offsets) }
    #expect(search.looked(Self.message(5), &offsets) == .begin, "the second node has a whole copy")
  }
}
