import Foundation
import Journal
import Testing

@testable import AMQP
@testable import Agent

/// What a transaction stores beside its rows so that their messages are recognised (`RedeliveryWrite`).
struct RedeliveryWriteTests {
  private static let groups = [
    RedeliveryWrite.Group(bytes: [UInt8](repeating: 1, count: 32), following: 3, beginsLine: false),
    RedeliveryWrite.Group(bytes: [UInt8](repeating: 2, count: 48), following: 0, beginsLine: true),
  ]
  private static let last = Position(rawValue: 50)

  private static func machine() -> RedeliveryMachine {
    RedeliveryMachine(
      anchor: 8, windowLimit: 100, captured: 50, releasable: 42, window: [], priority: 3, prioritySince: 17)
  }

  @Test func `what nothing recognises stores nothing, nor does what is untold`() throws {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    defer { try? journal.close() }
    let stream = try #require(
      try StreamResumption(
        try ConfigSupport.parse(#"{"queue":{"name":"orders"}}"#), journal: journal, try journal.only, isCarried: true,
        state: nil))
    for resumption in [Resumption.none, .untold(ifStream: stream, otherwise: .none)] {
      let write = resumption.write(of: Self.groups, through: Self.last, Self.machine(), isPlaced: true, offset: 9)
      #expect(write == nil)
    }
    let unplaced = Resumption.stream(stream).write(of: [], through: Self.last, nil, isPlaced: false, offset: 9)
    #expect(unplaced == nil, "no channel has begun")
  }

  @Test func `a stream stores the offset of what is appended, or the newest one known`() throws {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    defer { try? journal.close() }
    let state = StreamResumption.State(queue: QueueIdentity(virtualHost: "/", queue: "orders").text, offset: 19)
    let stream = try #require(
      try StreamResumption(
        try ConfigSupport.parse(#"{"queue":{"name":"orders"}}"#), journal: journal, try journal.only, isCarried: true,
        state: state))
    let resumption = Resumption.stream(stream)
    for (offset, stored) in [(24, 24), (nil, 19)] as [(Int64?, Int64)] {
      let write = resumption.write(of: [Self.groups[0]], through: Self.last, nil, isPlaced: true, offset: offset)
      #expect(write?.record.streamOffset == stored && write?.record.releasable == Self.last)
      #expect(
        write?.digests == [
          .init(bytes: Self.groups[0].bytes, through: Self.last, priority: nil, since: Self.last, beginsLine: false)
        ])
    }
  }

  @Test func `a queue stores each line with where it ends, and claims a priority of the newest only`() throws {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    defer { try? journal.close() }
    let configuration = try ConfigSupport.parse(#"{"queue":{"name":"orders"},"consumer":{"exclusive":true}}"#)
    let policy = DeduplicationPolicy(trust: .exclusive, reason: "")
    let keeper = try #require(
      try RedeliveryKeeper(
        policy, configuration, journal: journal, try journal.only, isTemporary: false, isCarried: false, state: nil))
    let write = Resumption.position(keeper).write(
      of: Self.groups, through: Self.last, Self.machine(), isPlaced: false, offset: nil)
    #expect(write?.record == keeper.record(of: Self.machine()) && write?.window == keeper.window)
    #expect(
      write?.digests == [
        .init(
          bytes: Self.groups[0].bytes, through: Position(rawValue: 47), priority: nil, since: Position(rawValue: 48),
          beginsLine: false),
        .init(
          bytes: Self.groups[1].bytes, through: Self.last, priority: 3, since: keeper.position(of: 17), beginsLine: true
        ),
      ])
    #expect(
      Resumption.position(keeper).write(of: [], through: Self.last, nil, isPlaced: true, offset: nil) == nil)
  }
}
