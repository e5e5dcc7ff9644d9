import Foundation
import Support
import Testing

@testable import Journal

/// What changed in a row is noticed, whichever column it is.
struct RowDigestTests {
  let scratch = Scratch()

  @Test(
    arguments: [
      ("", 0, 0xEF46_DB37_51D8_E999), ("a", 0, 0xD24E_C4F1_A98C_6E5B), ("abc", 0, 0x44BC_2CF5_AD77_0999),
      ("Nobody inspects the spammish repetition", 0, 0xFBCE_A83C_8A37_8BF1),
      ("xxhash", 20_141_025, 0xB559_B98D_844E_0635),
    ] as [(String, UInt64, UInt64)])
  func `XXH64 has the values of its authors`(text: String, seed: UInt64, hash: UInt64) {
    var text = text
    let found = text.withUTF8 { unsafe XXHash.hash(UnsafeRawBufferPointer($0), seed: seed) }
    #expect(found == hash)
  }

  @Test func `in SQL and in Swift it is the same, for every type and length`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    var random = Seeded(5)
    let messages = (0..<120).map { number in
      let bytes = (0..<number * 3).map { _ in UInt8.random(in: 0...255, using: &random) }
      return Message(
        deliveryTag: .max - UInt64(number), redelivered: number.isMultiple(of: 2), receivedAt: -Int64(number),
        exchange: Array(bytes.prefix(number % 7)), routingKey: Array("k\(number)".utf8),
        properties: number == 0 ? "" : #"{"n":\#(number)}"#,
        body: number.isMultiple(of: 3) ? Array(String(repeating: "ü", count: number).utf8) : bytes)
    }
    try journal.append(messages, consumer)
    try journal.write { tx in
      try tx.append(
        consumer: consumer.id, deliveryTag: 1, redelivered: false, receivedAt: 1, exchange: Span(), routingKey: Span(),
        properties: Span(), rawProperties: [1, 0, 2].span, body: Array("half".utf8).span, bodySize: 5 << 20)
      try tx.setOutput("o", OutputRecord(file: 1, length: 2, startedAt: 3, inode: 4))
      try tx.setOutput("p", OutputRecord(file: 1, length: 2, startedAt: 3))
    }
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().count == 121)
    #expect(try reader.verify() == [])
    #expect(try reader.output("o")?.inode == 4 && reader.output("p")?.inode == nil)
  }

  private func makeJournal() throws {
    let journal = try scratch.open()
    try journal.append((1...3).map { Message(deliveryTag: $0) }, journal.start("a"))
    try journal.write { tx in
      try tx.setOutput("o", OutputRecord(file: 1, length: 0, startedAt: 1))
      try tx.appendDigests([UInt8](repeating: 7, count: 48), priority: nil, since: Position(rawValue: 1), window: 100)
      try tx.setRedelivery(
        RedeliveryRecord(
          queue: "q", releasable: .origin, prefetch: 100, priority: nil, prioritySince: Position(rawValue: 1)))
    }
    try journal.close()
  }

  /// Every column that there is, but for the digests and what a table may have one of.
  private func columns(_ table: String) throws -> [String] {
    try scratch.shell("SELECT name FROM pragma_table_info('\(table)')").split(separator: "\n").map(String.init)
      .filter { $0 != "digest" && $0 != "one" }
  }

  @Test(arguments: ["journal", "session", "consumer", "output", "redelivery", "digest", "subscription"])
  func `a changed value of any table is damage, found at the opening`(table: String) throws {
    try makeJournal()
    let whole = try scratch.bytes(scratch.journal)
    for column in try columns(table) {
      _ = try scratch.shell(
        "PRAGMA foreign_keys = OFF; UPDATE \(table) SET \(column) = coalesce(CASE typeof(\(column)) WHEN 'integer' THEN \(column) + 1 "
          + "WHEN 'text' THEN \(column) || 'x' ELSE CAST(X'00' || \(column) AS BLOB) END, 1)")
      guard case .corrupt = failure({ _ = try scratch.open() }) else {
        Issue.record("\(table).\(column) was not noticed")
        continue
      }
      #expect(try !JournalReader(path: scratch.journal).verify().isEmpty, "\(table).\(column)")
      try whole.write(to: URL(fileURLWithPath: scratch.journal))
    }
    _ = try scratch.open()
  }

  @Test func `a changed value of a message is damage where it is read, and costs that message alone`() throws {
    try makeJournal()
    let whole = try scratch.bytes(scratch.journal)
    for column in try columns("message") where column != "position" {
      _ = try scratch.shell(
        "PRAGMA foreign_keys = OFF; UPDATE message SET \(column) = CASE typeof(\(column)) WHEN 'integer' THEN \(column) + 1 "
          + "WHEN 'text' THEN \(column) || ' ' ELSE \(column == "number" ? "2" : "X'00'") END WHERE position = 2")
      let reader = try JournalReader(path: scratch.journal)
      #expect(failure { _ = try reader.all() } == .corrupt("message 2 is not what was written"), "\(column)")
      #expect(try reader.verify().contains("message 2 is not what was written"))
      let report = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
      #expect(report.recovered == 2 && report.returning.map(\.first.rawValue) == [2], "\(column)")
      #expect(try JournalReader(path: scratch.journal).all().map(\.1.deliveryTag) == [1, 3])
      try whole.write(to: URL(fileURLWithPath: scratch.journal))
    }
    // As BLOB instead of TEXT, with the same bytes: it decides what becomes of it.
    _ = try scratch.shell("UPDATE message SET body = CAST(body AS BLOB) WHERE position = 2")
    #expect(failure { _ = try JournalReader(path: scratch.journal).all() } != nil)
    try whole.write(to: URL(fileURLWithPath: scratch.journal))
    _ = try scratch.shell("UPDATE message SET digest = NULL WHERE position = 2")
    #expect(failure { _ = try JournalReader(path: scratch.journal).all() } != nil)
  }

  @Test(arguments: 1...4)
  func `messages of an older version have no digests and are read, those that follow have`(version: Int) throws {
    let old = Schema(steps: Array(Schema.current.steps.prefix(version)))
    let path = scratch.journal
    try Journal.build(path, JournalSettings(path: path), old) { (database) throws(JournalError) in
      try database.execute(
        """
        INSERT INTO journal VALUES (1, '3677a7ff-0201-4708-b56f-49932a757c64', 1, 1, 2, 1, 1, 10);
        INSERT INTO session VALUES (1, 'a', 'q', '/', 1, 0); INSERT INTO consumer VALUES (1, 1, 't');
        INSERT INTO message VALUES (1, 1, 1, 1, 0, 5, 0, 'e', 'k', '', NULL, 'first');
        INSERT INTO message VALUES (2, 1, 2, 1, 0, 5, 5, 'e', 'k', '', NULL, 'other');
        INSERT INTO output VALUES ('o', 1, 2, 3)
        """, "test")
    }
    let before = try JournalReader(path: path)
    #expect(try before.all().count == 2 && before.output("o")?.length == 2 && before.verify() == [])
    try before.close()
    let journal = try scratch.open()
    try journal.append([Message(deliveryTag: 3)], journal.start("b"))
    try journal.close()
    let reader = try JournalReader(path: path)
    #expect(try reader.all().count == 3 && reader.verify() == [])
    try reader.close()
    _ = try scratch.shell("UPDATE message SET body = 'changed' WHERE position = 3")
    #expect(failure { _ = try JournalReader(path: path).all() } == .corrupt("message 3 is not what was written"))
    let report = try Journal.salvage(JournalSettings(path: path), acceptLoss: true)
    #expect(report.recovered == 1, "the first is committed")
    let salvaged = try JournalReader(path: path)
    #expect(try salvaged.all().map(\.1.deliveryTag) == [2] && salvaged.verify() == [])
  }
}
