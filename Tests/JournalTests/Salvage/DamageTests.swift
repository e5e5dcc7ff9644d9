import Foundation
import Support
import Testing

@testable import Journal

struct DamageTests {
  let scratch = Scratch()

  private func write(_ data: Data) throws { try data.write(to: URL(fileURLWithPath: scratch.journal)) }

  /// A closed journal of some hundred messages.
  private func makeJournal() throws {
    let journal = try scratch.open()
    try journal.append(
      (1...300).map { Message(deliveryTag: $0, body: [UInt8](repeating: 66, count: 500)) }, journal.start())
    try journal.close()
  }

  @Test(arguments: [
    ("an empty file", Data()), ("text", Data("hello, world\n".utf8)),
    ("garbage", Data(repeating: 0x5a, count: 100_000)),
    ("a magic number alone", Data("SQLite format 3\0".utf8)),
  ])
  func `a file that is no database is refused and left as it is`(name: String, content: Data) throws {
    try write(content)
    guard case .notAJournal = failure({ _ = try scratch.open() }) else {
      Issue.record("\(name) was not refused")
      return
    }
    #expect(failure { _ = try JournalReader(path: scratch.journal) } != nil)
    #expect(try scratch.bytes(scratch.journal) == content)
  }

  @Test func `another application's database is refused and left as it is, its WAL too`() throws {
    _ = try scratch.shell("PRAGMA journal_mode=WAL; PRAGMA application_id=7; CREATE TABLE t(x);")
    let wal = Data("not even looked at".utf8)
    try wal.write(to: URL(fileURLWithPath: scratch.journal + "-wal"))
    let before = try scratch.bytes(scratch.journal)
    #expect(
      failure { _ = try scratch.open() } == .notAJournal("a SQLite database of another application (id 7)"))
    #expect(try scratch.bytes(scratch.journal) == before)
    #expect(try scratch.bytes(scratch.journal + "-wal") == wal)
  }

  @Test func `a newer schema is refused, by writer and reader`() throws {
    try makeJournal()
    _ = try scratch.shell("PRAGMA user_version = 9")
    let before = try scratch.bytes(scratch.journal)
    #expect(failure { _ = try scratch.open() } == .newerSchema(found: 9, supported: 6))
    #expect(failure { _ = try JournalReader(path: scratch.journal) } == .newerSchema(found: 9, supported: 6))
    #expect(try scratch.bytes(scratch.journal) == before)
  }

  @Test func `a schema moves forward step by step, and its version is the newest`() throws {
    try makeJournal()
    let next = Schema(steps: Schema.current.steps + ["CREATE TABLE two (x) STRICT", "DROP TABLE two"])
    #expect(failure { _ = try Journal.open(JournalSettings(path: scratch.journal), schema: next) } != nil)
    let version = Schema.current.version
    #expect(try scratch.shell("PRAGMA user_version") == "\(version)", "a step that fails changes nothing")
    let good = Schema(steps: Schema.current.steps + ["CREATE TABLE two (x ANY) STRICT", "DROP TABLE two"])
    let journal = try Journal.open(JournalSettings(path: scratch.journal), schema: good)
    #expect(journal.positions.last == Position(rawValue: 300))
    #expect(try scratch.shell("PRAGMA user_version") == "\(version + 2)")
  }

  @Test(arguments: [100, 5_000, 16_384, 40_000, 100_000])
  func `a truncated journal is refused and left as it is`(length: Int) throws {
    try makeJournal()
    let whole = try scratch.bytes(scratch.journal)
    try #require(whole.count > length)
    try write(whole.prefix(length))
    switch failure({ _ = try scratch.open() }) {
    case .corrupt, .notAJournal: break
    case let other: Issue.record("\(length): \(String(describing: other))")
    }
    #expect(try scratch.bytes(scratch.journal) == whole.prefix(length))
  }

  @Test(arguments: [
    ("UPDATE journal SET last = 299", "beyond the counter"), ("UPDATE journal SET last = 301", "missing at the end"),
    ("UPDATE journal SET committed = 5", "out of order"),
    ("DELETE FROM message WHERE position = 1", "missing in front"),
    ("DELETE FROM message", "all missing"), ("DELETE FROM journal", "no counters"),
    ("DROP VIEW pending; DROP VIEW summary; DROP TABLE message", "no table"),
    ("ALTER TABLE output RENAME length TO size", "no column"),
    ("DROP VIEW pending; CREATE VIEW pending AS SELECT 1 AS sequence", "another view"),
    (
      "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'committed INTEGER NOT NULL', "
        + "'committed INTEGER NOT NULL CHECK (committed < 400)') WHERE name = 'journal'", "a constraint more"
    ),
  ])
  func `a journal that contradicts itself is refused and left as it is`(sql: String, name: String) throws {
    try makeJournal()
    _ = try scratch.shell(sql)
    let before = try scratch.bytes(scratch.journal)
    guard case .corrupt = failure({ _ = try scratch.open() }) else {
      Issue.record("\(name) was not refused")
      return
    }
    #expect(try scratch.bytes(scratch.journal) == before)
  }

  /// Other hands' SQL in the file would run inside our transactions, or take our writes.
  @Test(arguments: [
    "CREATE TRIGGER t AFTER UPDATE ON journal BEGIN DELETE FROM message WHERE position > 280; END",
    "CREATE TRIGGER t BEFORE INSERT ON Message BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER t AFTER DELETE ON digest BEGIN UPDATE journal SET committed = last; END",
    "CREATE UNIQUE INDEX i ON message(size, position)",
    "ALTER TABLE output RENAME TO other; CREATE VIEW output AS SELECT * FROM other",
    "DROP TABLE gap; CREATE VIRTUAL TABLE gap USING fts5(first, last)",
  ])
  func `what would run in the place of our tables is refused, and has not run`(sql: String) throws {
    try makeJournal()
    let answer = try scratch.shell(sql)
    guard !answer.contains("no such module") else { return }
    let before = try scratch.bytes(scratch.journal)
    guard case .invalid(let text) = failure({ _ = try scratch.open() }) else {
      Issue.record("was not refused: \(answer)")
      return
    }
    #expect(try JournalReader(path: scratch.journal).verify().contains { $0.contains(text) })
    #expect(
      text.contains("trigger \"t\" on the table") || text.contains("unique index")
        || text.contains("is no plain table"), "\(text)")
    #expect(try scratch.bytes(scratch.journal) == before)
    #expect(try scratch.shell("SELECT count(*) FROM message") == "300")
  }

  @Test func `tables of others, with triggers of their own, are left alone`() throws {
    try makeJournal()
    _ = try scratch.shell(
      """
      CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); INSERT INTO _litestream_seq VALUES (1, 1);
      CREATE TRIGGER t AFTER UPDATE ON _litestream_seq BEGIN UPDATE _litestream_seq SET seq = 7 WHERE id = 1; END;
      CREATE VIEW mine AS SELECT * FROM pending
      """)
    let journal = try scratch.open()
    try journal.append([Message(deliveryTag: 301)], journal.start())
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    _ = try scratch.shell("UPDATE _litestream_seq SET seq = 2")
    #expect(try scratch.shell("SELECT seq FROM _litestream_seq") == "7")
    #expect(try scratch.shell("SELECT count(*) FROM mine") == "301")
    try journal.append([Message(deliveryTag: 302)], journal.start())
  }

  @Test func `a gap in the middle is an error where it is read, and found by verify`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position = 100")
    let reader = try JournalReader(path: scratch.journal)
    #expect(failure { _ = try reader.all() } == .corrupt("after message 99 comes 101"))
    #expect(try reader.verify() == ["message 101 comes after 99"])
  }

  @Test func `changed bytes never trap and never shorten what is read without an error`() throws {
    try makeJournal()
    let whole = try scratch.bytes(scratch.journal)
    let truth = try JournalReader(path: scratch.journal).all().map(\.1.deliveryTag)
    var random = Seeded(3)
    for round in 0..<200 {
      var damaged = whole
      for _ in 0..<Int.random(in: 1...40, using: &random) {
        // Not the bodies' letters: SQLite has no checksum over content.
        let offset = Int.random(in: 100..<whole.count, using: &random)
        if damaged[offset] != 66 { damaged[offset] = UInt8.random(in: 0...255, using: &random) }
      }
      let path = scratch.file("d-\(round)")
      try damaged.write(to: URL(fileURLWithPath: path))
      _ = failure {
        let journal = try Journal.open(JournalSettings(path: path))
        let count = try JournalReader(path: path).all().count
        #expect(count == truth.count)
        try journal.append([Message()], journal.start())
        try journal.commit(through: Position(rawValue: 200))
        try journal.write { _ = try $0.prune(limit: 200) }
      }
    }
  }

  @Test func `a WAL without its database is refused, not deleted`() throws {
    let journal = try scratch.open()
    try journal.append([Message()], journal.start())
    let image = try scratch.crashImage()
    try FileManager.default.removeItem(atPath: image)
    guard case .corrupt = failure({ _ = try Journal.open(JournalSettings(path: image)) }) else {
      Issue.record("was not refused")
      return
    }
    #expect(FileManager.default.fileExists(atPath: image + "-wal"))
  }

  @Test func `a symbolic link is refused as the file, and followed in the directory`() throws {
    try makeJournal()
    let link = scratch.file("link.sqlite")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: scratch.journal)
    #expect(
      failure { _ = try Journal.open(JournalSettings(path: link)) }
        == .invalid("is a symbolic link or no regular file"))
    #expect(failure { _ = try JournalReader(path: link) } != nil)
    let directory = scratch.path + "-link"
    try FileManager.default.createSymbolicLink(atPath: directory, withDestinationPath: scratch.path)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let journal = try Journal.open(JournalSettings(path: directory + "/j.sqlite"))
    #expect(journal.path == scratch.journal)
  }

  @Test(arguments: ["", "/", ".", "..", "a\0b"])
  func `a path that names no file is an error`(path: String) {
    #expect(failure { _ = try Journal.open(JournalSettings(path: path)) } == .invalid("not the name of a file"))
  }

  @Test func `a directory that is not there is an error`() {
    #expect(
      failure { _ = try Journal.open(JournalSettings(path: scratch.file("none/j.sqlite"))) }
        == .invalid("No such file or directory"))
  }
}
