import Foundation
import Support
import Testing

@testable import Journal

/// Flips, cuts and lost sectors anywhere in what a crash left, database and WAL: each is harmless, or reported with what is missing.
///
/// `SOURCE_AMQP_DAMAGE_ROUNDS` makes it longer, `SOURCE_AMQP_DAMAGE_SEED` another one.
struct DamageCampaignTests {
  let scratch = Scratch()
  private static let environment = ProcessInfo.processInfo.environment

  private static func message(_ number: Int) -> Message {
    // Some have several pages, some are bytes.
    let size = number.isMultiple(of: 17) ? 40_000 : number * 3
    return Message(
      deliveryTag: UInt64(number), redelivered: number.isMultiple(of: 5),
      receivedAt: 1_790_000_000_000_000 + Int64(number),
      routingKey: Array("key.\(number)".utf8), properties: #"{"message_id":"m-\#(number)"}"#,
      body: number.isMultiple(of: 4)
        ? (0..<size).map { UInt8(truncatingIfNeeded: $0 &* number) } : Array(String(repeating: "x", count: size).utf8))
  }

  /// 300 messages, 40 of them committed, all of them acknowledged; some in the file and some in the WAL.
  private func makeImage() throws -> String {
    let journal = try scratch.open()
    var consumer = try journal.start("first")
    for batch in 0..<30 {
      if batch == 12 { _ = try journal.database.checkpoint(mode: 2) }
      if batch == 20 { consumer = try journal.start("second") }
      try journal.write { tx in
        for number in 1...10 { try tx.append(Self.message(batch * 10 + number), consumer) }
        try tx.appendDigests(
          [UInt8](repeating: 7, count: 160), priority: nil, since: Position(rawValue: 1), window: 65_536)
        try tx.setRedelivery(
          RedeliveryRecord(
            queue: "q", releasable: tx.positions.last, prefetch: 100, priority: nil,
            prioritySince: Position(rawValue: 1)))
        if batch == 15 {
          try tx.setEmitted(through: Position(rawValue: 60))
          try tx.setCommitted(through: Position(rawValue: 40))
          try tx.setOutput("o", OutputRecord(file: 1, length: 5, startedAt: 1))
        }
      }
    }
    let image = try scratch.crashImage()
    try FileManager.default.copyItem(atPath: scratch.journal + ".lock", toPath: image + ".lock")
    try journal.close()
    return image
  }

  private enum Outcome: String, CaseIterable { case harmless, salvaged, refused, hopeless }

  @Test func `damage anywhere is harmless, or reported with exactly what is missing`() throws {
    let rounds = Self.environment["SOURCE_AMQP_DAMAGE_ROUNDS"].flatMap { Int($0) } ?? 80
    let seed = Self.environment["SOURCE_AMQP_DAMAGE_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1...999_999)
    print("damage campaign: \(rounds) rounds, seed \(seed)")
    let image = try makeImage()
    let whole = try ["", "-wal", ".lock"].map { try scratch.bytes(image + $0) }
    var random = Seeded(seed)
    var outcomes: [Outcome: Int] = [:]
    for round in 0..<rounds {
      var parts = whole
      let file = Int.random(in: 0...1, using: &random)
      var hands: [String] = []
      for _ in 0..<(Bool.random(using: &random) ? 1 : Int.random(in: 1...4, using: &random)) {
        let offset = Int.random(in: 0..<parts[file].count, using: &random)
        switch Int.random(in: 0...5, using: &random) {
        case 0:
          parts[file] = parts[file].prefix(max(1, offset))
          hands.append("cut to \(max(1, offset))")
        case 1:
          let start = offset / 512 * 512
          let end = min(start + 512, parts[file].count)
          parts[file].replaceSubrange(start..<end, with: Data(count: end - start))
          hands.append("sector at \(start)")
        default:
          parts[file][offset] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
          hands.append("bit at \(offset)")
        }
      }
      // Without what is remembered beside it an end that is missing cannot be noticed.
      let directory = scratch.file("r")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
      let path = directory + "/j.sqlite"
      for (suffix, bytes) in zip(["", "-wal", ".lock"], parts) {
        try bytes.write(to: URL(fileURLWithPath: path + suffix))
      }
      let outcome = try judge(
        path, "round \(round), \(file == 0 ? "database" : "WAL"): \(hands.joined(separator: ", "))")
      outcomes[outcome, default: 0] += 1
      try FileManager.default.removeItem(atPath: directory)
    }
    print("damage campaign: \(Outcome.allCases.map { "\(outcomes[$0] ?? 0) \($0)" }.joined(separator: ", "))")
    #expect(outcomes[.salvaged] ?? 0 > 0)
  }

  /// Does what the agent and its operator do, and compares what comes out with what was written.
  private func judge(_ path: String, _ what: Comment) throws -> Outcome {
    var outcome = Outcome.harmless
    var gone: Set<Int64> = []
    for _ in 0..<4 {
      do {
        let journal = try Journal.open(JournalSettings(path: path))
        defer { try? journal.close() }
        // What is missing before everything else counts as committed.
        let first = journal.positions.committedThrough.rawValue + 1
        #expect(first >= 41 && Set(41..<first).isSubset(of: gone), what)
        let reader = try JournalReader(path: path)
        defer { try? reader.close() }
        let found = try reader.all(after: Position(rawValue: first - 1))
        // Reading all of it finds what does not matter, too: damage in messages that are committed.
        if outcome != .harmless { #expect(try reader.verify() == [], what) }
        var positions: Set<Int64> = []
        for (position, message) in found {
          positions.insert(position.rawValue)
          guard message == Self.message(Int(position.rawValue)) else {
            Issue.record("message \(position) is another one: \(what)")
            continue
          }
        }
        let missing = Set(41...300 as ClosedRange<Int64>).subtracting(positions)
        #expect(missing.isSubset(of: gone), "\(missing.subtracting(gone).sorted()) are missing: \(what)")
        // A range is exact: what was reported is not there.
        #expect(gone.isDisjoint(with: positions), what)
        return outcome
      } catch let error as JournalError {
        switch error.kind {
        case .notAJournal, .newerSchema, .io, .library: return .hopeless
        case .corrupt: break
        default: Issue.record("\(error): \(what)")
        }
        try? Journal.markDamaged(by: error)
        do {
          var report = try Journal.salvage(JournalSettings(path: path), acceptLoss: false)
          if report.setAside == nil {
            outcome = .refused
            report = try Journal.salvage(JournalSettings(path: path), acceptLoss: true)
          } else if outcome == .harmless {
            outcome = .salvaged
          }
          for part in report.lost + report.returning { gone.formUnion(part.first.rawValue...part.last.rawValue) }
          // Everything was acknowledged.
          #expect(report.returning.isEmpty, what)
          if !report.knowsPositions { gone.formUnion(41...300) }
          if !report.knowsPositions { return .refused }
        } catch {
          // Nothing is lost in silence: someone has to put a copy back.
          return .hopeless
        }
      }
    }
    Issue.record("it does not become sound: \(what)")
    return outcome
  }
}
