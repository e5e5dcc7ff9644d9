import Foundation
import Support
import Testing

@testable import Journal

/// What becomes of a damaged journal: nothing is deleted, nothing is invented, and what is missing is said exactly.
struct SalvageTests {
  let scratch = Scratch()

  private var settings: JournalSettings { JournalSettings(path: scratch.journal) }

  /// 300 messages in sessions `a` (1 to 100) and `b`; 50 committed; everything up to 290 may have been acknowledged.
  private func makeJournal() throws {
    let journal = try scratch.open()
    let first = try journal.start("a")
    try journal.append(messages(1...100), first)
    let second = try journal.start("b")
    try journal.append(messages(101...300), second)
    try journal.commit(through: Position(rawValue: 50))
    try journal.write { tx in
      try tx.appendDigests(
        [UInt8](repeating: 7, count: 300 * 16), priority: nil, since: Position(rawValue: 1), window: 65_536)
      try tx.setRedelivery(
        RedeliveryRecord(
          queue: "q", releasable: Position(rawValue: 290), prefetch: 100, priority: nil,
          prioritySince: Position(rawValue: 1)))
    }
    try journal.close()
  }

  private func messages(_ tags: ClosedRange<UInt64>) -> [Message] {
    tags.map { Message(deliveryTag: $0, body: Array("message \($0) \(String(repeating: "x", count: 400))".utf8)) }
  }

  private func missing(_ first: Int64, _ last: Int64, _ session: String, _ sequence: Int) -> SalvageReport.Missing {
    SalvageReport.Missing(
      first: Position(rawValue: first), last: Position(rawValue: last), sessionID: session, firstSequence: sequence)
  }

  /// The page numbers of the table's leaves, in the order of its keys.
  private func leaves() throws -> [Int] {
    try scratch.shell("SELECT pageno FROM dbstat WHERE name = 'message' AND pagetype = 'leaf' ORDER BY path").split(
      separator: "\n"
    ).compactMap { Int($0) }
  }

  private func overwrite(page: Int) throws {
    var bytes = try scratch.bytes(scratch.journal)
    bytes.replaceSubrange((page - 1) * 16_384..<page * 16_384, with: Data(repeating: 0xa5, count: 16_384))
    try bytes.write(to: URL(fileURLWithPath: scratch.journal))
  }

  private func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted().map {
      $0.replacing(/corrupt-\d{8}T\d{6}Z(-\d+)?/, with: "corrupt-TIME")
    }
  }

  @Test func `damage that costs no message is salvaged by itself, with the same positions`() throws {
    try makeJournal()
    let identifier = try JournalReader(path: scratch.journal).identifier
    _ = try scratch.shell("UPDATE journal SET last = 299")
    let before = try scratch.bytes(scratch.journal)
    let report = try Journal.salvage(settings, acceptLoss: false)
    #expect(report.losesNothing)
    #expect(report.recovered == 250)
    #expect(try scratch.bytes(try #require(report.setAside)) == before)
    #expect(try names() == ["j.sqlite", "j.sqlite.corrupt-TIME", "j.sqlite.lock"])
    let journal = try scratch.open()
    #expect(journal.identifier == identifier)
    #expect(journal.positions.last == Position(rawValue: 300))
    #expect(journal.positions.committedThrough == Position(rawValue: 50))
    #expect(try journal.redelivery()?.releasable == Position(rawValue: 290))
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().map(\.1) == messages(51...300))
    #expect(try reader.verify() == [])
  }

  @Test func `messages that may have been acknowledged are given up only by somebody's word, and named`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position BETWEEN 95 AND 103 OR position = 200")
    let before = try scratch.bytes(scratch.journal)
    let refused = try Journal.salvage(settings, acceptLoss: false)
    #expect(refused.setAside == nil)
    #expect(refused.lost == [missing(95, 100, "a", 95), missing(101, 103, "b", 1), missing(200, 200, "b", 100)])
    #expect(refused.refusal.contains("10 messages that may have been acknowledged cannot"))
    #expect(refused.refusal.contains("sequence 1 to 3 of session b (positions 101 to 103)"))
    #expect(refused.refusal.contains("source-amqp journal salvage --accept-loss \(scratch.journal)"))
    #expect(try scratch.bytes(scratch.journal) == before)
    #expect(try names() == ["j.sqlite", "j.sqlite.lock"])

    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == refused.lost)
    #expect(report.recovered == 240)
    let journal = try scratch.open()
    let consumer = try journal.start("c")
    #expect(try journal.append([Message(deliveryTag: 301)], consumer) == Position(rawValue: 301))
    let reader = try JournalReader(path: scratch.journal)
    let expected = Array(51...94) + Array(104...199) + Array(201...301) as [UInt64]
    #expect(try reader.all().map(\.1.deliveryTag) == expected)
    #expect(try reader.verify() == [])
    // Without the anchor nothing that comes again is taken for old.
    #expect(try journal.redelivery()?.releasable == Position(rawValue: 300))
    #expect(try journal.newestDigests(limit: 100) == [])
    try journal.commit(through: Position(rawValue: 301))
    var pruned = 0
    while case let count = try journal.write({ try $0.prune(limit: 60) }), count > 0 { pruned += count }
    #expect(pruned == 251)
    try journal.close()
    #expect(try scratch.open().positions.last == Position(rawValue: 301))
  }

  @Test func `a message whose properties are no JSON cannot become a document, and is missing`() throws {
    try makeJournal()
    _ = try scratch.shell("UPDATE message SET properties = '{\"a\":' WHERE position = 200")
    let refused = try Journal.salvage(settings, acceptLoss: false)
    #expect(refused.lost == [missing(200, 200, "b", 100)])
  }

  @Test func `messages that the broker still has are no loss`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position > 290")
    let report = try Journal.salvage(settings, acceptLoss: false)
    #expect(report.losesNothing)
    #expect(report.returning == [missing(291, 300, "b", 191)])
    #expect(!report.keepsAnchor)
    let journal = try scratch.open()
    #expect(journal.positions.last == Position(rawValue: 300), "no position is used twice")
    #expect(try journal.newestDigests(limit: 100) == [], "or they would be taken for captured")
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all(after: Position(rawValue: 290)).isEmpty)
    #expect(
      try reader.skippingGap(after: Position(rawValue: 295)) == Position(rawValue: 300), "a start may be inside of it")
    #expect(try reader.skippingGap(after: Position(rawValue: 290)) == Position(rawValue: 300))
    #expect(try reader.skippingGap(after: Position(rawValue: 289)) == Position(rawValue: 289))
  }

  @Test func `what is missing in front of everything is passed over`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position < 60")
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == [missing(51, 59, "a", 51)], "what was committed is not missing")
    let journal = try scratch.open()
    #expect(journal.positions.committedThrough == Position(rawValue: 59))
    #expect(try JournalReader(path: scratch.journal).all().first?.0 == Position(rawValue: 60))
  }

  @Test func `a page that cannot be read costs its messages and no others`() throws {
    try makeJournal()
    let pages = try leaves()
    try #require(pages.count > 5)
    let all = Set(51...300 as ClosedRange<Int64>)
    let whole = try scratch.bytes(scratch.journal)
    for page in pages {
      try whole.write(to: URL(fileURLWithPath: scratch.journal))
      try overwrite(page: page)
      let report = try Journal.salvage(settings, acceptLoss: true)
      var found = Set(try JournalReader(path: scratch.journal).all().map(\.0.rawValue))
      #expect(found.count == report.recovered)
      #expect(all.count - found.count < 60, "page \(page)")
      for part in report.lost + report.returning { found.formUnion(part.first.rawValue...part.last.rawValue) }
      #expect(found == all, "page \(page)")
      #expect(try JournalReader(path: scratch.journal).verify() == [])
      try FileManager.default.removeItem(atPath: try #require(report.setAside))
    }
  }

  @Test func `without counters nothing is promised about what may be missing`() throws {
    try makeJournal()
    let identifier = try JournalReader(path: scratch.journal).identifier
    _ = try scratch.shell("UPDATE journal SET committed = 299, emitted = 298")
    try FileManager.default.removeItem(atPath: scratch.journal + ".lock")
    let refused = try Journal.salvage(settings, acceptLoss: false)
    #expect(refused.setAside == nil)
    #expect(!refused.knowsPositions)
    #expect(refused.range == Position(rawValue: 1)...Position(rawValue: 300))
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.recovered == 300)
    let journal = try scratch.open()
    #expect(journal.identifier != identifier, "or somebody's remembered position would skip messages")
    #expect(journal.positions.committedThrough == .origin)
  }

  @Test(arguments: ["UPDATE journal SET committed = 299, emitted = 298", "DELETE FROM journal"])
  func `counters that cannot be believed are those that were remembered beside the journal`(sql: String) throws {
    try makeJournal()
    let identifier = try JournalReader(path: scratch.journal).identifier
    _ = try scratch.shell(sql)
    let report = try Journal.salvage(settings, acceptLoss: false)
    #expect(report.losesNothing && report.recovered == 250)
    let journal = try scratch.open()
    #expect(journal.identifier == identifier && journal.positions.committedThrough == Position(rawValue: 50))
  }

  @Test func `counters of another journal are not believed`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM journal")
    for (last, committed) in [(9_000, 9_000), (9_000, 200), (20, 10)] as [(Int64, Int64)] {
      let lock = try FileLock(path: scratch.journal + ".lock")
      var counters = Counters()
      (counters.last, counters.emitted, counters.committed) = (last, committed, committed)
      lock.remember(HighWaterMark(identifier: "3677a7ff-0201-4708-b56f-49932a757c64", counters))
      lock.release()
      let refused = try Journal.salvage(settings, acceptLoss: false)
      if last == 9_000 && committed == 200 {
        // No one can tell it from one that lost its end, whose record of acknowledgements is older: what is missing is said.
        #expect(refused.setAside == nil && refused.lost.map(\.last).max() == Position(rawValue: 9_000))
      } else {
        #expect(!refused.knowsPositions && refused.recovered == 300)
      }
    }
  }

  @Test func `messages of a session that cannot be read keep their content`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM consumer WHERE session = 1; DELETE FROM session WHERE number = 1")
    _ = try scratch.shell("DELETE FROM message WHERE position = 60")
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == [missing(60, 60, "", 60)])
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().map(\.1.deliveryTag) == Array(51...59) + Array(61...300))
    #expect(try scratch.shell("SELECT count(*), count(session_id) FROM pending") == "249|249")
  }

  @Test func `a message of which only the beginning was kept is whole`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start("a")
    try journal.append(messages(1...3), consumer)
    _ = try journal.write { tx in
      try tx.append(
        consumer: consumer.id, deliveryTag: 4, redelivered: false, receivedAt: 1, exchange: Span(), routingKey: Span(),
        properties: Array("{}".utf8).span, rawProperties: Span(), body: Array("begin".utf8).span, bodySize: 5_000_000)
    }
    try journal.close()
    _ = try scratch.shell("DELETE FROM message WHERE position = 2")
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == [missing(2, 2, "a", 2)])
    let reader = try JournalReader(path: scratch.journal)
    var sizes: [Int] = []
    _ = try reader.read(after: .origin, limit: 10) { row in
      sizes.append(row.bodySize)
      return true
    }
    #expect(sizes.count == 3 && sizes.last == 5_000_000)
    #expect(try reader.verify().isEmpty)
    try reader.close()
  }

  @Test func `values that do not fit together are not believed`() throws {
    try makeJournal()
    _ = try scratch.shell("UPDATE message SET body = CAST(x'ff41' AS TEXT), size = 2 WHERE position = 70")
    _ = try scratch.shell("UPDATE message SET size = size + 1 WHERE position = 72")
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == [missing(70, 70, "a", 70), missing(72, 72, "a", 72)])
  }

  @Test func `a salvaged journal that is damaged again reports only the new damage`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position BETWEEN 95 AND 103")
    _ = try Journal.salvage(settings, acceptLoss: true)
    _ = try scratch.shell("DELETE FROM message WHERE position = 150")
    let report = try Journal.salvage(settings, acceptLoss: true)
    #expect(report.lost == [missing(150, 150, "b", 50)])
    #expect(try JournalReader(path: scratch.journal).verify() == [])
  }

  @Test func `damage found while running is remembered until it was salvaged`() throws {
    try makeJournal()
    _ = try scratch.shell("DELETE FROM message WHERE position = 150")
    let found = JournalError(kind: .corrupt("after message 149 comes 151"), operation: "read", object: scratch.journal)
    try scratch.open().close()
    try Journal.markDamaged(by: JournalError(kind: .full(.disk), operation: "write", object: scratch.journal))
    try scratch.open().close()
    try Journal.markDamaged(by: found)
    #expect(failure { _ = try scratch.open() } == .corrupt("read: after message 149 comes 151"))
    #expect(try Journal.salvage(settings, acceptLoss: false).setAside == nil)
    #expect(failure { _ = try scratch.open() } != nil)
    #expect(try Journal.salvage(settings, acceptLoss: true).setAside != nil)
    #expect(try scratch.open().positions.last == Position(rawValue: 300))
  }

  @Test func `the WAL is part of what is salvaged and set aside`() throws {
    let journal = try scratch.open()
    try journal.append(messages(1...10), journal.start("a"))
    let image = try scratch.crashImage()
    try Journal.markDamaged(by: JournalError(kind: .corrupt("of a test"), operation: "read", object: image))
    let wal = try scratch.bytes(image + "-wal")
    let report = try Journal.salvage(JournalSettings(path: image), acceptLoss: false)
    #expect(report.recovered == 10)
    #expect(try scratch.bytes(try #require(report.setAside) + "-wal") == wal)
    #expect(try JournalReader(path: image).all().count == 10)
  }

  /// The steps of putting the files in their places, cut short by hand; the first opening must not be fooled, and
  /// salvaging again must come to the same end.
  @Test(arguments: ["named", "wal removed", "replaced"])
  func `a salvage that was killed is mended by the next one`(step: String) throws {
    let journal = try scratch.open()
    try journal.append(messages(1...10), journal.start("a"))
    let image = try scratch.crashImage()
    let aside = image + ".corrupt-20261124T000000Z"
    let files = FileManager.default
    for suffix in ["", "-wal"] { try files.linkItem(atPath: image + suffix, toPath: aside + suffix) }
    var mark = DamageMark(reason: "of a test")
    mark.setAside = aside
    try mark.write(for: image, in: scratch.path)
    if step != "named" { try files.removeItem(atPath: image + "-wal") }
    if step == "replaced" {
      try files.removeItem(atPath: image)
      try Data("a new journal".utf8).write(to: URL(fileURLWithPath: image))
    }
    #expect(failure { _ = try Journal.open(JournalSettings(path: image)) } == .corrupt("of a test"))
    let report = try Journal.salvage(JournalSettings(path: image), acceptLoss: false)
    #expect(report.setAside == aside)
    #expect(report.recovered == 10)
    #expect(try Journal.open(JournalSettings(path: image)).positions.last == Position(rawValue: 10))
  }

  @Test func `what is no journal is not salvaged`() throws {
    try Data("hello, world\n".utf8).write(to: URL(fileURLWithPath: scratch.journal))
    guard case .notAJournal = failure({ _ = try Journal.salvage(settings, acceptLoss: true) }) else {
      Issue.record("was not refused")
      return
    }
    #expect(try names() == ["j.sqlite", "j.sqlite.lock"])
  }

  @Test func `a journal in use is not salvaged`() throws {
    let journal = try scratch.open()
    guard case .locked = failure({ _ = try Journal.salvage(settings, acceptLoss: true) }) else {
      Issue.record("was not refused")
      return
    }
    try journal.append([Message()], journal.start())
  }

  /// Numbers that no journal counts to, in each place that holds one; `M` is the largest there is, `-M` the smallest.
  static let numbers = [
    "redelivery SET prefetch = M", "redelivery SET prefetch = -M", "redelivery SET releasable = M",
    "redelivery SET releasable = -M", "redelivery SET settled = M", "redelivery SET settled = -M",
    "redelivery SET priority_since = M", "redelivery SET priority_since = -M", "redelivery SET stream_offset = M",
    "redelivery SET priority = M", "digest SET last = M", "digest SET last = -M", "digest SET priority_since = M",
    "digest SET priority_since = -M", "digest SET priority = -M", "journal SET last = M",
    "journal SET last = M, committed = -2", "journal SET emitted = M, last = M", "journal SET bytes = M",
    "journal SET bytes = -M", "journal SET epoch = M", "journal SET created_at = -M", "session SET base = M",
    "session SET base = -M", "session SET started_at = -M", "output SET file = M", "output SET length = M",
    "output SET started_at = -M", "message SET position = M WHERE position = 300",
    "message SET position = -M WHERE position = 51", "message SET received_at = -M", "message SET received_at = M",
    "message SET bytes_before = M", "message SET bytes_before = -M", "message SET size = M",
    "message SET delivery_tag = -M", "message SET consumer = M", "consumer SET id = M", "gap SET last = M",
    "gap SET first = -M",
  ]

  @Test(arguments: numbers)
  func `no number in a journal ends the process, nor the tools that mend one`(change: String) throws {
    try makeJournal()
    var random = Seeded(UInt64(change.utf8.reduce(7) { $0 &* 31 &+ Int($1) }.magnitude))
    for isTorn in [false, true] {
      let directory = scratch.file("torn-\(isTorn)")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
      let path = directory + "/j.sqlite"
      try scratch.bytes(scratch.journal).write(to: URL(fileURLWithPath: path))
      let values = change.replacing("-M", with: "-9223372036854775807 - 1").replacing("M", with: "9223372036854775807")
      let torn = isTorn ? "DELETE FROM message WHERE position = \(Int.random(in: 51...300, using: &random));" : ""
      _ = try scratch.shell(
        """
        PRAGMA foreign_keys = OFF; INSERT INTO gap VALUES (301, 400); INSERT INTO output VALUES ('o', 1, 2, 3);
        UPDATE OR REPLACE \(values); \(torn)
        """, at: path)
      if let reader = try? JournalReader(path: path) {
        _ = try? reader.status()
        _ = try? reader.verify()
        _ = try? reader.all()
        try? reader.close()
      }
      if let journal = try? Journal.open(JournalSettings(path: path)) {
        _ = try? journal.redelivery()
        _ = try? journal.newestDigests(limit: 65_536)
        _ = try? journal.lineStart()
        _ = try? journal.newestSessionBase()
        if let consumer = try? journal.start("c") { _ = try? journal.append(messages(1...3), consumer) }
        try journal.close()
      }
      let report = try? Journal.salvage(JournalSettings(path: path), acceptLoss: true)
      if report?.setAside != nil {
        let journal = try Journal.open(JournalSettings(path: path))
        #expect(try JournalReader(path: path).verify() == [])
        try journal.append([Message()], journal.start("d"))
        try journal.close()
      }
    }
  }

  @Test func `a version below the first is damage`() throws {
    try makeJournal()
    _ = try scratch.shell("PRAGMA user_version = -5")
    #expect(failure { _ = try Journal.open(settings) } == .corrupt("its schema has the version -5"))
    #expect(failure { _ = try JournalReader(path: scratch.journal) } == .corrupt("its schema has the version -5"))
  }

  @Test func `random damage ends in a sound journal and an exact report, or in a refusal that changed nothing`() throws
  {
    try makeJournal()
    let whole = try scratch.bytes(scratch.journal)
    var random = Seeded(11)
    var salvaged = 0
    for round in 0..<60 {
      var damaged = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        // Whole sectors, as disks lose them; never the header.
        let sector = Int.random(in: 1..<whole.count / 512, using: &random) * 512
        damaged.replaceSubrange(
          sector..<sector + 512, with: (0..<512).map { _ in UInt8.random(in: 0...255, using: &random) })
      }
      let directory = scratch.file("r-\(round)")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
      let path = directory + "/j.sqlite"
      try damaged.write(to: URL(fileURLWithPath: path))
      let report: SalvageReport
      do { report = try Journal.salvage(JournalSettings(path: path), acceptLoss: true) } catch {
        #expect(try scratch.bytes(path) == damaged)
        continue
      }
      salvaged += 1
      #expect(try scratch.bytes(try #require(report.setAside)) == damaged)
      let journal = try Journal.open(JournalSettings(path: path))
      let reader = try JournalReader(path: path)
      #expect(try reader.verify() == [])
      var accounted: Set<Int64> = []
      for part in report.lost + report.returning { accounted.formUnion(part.first.rawValue...part.last.rawValue) }
      for (position, _) in try reader.all() { #expect(accounted.insert(position.rawValue).inserted) }
      if report.knowsPositions { #expect(accounted.isSuperset(of: 51...300), "round \(round)") }
      try journal.append([Message()], journal.start())
    }
    #expect(salvaged > 30)
  }
}
