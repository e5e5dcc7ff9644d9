import Journal
import Support
import Testing

@testable import Agent

/// What may be acknowledged, and when.
struct CaptureAcknowledgementTests {
  private static func at(_ position: Int64) -> Position { Position(rawValue: position) }

  @Test func `journaled acknowledges what is durable and nothing beyond`() {
    var machine = AcknowledgementMachine(mode: .journaled)
    machine.channelOpened(generation: 1)
    #expect(machine.journalCommitted(through: Self.at(0)) == nil)
    for tag in 1...5 as ClosedRange<UInt64> { machine.appended(tag: tag, at: Self.at(Int64(tag) + 100)) }
    #expect(machine.journalCommitted(through: Self.at(100)) == nil)
    #expect(machine.journalCommitted(through: Self.at(103)) == Acknowledgement(generation: 1, tag: 3))
    #expect(machine.journalCommitted(through: Self.at(103)) == nil)
    #expect(machine.runtimeCommitted(through: Self.at(105)) == nil)
    #expect(machine.journalCommitted(through: Self.at(105)) == Acknowledgement(generation: 1, tag: 5))
  }

  @Test func `committed waits for the runtime whatever the journal says`() {
    var machine = AcknowledgementMachine(mode: .committed)
    machine.channelOpened(generation: 1)
    machine.appended(tag: 1, at: Self.at(1))
    machine.appended(tag: 2, at: Self.at(2))
    #expect(machine.journalCommitted(through: Self.at(2)) == nil)
    #expect(machine.runtimeCommitted(through: Self.at(1)) == Acknowledgement(generation: 1, tag: 1))
    #expect(machine.runtimeCommitted(through: Self.at(2)) == Acknowledgement(generation: 1, tag: 2))
  }

  @Test func `gaps in tags and positions do not hide what lies behind them`() {
    var machine = AcknowledgementMachine(mode: .journaled)
    machine.channelOpened(generation: 4)
    machine.appended(tag: 2, at: Self.at(10))
    machine.appended(tag: 5, at: Self.at(11))
    machine.appended(tag: 6, at: Self.at(20))
    #expect(machine.journalCommitted(through: Self.at(10)) == Acknowledgement(generation: 4, tag: 2))
    #expect(machine.journalCommitted(through: Self.at(19)) == Acknowledgement(generation: 4, tag: 5))
    #expect(machine.journalCommitted(through: Self.at(20)) == Acknowledgement(generation: 4, tag: 6))
  }

  @Test func `a new channel forgets the old one's tags`() {
    var machine = AcknowledgementMachine(mode: .journaled)
    machine.channelOpened(generation: 1)
    machine.appended(tag: 1, at: Self.at(1))
    machine.channelOpened(generation: 2)
    #expect(machine.journalCommitted(through: Self.at(1)) == nil)
    machine.appended(tag: 1, at: Self.at(2))
    #expect(machine.journalCommitted(through: Self.at(2)) == Acknowledgement(generation: 2, tag: 1))
  }

  @Test func `a mark that goes back takes nothing back`() {
    var machine = AcknowledgementMachine(mode: .committed)
    machine.channelOpened(generation: 1)
    #expect(machine.runtimeCommitted(through: Self.at(7)) == nil)
    machine.appended(tag: 1, at: Self.at(7))
    // What is safe already is acknowledged with the next word, also an older one.
    #expect(machine.runtimeCommitted(through: Self.at(3)) == Acknowledgement(generation: 1, tag: 1))
  }

  /// The naive model: every delivery of the present channel by itself.
  private struct Model {
    var outstanding: [(tag: UInt64, position: Int64)] = []
    var safe: Int64 = 0

    mutating func advance(to position: Int64) -> UInt64? {
      safe = max(safe, position)
      let tag = outstanding.filter { $0.position <= safe }.map(\.tag).max()
      outstanding.removeAll { $0.position <= safe }
      return tag
    }
  }

  @Test(arguments: [AcknowledgementMode.journaled, .committed], 0..<100 as Range<UInt64>)
  func `random sequences do what a naive model does`(mode: AcknowledgementMode, seed: UInt64) {
    var random = Seeded(seed)
    var machine = AcknowledgementMachine(mode: mode)
    var model = Model()
    var generation = 0
    var tag: UInt64 = 0
    var position: Int64 = 0
    var acknowledged: UInt64 = 0
    for _ in 0..<300 {
      switch Int.random(in: 0..<20, using: &random) {
      case 0:
        generation += 1
        machine.channelOpened(generation: generation)
        model.outstanding.removeAll()
        tag = 0
        acknowledged = 0
      case 1...10:
        tag += Bool.random(using: &random) ? 1 : UInt64.random(in: 1...3, using: &random)
        position += Bool.random(using: &random) ? 1 : Int64.random(in: 1...4, using: &random)
        machine.appended(tag: tag, at: Self.at(position))
        model.outstanding.append((tag, position))
      default:
        let through = Int64.random(in: 0...max(position, 1), using: &random)
        let journal = Bool.random(using: &random)
        let action =
          journal
          ? machine.journalCommitted(through: Self.at(through)) : machine.runtimeCommitted(through: Self.at(through))
        let counts = journal == (mode == .journaled)
        let expected = counts ? model.advance(to: through) : nil
        #expect(action == expected.map { Acknowledgement(generation: generation, tag: $0) })
        if let action {
          #expect(action.tag > acknowledged)
          acknowledged = action.tag
        }
      }
    }
  }
}
