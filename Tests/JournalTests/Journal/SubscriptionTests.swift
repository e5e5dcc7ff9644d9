import Foundation
import Testing

@testable import Journal

/// Several subscriptions in one journal: one line of positions, and numbers, sessions and digests of each.
@Suite struct SubscriptionTests {
  private let scratch = Scratch()

  private func subscription(_ name: String, in journal: Journal) throws -> SubscriptionRecord {
    try journal.subscriptions([.init(name, queue: "\(name)-queue", virtualHost: "/")])[0]
  }

  /// A session and a consumer of a subscription.
  private func start(
    _ name: String, in journal: Journal, session: String? = nil
  ) throws -> (SubscriptionRecord, ConsumerRecord) {
    let subscription = try subscription(name, in: journal)
    let begun = try journal.beginSession(of: subscription, id: session ?? UUID().uuidString, startedAt: 1)
    return (subscription, try journal.beginConsumer(tag: "tag-\(name)", in: begun))
  }

  private func sequences(_ reader: JournalReader) throws -> [String] {
    var rows: [(Int64, Position)] = []
    _ = try reader.read(after: .origin, limit: 100) { row in
      rows.append((row.consumer, row.number))
      return true
    }
    return try rows.map { id, number in
      let consumer = try reader.consumer(id)
      return "\(consumer.sessionID) \(number - consumer.sessionBase)"
    }
  }

  @Test func `each subscription counts its own messages, over restarts, in one line of positions`() throws {
    var journal = try scratch.open()
    let (one, first) = try start("one", in: journal, session: "a")
    try journal.append([Message(), Message()], first)
    #expect(try journal.captured(of: one) == .origin + 2)
    #expect(try scratch.shell("SELECT count(*) FROM message WHERE number IS NOT NULL") == "0", "it is the position")
    let (two, second) = try start("two", in: journal, session: "b")
    try journal.append([Message()], second)
    try journal.append([Message()], first)
    try journal.append([Message(), Message()], second)
    #expect(try journal.captured(of: one) == .origin + 3 && journal.captured(of: two) == .origin + 3)
    #expect(throws: JournalError.self) { try journal.captured() }
    try journal.close()

    journal = try scratch.open()
    #expect(journal.subscriptions.map(\.stream) == ["one", "two"] && journal.subscriptions.map(\.key) == [0, 1])
    #expect(try journal.captured(of: one) == .origin + 3 && journal.positions.last == .origin + 6)
    #expect(try journal.newestSessionBase(of: two) == .origin)
    let (again, third) = try start("one", in: journal, session: "c")
    #expect(again.key == one.key && third.sessionBase == .origin + 3)
    try journal.append([Message()], third)
    #expect(failure { try journal.append([Message()], second) } != nil, "its session is of another process")
    let reader = try JournalReader(path: scratch.journal)
    #expect(try sequences(reader) == ["a 1", "a 2", "b 1", "a 3", "b 2", "b 3", "c 1"])
    #expect(try reader.verify() == [])
    #expect(
      try scratch.shell("SELECT group_concat(stream || queue || sequence, ' ') FROM pending")
        == "oneone-queue1 oneone-queue2 twotwo-queue1 oneone-queue3 twotwo-queue2 twotwo-queue3 oneone-queue1")
    try journal.close()
  }

  @Test func `what is rolled back gives its numbers back`() throws {
    struct Stop: Error {}
    let journal = try scratch.open()
    let (_, first) = try start("one", in: journal)
    let (two, second) = try start("two", in: journal)
    #expect(throws: Stop.self) {
      try journal.write { tx in
        try tx.append(Message(), first)
        try tx.append(Message(), second)
        #expect(try tx.captured(of: two) == .origin + 1)
        throw Stop()
      }
    }
    #expect(try journal.captured(of: two) == .origin)
    try journal.append([Message()], second)
    #expect(try journal.captured(of: two) == .origin + 1)
    try journal.close()
  }

  @Test func `a subscription is found by the bytes of its name, and only one without a name is adopted`() throws {
    var journal = try scratch.open()
    let (composed, _) = try start("caf\u{E9}", in: journal)
    let (decomposed, _) = try start("cafe\u{301}", in: journal)
    #expect(composed.key == 0 && decomposed.key == 1)
    let asked = try journal.subscriptions(["x", "y"].map { .init($0, queue: $0, virtualHost: "/") })
    #expect(asked.map(\.key) == [2, 3], "before either has begun")
    try journal.close()
    journal = try scratch.open()
    #expect(journal.subscriptions.count == 2, "what has begun no session is not written")
    _ = try journal.beginSession(of: subscription("x", in: journal), id: "s", startedAt: 1)
    let moved = try journal.subscriptions([.init("x", queue: "other", virtualHost: "v")])[0]
    _ = try journal.beginSession(of: moved, id: "t", startedAt: 1)
    try journal.close()
    journal = try scratch.open()
    #expect(journal.subscriptions.last == moved && moved.key == 2)
    try journal.close()
  }

  @Test func `digests and records are of one subscription each`() throws {
    let journal = try scratch.open()
    let (one, first) = try start("one", in: journal)
    let (two, second) = try start("two", in: journal)
    func record(_ releasable: Int64) -> RedeliveryRecord {
      RedeliveryRecord(
        queue: "q", releasable: Position(rawValue: releasable), prefetch: 9, priority: nil, prioritySince: .origin)
    }
    func append(_ byte: UInt8, _ count: Int, _ consumer: ConsumerRecord, _ subscription: SubscriptionRecord) throws {
      try journal.write { tx in
        for _ in 0..<count { try tx.append(Message(), consumer) }
        try tx.appendDigests(
          [UInt8](repeating: byte, count: 16 * count), of: subscription, priority: nil, since: .origin,
          beginsLine: byte == 2, window: 32)
        try tx.setRedelivery(record(Int64(byte)), of: subscription)
      }
    }
    for _ in 0..<10 {
      try append(1, 2, first, one)
      try append(2, 3, second, two)
    }
    // What a checkpoint carried, of before the journal.
    let (three, _) = try start("three", in: journal)
    try journal.write { tx in
      try tx.appendDigests(
        [UInt8](repeating: 3, count: 32), of: three, through: Position(rawValue: -4), priority: nil, since: .origin,
        window: 32)
      try tx.appendDigests([UInt8](repeating: 4, count: 64), of: three, priority: nil, since: .origin, window: 32)
    }
    #expect(try journal.newestDigests(limit: 100, of: one) == [UInt8](repeating: 1, count: 16 * 20))
    #expect(try journal.newestDigests(limit: 100, of: two) == [UInt8](repeating: 2, count: 16 * 30))
    #expect(
      try journal.newestDigests(limit: 100, of: three)
        == [UInt8](repeating: 3, count: 32) + [UInt8](repeating: 4, count: 64))
    #expect(try journal.redelivery(of: one)?.releasable == .origin + 1)
    #expect(try journal.redelivery(of: two)?.releasable == .origin + 2)
    #expect(try journal.redelivery(of: three) == nil)
    #expect(try journal.lineStart(of: one) == .origin && journal.lineStart(of: two) == .origin + 27)
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.digestGroups(of: two, after: .origin + 4, through: .origin + 9).map(\.last.rawValue) == [6, 9])
    #expect(try reader.digestGroups(of: one, after: .origin + 18, through: .origin + 90).map(\.last.rawValue) == [20])
    #expect(failure { try journal.write { tx in try tx.setRedelivery(record(31), of: two) } } != nil)
    // Each is pruned by its own window.
    try append(1, 60, first, one)
    #expect(try journal.newestDigests(limit: 1000, of: two).count == 16 * 30)
    #expect(try scratch.shell("SELECT count(*) FROM digest WHERE last < 1000") == "1")
    try journal.close()
  }

  @Test func `a quiet subscription keeps its session and consumer, however often others connect`() throws {
    var journal = try scratch.open()
    let (_, quiet) = try start("quiet", in: journal, session: "q")
    let waiting = try journal.beginSession(of: subscription("waiting", in: journal), id: "w", startedAt: 1)
    let busy = try journal.beginSession(of: subscription("busy", in: journal), id: "b", startedAt: 1)
    var newest = try journal.beginConsumer(tag: "t", in: busy)
    for _ in 0..<1_100 { newest = try journal.beginConsumer(tag: "t", in: busy) }
    try journal.append([Message()], newest)
    try journal.append([Message()], quiet)
    // The message of the first is named by a row that does not come first.
    let session = try #require(journal.sessions.first { $0.id == "q" })
    let again = try journal.beginConsumer(tag: "t", in: session)
    #expect(failure { try journal.append([Message()], quiet) } != nil, "another has taken its place")
    try journal.append([Message()], again)
    for _ in 0..<1_100 { newest = try journal.beginConsumer(tag: "t", in: busy) }
    try journal.append([Message()], journal.beginConsumer(tag: "w", in: waiting))
    let rows = ["b 1", "q 1", "q 2", "w 1"]
    #expect(try sequences(JournalReader(path: scratch.journal)) == rows)
    try journal.close()
    // The next process knows no more than what the file says.
    journal = try scratch.open()
    let later = try journal.beginSession(of: subscription("busy", in: journal), id: "c", startedAt: 2)
    for _ in 0..<1_100 { newest = try journal.beginConsumer(tag: "t", in: later) }
    #expect(try sequences(JournalReader(path: scratch.journal)) == rows)
    try journal.write { tx in
      try tx.setEmitted(through: .origin + 4)
      try tx.setCommitted(through: .origin + 4)
      try tx.prune(limit: 10)
    }
    newest = try journal.beginConsumer(tag: "t", in: later)
    #expect(Int(try scratch.shell("SELECT count(*) FROM consumer"))! <= 1_001)
    #expect(try scratch.shell("SELECT group_concat(id) FROM session") == "c")
    try journal.append([Message()], newest)
    #expect(try sequences(JournalReader(path: scratch.journal)) == ["c 1"])
    try journal.close()
  }

  @Test func `a name that is new goes on with what has its queue and no other claims`() throws {
    var journal = try scratch.open()
    for (number, name) in ["one", "two"].enumerated() {
      let record = try journal.subscriptions([.init(name, queue: "q\(number)", virtualHost: "/")])[0]
      try journal.beginSession(of: record, id: name, startedAt: 1)
    }
    func keys(_ wanted: (String, String)...) throws -> [Int64] {
      try journal.subscriptions(wanted.map { .init($0, queue: $1, virtualHost: "/") }).map(\.key)
    }
    #expect(try keys(("renamed", "q1")) == [1])
    #expect(try keys(("renamed", "q1"), ("two", "q9")) == [2, 1], "a name goes before a queue")
    #expect(try keys(("a", "q1"), ("b", "q1")) == [1, 2])
    #expect(try keys(("a", "q2")) == [2])
    #expect(try journal.subscriptions([.init("a", queue: "q0", virtualHost: "other")])[0].key == 2)
    let renamed = try journal.subscriptions([.init("renamed", queue: "q1", virtualHost: "/")])[0]
    try journal.beginSession(of: renamed, id: "r", startedAt: 1)
    try journal.close()
    journal = try scratch.open()
    #expect(journal.subscriptions.map(\.stream) == ["one", "renamed"])
    try journal.close()
    // Names that were lost.
    _ = try scratch.shell("UPDATE subscription SET stream = stream || 'x'")
    #expect(try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true).recovered == 0)
    journal = try scratch.open()
    #expect(journal.subscriptions.map(\.stream) == [nil, nil])
    #expect(try keys(("two", "q1"), ("one", "q0"), ("x", "x")) == [1, 0, 2])
    try journal.close()
  }

  @Test(arguments: [
    "UPDATE subscription SET captured = NULL WHERE key = 1", "UPDATE subscription SET captured = 9 WHERE key = 1",
    "UPDATE subscription SET captured = -1 WHERE key = 1", "UPDATE subscription SET key = 20000 WHERE key = 1",
    "UPDATE subscription SET key = -1 WHERE key = 1", "DROP TABLE subscription",
    "UPDATE message SET number = 1 WHERE position = 4",
  ])
  func `subscriptions that cannot be believed are damage, and a salvage keeps what each has`(sql: String) throws {
    var journal = try scratch.open()
    let (_, first) = try start("one", in: journal, session: "a")
    let (_, second) = try start("two", in: journal, session: "b")
    for consumer in [first, second, first, second] { try journal.append([Message()], consumer) }
    try journal.close()
    _ = try scratch.shell(sql)
    // Also what a program with our functions would have written.
    let damaged = failure { _ = try JournalReader(path: scratch.journal).checkStart() }
    #expect(damaged != nil || sql.contains("message"), "\(sql)")
    let report = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    #expect(report.recovered == (sql.contains("message") ? 3 : 4))
    journal = try scratch.open()
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.verify() == [])
    #expect(try sequences(reader).prefix(3) == ["a 1", "b 1", "a 2"])
    let numbers = try scratch.shell("SELECT group_concat(captured) FROM subscription")
    #expect(numbers == "2,2", "\(numbers)")
    try journal.close()
  }

  @Test(arguments: [
    "UPDATE subscription SET captured = NULL WHERE key = 1", "DELETE FROM subscription WHERE key = 1",
    "DELETE FROM subscription; DELETE FROM session", "UPDATE session SET id = id || 'x'",
    "UPDATE consumer SET tag = 'other' WHERE id = 2", "UPDATE digest SET last = last + 10 WHERE last > 100",
  ])
  func `what a salvage makes of several subscriptions goes on, and gives no number twice`(sql: String) throws {
    var journal = try scratch.open()
    let consumers = [try start("one", in: journal), try start("two", in: journal)]
    for _ in 0..<4 {
      for (subscription, consumer) in consumers {
        try journal.write { tx in
          try tx.append(Message(), consumer)
          try tx.appendDigests(
            [UInt8](repeating: 1, count: 16), of: subscription, priority: nil, since: .origin, window: 100)
          try tx.setRedelivery(
            RedeliveryRecord(
              queue: "q", releasable: .origin + 1, prefetch: 9, priority: nil, prioritySince: .origin), of: subscription
          )
        }
      }
    }
    try journal.write { tx in
      try tx.setEmitted(through: .origin + 6)
      try tx.setCommitted(through: .origin + 6)
      try tx.prune(limit: 10)
    }
    try journal.close()
    _ = try scratch.shell(sql)
    guard case .corrupt = failure({ _ = try scratch.open() }) else {
      Issue.record("not noticed: \(sql)")
      return
    }
    #expect(try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true).recovered == 2)
    journal = try scratch.open()
    for name in ["one", "two", "three"] {
      let (subscription, consumer) = try start(name, in: journal)
      #expect(consumer.sessionBase.rawValue >= (name == "three" || sql.contains("session") ? 0 : 4), "\(name)")
      try journal.write { tx in
        try tx.append(Message(), consumer)
        try tx.appendDigests(
          [UInt8](repeating: 2, count: 16), of: subscription, priority: nil, since: .origin, window: 100)
      }
      #expect(try journal.newestDigests(limit: 100, of: subscription).suffix(16) == [UInt8](repeating: 2, count: 16))
    }
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    try journal.close()
  }

  /// What a salvage of a journal leaves of which only messages and counters can be read.
  @Test func `a journal that knows no subscription has captured its messages for the first`() throws {
    var journal = try scratch.open()
    try journal.append((0..<5).map { _ in Message() }, start("one", in: journal).1)
    try journal.commit(through: .origin + 5)
    try journal.write { tx in _ = try tx.prune(limit: 10) }
    try journal.close()
    _ = try scratch.shell("UPDATE session SET id = 'x'; UPDATE subscription SET queue = 'x'")
    _ = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    journal = try scratch.open()
    let (subscription, consumer) = try start("one", in: journal)
    #expect(subscription.key == 0 && consumer.sessionBase == .origin + 5)
    #expect(try journal.captured(of: subscription) == .origin + 5)
    try journal.close()
  }

  @Test func `messages whose subscription is lost do not get one another's sequences`() throws {
    let journal = try scratch.open()
    let (_, first) = try start("one", in: journal, session: "a")
    let (_, second) = try start("two", in: journal, session: "b")
    for consumer in [first, second, first, second] { try journal.append([Message()], consumer) }
    try journal.close()
    _ = try scratch.shell("DELETE FROM session; DELETE FROM consumer")
    let report = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    #expect(report.recovered == 4)
    #expect(Set(try sequences(JournalReader(path: scratch.journal))).count == 4)
  }

  @Test(arguments: 1...5)
  func `a journal of an older version goes on, its messages, digests and record as they were`(version: Int) throws {
    let old = Schema(steps: Array(Schema.current.steps.prefix(version)))
    let path = scratch.journal
    try Journal.build(path, JournalSettings(path: path), old) { (database) throws(JournalError) in
      try database.execute(
        """
        INSERT INTO journal (one, identifier, created_at, epoch, last, emitted, committed, bytes)
          VALUES (1, '3677a7ff-0201-4708-b56f-49932a757c64', 1, 1, 4, 2, 1, 20);
        INSERT INTO session (number, id, queue, virtual_host, started_at, base)
          VALUES (1, 'a', 'former', '/', 1, 0), (2, 'b', 'q', 'v', 1, 2);
        INSERT INTO consumer (id, session, tag) VALUES (1, 1, 't'), (2, 2, 't');
        INSERT INTO redelivery (one, queue, releasable, prefetch, priority, priority_since, stream_offset)
          VALUES (1, 'v/q', 3, 100, 4, 2, NULL);
        INSERT INTO digest (last, digests, priority, priority_since)
          VALUES (-3, zeroblob(16), NULL, 0), (2, zeroblob(32), 4, 1), (4, zeroblob(32), 4, 1)
        """, "test")
      for position in 2...4 {
        try database.execute(
          """
          INSERT INTO message (position, consumer, delivery_tag, received_at, redelivered, size, bytes_before, exchange,
            routing_key, properties, body) VALUES (\(position), \(position / 3 + 1), 1, 1, 0, 5, \(position * 5 - 5), 'e', 'k', '', 'hello')
          """, "test")
      }
      if version == 5 {
        for (table, columns) in [
          ("journal", "identifier, created_at, epoch, digested_after, last, emitted, committed, bytes"),
          ("session", "number, id, queue, virtual_host, started_at, base"), ("consumer", "id, session, tag"),
          ("redelivery", "one, queue, releasable, prefetch, priority, priority_since, stream_offset, settled"),
          ("digest", "last, digests, priority, priority_since, begins_line"), ("message", Schema.messageColumns),
        ] {
          try database.execute("UPDATE \(table) SET digest = row_digest(\(columns))", "test")
        }
      }
    }
    // What visitors have made, one of them broken.
    _ = try scratch.shell(
      "CREATE VIEW mine AS SELECT position, queue FROM pending; CREATE VIEW broken AS SELECT x FROM redelivery, gone; "
        + "CREATE TABLE theirs (a); CREATE TRIGGER theirs_too AFTER INSERT ON theirs BEGIN DELETE FROM redelivery; END")
    let before = try JournalReader(path: path)
    #expect(try sequences(before) == ["a 2", "b 1", "b 2"] && before.verify() == [])
    try before.close()
    let image = try scratch.bytes(path)
    var journal = try scratch.open()
    #expect(journal.subscriptions.map(\.stream) == [nil] && journal.subscriptions.map(\.queue) == ["q"])
    let subscription = try journal.subscriptions([.init("orders", queue: "q", virtualHost: "v")])[0]
    #expect(subscription.key == 0)
    #expect(try journal.redelivery(of: subscription)?.releasable == .origin + 3)
    #expect(try journal.redelivery(of: subscription)?.settled == .origin + (version < 4 ? 3 : 0))
    #expect(try journal.newestDigests(limit: 100, of: subscription).count == 64)
    let session = try journal.beginSession(of: subscription, id: "c", startedAt: 2)
    try journal.append([Message()], journal.beginConsumer(tag: "t", in: session))
    // The second subscription finds the first one's numbers to be positions.
    let (_, other) = try start("other", in: journal, session: "d")
    try journal.append([Message()], other)
    let reader = try JournalReader(path: path)
    #expect(try sequences(reader) == ["a 2", "b 1", "b 2", "c 1", "d 1"] && reader.verify() == [])
    #expect(try journal.captured(of: subscription) == .origin + 5)
    try reader.close()
    try journal.close()
    #expect(journal.subscriptions.map(\.stream) == ["orders", "other"])
    // Damage of the old file is found before it is migrated, whose digests would hide it.
    guard version == 5 else { return }
    try image.write(to: URL(fileURLWithPath: path))
    _ = try scratch.shell("UPDATE redelivery SET releasable = 1")
    guard case .corrupt = failure({ _ = try scratch.open() }) else {
      Issue.record("a changed record was migrated")
      return
    }
    let report = try Journal.salvage(JournalSettings(path: path), acceptLoss: true)
    #expect(report.recovered == 3)
    journal = try scratch.open()
    #expect(journal.subscriptions.map(\.key) == [0])
    #expect(try sequences(JournalReader(path: path)) == ["a 2", "b 1", "b 2"])
    try journal.close()
  }
}
