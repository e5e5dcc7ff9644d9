import Foundation
import Glibc
import Journal
import Platform
import Support
import Testing

@testable import Agent

/// Where documents are written to: a pipe, or a file that holds each one once.
struct EmitOutputTests {
  /// A directory of the test's own, removed with it.
  private final class Scratch {
    let path: String
    init() throws {
      path = NSTemporaryDirectory() + "output-\(randomUUID())"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var file: String { path + "/orders-000001.jsonl" }
    var content: String { String(decoding: FileManager.default.contents(atPath: file) ?? Data(), as: UTF8.self) }
    func put(_ text: String, number: Int = 1) throws {
      // Another file of that name, as a replacement is.
      _ = unsafe unlink("\(path)/orders-00000\(number).jsonl")
      try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/orders-00000\(number).jsonl"))
    }
    func content(_ number: Int) -> String? {
      FileManager.default.contents(atPath: path + "/orders-00000\(number).jsonl").map {
        String(decoding: $0, as: UTF8.self)
      }
    }
    /// The series' lock, as a start in this directory takes it.
    func lock() throws -> FileLock { try OutputSeries(directory: path, stem: "orders").lock() }
    /// A sink at microsecond 7, or at what `clock` says.
    func sink(
      _ record: OutputRecord?, rotation: FileRotation = FileRotation(), pending: ClosedRange<Int64>? = nil,
      lock: FileLock? = nil, continues: Bool = false, nextFile: NextFileRequest = NextFileRequest(),
      warnings: Monitor<[String]> = Monitor([]),
      clock: @escaping @Sendable () -> Int64 = { 7 }
    ) throws -> FileSink {
      let left = Monitor(pending.map { Array($0) } ?? [])
      return try FileSink(
        OutputSeries(directory: path, stem: "orders"), lock: lock, journal: "j", rotation: rotation, record: record,
        pending: { () throws(CaptureFailure) in
          left.update { $0.isEmpty ? nil : DocumentKey(sessionID: "s", sequence: $0.removeFirst()) }
        }, continues: continues, nextFile: nextFile, now: clock, warn: { text in warnings.update { $0.append(text) } })
    }
  }

  /// - Returns: The file as it then is, but for its inode, which the file system gave it.
  private static func write(_ text: String, through position: Int64, to sink: FileSink) throws -> OutputRecord? {
    var record = try sink.write(Array(text.utf8))
    record.inode = nil
    return record
  }

  fileprivate static func document(_ sequence: Int64) -> String {
    "{\"body\":1,\"sequence\":\(sequence),\"session_id\":\"s\"}\n"
  }

  @Test func `a new file grows, and every write tells its length`() throws {
    let scratch = try Scratch()
    let sink = try scratch.sink(nil)
    #expect(
      try Self.write("{}\n", through: 1, to: sink)
        == OutputRecord(file: 1, length: 3, startedAt: 7))
    #expect(
      try Self.write("[1]\n[2]\n", through: 3, to: sink) == OutputRecord(file: 1, length: 11, startedAt: 7))
    #expect(scratch.content == "{}\n[1]\n[2]\n")
    var status = stat()
    #expect(unsafe stat(scratch.file, &status) == 0)
    #expect(status.st_mode & 0o027 == 0)
  }

  @Test func `what the journal does not know of is cut off and written again`() throws {
    let scratch = try Scratch()
    try scratch.put("{}\n\(Self.document(4)){\"torn")
    let sink = try scratch.sink(OutputRecord(file: 1, length: 3, startedAt: 5), pending: 4...5)
    #expect(scratch.content == "{}\n")
    #expect(try Self.write("[]\n", through: 2, to: sink) == OutputRecord(file: 1, length: 6, startedAt: 5))
    #expect(scratch.content == "{}\n[]\n")
  }

  @Test func `a file that lacks committed documents is refused and left alone`() throws {
    let scratch = try Scratch()
    try scratch.put("{}\n")
    let failure = #expect(throws: CaptureFailure.self) {
      _ = try scratch.sink(OutputRecord(file: 1, length: 4, startedAt: 5))
    }
    #expect(
      failure?.description == "\(scratch.file) has 3 bytes, but the journal has committed 4 of it; put the file back, "
        + "or give --output a new directory and a new journal; to leave what is there and go on in a new file after it, "
        + "start once with --continue-output")
    #expect(scratch.content == "{}\n")
  }

  @Test func `a file of another journal is refused and left alone`() throws {
    let scratch = try Scratch()
    try scratch.put("mine\n")
    let failure = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(nil) }
    #expect(
      failure?.description == "\(scratch.file) holds 5 bytes that this journal did not write; give --output another "
        + "directory, or put the journal back that wrote them; to leave what is there and go on in a new file after it, "
        + "start once with --continue-output")
    #expect(failure?.needsUser == true)
    #expect(scratch.content == "mine\n")
  }

  @Test func `a link is not followed, and a directory is no file`() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(atPath: scratch.file, withDestinationPath: "elsewhere")
    let link = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(nil) }
    #expect(link?.description.hasPrefix("opening \(scratch.file): ") == true)
    #expect(link?.description.hasSuffix("(errno 40)") == true)
    try FileManager.default.removeItem(atPath: scratch.file)
    try FileManager.default.createDirectory(atPath: scratch.file, withIntermediateDirectories: false)
    let directory = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(nil) }
    #expect(directory?.description.hasSuffix("(errno 21)") == true)
  }

  @Test func `a batch that would make a file too large begins the next one, and a checkpoint alone does not`() throws {
    let scratch = try Scratch()
    let sink = try scratch.sink(nil, rotation: FileRotation(maxBytes: 8))
    #expect(
      try Self.write("[1]\n[2]\n", through: 2, to: sink) == OutputRecord(file: 1, length: 8, startedAt: 7))
    #expect(try Self.write("", through: 2, to: sink) == OutputRecord(file: 1, length: 8, startedAt: 7))
    #expect(try Self.write("[3]\n", through: 3, to: sink) == OutputRecord(file: 2, length: 4, startedAt: 7))
    // One batch may be larger than the bound; it is not split, and has a file of its own.
    #expect(
      try Self.write("[4]\n[5]\n[6]\n", through: 6, to: sink)
        == OutputRecord(file: 3, length: 12, startedAt: 7))
    #expect([1, 2, 3, 4].map(scratch.content) == ["[1]\n[2]\n", "[3]\n", "[4]\n[5]\n[6]\n", nil])
  }

  @Test func `a file comes of age by its first document, also when nothing follows`() throws {
    let scratch = try Scratch()
    let time = Monitor<Int64>(0)
    let sink = try scratch.sink(nil, rotation: FileRotation(maxAge: 10), clock: { time.read { $0 } })
    #expect(sink.timeUntilRest == 1, "an empty file never comes of age, and is looked at")
    #expect(try sink.rest() == nil)
    time.update { $0 = 60_000_000 }
    #expect(
      try Self.write("[1]\n", through: 1, to: sink) == OutputRecord(file: 1, length: 4, startedAt: 60_000_000))
    time.update { $0 = 69_000_000 }
    #expect(sink.timeUntilRest == 1)
    #expect(try sink.rest() == nil)
    #expect(try Self.write("[2]\n", through: 2, to: sink)?.file == 1)
    time.update { $0 = 70_000_000 }
    #expect(sink.timeUntilRest == 0)
    let begun = try sink.rest()
    #expect(begun?.file == 2 && begun?.length == 0)
    #expect(sink.timeUntilRest == 1)
    #expect([1, 2, 3].map(scratch.content) == ["[1]\n[2]\n", "", nil])
    // The age goes on over a restart.
    try scratch.put("[1]\n")
    let later = try scratch.sink(
      OutputRecord(file: 1, length: 4, startedAt: 60_000_000), rotation: FileRotation(maxAge: 10),
      clock: { 75_000_000 })
    #expect(try Self.write("[3]\n", through: 2, to: later)?.file == 2)
    #expect([1, 2].map(scratch.content) == ["[1]\n", "[3]\n"])
  }

  @Test func `a file of a clock that was set back meanwhile is of now, not of tomorrow`() throws {
    let scratch = try Scratch()
    try scratch.put("[1]\n")
    let time = Monitor<Int64>(50_000_000)
    let sink = try scratch.sink(
      OutputRecord(file: 1, length: 4, startedAt: 3_600_000_000), rotation: FileRotation(maxAge: 10),
      clock: { time.read { $0 } })
    #expect(try sink.rest() == nil)
    time.update { $0 = 60_000_000 }
    #expect(try sink.rest()?.file == 2)
  }

  @Test(arguments: ["", document(3), document(3) + "{\"tor", document(3) + document(4)])
  func `a next file that the journal does not know yet is written anew`(left: String) throws {
    let scratch = try Scratch()
    let first = try scratch.sink(nil, rotation: FileRotation(maxBytes: 4))
    let known = try #require(try Self.write("[1]\n", through: 1, to: first))
    try Data(left.utf8).write(to: URL(fileURLWithPath: scratch.path + "/orders-000002.jsonl"))
    // The crash came before the journal knew of it.
    let second = try scratch.sink(known, rotation: FileRotation(maxBytes: 100), pending: 3...4)
    #expect([1, 2].map(scratch.content) == ["[1]\n", nil])
    #expect(try Self.write("[2]\n", through: 2, to: second) == OutputRecord(file: 1, length: 8, startedAt: 7))
    #expect([1, 2].map(scratch.content) == ["[1]\n[2]\n", nil])
  }

  /// One of each that a crash leaves: a torn line comes last, and each whole one is still pending.
  @Test(
    arguments: [
      (document(8), 8...9, true), (document(8) + document(9), 8...9, true), (document(9), 8...9, true),
      (document(8) + "{", 8...9, true), (document(8) + "\0\0\0", 8...9, true), ("\0\0\n" + document(9), 8...9, true),
      (document(8) + "{\"torn", 8...8, false), (document(8), 9...10, false), (document(9) + document(8), 8...9, false),
      (document(8), nil, false), ("{\"torn", nil, false), ("note\n", 8...9, false), ("note", 8...9, false),
      ("{\"body\":1}\n", 8...9, false), (document(8) + "\n", 8...9, false),
    ] as [(String, ClosedRange<Int64>?, Bool)])
  func `only what is still pending is cut off, and anything else stays and is refused`(
    surplus: String, pending: ClosedRange<Int64>?, isCut: Bool
  ) throws {
    let scratch = try Scratch()
    let record = OutputRecord(file: 1, length: 3, startedAt: 5)
    try scratch.put("{}\n" + surplus)
    if isCut {
      _ = try scratch.sink(record, pending: pending)
      #expect(scratch.content == "{}\n")
      return
    }
    let failure = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(record, pending: pending) }
    #expect(failure?.description.hasPrefix("the journal went back in time") == true, "\(failure?.description ?? "")")
    #expect(scratch.content == "{}\n" + surplus)
    // Asked to, it goes on in a file of its own.
    let warnings = Monitor<[String]>([])
    let sink = try scratch.sink(record, pending: pending, continues: true, warnings: warnings)
    #expect(try Self.write("[]\n", through: 9, to: sink) == OutputRecord(file: 2, length: 3, startedAt: 7))
    #expect(scratch.content == "{}\n" + surplus)
    #expect(warnings.read { $0 }.count == 1)
  }

  @Test func `files after the recorded one are not removed if the journal does not know them, and the range is named`()
    throws
  {
    let scratch = try Scratch()
    try scratch.put("{}\n" + Self.document(1))
    // One is missing in between: someone took it.
    try scratch.put(Self.document(3) + Self.document(4), number: 3)
    let record = OutputRecord(file: 1, length: 3, startedAt: 5)
    let failure = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(record, pending: 1...2) }
    #expect(
      failure?.description.contains(
        "\(scratch.path)/orders-000003.jsonl holds, from byte 0 on, \(2 * Self.document(3).utf8.count) bytes that the journal does not know (2 documents, "
          + "sequence 3 of session s to sequence 4 of session s)") == true, "\(failure?.description ?? "")")
    #expect(scratch.content(1) == "{}\n" + Self.document(1))
    #expect(scratch.content(3) == Self.document(3) + Self.document(4))
    _ = try scratch.sink(record, pending: 1...2, continues: true)
    #expect(scratch.content(4) == "")
    #expect(scratch.content(3) == Self.document(3) + Self.document(4))
  }

  @Test func `a journal that never wrote leaves later files of the series alone`() throws {
    let scratch = try Scratch()
    try scratch.put("mine\n", number: 2)
    let failure = #expect(throws: CaptureFailure.self) { _ = try scratch.sink(nil) }
    #expect(failure?.description.contains("did not write") == true)
    #expect(scratch.content(2) == "mine\n")
  }

  @Test func `a file of the same length that does not end a line there is another one`() throws {
    let scratch = try Scratch()
    try scratch.put("\0\0\0\0")
    let failure = #expect(throws: CaptureFailure.self) {
      _ = try scratch.sink(OutputRecord(file: 1, length: 4, startedAt: 5))
    }
    #expect(failure?.description.contains("is not the file that the journal wrote") == true)
    #expect(scratch.content == "\0\0\0\0")
  }

  @Test func `a next file comes after all that exist, and none is overwritten`() throws {
    let scratch = try Scratch()
    let sink = try scratch.sink(nil, rotation: FileRotation(maxBytes: 4))
    _ = try Self.write("[1]\n", through: 1, to: sink)
    try scratch.put("mine\n", number: 2)
    try scratch.put("mine\n", number: 5)
    #expect(try Self.write("[2]\n", through: 2, to: sink)?.file == 6)
    #expect([2, 5, 6].map(scratch.content) == ["mine\n", "mine\n", "[2]\n"])
  }

  @Test(arguments: ["move", "delete", "replace", "cut", "lengthen"])
  func `a file that somebody takes away is left, and documents go on in the next one`(hand: String) throws {
    let scratch = try Scratch()
    let warnings = Monitor<[String]>([])
    let sink = try scratch.sink(nil, warnings: warnings)
    _ = try Self.write("[1]\n", through: 1, to: sink)
    let elsewhere = scratch.path + "/taken"
    switch hand {
    case "move": #expect(unsafe rename(scratch.file, elsewhere) == 0)
    case "delete": #expect(unsafe unlink(scratch.file) == 0)
    case "replace": try scratch.put("new\n")
    case "cut": #expect(unsafe truncate(scratch.file, 0) == 0)
    default:
      let file = try #require(FileHandle(forWritingAtPath: scratch.file))
      try file.seekToEnd()
      try file.write(contentsOf: Data("note\n".utf8))
    }
    #expect(try Self.write("[2]\n", through: 2, to: sink) == OutputRecord(file: 2, length: 4, startedAt: 7))
    #expect(scratch.content(2) == "[2]\n")
    let first = ["replace": "new\n", "cut": "", "lengthen": "[1]\nnote\n"]
    #expect(scratch.content(1) == first[hand])
    if hand == "move" { #expect(try String(contentsOfFile: elsewhere, encoding: .utf8) == "[1]\n") }
    let word = ["move": "moved", "delete": "deleted", "replace": "replaced", "cut": "cut from 4", "lengthen": "grew"]
    #expect(warnings.read { $0.count } == 1)
    #expect(warnings.read { $0[0] }.contains(word[hand]!))
    // A kill before the journal knew: the recorded file is gone, the next one is there.
    if hand == "lengthen" { return }
    if hand == "replace" { return }
    try scratch.put(Self.document(2), number: 2)
    let again = try scratch.sink(OutputRecord(file: 1, length: 4, startedAt: 7), pending: 2...2)
    #expect(again.record.file == 2 && again.record.length == 0)
    #expect(scratch.content(2) == "")
  }

  @Test(
    arguments: [
      ("[2]\n", .inPlace), ("[2]\nnote", .inPlace), ("note\n[2]\n", .inPlace), ("note\n[2]\nmore", .inPlace),
      ("note[2]\n", .gluedAtEnd), ("note[2]\nmore\n", .glued), ("note", .missing), ("[2]", .missing), ("", .missing),
    ] as [(String, BatchPlace)])
  func `where a batch stands among what somebody else wrote`(region: String, place: BatchPlace) {
    #expect(BatchPlace(of: Array("[2]\n".utf8), in: Array(region.utf8)) == place)
  }

  /// Whatever someone else writes, a document has a line of its own, and is in one file.
  @Test func `what somebody appends while a batch is written is never on one line with it`() throws {
    let scratch = try Scratch()
    let warnings = Monitor<[String]>([])
    let hand = Monitor(false)
    let file = scratch.file
    // The time is asked for after the file was looked at, and before it is written.
    let sink = try scratch.sink(
      nil, warnings: warnings,
      clock: {
        if hand.read({ $0 }), let file = FileHandle(forWritingAtPath: file) {
          _ = try? file.seekToEnd()
          try? file.write(contentsOf: Data("note".utf8))
          hand.update { $0 = false }
        }
        return 7
      })
    _ = try Self.write("[1]\n", through: 1, to: sink)
    hand.update { $0 = true }
    #expect(try Self.write("[2]\n", through: 2, to: sink) == OutputRecord(file: 2, length: 4, startedAt: 7))
    #expect(scratch.content(1) == "[1]\nnote")
    #expect(scratch.content(2) == "[2]\n")
    #expect(try Self.write("[3]\n", through: 3, to: sink)?.length == 8)
    #expect(warnings.read { $0.count } == 1)
  }

  /// What logrotate, a collector or a person did with the newest file while the agent was dead.
  @Test(arguments: ["renames", "renames and creates", "takes", "takes and creates", "cuts", "replaces"])
  func `a file that was moved while nobody looked is somewhere else, not gone back in time`(hand: String) throws {
    let scratch = try Scratch()
    let before = try scratch.lock()
    let first = try scratch.sink(nil, lock: before)
    _ = try Self.write(Self.document(1), through: 1, to: first)
    let known = first.record
    #expect(known.inode != nil)
    // Written, and not recorded before the kill.
    _ = try Self.write(Self.document(2), through: 2, to: first)
    before.release()
    let elsewhere = scratch.path + "/orders-000001.jsonl.1"
    switch hand.split(separator: " ").first {
    case "renames": #expect(unsafe rename(scratch.file, elsewhere) == 0)
    case "takes": #expect(unsafe unlink(scratch.file) == 0)
    case "replaces": try scratch.put("new\n")
    default: #expect(unsafe truncate(scratch.file, 5) == 0)
    }
    if hand.hasSuffix("creates") { try scratch.put("") }
    let warnings = Monitor<[String]>([])
    let isRefused = hand == "cuts" || hand == "replaces"
    if isRefused {
      _ = #expect(throws: CaptureFailure.self) { try scratch.sink(known, pending: 2...2, lock: scratch.lock()) }
      return
    }
    let lock = try scratch.lock()
    let second = try scratch.sink(known, pending: 2...2, lock: lock, warnings: warnings)
    #expect(try Self.write(Self.document(2), through: 2, to: second)?.file == 2)
    #expect(scratch.content(2) == Self.document(2))
    let word = hand.hasPrefix("renames") ? "was moved to \(elsewhere)" : "was taken away"
    #expect(warnings.read { $0 }.count == 1 && warnings.read { $0[0] }.contains(word), "\(warnings.read { $0 })")
    if hand.hasPrefix("renames") {
      #expect(try String(contentsOfFile: elsewhere, encoding: .utf8) == Self.document(1), "what is written again goes")
    }
    lock.release()
    // In a directory that has never had it, which may be a disk that is not mounted, and in an older copy of the right one.
    guard hand == "takes" else { return }
    _ = unsafe unlink("\(scratch.path)/orders-000002.jsonl")
    for stale in [nil, FileLock.Series(journal: "other", file: 9), FileLock.Series(journal: "j", file: 1)] {
      let path = scratch.path + "/.orders.lock"
      try FileManager.default.removeItem(atPath: path)
      if let stale {
        let lock = try scratch.lock()
        lock.remember(stale)
        lock.release()
      }
      // A refusal leaves nothing that makes the next start go on.
      for _ in 1...2 {
        let known = OutputRecord(file: 2, length: 4, startedAt: 7, inode: 99)
        let failure = #expect(throws: CaptureFailure.self) {
          let lock = try scratch.lock()
          defer { lock.release() }
          _ = try scratch.sink(known, pending: 2...2, lock: lock)
        }
        #expect(failure?.description.contains("is missing, and the journal has committed") == true)
      }
    }
  }

  @Test func `a file that has the inode of one that is gone is not taken for it`() throws {
    let scratch = try Scratch()
    let lock = try scratch.lock()
    defer { lock.release() }
    let sink = try scratch.sink(nil, lock: lock)
    _ = try Self.write("[1]\n", through: 1, to: sink)
    var known = sink.record
    _ = unsafe unlink(scratch.file)
    for name in ["disk.img", "journal.db", "orders-000001.jsonl.bak"] {
      let path = scratch.path + "/" + name
      try Data("[2]x[3]x".utf8).write(to: URL(fileURLWithPath: path))
      known.inode = try OutputChange.Facts.of(path).map { Int64(bitPattern: $0.inode) }
      let warnings = Monitor<[String]>([])
      _ = try scratch.sink(known, pending: 1...1, lock: lock, warnings: warnings)
      #expect(warnings.read { $0 }.count == 1 && warnings.read { $0[0] }.contains("was taken away"), "\(name)")
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "[2]x[3]x")
      _ = unsafe unlink("\(scratch.path)/orders-000002.jsonl")
    }
  }

  @Test func `what happened to a file is told by its identity, its links and its size`() {
    func facts(_ inode: UInt64, links: UInt64 = 1, size: Int64 = 10) -> OutputChange.Facts {
      OutputChange.Facts(device: 1, inode: inode, links: links, size: size)
    }
    func find(_ open: OutputChange.Facts, _ named: OutputChange.Facts?) -> OutputChange? {
      OutputChange.find(open: open, named: named, expected: 10)
    }
    #expect(find(facts(1), facts(1)) == nil)
    #expect(find(facts(1, links: 2), facts(1, links: 2)) == nil)
    #expect(find(facts(1), nil) == .moved)
    #expect(find(facts(1, links: 0), nil) == .deleted)
    #expect(find(facts(1), facts(2)) == .replaced)
    #expect(find(facts(1, size: 9), facts(1, size: 9)) == .shortened(to: 9))
    #expect(find(facts(1, size: 11), facts(1, size: 11)) == .lengthened(to: 11))
  }

  @Test func `the next file begins where that is asked for, before a batch or at rest, but not after an empty one`()
    throws
  {
    let scratch = try Scratch()
    let nextFile = NextFileRequest()
    let sink = try scratch.sink(nil, nextFile: nextFile)
    nextFile.request()
    #expect(try Self.write("[1]\n", through: 1, to: sink)?.file == 1)
    nextFile.request()
    #expect(try Self.write("[2]\n", through: 2, to: sink)?.file == 2)
    #expect(try Self.write("[3]\n", through: 3, to: sink)?.file == 2)
    nextFile.request()
    #expect(try sink.rest()?.file == 3)
    #expect(try sink.rest() == nil)
    #expect([1, 2, 3].map(scratch.content) == ["[1]\n", "[2]\n[3]\n", ""])
  }

  @Test func `a series has one writer, and the next one hears who it is`() throws {
    let scratch = try Scratch()
    let series = OutputSeries(directory: scratch.path, stem: "orders")
    let lock = try series.lock()
    let failure = #expect(throws: CaptureFailure.self) { _ = try series.lock() }
    #expect(failure?.description.contains("are written by pid \(getpid())") == true, "\(failure?.description ?? "")")
    #expect(throws: Never.self) { try OutputSeries(directory: scratch.path, stem: "other").lock().release() }
    lock.release()
    #expect(throws: Never.self) { try series.lock().release() }
  }

  @Test(arguments: [
    (Int64(0), Int64(0), 5, false), (4, 0, 4, false), (4, 0, 5, true), (9, 0, 1, true), (9, 0, 0, false),
    (4, 9_999_999, 1, false), (4, 10_000_000, 1, true), (4, 10_000_000, 0, true), (0, 10_000_000, 1, false),
    // A clock that was set back.
    (4, -99_000_000, 1, false),
  ])
  func `a file is complete by size or by age, and never without a document`(
    length: Int64, now: Int64, adding: Int, isDue: Bool
  ) {
    let rotation = FileRotation(maxBytes: 8, maxAge: 10)
    #expect(rotation.isDue(length, startedAt: 0, now: now, adding: adding) == isDue)
    #expect(!FileRotation().isDue(length, startedAt: 0, now: now, adding: adding))
  }

  @Test func `a reader that has gone away is named`() throws {
    signal(SIGPIPE, SIG_IGN)
    var ends: [Int32] = [0, 0]
    #expect(unsafe pipe(&ends) == 0)
    close(ends[0])
    defer { close(ends[1]) }
    let output = OutputDescriptor(descriptor: ends[1], name: "stdout")
    let failure = #expect(throws: CaptureFailure.self) { try output.write([1]) }
    #expect(
      failure
        == CaptureFailure(
          cause: "output",
          description: "writing to stdout: Broken pipe (errno 32); its reader has gone away", needsUser: true))
  }

  @Test func `nothing to write is nothing done, and a closed descriptor is an error`() {
    let output = OutputDescriptor(descriptor: -1, name: "nowhere")
    #expect(throws: Never.self) { try output.write([]) }
    let failure = #expect(throws: CaptureFailure.self) { try output.write([1]) }
    #expect(failure?.description == "writing to nowhere: Bad file descriptor (errno 9)")
  }

  @Test func `more than a pipe holds is written as its reader reads`() async throws {
    var ends: [Int32] = [0, 0]
    #expect(unsafe pipe(&ends) == 0)
    let (reading, writing) = (ends[0], ends[1])
    #expect(fcntl(writing, F_SETFL, O_NONBLOCK) == 0)
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    let writer = Thread {
      // An error shows as missing bytes below.
      try? OutputDescriptor(descriptor: writing, name: "pipe").write(bytes)
      close(writing)
    }
    writer.start()
    var received: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 10_000)
    while true {
      var polled = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&polled, 1, -1)
      let count = unsafe read(reading, &block, block.count)
      if count == 0 { break }
      if count > 0 { received += block[0..<count] }
    }
    close(reading)
    #expect(received == bytes)
  }
}
