import Testing

@testable import Journal

/// What recognises redeliveries changes with the rows, and outlives them.
@Suite struct RedeliveryTests {
  private func append(_ count: Int, to journal: Journal, consumer: Int64, digests: Bool = true) throws {
    try journal.write { (tx) in
      for _ in 0..<count {
        try tx.append(
          consumer: consumer, deliveryTag: 1, redelivered: false, receivedAt: 0, exchange: Span(), routingKey: Span(),
          properties: Span(), rawProperties: Span(), body: Span())
      }
      guard digests else { return }
      let last = tx.positions.last.rawValue
      let bytes = (last - Int64(count) + 1...last).flatMap { position in
        (0..<16).map { UInt8(truncatingIfNeeded: position + $0) }
      }
      try tx.appendDigests(bytes, priority: 4, since: .origin + 1, window: 100)
    }
  }

  @Test func `the journal knows where the newest line of digests began`() throws {
    let scratch = Scratch()
    let journal = try scratch.open()
    let consumer = try journal.start().id
    try append(5, to: journal, consumer: consumer)
    #expect(try journal.lineStart() == .origin)
    try append(5, to: journal, consumer: consumer, digests: false)
    try journal.write { (tx) in
      try tx.appendDigests(
        [UInt8](repeating: 1, count: 3 * 16), through: .origin + 8, priority: nil, since: .origin + 9, window: 100)
      try tx.appendDigests(
        [UInt8](repeating: 2, count: 2 * 16), priority: nil, since: .origin + 10, beginsLine: true, window: 100)
    }
    #expect(try journal.lineStart() == .origin + 8)
    #expect(try journal.newestDigests(limit: 100).count == 10 * 16, "the window goes on behind it")
    try journal.close()
  }

  private func record(_ releasable: Int64) -> RedeliveryRecord {
    RedeliveryRecord(
      queue: "h:1//q", releasable: Position(rawValue: releasable), prefetch: 9, priority: nil,
      prioritySince: Position(rawValue: 1), streamOffset: 1 << 40)
  }

  @Test func `record and digests read back after reopening, also when everything was pruned`() throws {
    let scratch = Scratch()
    var journal = try scratch.open()
    #expect(try journal.redelivery() == nil && journal.newestDigests(limit: 10).isEmpty)
    try journal.beginSession(id: "s", queue: "q", virtualHost: "/", startedAt: 0)
    let consumer = try journal.beginConsumer(tag: "t").id
    try append(3, to: journal, consumer: consumer)
    try append(2, to: journal, consumer: consumer)
    try journal.write { (tx) in
      try tx.setRedelivery(record(4))
      try tx.setEmitted(through: .origin + 5)
      try tx.setCommitted(through: .origin + 5)
      try tx.prune(limit: 10)
    }
    try journal.close()
    journal = try scratch.open()
    #expect(try journal.redelivery() == record(4))
    #expect(try journal.newestDigests(limit: 10).count == 5 * 16)
    // The limit counts messages, and a group comes whole.
    #expect(try journal.newestDigests(limit: 1).count == 2 * 16)
    #expect(try journal.newestDigests(limit: 10).last == UInt8(5 + 15))
    try journal.close()
  }

  @Test func `a transaction that fails changes neither`() throws {
    struct Refusal: Error {}
    let scratch = Scratch()
    let journal = try scratch.open()
    try journal.beginSession(id: "s", queue: "q", virtualHost: "/", startedAt: 0)
    let consumer = try journal.beginConsumer(tag: "t").id
    try append(1, to: journal, consumer: consumer)
    #expect(throws: Refusal.self) {
      try journal.write { (tx) in
        try tx.setRedelivery(record(1))
        throw Refusal()
      }
    }
    #expect(throws: JournalError.self) { try journal.write { (tx) in try tx.setRedelivery(record(2)) } }
    #expect(try journal.redelivery() == nil)
    try journal.close()
  }

  @Test func `messages without digests end the window`() throws {
    let scratch = Scratch()
    let journal = try scratch.open()
    try journal.beginSession(id: "s", queue: "q", virtualHost: "/", startedAt: 0)
    let consumer = try journal.beginConsumer(tag: "t").id
    try append(3, to: journal, consumer: consumer)
    try append(1, to: journal, consumer: consumer, digests: false)
    #expect(try journal.newestDigests(limit: 10).isEmpty)
    try append(2, to: journal, consumer: consumer)
    #expect(try journal.newestDigests(limit: 10).count == 2 * 16)
    try journal.close()
  }

  @Test func `the window forgets what is too old, and readers find groups by position`() throws {
    let scratch = Scratch()
    let journal = try scratch.open()
    try journal.beginSession(id: "s", queue: "q", virtualHost: "/", startedAt: 0)
    let consumer = try journal.beginConsumer(tag: "t").id
    for _ in 0..<30 { try append(10, to: journal, consumer: consumer) }
    #expect(try journal.newestDigests(limit: 1000).count == 100 * 16)
    let reader = try JournalReader(path: scratch.journal)
    let groups = try reader.digestGroups(after: .origin + 255, through: .origin + 275)
    #expect(groups.map(\.last) == [260, 270, 280].map { Position(rawValue: $0) })
    #expect(groups.allSatisfy { $0.digests.count == 160 && $0.priority == 4 && $0.prioritySince == .origin + 1 })
    #expect(try reader.digestGroups(after: .origin + 300, through: .origin + 301).isEmpty)
    try reader.close()
    try journal.close()
  }
}
