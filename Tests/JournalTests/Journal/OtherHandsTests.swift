import Foundation
import Testing

@testable import Journal

/// Visitors with plain `sqlite3`, and people who move, delete or replace a file of a journal that is in use.
@Suite(.serialized) struct OtherHandsTests {
  let scratch = Scratch()

  // MARK: Locks

  /// How many locks this process has on the journal's database and on its shared memory, by the kernel's list.
  private func locks() throws -> (database: Int, memory: Int) {
    let lines = try String(contentsOfFile: "/proc/locks", encoding: .utf8).split(separator: "\n").map {
      $0.split(separator: " ")
    }
    func count(_ path: String) throws -> Int {
      let inode = try #require(FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as? Int)
      return lines.count { line in
        line.count == 8 && line[4] == "\(getpid())" && line[5].hasSuffix(":\(inode)")
      }
    }
    return (try count(scratch.journal), try count(scratch.journal + "-shm"))
  }

  private func expectLocks(after operation: String, _ location: Testing.SourceLocation = #_sourceLocation) throws {
    let found = try locks()
    #expect(found.database > 0 && found.memory > 0, "after \(operation): \(found)", sourceLocation: location)
  }

  /// A process that closes a file gives up all of its locks on it, also those that SQLite has.
  @Test func `no operation costs the locks of an open journal`() throws {
    let journal = try scratch.open()
    try expectLocks(after: "opening")
    let consumer = try journal.start()
    try expectLocks(after: "beginning a session")
    for round in 1...2 {
      try journal.append([Message(), Message()], consumer)
      try expectLocks(after: "a commit")
      let reader = try JournalReader(path: scratch.journal)
      try expectLocks(after: "opening a reader")
      _ = try reader.all()
      _ = try reader.status()
      #expect(try reader.verify() == [])
      try expectLocks(after: "reading")
      let other = try JournalReader(path: scratch.journal)
      try reader.close()
      try expectLocks(after: "closing a reader while there is another")
      try other.close()
      try expectLocks(after: "closing the last reader")
      try journal.commit(through: Position(rawValue: Int64(round)))
      try journal.maintain()
      try journal.maintain(idle: true)
      try expectLocks(after: "maintenance")
      _ = journal.snapshotHolders()
      _ = try journal.disk()
      _ = try journal.output("o")
      try expectLocks(after: "looking at the disk, the holders and the output")
      #expect(failure { _ = try scratch.open() } != nil)
      #expect(failure { _ = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true) } != nil)
      try expectLocks(after: "what is refused while it is in use")
      try journal.checkFiles()
      try Journal.markDamaged(by: JournalError(kind: .corrupt("of a test"), operation: "test", object: scratch.journal))
      try FileManager.default.removeItem(atPath: scratch.journal + ".damaged")
      try expectLocks(after: "marking damage")
    }
    #expect(try File.head(scratch.journal, count: 16) == nil)
    for suffix in File.journalSuffixes {
      #expect(failure { try File.sync(scratch.journal + suffix) } == .invalid("SQLite has it open in this process"))
    }
    try expectLocks(after: "what must not be done")
    try journal.close()
    #expect(try File.head(scratch.journal, count: 16)?.count == 16)
  }

  /// A visitor that takes itself for the last connection copies the WAL into the file and deletes it.
  @Test(arguments: [
    "SELECT count(*) FROM pending", ".backup COPY", "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM",
    "PRAGMA journal_mode = DELETE",
  ])
  func `a visit leaves the WAL where it is, and what is written after it is kept`(command: String) throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append((1...10).map { Message(deliveryTag: $0) }, consumer)
    let reader = try JournalReader(path: scratch.journal)
    let before = try #require(JournalFiles.Identity(at: scratch.journal + "-wal"))
    _ = try scratch.shell(command.replacing("COPY", with: scratch.file("copy.db")))
    #expect(JournalFiles.Identity(at: scratch.journal + "-wal") == before)
    try journal.append((11...20).map { Message(deliveryTag: $0) }, consumer)
    #expect(try reader.all().map(\.1.deliveryTag) == Array(1...20))
    // What a kill leaves, opened by someone else.
    let image = try scratch.crashImage()
    #expect(
      try scratch.shell("SELECT group_concat(delivery_tag) FROM message", at: image).split(separator: ",").count == 20)
  }

  // MARK: Files without their names

  enum Hand: CaseIterable { case moves, deletes, replaces }

  private func lay(_ hand: Hand, on suffix: String) throws {
    let (files, path) = (FileManager.default, scratch.journal + suffix)
    switch hand {
    case .moves: try files.moveItem(atPath: path, toPath: scratch.file("moved") + suffix)
    case .deletes: try files.removeItem(atPath: path)
    case .replaces:
      try files.moveItem(atPath: path, toPath: scratch.file("moved") + suffix)
      try Data("something else".utf8).write(to: URL(fileURLWithPath: path))
    }
  }

  @Test func `a backup of a journal in use is whole by itself, and nothing of a failed one is left`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append((1...500).map { Message(deliveryTag: $0, body: [UInt8](repeating: 66, count: 900)) }, consumer)
    let reader = try JournalReader(path: scratch.journal)
    let copy = scratch.file("copy.db")
    // What a killed one left.
    try Data("half".utf8).write(to: URL(fileURLWithPath: copy + ".partial"))
    let made = try reader.backup(to: copy)
    #expect(made.last == Position(rawValue: 500) && made.pending == 500)
    try journal.append([Message(deliveryTag: 501)], consumer)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("copy") } == ["copy.db"])
    #expect(try FileManager.default.attributesOfItem(atPath: copy)[.posixPermissions] as? Int == 0o600)
    let found = try JournalReader(path: copy)
    #expect(try found.all().map(\.1.deliveryTag) == Array(1...500) && found.verify() == [])
    #expect(try reader.all().count == 501)
    let before = try scratch.bytes(copy)
    #expect(failure { _ = try reader.backup(to: copy) } != nil, "it exists")
    #expect(try scratch.bytes(copy) == before)
    #expect(failure { _ = try reader.backup(to: scratch.file("none/copy.db")) } != nil)
    #expect(failure { _ = try reader.backup(to: "/dev/full") } != nil)
  }

  @Test func `a journal that was closed is whole without a WAL, also if a visitor has it open`() throws {
    let journal = try scratch.open()
    try journal.append((1...50).map { Message(deliveryTag: $0) }, journal.start())
    let visitor = try Database(path: scratch.journal, readOnly: true)
    #expect(try visitor.integer("SELECT count(*) FROM message", "test") == 50)
    try journal.close()
    #expect(try scratch.bytes(scratch.journal + "-wal").isEmpty)
    let alone = scratch.file("alone.db")
    try FileManager.default.copyItem(atPath: scratch.journal, toPath: alone)
    #expect(try JournalReader(path: alone).all().count == 50)
    try visitor.close()
    try scratch.open().close()
    #expect(!FileManager.default.fileExists(atPath: scratch.journal + "-wal"))
  }

  /// Puts the files back as the error's text says.
  private func repair(_ hand: Hand, _ suffix: String, _ text: String) throws {
    let files = FileManager.default
    if suffix == "" && hand == .deletes {
      let copy = try #require(text.split(separator: " ").first { $0.contains(".rescued-") })
      // To begin a new journal, or to read the old WAL into the copy, would lose what it holds.
      #expect(File.journalSuffixes.allSatisfy { !files.fileExists(atPath: scratch.journal + $0) })
      guard case .moved(let refusal) = failure({ _ = try scratch.open() }) else {
        Issue.record("a new journal was made")
        return
      }
      #expect(refusal.contains(copy.dropLast()))
      let mode = try files.attributesOfItem(atPath: String(copy.dropLast()))[.posixPermissions] as? Int
      #expect(mode == 0o600, "it holds what the journal held")
      try files.moveItem(atPath: String(copy.dropLast()), toPath: scratch.journal)
    } else if suffix == "" {
      try? files.removeItem(atPath: scratch.journal)
      try files.moveItem(atPath: scratch.file("moved"), toPath: scratch.journal)
    } else if hand == .replaces {
      try files.removeItem(atPath: scratch.journal + suffix)
    }
  }

  @Test(arguments: File.journalSuffixes, Hand.allCases)
  func `nothing is acknowledged on the strength of a file without its name, and nothing is lost`(
    suffix: String, hand: Hand
  ) throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append((1...10).map { Message(deliveryTag: $0) }, consumer)
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().count == 10)
    try journal.commit(through: Position(rawValue: 2))
    try lay(hand, on: suffix)
    // A journal at rest notices too.
    if hand == .moves { #expect(failure { try journal.checkFiles() } != nil) }
    guard case .moved(let text) = failure({ try journal.append([Message(deliveryTag: 11)], consumer) }) else {
      Issue.record("it went on")
      return
    }
    #expect(text.hasPrefix(scratch.journal + suffix + " was "))
    // The object is spent, and closing it touches nothing.
    #expect(failure { try journal.append([Message(deliveryTag: 12)], consumer) } == .moved(text))
    try journal.close()
    try reader.close()
    try repair(hand, suffix, text)
    let again = try scratch.open()
    let found = try JournalReader(path: scratch.journal)
    #expect(
      try found.all(after: again.positions.committedThrough).map(\.1.deliveryTag).prefix(8) == [
        3, 4, 5, 6, 7, 8, 9, 10,
      ])
    #expect(try found.verify() == [])
    try found.close()
    try again.close()
  }

  /// Someone holds a snapshot, so the WAL cannot be copied into the database before it is gone for good.
  @Test(arguments: [["-wal"], [""], ["", "-wal", "-shm"]])
  func `what was deleted while a visitor reads is saved into a copy`(deleted: [String]) throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let body = [UInt8](repeating: 0x61, count: 3_000)
    try journal.append((1...50).map { Message(deliveryTag: $0, body: body) }, consumer)
    try journal.maintain(idle: true)
    let visitor = try Database(path: scratch.journal, readOnly: true)
    try visitor.execute("BEGIN; SELECT count(*) FROM message", "test")
    try journal.append((51...100).map { Message(deliveryTag: $0, body: body) }, consumer)
    for suffix in deleted { try FileManager.default.removeItem(atPath: scratch.journal + suffix) }
    guard case .moved(let text) = failure({ try journal.checkFiles() }) else {
      Issue.record("it was not noticed")
      return
    }
    let copy = try #require(text.split(separator: " ").first { $0.contains(".rescued-") }).dropLast()
    try journal.close()
    try visitor.close()
    guard case .moved = failure({ _ = try scratch.open() }) else {
      Issue.record("it went on without what was saved")
      return
    }
    for suffix in File.journalSuffixes { try? FileManager.default.removeItem(atPath: scratch.journal + suffix) }
    try FileManager.default.moveItem(atPath: String(copy), toPath: scratch.journal)
    let again = try scratch.open()
    let found = try JournalReader(path: scratch.journal)
    #expect(try found.all().map(\.1.deliveryTag) == Array(1...100))
    #expect(try found.verify() == [])
    try found.close()
    try again.close()
  }

  /// SQLite removes the WAL by its name when the last connection is closed.
  @Test func `a journal that was moved is not closed over the one in its place`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append([Message()], consumer)
    for suffix in File.journalSuffixes {
      try FileManager.default.moveItem(atPath: scratch.journal + suffix, toPath: scratch.file("moved") + suffix)
      try Data("another's".utf8).write(to: URL(fileURLWithPath: scratch.journal + suffix))
    }
    guard case .moved = failure({ try journal.close() }) else {
      Issue.record("it was closed")
      return
    }
    try journal.close()
    for suffix in File.journalSuffixes {
      #expect(try scratch.bytes(scratch.journal + suffix) == Data("another's".utf8))
    }
    #expect(try scratch.shell("SELECT count(*) FROM message", at: scratch.file("moved")) == "1")
  }
}
