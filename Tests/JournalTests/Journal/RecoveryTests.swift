import Foundation
import Journal
import Support
import Testing

struct RecoveryTests {
  let scratch = Scratch()

  @Test func `a crash image holds every transaction that had returned, and nothing of the open one`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start("s")
    try journal.append([Message(deliveryTag: 1), Message(deliveryTag: 2)], consumer)
    try journal.commit(through: Position(rawValue: 1))
    var image = ""
    try journal.write { tx in
      // Larger than the page cache, so that pages of the open transaction are in the WAL already.
      for _ in 0..<12 { try tx.append(Message(body: [UInt8](repeating: 65, count: 1 << 20)), consumer) }
      image = try scratch.crashImage()
    }
    #expect(try scratch.bytes(image + "-wal").count > 4 << 20)
    let recovered = try Journal.open(JournalSettings(path: image))
    #expect(recovered.identifier == journal.identifier)
    #expect(recovered.positions.last == Position(rawValue: 2))
    #expect(recovered.positions.committedThrough == Position(rawValue: 1))
    let reader = try JournalReader(path: image)
    #expect(try reader.all().map(\.1.deliveryTag) == [1, 2])
    #expect(try reader.verify() == [])
    #expect(try recovered.append([Message()], recovered.start("t")) == Position(rawValue: 3))
  }

  @Test func `a WAL cut anywhere gives back a prefix of the transactions`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start("s")
    let base = try scratch.bytes(scratch.journal + "-wal").count
    for tag in 1...20 { try journal.append([Message(deliveryTag: UInt64(tag))], consumer) }
    let image = try scratch.crashImage()
    let database = try scratch.bytes(image)
    let wal = try scratch.bytes(image + "-wal")
    var random = Seeded(7)
    var counts: Set<Int64> = []
    for round in 0..<30 {
      let path = scratch.file("cut-\(round)")
      try database.write(to: URL(fileURLWithPath: path))
      var cut = wal.prefix(Int.random(in: base...wal.count, using: &random))
      // Every other time the tail is there, but not what was written.
      if round % 2 == 1 { cut.append(Data(repeating: 0xa5, count: 20_000)) }
      try cut.write(to: URL(fileURLWithPath: path + "-wal"))
      let recovered = try Journal.open(JournalSettings(path: path))
      let last = recovered.positions.last.rawValue
      counts.insert(last)
      let reader = try JournalReader(path: path)
      #expect(try reader.all().map(\.1.deliveryTag) == (0..<UInt64(last)).map { $0 + 1 })
      #expect(try reader.verify() == [])
    }
    #expect(counts.count > 5, "the cuts should have hit different transactions: \(counts)")
  }

  @Test func `what a crash leaves while the journal is made does not hinder making it`() throws {
    for suffix in ["", "-wal", "-shm"] {
      try Data("half a journal".utf8).write(to: URL(fileURLWithPath: scratch.journal + ".new" + suffix))
    }
    let journal = try scratch.open()
    #expect(journal.positions.last == .origin)
    let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.contains(".new") }
    #expect(left == [])
  }

  @Test func `a crash between naming the new journal and removing its first name is mended`() throws {
    try scratch.open().close()
    try FileManager.default.linkItem(atPath: scratch.journal, toPath: scratch.journal + ".new")
    let journal = try scratch.open()
    try journal.append([Message()], journal.start())
    #expect(!FileManager.default.fileExists(atPath: scratch.journal + ".new"))
  }

  @Test func `a cleanly closed journal is one file and its lock`() throws {
    let journal = try scratch.open()
    try journal.append([Message()], journal.start())
    try journal.close()
    try journal.close()
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted() == ["j.sqlite", "j.sqlite.lock"])
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().count == 1, "also without its writer")
    #expect(failure { try journal.commit(through: .origin) } == .invalid("closed"))
    #expect(failure { try journal.maintain() } == .invalid("closed"))
    #expect(failure { _ = try journal.output("o") } == .invalid("closed"))
  }

  @Test func `a temporary journal leaves nothing behind`() throws {
    let journal = try Journal.open(.temporary(under: scratch.path))
    let directory = (journal.path as NSString).deletingLastPathComponent
    let attributes = try FileManager.default.attributesOfItem(atPath: directory)
    #expect(attributes[.posixPermissions] as? Int == 0o700)
    try journal.append([Message()], journal.start())
    #expect(try JournalReader(path: journal.path).all().count == 1)
    try journal.close()
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == [])
  }
}
