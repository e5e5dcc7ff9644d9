import Foundation
import Journal
import Support
import Testing

/// The journal as simple as can be: what must be found in the file after each step.
private struct Model {
  var messages: [Int64: Message] = [:]
  var last: Int64 = 0
  var emitted: Int64 = 0
  var committed: Int64 = 0
  var output: OutputRecord?
}

struct ModelTests {
  /// Random steps, compared with the model after each; `abandon` goes on with what a crash would have left.
  @Test(arguments: 0..<60 as Range<UInt64>)
  func `the journal does what a naive model does, over reopening and crashes`(seed: UInt64) throws {
    let scratch = Scratch()
    var random = Seeded(seed)
    var model = Model()
    var path = scratch.journal
    var journal = try Journal.open(JournalSettings(path: path, pageSize: [512, 4_096, 16_384][Int(seed % 3)]))
    var reader = try JournalReader(path: path)
    var consumer = try journal.start("s-0")
    for step in 1...80 {
      switch Int.random(in: 0..<12, using: &random) {
      case 0...4:
        let messages = (0..<Int.random(in: 1...20, using: &random)).map { _ in message(&random) }
        var appended: [Int64: Message] = [:]
        let fails = Int.random(in: 0..<6, using: &random) == 0
        do {
          try journal.write { tx in
            for message in messages { appended[try tx.append(message, consumer).rawValue] = message }
            if fails { throw CancellationError() }
          }
          model.last += Int64(messages.count)
          model.messages.merge(appended) { _, new in new }
        } catch is CancellationError {
          #expect(fails)
        }
        #expect(appended.keys.min() == (fails ? model.last + 1 : model.last - Int64(messages.count) + 1))
      case 5, 6:
        let to = Int64.random(in: 0...model.last, using: &random)
        try journal.write { try $0.setEmitted(through: Position(rawValue: to)) }
        model.emitted = max(model.emitted, to)
      case 7:
        let to = Int64.random(in: 0...model.emitted, using: &random)
        let record = OutputRecord(file: Int64(step), length: to, startedAt: to + 1)
        try journal.write { tx in
          try tx.setCommitted(through: Position(rawValue: to))
          try tx.setOutput("o", record)
        }
        model.committed = max(model.committed, to)
        model.output = record
      case 8, 9:
        let limit = Int.random(in: 0...30, using: &random)
        let oldest = model.messages.keys.min() ?? model.last + 1
        let through = min(model.committed, oldest + Int64(limit) - 1)
        let count = try journal.write { try $0.prune(limit: limit) }
        #expect(count == max(0, Int(through - oldest + 1)))
        model.messages = model.messages.filter { $0.key > through }
      case 10:
        try journal.maintain(idle: Bool.random(using: &random))
      default:
        if Bool.random(using: &random) {
          try journal.close()
        } else {
          // The abandoned files stay as they are: the journal goes on in the copy.
          try FileManager.default.copyItem(atPath: path, toPath: scratch.file("crash-\(step)"))
          try? FileManager.default.copyItem(atPath: path + "-wal", toPath: scratch.file("crash-\(step)-wal"))
          path = scratch.file("crash-\(step)")
        }
        let identifier = journal.identifier
        journal = try Journal.open(JournalSettings(path: path))
        #expect(journal.identifier == identifier)
        reader = try JournalReader(path: path)
        consumer = try journal.start("s-\(step)")
        #expect(consumer.sessionBase.rawValue == model.last)
      }
      #expect(
        journal.positions
          == Positions(
            last: Position(rawValue: model.last), emittedThrough: Position(rawValue: model.emitted),
            committedThrough: Position(rawValue: model.committed)))
      #expect(try journal.output("o") == model.output)
      let after = Int64.random(in: 0...model.last, using: &random)
      let found = try reader.all(after: Position(rawValue: after))
      #expect(found.map(\.0.rawValue) == model.messages.keys.filter { $0 > after }.sorted())
      #expect(found.allSatisfy { model.messages[$0.0.rawValue] == $0.1 })
      let status = try reader.status()
      let pending = model.messages.filter { $0.key > model.committed }
      #expect(status.pendingRows == pending.count)
      #expect(status.pendingBytes == pending.values.reduce(0) { $0 + Int64($1.body.count) })
    }
    #expect(try reader.verify() == [])
  }

  private func message(_ random: inout Seeded) -> Message {
    let length = [0, 1, 30, 700, 9_000].randomElement(using: &random) ?? 0
    let isText = Bool.random(using: &random)
    return Message(
      deliveryTag: random.next(), redelivered: Bool.random(using: &random),
      receivedAt: Int64.random(in: 0...2_000_000_000_000_000, using: &random),
      body: (0..<length).map { _ in UInt8.random(in: isText ? 32...126 : 0...255, using: &random) })
  }
}
