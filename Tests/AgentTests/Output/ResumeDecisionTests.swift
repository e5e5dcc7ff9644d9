import Journal
import Support
import Testing

@testable import Agent

/// What a checkpoint covers, and where a session begins.
struct EmitDecisionTests {
  private static func at(_ position: Int64) -> Position { Position(rawValue: position) }

  private static func checkpoint(_ position: Int64) -> Checkpoint {
    Checkpoint(through: at(position), releasable: at(position))
  }

  @Test func `acknowledgements count from the oldest checkpoint`() {
    var ledger = CheckpointLedger()
    #expect(ledger.acknowledged(1) == nil)
    for position in [3, 7, 9, 12] as [Int64] { ledger.written(Self.checkpoint(position)) }
    #expect(ledger.count == 4)
    #expect(ledger.acknowledged(0) == nil)
    #expect(ledger.acknowledged(-1) == nil)
    #expect(ledger.acknowledged(1) == Self.checkpoint(3))
    #expect(ledger.acknowledged(2) == Self.checkpoint(9))
    // One is left: two are the runtime's error, and take nothing.
    #expect(ledger.acknowledged(2) == nil)
    #expect(ledger.acknowledged(.max) == nil)
    #expect(ledger.count == 1)
    #expect(ledger.acknowledged(1) == Self.checkpoint(12))
    #expect(ledger.count == 0)
  }

  @Test(arguments: 0..<50 as Range<UInt64>)
  func `random acknowledgements cover what a list of checkpoints says`(seed: UInt64) {
    var random = Seeded(seed)
    var ledger = CheckpointLedger()
    var model: [Int64] = []
    var position: Int64 = 0
    for _ in 0..<200 {
      if Bool.random(using: &random) {
        position += Int64.random(in: 1...9, using: &random)
        ledger.written(Self.checkpoint(position))
        model.append(position)
      } else {
        let count = Int.random(in: 0...4, using: &random)
        let expected = (1...4).contains(count) && count <= model.count ? Self.checkpoint(model[count - 1]) : nil
        #expect(ledger.acknowledged(count) == expected)
        if expected != nil { model.removeFirst(count) }
      }
      #expect(ledger.count == model.count)
    }
  }

  private static func decide(_ state: Int64?, _ journal: String = "j", last: Int64, committed: Int64)
    -> ResumeDecision
  {
    ResumeDecision.decide(
      state: state.map { ResumeDecision.Mark(journal: journal, position: at($0)) }, journal: "j", last: at(last),
      committed: at(committed))
  }

  @Test func `a new capture begins at the journal's mark`() {
    #expect(Self.decide(nil, last: 0, committed: 0) == .resume(after: .origin, warning: nil))
    #expect(Self.decide(nil, last: 9, committed: 0) == .resume(after: .origin, warning: nil))
    #expect(
      Self.decide(nil, last: 9, committed: 4)
        == .resume(
          after: Self.at(4),
          warning: "the capture has no state, but the journal was captured up to position 4 before; what was captured "
            + "then is not captured again"))
  }

  @Test(arguments: [0, 4, 5, 99] as [Int64])
  func `another journal's state says nothing about this one`(state: Int64) {
    #expect(
      Self.decide(state, "other", last: 5, committed: 2)
        == .resume(
          after: Self.at(2),
          warning: "the capture's state belongs to another journal (other, position \(state)); this one begins after "
            + "position 2"))
  }

  @Test(arguments: [4, 7, 9] as [Int64])
  func `the runtime's mark wins between the journal's mark and its end`(state: Int64) {
    #expect(Self.decide(state, last: 9, committed: 4) == .resume(after: Self.at(state), warning: nil))
  }

  @Test func `a runtime that went back resumes behind what is gone, with a warning`() {
    #expect(
      Self.decide(3, last: 9, committed: 4)
        == .resume(
          after: Self.at(4),
          warning: "the runtime remembers position 3, but had acknowledged 4 before; what lies between is no longer in "
            + "the journal"))
  }

  @Test func `a journal that went back in time is refused`() {
    guard case .refuse(let reason) = Self.decide(10, last: 9, committed: 4) else {
      Issue.record("a journal that ends before the runtime's mark was accepted")
      return
    }
    #expect(
      reason == "the journal went back in time: the runtime has committed position 10, the journal ends at 9. It was "
        + "probably restored from an old copy. Restore the newest one, or give journal.path a new file to start over; "
        + "what only the lost journal held is lost")
  }
}
