import Platform
import Support
import Testing

@testable import Agent

/// How long a look into a stream waits.
struct LookPatienceTests {
  @Test func `a message that goes on arriving is waited for, one that stalls is not`() {
    var patience = LookPatience(.seconds(5), received: 100, at: 0)
    #expect(patience.looked(isArriving: false, received: 108, at: 1) == 5)
    #expect(patience.looked(isArriving: true, received: 5000, at: 4) == 9)
    // Heartbeats go on while nothing else comes.
    #expect(patience.looked(isArriving: true, received: 5008, at: 6) == 9)
    #expect(patience.looked(isArriving: true, received: 5064, at: 8) == 9)
    #expect(patience.looked(isArriving: true, received: 5064, at: 9) == nil)
  }
}
