import Journal
import Testing

@testable import AMQP
@testable import Agent

/// What checkpoints carry of rows with digests, of rows without any, and of both in one journal, as they are there after
/// `consumer.deduplicate` was switched on, or after a salvage.
struct RedeliveryTrailTests {
  private static func digest(_ position: Int64) -> DeliveryDigest { DeliveryDigest(high: 7, low: UInt64(position)) }

  /// Appends rows, with digests of their positions in one group, or without.
  private static func append(_ count: Int, to journal: Journal, consumer: Int64, digests: Bool, beginsLine: Bool) throws
  {
    try journal.write { (tx) in
      for _ in 0..<count {
        try tx.append(
          consumer: consumer, deliveryTag: 1, redelivered: false, receivedAt: 0, exchange: Span(), routingKey: Span(),
          properties: Span(), rawProperties: Span(), body: Span())
      }
      guard digests else { return }
      let last = tx.positions.last.rawValue
      var bytes: [UInt8] = []
      for position in last - Int64(count) + 1...last { digest(position).append(to: &bytes) }
      try tx.appendDigests(
        bytes, priority: nil, since: .origin, beginsLine: beginsLine, window: RedeliveryKeeper.positionWindow)
    }
  }

  /// A trail over `groups` of rows of a journal that is kept while checkpoints carry its state too, from `start` on.
  private static func withTrail(
    _ groups: [(count: Int, digests: Bool)], start: Int64, line: Int? = nil,
    _ body: (inout RedeliveryTrail, JournalReader) throws -> Void
  ) throws {
    try withJournal { journal in
      let consumer = try journal.beginConsumer(tag: "c").id
      for (index, group) in groups.enumerated() {
        try append(
          group.count, to: journal, consumer: consumer, digests: group.digests, beginsLine: index == line)
      }
      let configuration = try ConfigSupport.parse(#"{"queue": {"name": "orders"}, "consumer": {"exclusive": true}}"#)
      let policy = DeduplicationPolicy(trust: .exclusive, reason: "of a test")
      try journal.write { (tx) in
        try tx.setRedelivery(
          RedeliveryRecord(
            queue: QueueIdentity(configuration).text, releasable: Position(rawValue: start), prefetch: 100,
            priority: nil,
            prioritySince: .origin))
      }
      let keeper = try #require(
        try RedeliveryKeeper(
          policy, configuration, journal: journal, try journal.only, isTemporary: false, isCarried: true, state: nil))
      var trail = RedeliveryTrail(keeper, start: Position(rawValue: start))
      let reader = try JournalReader(path: journal.path)
      try body(&trail, reader)
      try reader.close()
    }
  }

  /// The checkpoint through `position` carries the digests of `expected`.
  private static func expect(
    _ trail: inout RedeliveryTrail, through position: Int64, _ reader: JournalReader, carries expected: [Int64],
    _ location: Testing.SourceLocation = #_sourceLocation
  ) throws {
    let checkpoint = try trail.checkpoint(through: Position(rawValue: position), reader: reader)
    let state = try #require(checkpoint.state)
    let window = try #require(state.window)
    #expect(state.releasable >= state.captured - Int64(window.count), "what has no digest is not waited for")
    #expect(state.releasable <= state.captured && state.prioritySince <= state.captured + 1)
    // What the next session reads is what this one wrote.
    #expect(RedeliveryState(json: state.json) == state)
    #expect(window.map { Int64($0.low) } == expected, sourceLocation: location)
  }

  @Test func `rows without digests in front of some that have them carry none, chunk by chunk`() throws {
    try Self.withTrail([(10, false), (10, true)], start: 0) { trail, reader in
      for position in [4, 8, 10] as [Int64] {
        try Self.expect(&trail, through: position, reader, carries: [])
      }
      try Self.expect(&trail, through: 12, reader, carries: [11, 12])
      try Self.expect(&trail, through: 20, reader, carries: Array(11...20))
    }
  }

  @Test func `a chunk over the border carries the digests behind it`() throws {
    try Self.withTrail([(10, false), (10, true)], start: 0) { trail, reader in
      try Self.expect(&trail, through: 15, reader, carries: Array(11...15))
    }
  }

  @Test func `rows without digests behind some that have them end what is carried`() throws {
    try Self.withTrail([(10, true), (10, false), (10, true)], start: 0) { trail, reader in
      try Self.expect(&trail, through: 6, reader, carries: Array(1...6))
      try Self.expect(&trail, through: 15, reader, carries: [])
      try Self.expect(&trail, through: 30, reader, carries: Array(21...30))
    }
  }

  @Test func `a trail that begins in front of pending rows carries each digest once`() throws {
    try Self.withTrail([(10, true), (10, true)], start: 5) { trail, reader in
      try Self.expect(&trail, through: 7, reader, carries: Array(1...7))
      try Self.expect(&trail, through: 20, reader, carries: Array(1...20))
    }
  }

  /// After it stands what was captured though it may have been before.
  @Test func `a checkpoint says where the line began that its newest message is of`() throws {
    try Self.withTrail([(10, true), (10, true)], start: 0, line: 1) { trail, reader in
      func line(through position: Int64) throws -> Int64? {
        let state = try trail.checkpoint(through: Position(rawValue: position), reader: reader)
          .state
        return state.map { $0.captured - $0.lineStart }
      }
      let before = try #require(try line(through: 10))
      #expect(before >= 10)
      #expect(try line(through: 14) == 4)
      #expect(try line(through: 20) == 10)
    }
  }
}
