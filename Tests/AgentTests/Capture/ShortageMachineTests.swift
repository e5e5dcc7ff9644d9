import Journal
import Testing

@testable import Agent

/// Whether a write that has failed is tried again.
struct ShortageMachineTests {
  private static func failure(_ kind: JournalError.Kind) -> ShortageMachine.Failure {
    JournalError(kind: kind, operation: "append", object: "j.db").writeFailure
  }

  @Test func `a write that had no room is tried again, and that is told once`() {
    var machine = ShortageMachine()
    #expect(machine.succeeded() == false, "nothing stood still")
    #expect(machine.failed(.full) == .pause(isNews: true, tidiesUp: true))
    #expect(machine.failed(.passing) == .pause(isNews: false, tidiesUp: false))
    #expect(machine.succeeded() == true)
    #expect(machine.succeeded() == false)
    #expect(machine.failed(.lasting) == .end)
  }

  @Test func `room, a lock and a disk that became read-only pass; all else lasts`() {
    #expect(Self.failure(.full(.disk)) == .full)
    #expect(Self.failure(.full(.quota)) == .full)
    #expect(Self.failure(.full(.fileSize)) == .full)
    #expect(Self.failure(.full(.readOnly)) == .passing)
    #expect(Self.failure(.busy) == .passing)
    #expect(Self.failure(.io("EIO")) == .lasting)
    #expect(Self.failure(.corrupt("a page")) == .lasting)
    #expect(Self.failure(.fenced) == .lasting)
    let full = CaptureFailure(cause: "output_full", description: "no space", needsUser: true, kind: .shortage)
    #expect(full.writeFailure == .passing)
    let other = CaptureFailure(cause: "output", description: "gone", needsUser: true)
    #expect(other.writeFailure == .lasting)
  }
}
