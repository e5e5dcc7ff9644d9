import Foundation
import Testing

@testable import Journal

struct LimitsTests {
  let scratch = Scratch()

  @Test func `a full disk changes nothing, and writing goes on when there is room`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append([Message(deliveryTag: 1)], consumer)
    try journal.limitPages(20)
    let before = journal.positions
    let big = Message(body: [UInt8](repeating: 65, count: 400_000))
    do {
      try journal.append([Message(deliveryTag: 2), big], consumer)
      Issue.record("there was room")
    } catch let error as JournalError {
      #expect(error.kind == .full(.disk))
      #expect(error.isRetryable)
    }
    #expect(journal.positions == before)
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().map(\.1.deliveryTag) == [1])
    #expect(try journal.append([Message(deliveryTag: 3)], consumer) == Position(rawValue: 2))
    try journal.limitPages(1_000)
    #expect(try journal.append([big], consumer) == Position(rawValue: 3))
    #expect(try reader.verify() == [])
  }

  @Test func `a lock held from outside is an error that can be retried`() throws {
    var settings = JournalSettings(path: scratch.journal)
    settings.busyMilliseconds = 1
    let journal = try Journal.open(settings)
    let consumer = try journal.start()
    let outside = try Database(path: scratch.journal, readOnly: false)
    try outside.execute("BEGIN IMMEDIATE", "test")
    #expect(failure { try journal.append([Message()], consumer) } == .busy)
    try outside.execute("ROLLBACK", "test")
    #expect(try journal.append([Message()], consumer) == Position(rawValue: 1))
  }

  @Test func `a writer whose epoch has passed is fenced for good`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let outside = try Database(path: scratch.journal, readOnly: false)
    try outside.execute("UPDATE journal SET epoch = epoch + 1", "test")
    #expect(failure { try journal.append([Message()], consumer) } == .fenced)
    try outside.execute("UPDATE journal SET epoch = epoch - 1", "test")
    #expect(failure { try journal.append([Message()], consumer) } == .fenced)
    try journal.close()
  }

  @Test func `a second opening is refused with the holder's name, until the first is closed`() throws {
    let journal = try scratch.open()
    guard case .locked(let holder) = failure({ _ = try scratch.open() }) else {
      Issue.record("was not refused")
      return
    }
    #expect(holder.hasPrefix("pid \(ProcessInfo.processInfo.processIdentifier) on host "))
    try journal.append([Message()], journal.start())
    try journal.close()
    #expect(try scratch.open().positions.last == Position(rawValue: 1))
    #expect(try scratch.open().positions.last == Position(rawValue: 1), "the abandoned one gave its lock back")
  }

  @Test func `nobody else may read the files`() throws {
    let journal = try scratch.open()
    try journal.append([Message()], journal.start())
    for suffix in ["", "-wal", "-shm", ".lock"] {
      let attributes = try FileManager.default.attributesOfItem(atPath: scratch.journal + suffix)
      #expect(attributes[.posixPermissions] as? Int == 0o600, "\(suffix)")
    }
  }

  @Test func `writes go on while a reader holds a snapshot, and the WAL is reused after it`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let outside = try Database(path: scratch.journal, readOnly: true)
    try outside.execute("BEGIN; SELECT count(*) FROM message", "test")
    let body = [UInt8](repeating: 65, count: 1 << 20)
    for _ in 0..<80 {
      try journal.append([Message(body: body)], consumer)
      try journal.maintain()
    }
    #expect(journal.walBytes > 80 << 20)
    #expect(journal.boundedBytes == journal.usedBytes + journal.walBytes - (64 << 20), "a cap on space sees it")
    try outside.execute("COMMIT", "test")
    for _ in 0..<20 {
      try journal.append([Message(body: body)], consumer)
      try journal.maintain()
    }
    #expect(journal.walBytes < 40 << 20)
    #expect(journal.boundedBytes == journal.usedBytes)
    #expect(try JournalReader(path: scratch.journal).all().count == 100)
  }

  @Test func `who holds a snapshot is found, and only then the WAL counts as held`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.append([Message()], consumer)
    #expect(journal.snapshotHolders() == [])
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    shell.arguments = ["sqlite3", scratch.journal]
    let (input, output) = (Pipe(), Pipe())
    (shell.standardInput, shell.standardOutput) = (input, output)
    try shell.run()
    defer { shell.terminate() }
    try input.fileHandleForWriting.write(contentsOf: Data("BEGIN; SELECT count(*) FROM message;\n".utf8))
    #expect(output.fileHandleForReading.availableData == Data("1\n".utf8))
    #expect(
      journal.snapshotHolders() == [SnapshotHolder(pid: shell.processIdentifier, name: "sqlite3")])
    #expect(journal.heldWALBytes == 0)
    for _ in 0..<80 {
      try journal.append([Message(body: [UInt8](repeating: 65, count: 1 << 20))], consumer)
      try journal.maintain()
    }
    #expect(journal.heldWALBytes == journal.walBytes - (64 << 20))
    try input.fileHandleForWriting.close()
    shell.waitUntilExit()
    #expect(journal.snapshotHolders() == [])
    try journal.maintain(idle: true)
    #expect(journal.heldWALBytes == 0)
  }

  @Test(
    arguments: [
      ("1: POSIX  ADVISORY  READ 4711 fe:00:77 124 124", [4711]),
      ("1: OFDLCK ADVISORY  READ 4711 fe:00:77 123 123\n2: POSIX  ADVISORY  READ 9 00:2f:77 0 EOF", [4711, 9]),
      ("1: POSIX  ADVISORY  READ 4711 fe:00:77 128 128", []), ("1: POSIX  ADVISORY  READ 4711 fe:00:78 124 124", []),
      ("1: POSIX  ADVISORY  WRITE 4711 fe:00:77 120 120", []), ("1: -> POSIX ADVISORY READ 1 fe:00:77 124 124", []),
      ("1: FLOCK  ADVISORY  READ 4711 fe:00:77 0 EOF", []), ("1: POSIX  ADVISORY  READ -1 fe:00:77 124 124", []),
      ("", []), ("nonsense\n1:\n: : : : : : : :", []),
    ] as [(String, [Int32])])
  func `the list of locks tells who reads`(locks: String, pids: [Int32]) {
    #expect(SnapshotHolder.pids(locks: locks, inode: 77) == pids)
  }

  @Test func `without such a reader the WAL stays near its limit`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    var largest: Int64 = 0
    for _ in 0..<60 {
      try journal.append([Message(body: [UInt8](repeating: 65, count: 1 << 20))], consumer)
      try journal.maintain()
      largest = max(largest, journal.walBytes)
    }
    #expect(largest < 20 << 20)
  }

  @Test func `the file returns to a floor after a backlog was drained`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    for _ in 0..<40 {
      try journal.append([Message(body: [UInt8](repeating: 65, count: 1 << 20))], consumer)
    }
    #expect(journal.usedBytes > 40 << 20)
    try journal.commit(through: journal.positions.last)
    try journal.write { _ = try $0.prune(limit: .max) }
    #expect(journal.usedBytes < 1 << 20)
    #expect(journal.freeBytes > 40 << 20)
    while try journal.maintain() {}
    #expect(journal.freeBytes <= 4 << 20)
    try journal.maintain(idle: true)
    #expect(try scratch.bytes(scratch.journal).count < 6 << 20)
    #expect(try scratch.bytes(scratch.journal + "-wal").count == 0)
    #expect(try JournalReader(path: scratch.journal).verify() == [])
  }

  @Test func `relaxed durability is refused for a lasting journal`() {
    var settings = JournalSettings(path: scratch.journal)
    settings.durability = .relaxed
    #expect(failure { _ = try Journal.open(settings) } == .invalid("relaxed durability is for temporary journals"))
  }

  @Test(
    arguments: [
      (0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x6573_5546, "FUSE"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9P"),
      (0x786f_4256, "VirtualBox shared folders (vboxsf)"), (0xbacb_acbc, "VMware shared folders (vmhgfs)"),
      (0x1983_0326, "BeeGFS"), (0x0bd0_0bd0, "Lustre"), (0x4750_4653, "GPFS"), (0x4d44, "FAT"), (0xef53, nil),
      (0x5846_5342, nil), (0x9123_683e, nil), (0x0102_1994, nil), (0x794c_7630, nil),
    ] as [(Int64, String?)])
  func `network and user-space file systems are refused, local ones are not`(magic: Int64, name: String?) {
    #expect(File.unsupportedFileSystem(magic) == name)
  }

  @Test(
    arguments: [
      (13, 0, "full"), (10 | 3 << 8, 28, "full"), (10 | 19 << 8, 122, "full"), (10 | 3 << 8, 122, "full"),
      (10 | 3 << 8, 27, "full"), (10 | 4 << 8, 122, "io"), (10 | 4 << 8, 28, "io"),
      (10 | 5 << 8, 28, "io"), (10 | 3 << 8, 5, "io"), (11, 0, "corrupt"), (11 | 1 << 8, 0, "corrupt"), (5, 0, "busy"),
      (26, 0, "notAJournal"), (8, 0, "permission"), (14, 13, "permission"), (18, 0, "invalid"), (1, 0, "library"),
    ] as [(Int32, Int32, String)])
  func `a result code becomes what the caller must do`(code: Int32, number: Int32, kind: String) {
    let error = JournalError.library(code: code, text: "t", errno: number, operation: "o", object: "p")
    #expect(String(describing: error.kind).hasPrefix(kind))
    #expect(error.isRetryable == (kind == "full" || kind == "busy"))
    #expect(error.description.hasPrefix("journal p: o: "))
  }

  @Test(
    arguments: [
      (0, 0, false, .none), (15 << 20, 0, false, .none), (16 << 20, 0, false, .passive),
      (20 << 20, 16 << 20, false, .none),
      (32 << 20, 16 << 20, false, .passive), (64 << 20, 48 << 20, false, .restart), (100, 0, true, .truncate),
      (0, 0, true, .none),
    ] as [(Int64, Int64, Bool, Maintenance.Checkpoint)])
  func `a checkpoint comes when it is worth it`(
    wal: Int64, attempted: Int64, idle: Bool, expected: Maintenance.Checkpoint
  ) {
    #expect(Maintenance.checkpoint(wal: wal, attempted: attempted, idle: idle) == expected)
  }

  @Test(
    arguments: [
      (0, 4 << 20, true, 0), (10 << 20, 5 << 20, true, 1 << 20), (10 << 20, 5 << 20, false, 0),
      (10 << 20, 11 << 20, false, 4 << 20), (1 << 20, 100 << 20, false, 4 << 20),
    ] as [(Int64, Int64, Bool, Int64)])
  func `space is given back in slices, down to a floor`(used: Int64, free: Int64, idle: Bool, expected: Int64) {
    #expect(Maintenance.vacuum(used: used, free: free, idle: idle) == expected)
  }
}
