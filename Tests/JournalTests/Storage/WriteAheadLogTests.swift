import Foundation
import Support
import Testing

@testable import Journal

/// What a WAL may look like after a power cut is opened; what no power cut leaves is refused and salvaged, with what is missing.
struct WriteAheadLogTests {
  let scratch = Scratch()

  /// 40 transactions of 10 messages each, none of them in the database file yet, and what a crash leaves of them.
  ///
  /// - Parameter remembers: The lock file is part of it.
  private func makeImage(remembers: Bool = false) throws -> String {
    let journal = try scratch.open()
    let consumer = try journal.start("a")
    for batch in 0..<40 {
      try journal.write { tx in
        for number in 1...10 { try tx.append(Self.message(batch * 10 + number), consumer) }
        try tx.setRedelivery(
          RedeliveryRecord(
            queue: "q", releasable: tx.positions.last, prefetch: 100, priority: nil,
            prioritySince: Position(rawValue: 1)))
      }
    }
    let image = try scratch.crashImage()
    if remembers { try FileManager.default.copyItem(atPath: scratch.journal + ".lock", toPath: image + ".lock") }
    try journal.close()
    return image
  }

  private static func message(_ number: Int) -> Message {
    Message(
      deliveryTag: UInt64(number), body: Array("message \(number) \(String(repeating: "x", count: number * 7))".utf8))
  }

  private func log(_ image: String) throws -> WriteAheadLog { try #require(try WriteAheadLog(of: image)) }

  /// Changes what stands in the WAL.
  private func change(_ image: String, _ body: (inout Data) -> Void) throws {
    var bytes = try scratch.bytes(image + "-wal")
    body(&bytes)
    try bytes.write(to: URL(fileURLWithPath: image + "-wal"))
  }

  private func offset(_ log: WriteAheadLog, ofFrame index: Int) -> Int {
    WriteAheadLog.headerBytes + index * (WriteAheadLog.frameHeaderBytes + log.pageSize)
  }

  @Test func `a whole log is read as SQLite reads it`() throws {
    let log = try log(try makeImage())
    #expect(log.hasSoundHeader && log.frames.allSatisfy(\.isSound) && log.damage == nil)
    #expect(log.frames.count { $0.commit > 0 } >= 40)
    #expect(log.frames.last?.commit ?? 0 > 0)
  }

  @Test func `a bit that changed anywhere in it hides nothing, and what is missing is named`() throws {
    let image = try makeImage()
    let whole = try scratch.bytes(image + "-wal")
    let sound = try log(image)
    // The newest transaction may have been torn by a power cut.
    let newest = try #require(sound.frames.dropLast().lastIndex { $0.commit > 0 }) + 1
    let end = offset(sound, ofFrame: newest)
    var random = Seeded(28_01)
    for round in 0..<60 {
      let byte = round < 32 ? round : Int.random(in: 0..<end, using: &random)
      try change(image) { $0[byte] ^= UInt8(1 << Int.random(in: 0..<8, using: &random)) }
      guard case .corrupt(let text) = failure({ _ = try Journal.open(JournalSettings(path: image)) }) else {
        Issue.record("byte \(byte) was not noticed")
        continue
      }
      #expect(text.contains(image + "-wal"))
      #expect(failure { _ = try JournalReader(path: image) } == .corrupt(text))
      let report = try Journal.salvage(JournalSettings(path: image), acceptLoss: true)
      let found = try JournalReader(path: image).all().map(\.1)
      let lost = Set(report.lost.flatMap { Array($0.first.rawValue...$0.last.rawValue) })
      #expect(found == (1...400).filter { !lost.contains(Int64($0)) }.map(Self.message), "byte \(byte)")
      #expect(lost.count < 100 && report.knowsPositions && report.returning.isEmpty, "byte \(byte)")
      // The next round begins with what the crash left.
      let aside = try #require(report.setAside)
      try FileManager.default.removeItem(atPath: image)
      try FileManager.default.moveItem(atPath: aside, toPath: image)
      try FileManager.default.removeItem(atPath: aside + "-wal")
      try whole.write(to: URL(fileURLWithPath: image + "-wal"))
      for suffix in ["-shm", ".lock"] { try? FileManager.default.removeItem(atPath: image + suffix) }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.contains("mended") } == [])
  }

  @Test func `whatever a power cut leaves of the newest transaction is its end, not damage`() throws {
    let image = try makeImage()
    let whole = try scratch.bytes(image + "-wal")
    let sound = try log(image)
    let newest = try #require(sound.frames.dropLast().lastIndex { $0.commit > 0 }) + 1
    var random = Seeded(28_02)
    for _ in 0..<40 {
      // Frames of it that were written, and others that were not, or in part.
      try change(image) { bytes in
        for frame in newest..<sound.frames.count where Bool.random(using: &random) {
          let start = offset(sound, ofFrame: frame)
          let from = start + Int.random(in: 0..<sound.pageSize / 512, using: &random) * 512
          bytes.replaceSubrange(
            from..<offset(sound, ofFrame: frame + 1), with: Data(count: offset(sound, ofFrame: frame + 1) - from))
        }
        if Bool.random(using: &random) {
          bytes = bytes.prefix(Int.random(in: offset(sound, ofFrame: newest)...bytes.count, using: &random))
        }
      }
      #expect(try log(image).damage == nil)
      let count = try JournalReader(path: image).all().count
      #expect(count == 390 || count == 400)
      try whole.write(to: URL(fileURLWithPath: image + "-wal"))
      try? FileManager.default.removeItem(atPath: image + "-shm")
    }
  }

  /// A visitor's transaction that was given up leaves frames of the same generation after the end; the next commits overwrite the
  /// first of them.
  @Test func `frames that nobody committed, behind a newest transaction that is torn, are no damage`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start("a")
    try journal.append((1...200).map(Self.message), consumer)
    let visitor = try Database(path: scratch.journal, readOnly: false)
    try visitor.execute("PRAGMA cache_size = 10; PRAGMA cache_spill = 1; BEGIN IMMEDIATE", "test")
    try visitor.execute("CREATE TABLE other (x); INSERT INTO other SELECT randomblob(9000) FROM message", "test")
    let spilled = try log(try scratch.crashImage("spilled.sqlite"))
    try visitor.execute("ROLLBACK", "test")
    try journal.append((201...230).map(Self.message), consumer)
    let image = try scratch.crashImage()
    let sound = try log(image)
    let end = try #require(sound.frames.lastIndex { $0.commit > 0 && $0.isSound })
    #expect(sound.frames.count == spilled.frames.count && sound.frames[(end + 2)...].contains(where: \.isSound))
    #expect(sound.damage == nil)
    let start = try #require(sound.frames[..<end].lastIndex { $0.commit > 0 }) + 1
    for frame in start...end {
      let whole = try scratch.bytes(image + "-wal")
      let from = offset(sound, ofFrame: frame) + 24
      try change(image) { $0.replaceSubrange(from..<from + sound.pageSize, with: Data(count: sound.pageSize)) }
      #expect(try log(image).damage == nil, "frame \(frame)")
      try whole.write(to: URL(fileURLWithPath: image + "-wal"))
    }
  }

  @Test func `frames of an older generation behind the newest are no damage`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start("a")
    for number in 1...40 { try journal.append([Self.message(number)], consumer) }
    _ = try journal.database.checkpoint(mode: 2)
    try journal.append([Self.message(41)], consumer)
    let image = try scratch.crashImage()
    let log = try log(image)
    #expect(log.frames.contains { !$0.belongs } && log.damage == nil)
    #expect(try Journal.open(JournalSettings(path: image)).positions.last == Position(rawValue: 41))
  }

  @Test func `a log that was cut, and damage in the newest transaction, are told by what is remembered`() throws {
    let image = try makeImage(remembers: true)
    let database = try scratch.bytes(image)
    let (lock, whole) = (try scratch.bytes(image + ".lock"), try scratch.bytes(image + "-wal"))
    let sound = try log(image)
    var random = Seeded(28_03)
    for round in 0..<40 {
      switch round {
      case 0: try FileManager.default.removeItem(atPath: image + "-wal")
      case 1...20: try change(image) { $0 = $0.prefix(Int.random(in: 0..<whole.count, using: &random)) }
      default: try change(image) { $0[$0.count - 1 - round * 3] ^= 4 }
      }
      guard case .corrupt(let text) = failure({ _ = try Journal.open(JournalSettings(path: image)) }) else {
        Issue.record("round \(round) was not noticed")
        continue
      }
      #expect(text.contains("had come to 400"), "\(text)")
      #expect(try JournalReader(path: image).verify().contains { $0.contains(text) })
      let refused = try Journal.salvage(JournalSettings(path: image), acceptLoss: false)
      #expect(refused.setAside == nil && refused.lost.last?.last == Position(rawValue: 400))
      #expect(refused.lost.first.map { $0.first.rawValue } == Int64(refused.recovered + 1))
      let report = try Journal.salvage(JournalSettings(path: image), acceptLoss: true)
      #expect(report.lost == refused.lost)
      let journal = try Journal.open(JournalSettings(path: image))
      #expect(journal.positions.last == Position(rawValue: 400), "no position is used twice")
      try journal.close()
      try database.write(to: URL(fileURLWithPath: image))
      try whole.write(to: URL(fileURLWithPath: image + "-wal"))
      try lock.write(to: URL(fileURLWithPath: image + ".lock"))
      try? FileManager.default.removeItem(atPath: image + "-shm")
      if let aside = report.setAside {
        for suffix in ["", "-wal"] { try? FileManager.default.removeItem(atPath: aside + suffix) }
      }
    }
    #expect(sound.damage == nil)
    #expect(try Journal.open(JournalSettings(path: image)).positions.last == Position(rawValue: 400))
  }

  @Test func `what cannot be read of what is remembered means nothing`() throws {
    let image = try makeImage(remembers: true)
    try FileManager.default.removeItem(atPath: image + "-wal")
    let lock = try scratch.bytes(image + ".lock")
    for byte in stride(from: 512, to: lock.count, by: 7) {
      var changed = lock
      changed[byte] ^= 1
      let line = Array(changed.dropFirst(512))
      #expect(HighWaterMark(line: line) == nil, "byte \(byte)")
    }
    #expect(HighWaterMark(line: Array(lock.dropFirst(512))) != nil)
    // One of another journal does not concern this one.
    let other = HighWaterMark(identifier: "x", Counters())
    #expect(HighWaterMark(line: other.line) == other)
    try (lock.prefix(512) + Data(other.line)).write(to: URL(fileURLWithPath: image + ".lock"))
    #expect(try Journal.open(JournalSettings(path: image)).positions.last == .origin)
  }
}
