import Testing

@testable import Agent

/// What is looked at before something of a stream is gone past.
struct OffsetSearchTests {
  /// Blocked at offset 5, which could not be sent alone.
  private static func blocked() -> UndeliverableOffsets {
    var offsets = UndeliverableOffsets()
    for _ in 0..<3 {
      offsets.channelBegins(behind: 4)
      offsets.failed(newest: 4, next: 5, configured: 1)
    }
    return offsets
  }

  private static func search(skips: Bool = true, captured: Int64? = 4) -> OffsetSearch {
    OffsetSearch(first: 5, skips: skips, captured: captured)
  }

  @Test func `what fails twice, with something behind it that is sent, is gone past if the stream is the same`() {
    for (isStill, last) in [(true, .pass(5...6)), (false, .anotherStream), (nil, .report)]
      as [(Bool?, OffsetSearch.Step)]
    {
      var (offsets, search) = (Self.blocked(), Self.search())
      #expect(search.begin(offsets) == .look(.offset(5, onEveryNode: false)))
      #expect(search.saw(.fails, &offsets) == .look(.offset(6, onEveryNode: false)))
      #expect(search.saw(.fails, &offsets) == .look(.offset(7, onEveryNode: false)))
      #expect(search.saw(.sends(7), &offsets) == .look(.offset(5, onEveryNode: true)))
      #expect(search.saw(.fails, &offsets) == .look(.offset(6, onEveryNode: true)))
      #expect(search.saw(.fails, &offsets) == .look(.captured(4)))
      #expect(search.saw(isStill: isStill, &offsets) == last)
      #expect(offsets.isBlocked == false)
    }
  }

  @Test func `if nothing was captured there is nothing to compare`() {
    var (offsets, search) = (Self.blocked(), Self.search(captured: nil))
    for outcome in [.fails, .sends(6)] as [UndeliverableOffsets.Outcome] { _ = search.saw(outcome, &offsets) }
    #expect(search.saw(.fails, &offsets) == .pass(5...5))
  }

  @Test func `nothing that comes is the stream's end, or a shorter stream`() {
    for (last, step) in [
      (.sends(4), .begin), (.isQuiet, .look(.offset(5, onEveryNode: true))),
      (.sends(9), .look(.offset(5, onEveryNode: true))),
    ] as [(UndeliverableOffsets.Outcome, OffsetSearch.Step)] {
      var (offsets, search) = (Self.blocked(), Self.search())
      _ = search.saw(.fails, &offsets)
      #expect(search.saw(.isQuiet, &offsets) == .look(.last))
      #expect(search.saw(last, &offsets) == step, "\(last)")
    }
  }

  @Test(arguments: [true, false]) func `a broker that fails where nothing is read is not asked on`(fails: Bool) {
    var (offsets, search) = (Self.blocked(), Self.search())
    var step = search.begin(offsets)
    for _ in 0..<OffsetSearch.sanity { step = search.saw(.fails, &offsets) }
    #expect(step == .look(.next))
    step = search.saw(fails ? .fails : .isQuiet, &offsets)
    let following = OffsetSearch.Step.look(.offset(5 + Int64(OffsetSearch.sanity), onEveryNode: false))
    #expect(step == (fails ? .report : following))
  }

  @Test func `without skip one look tells whether it can be sent by now`() {
    var (offsets, search) = (Self.blocked(), Self.search(skips: false))
    #expect(search.saw(.fails, &offsets) == .report && offsets.isBlocked)
    search = Self.search(skips: false)
    #expect(search.saw(.sends(5), &offsets) == .begin && !offsets.isBlocked)
  }
}
