import Foundation
import Support
import Testing

@testable import Journal

/// Messages whose subscription is not captured any more leave the line, and come back with it.
@Suite struct ParkingTests {
  private let scratch = Scratch()

  private func wanted(_ names: [String], in journal: Journal) throws -> [SubscriptionRecord] {
    try journal.subscriptions(names.map { .init($0, queue: "\($0)-queue", virtualHost: "/") })
  }

  /// One start of the connector on these subscriptions.
  private func start(
    _ names: [String], in journal: Journal, after position: Position? = nil
  ) throws -> (parked: Journal.Parked, consumers: [ConsumerRecord]) {
    let records = try wanted(names, in: journal)
    let parked = try journal.begin(records, emittedThrough: position ?? journal.positions.committedThrough)
    let consumers = try records.map { record in
      let session = try journal.beginSession(of: record, id: UUID().uuidString, startedAt: 1)
      return try journal.beginConsumer(tag: "t", in: session)
    }
    return (parked, consumers)
  }

  private func message(_ body: String) -> Message {
    var message = Message()
    message.body = Array(body.utf8)
    return message
  }

  /// Bodies after a position, with their sequences.
  private func bodies(after position: Position = .origin) throws -> [String] {
    let reader = try JournalReader(path: scratch.journal)
    var rows: [(String, Position, Int64)] = []
    _ = try reader.read(after: position, limit: 1000) { row in
      rows.append((String(copying: row.body), row.number, row.consumer))
      return true
    }
    return try rows.map { body, number, consumer in "\(body)/\(number - (try reader.consumer(consumer)).sessionBase)" }
  }

  @Test func `what is not captured leaves the line, and comes back with session and sequence`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b"], in: journal)
    for (index, body) in [(0, "a1"), (1, "b1"), (1, "b2"), (0, "a2"), (1, "b3")] {
      try journal.append([message(body)], consumers[index])
    }
    try journal.commit(through: .origin + 1)
    let sessions = try scratch.shell("SELECT group_concat(DISTINCT session_id) FROM pending")
    try journal.close()

    journal = try scratch.open()
    var parked: Journal.Parked
    (parked, consumers) = try start(["a"], in: journal)
    #expect(parked == Journal.Parked(left: 3, returned: 0, streams: ["b"]))
    #expect(try bodies(after: .origin + 1) == ["a2/2"])
    let streams = try JournalReader(path: scratch.journal).streams()
    #expect(streams.map(\.stream) == ["a", "b"] && streams.map(\.queue) == ["a-queue", "b-queue"])
    #expect(streams.map(\.pendingRows) == [1, 0] && streams.map(\.parkedRows) == [0, 3])
    #expect(streams.map(\.pendingBytes) == [2, 0] && streams.map(\.parkedBytes) == [0, 6])
    #expect(streams[0].oldestReceivedAt != nil && streams[1].oldestReceivedAt == nil)
    #expect(journal.positions.committedThrough == .origin + 3 && journal.positions.last == .origin + 5)
    #expect(
      try scratch.shell("SELECT group_concat(state || stream || sequence, ' ') FROM pending")
        == "parkedb1 parkedb2 receiveda2 parkedb3")
    try journal.append([message("a3")], consumers[0])
    try journal.commit(through: .origin + 6)
    try journal.write { tx in while try tx.prune(limit: 2) > 0 {} }
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    try journal.close()

    journal = try scratch.open()
    (parked, consumers) = try start(["a", "b"], in: journal)
    #expect(parked == Journal.Parked(left: 0, returned: 3, streams: []))
    #expect(try bodies(after: .origin + 6) == ["b1/1", "b2/2", "b3/3"])
    #expect(try sessions.contains(scratch.shell("SELECT DISTINCT session_id FROM pending")))
    try journal.append([message("b4")], consumers[1])
    #expect(try bodies(after: .origin + 6) == ["b1/1", "b2/2", "b3/3", "b4/1"])
    #expect(try journal.captured(of: wanted(["b"], in: journal)[0]) == .origin + 4)
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    #expect(try scratch.shell("SELECT pending_rows || ' ' || pending_bytes FROM summary") == "4 8")
    try journal.close()
  }

  @Test func `what the runtime has committed does not come back, whatever the journal knows of it`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b"], in: journal)
    for body in ["b1", "b2", "b3"] { try journal.append([message(body)], consumers[1]) }
    try journal.close()
    journal = try scratch.open()
    (_, consumers) = try start(["a"], in: journal, after: .origin + 2)
    #expect(try bodies(after: .origin + 2) == [])
    #expect(try scratch.shell("SELECT count(*) FROM parked") == "1")
    try journal.append([message("a1")], consumers[0])
    try journal.commit(through: .origin + 4)
    try journal.write { tx in while try tx.prune(limit: 100) > 0 {} }
    #expect(try scratch.shell("SELECT count(*) FROM message") == "0")
    try journal.close()
  }

  /// A journal of one subscription stores no numbers; what leaves it has them.
  @Test func `the only subscription of a journal is parked when another is captured`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a"], in: journal)
    for body in ["a1", "a2"] { try journal.append([message(body)], consumers[0]) }
    try journal.close()
    journal = try scratch.open()
    (_, consumers) = try start(["b"], in: journal)
    #expect(try bodies() == [] && journal.positions.committedThrough == .origin + 2)
    try journal.append([message("b1")], consumers[0])
    try journal.close()
    journal = try scratch.open()
    (_, consumers) = try start(["a"], in: journal)
    #expect(try bodies() == ["a1/1", "a2/2"])
    try journal.append([message("a3")], consumers[0])
    #expect(try bodies() == ["a1/1", "a2/2", "a3/1"] && JournalReader(path: scratch.journal).verify() == [])
    #expect(try journal.captured(of: wanted(["a"], in: journal)[0]) == .origin + 3)
    try journal.close()
  }

  @Test func `consumers that parked messages name are kept, however often others connect`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b"], in: journal)
    try journal.append([message("b1")], consumers[1])
    try journal.close()
    journal = try scratch.open()
    (_, consumers) = try start(["a"], in: journal)
    try journal.append([message("a1")], consumers[0])
    try journal.commit(through: .origin + 2)
    try journal.write { tx in while try tx.prune(limit: 100) > 0 {} }
    for _ in 0..<1_200 { _ = try journal.beginConsumer(tag: "t") }
    try journal.close()
    journal = try scratch.open()
    (_, consumers) = try start(["a", "b"], in: journal)
    #expect(try bodies() == ["b1/1"])
    // What came back names consumers of former processes, too.
    for _ in 0..<1_200 { _ = try journal.beginConsumer(tag: "t") }
    #expect(try bodies() == ["b1/1"])
    try journal.close()
  }

  @Test(arguments: [
    "UPDATE message SET body = 'other' WHERE position = 2",
    "UPDATE parked SET body = 'other'", "UPDATE parked SET number = 7",
  ])
  func `what is not what was written does not move, and a salvage tells`(sql: String) throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b"], in: journal)
    for (index, body) in [(0, "a1"), (1, "b1"), (0, "a2")] { try journal.append([message(body)], consumers[index]) }
    try journal.close()
    let isParked = sql.contains("parked")
    if isParked {
      journal = try scratch.open()
      (_, consumers) = try start(["a"], in: journal)
      try journal.close()
    }
    _ = try scratch.shell(sql)
    journal = try scratch.open()
    guard case .corrupt = failure({ _ = try start(isParked ? ["b"] : ["a"], in: journal) }) else {
      Issue.record("it moved: \(sql)")
      return
    }
    try? journal.close()
    #expect(try JournalReader(path: scratch.journal).verify().count == 1)
    let report = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    #expect(report.recovered == 2 && report.lost.count + report.returning.count == 1, "\(report)")
    journal = try scratch.open()
    (_, consumers) = try start(["a", "b"], in: journal)
    #expect(try bodies() == ["a1/1", "a2/2"])
    try journal.close()
  }

  /// Its messages are no one's then, and keep keys of their own, however often a salvage comes.
  @Test func `parked messages whose consumers are lost do not get one another's sequences`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b", "c"], in: journal)
    for body in ["1", "2"] { for consumer in consumers.prefix(2) { try journal.append([message(body)], consumer) } }
    try journal.close()
    journal = try scratch.open()
    _ = try start(["c"], in: journal)
    try journal.close()
    _ = try scratch.shell("UPDATE consumer SET tag = tag || 'x' WHERE id <= 2")
    #expect(try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true).setAside != nil)
    let first = try scratch.shell("SELECT group_concat(session_id || sequence) FROM pending")
    #expect(Set(first.split(separator: ",")).count == 4, "\(first)")
    _ = try scratch.shell("UPDATE output SET length = 1; UPDATE subscription SET queue = 'x' WHERE key = 2")
    _ = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    #expect(try scratch.shell("SELECT group_concat(session_id || sequence) FROM pending") == first)
    journal = try scratch.open()
    (_, consumers) = try start(["c"], in: journal)
    #expect(try bodies(after: journal.positions.committedThrough).count == 4)
    try journal.close()
  }

  @Test func `a page of parked messages that cannot be read costs its messages and no others`() throws {
    var journal = try scratch.open()
    var (_, consumers) = try start(["a", "b"], in: journal)
    let body = String(repeating: "x", count: 3000)
    for number in 1...60 { try journal.append([message("\(number)\(body)")], consumers[0]) }
    try journal.close()
    journal = try scratch.open()
    _ = try start(["b"], in: journal)
    try journal.close()
    let page = try #require(
      Int(
        try scratch.shell(
          "SELECT pageno FROM dbstat WHERE name = 'parked' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 3")))
    var bytes = try scratch.bytes(scratch.journal)
    let size = Int(try scratch.shell("PRAGMA page_size"))!
    bytes.replaceSubrange((page - 1) * size..<page * size, with: Data(count: size))
    try bytes.write(to: URL(fileURLWithPath: scratch.journal))
    let report = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    let lost = report.lost.reduce(0) { $0 + $1.count }
    #expect((1...10).contains(lost), "\(report)")
    journal = try scratch.open()
    (_, consumers) = try start(["a", "b"], in: journal)
    #expect(try bodies(after: journal.positions.committedThrough).count == 60 - lost)
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    try journal.close()
  }

  @Test func `a salvage without counters gives no position that was parked or left`() throws {
    var journal = try scratch.open()
    for names in [["a"], ["b"], ["a"], ["b"]] {
      let (_, consumers) = try start(names, in: journal)
      try journal.append([message(names[0])], consumers[0])
      try journal.close()
      journal = try scratch.open()
    }
    try journal.close()
    let last = try scratch.shell("SELECT last FROM journal")
    _ = try scratch.shell("UPDATE journal SET epoch = epoch + 5")
    try FileManager.default.removeItem(atPath: scratch.journal + ".lock")
    _ = try Journal.salvage(JournalSettings(path: scratch.journal), acceptLoss: true)
    journal = try scratch.open()
    #expect(journal.positions.last.rawValue >= Int64(last)!)
    let (parked, _) = try start(["a", "b"], in: journal)
    #expect(parked.streams.isEmpty)
    #expect(try bodies(after: journal.positions.committedThrough).count == 4)
    #expect(try JournalReader(path: scratch.journal).verify() == [])
    try journal.close()
  }

  /// Starts with any of four subscriptions, commits as far as they come, crashes.
  @Test(arguments: 0..<30 as Range<UInt64>) func `each message comes once, in the order of its subscription`(
    seed: UInt64
  ) throws {
    var random = Seeded(seed)
    let names = ["a", "b", "c", "d"]
    var journal = try scratch.open()
    var published = [Int](repeating: 0, count: names.count)
    var seen = [[String]](repeating: [], count: names.count)
    var image: String?
    for round in 0..<14 {
      var active = names.indices.filter { _ in Bool.random(using: &random) }
      if round == 13 { active = Array(names.indices) }
      if active.isEmpty { active = [0] }
      active.shuffle(using: &random)
      let (_, consumers) = try start(active.map { names[$0] }, in: journal)
      for _ in 0..<Int.random(in: 0...12, using: &random) {
        let place = Int.random(in: 0..<active.count, using: &random)
        let index = active[place]
        let count = Int.random(in: 1...3, using: &random)
        try journal.append(
          (1...count).map { message("\(names[index])\(published[index] + $0)") }, consumers[place])
        published[index] += count
      }
      // The emitter gets somewhere, and the journal hears of it.
      let reader = try JournalReader(path: scratch.journal)
      let last = journal.positions.last
      let limit = round == 13 ? Int.max : Int.random(in: 0...20, using: &random)
      var through = journal.positions.committedThrough
      _ = try reader.read(after: through, limit: min(limit, 10_000)) { row in
        let body = String(copying: row.body)
        seen[names.firstIndex(of: String(body.prefix(1)))!].append(body)
        through = row.position
        return true
      }
      #expect(try reader.verify() == [])
      try reader.close()
      if through > journal.positions.committedThrough { try journal.commit(through: min(through, last)) }
      if Bool.random(using: &random) {
        try journal.write { tx in _ = try tx.prune(limit: Int.random(in: 1...30, using: &random)) }
      }
      image = Bool.random(using: &random) ? try scratch.crashImage() : nil
      try journal.close()
      if let image {
        // What a kill leaves is what is on the disk.
        for suffix in ["", "-wal"] where FileManager.default.fileExists(atPath: image + suffix) {
          try? FileManager.default.removeItem(atPath: scratch.journal + suffix)
          try FileManager.default.copyItem(atPath: image + suffix, toPath: scratch.journal + suffix)
        }
      }
      journal = try scratch.open()
    }
    for index in names.indices {
      #expect(seen[index] == (0..<published[index]).map { "\(names[index])\($0 + 1)" }, "\(names[index])")
    }
    try journal.close()
  }
}
