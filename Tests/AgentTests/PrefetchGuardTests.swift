import Testing

@testable import Agent

/// How narrow a channel is after the broker has ended others.
struct PrefetchGuardTests {
  private typealias Returning = PrefetchGuard.Returning
  private static let nothing = Returning(count: 0, isCertain: false)

  /// What comes back is acknowledged first, then one message alone is tried, until one that is new gets through.
  @Test func `a message that the broker cannot send is tried alone`() {
    var narrow = PrefetchGuard()
    #expect(narrow.next(Self.nothing) == .configured)
    narrow.failed(isInternalError: true, hasAcknowledged: true)
    #expect(narrow.next(Returning(count: 8, isCertain: true)) == .clearing(8))
    narrow.failed(isInternalError: true, hasAcknowledged: true)
    #expect(narrow.steps == 0)
    for attempt in 1...20 {
      #expect(narrow.next(Returning(count: 8, isCertain: false)) == .stepping)
      narrow.failed(isInternalError: true, hasAcknowledged: false)
      #expect(narrow.steps == attempt)
    }
    // Others get through in between, and it comes again behind them.
    #expect(narrow.next(Returning(count: 1, isCertain: true)) == .stepping)
    narrow.failed(isInternalError: true, hasAcknowledged: true)
    #expect(narrow.steps == 1)
    #expect(narrow.succeeded() == true)
    #expect(narrow.steps == 0)
    #expect(narrow.next(Returning(count: 1, isCertain: true)) == .configured)
    #expect(narrow.succeeded() == false)
  }

  @Test func `a network that breaks is no reason, and no success`() {
    var narrow = PrefetchGuard()
    for _ in 0..<9 { narrow.failed(isInternalError: false, hasAcknowledged: false) }
    #expect(narrow.next(Returning(count: 8, isCertain: true)) == .configured)
    narrow.failed(isInternalError: true, hasAcknowledged: false)
    _ = narrow.next(Self.nothing)
    narrow.failed(isInternalError: true, hasAcknowledged: false)
    narrow.failed(isInternalError: false, hasAcknowledged: false)
    #expect(narrow.next(Self.nothing) == .stepping)
    #expect(narrow.steps == 1)
  }

  @Test func `a first channel is as narrow`() {
    var narrow = PrefetchGuard()
    narrow.beginNarrow()
    #expect(narrow.next(Self.nothing) == .stepping)
    #expect(narrow.succeeded() == true)
    #expect(narrow.next(Self.nothing) == .configured)
  }

  @Test func `a width is never more than the settings say`() {
    #expect([0, 1, 4, 100].map(PrefetchGuard.Width.clearing(8).count) == [8, 1, 4, 8])
    #expect([0, 100].map(PrefetchGuard.Width.configured.count) == [0, 100])
    #expect([0, 100].map(PrefetchGuard.Width.stepping.count) == [1, 1])
  }
}
