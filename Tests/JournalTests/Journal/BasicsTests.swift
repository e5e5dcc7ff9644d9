import Foundation
import Journal
import Testing

struct BasicsTests {
  let scratch = Scratch()

  @Test func `messages come back as they were appended, in order`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let bodies: [[UInt8]] = [
      Array("text".utf8), [], [0], Array("a\0b".utf8), [0xff, 0xfe], [0xc3], Array("Zoë ☕️".utf8), [0xed, 0xa0, 0x80],
      [UInt8](repeating: 0x61, count: 1 << 20), [UInt8](repeating: 0xff, count: 1 << 20),
    ]
    var messages = bodies.map { Message(body: $0) }
    messages.append(Message(deliveryTag: .max, redelivered: true, receivedAt: 0, properties: "{}"))
    messages.append(Message(exchange: [], routingKey: [0xff, 0x00], properties: "{}"))
    let last = try journal.append(messages, consumer)
    #expect(last == Position(rawValue: Int64(messages.count)))
    let reader = try JournalReader(path: scratch.journal)
    let found = try reader.all()
    #expect(found.map(\.0.rawValue) == Array(1...Int64(messages.count)))
    #expect(found.map(\.1) == messages)
    #expect(try reader.verify() == [])
  }

  /// They are bound anew only when they change, which must not show: also if only a byte does, where text turns into
  /// something else, where a name outgrows its memory, and where the message before was rolled back.
  @Test func `each message keeps its own exchange and routing key`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let names: [[UInt8]] = [
      Array("a.b".utf8), Array("a.b".utf8), Array("a.c".utf8), [0x61, 0x2e, 0xff], Array("a.c".utf8), [],
      Array("a".utf8), [], [0], [UInt8](repeating: 0x78, count: 256), [UInt8](repeating: 0x78, count: 257),
      [UInt8](repeating: 0x78, count: 4000), Array("a.b".utf8),
    ]
    var expected: [Message] = []
    for (index, name) in names.enumerated() {
      let message = Message(exchange: names[names.count - 1 - index], routingKey: name)
      #expect(throws: CancellationError.self) {
        try journal.write { tx in
          try tx.append(Message(exchange: Array("x.y".utf8), routingKey: Array("a.z".utf8)), consumer)
          throw CancellationError()
        }
      }
      try journal.append([message, message], consumer)
      expected += [message, message]
    }
    try journal.append(expected, consumer)
    let found = try JournalReader(path: scratch.journal).all().map(\.1)
    #expect(found == expected + expected)
  }

  @Test(arguments: [
    ("text", [UInt8]("text".utf8), true), ("nothing", [], true), ("umlauts", [UInt8]("äöü€😀".utf8), true),
    ("a NUL", [0x61, 0], false), ("a lone continuation", [0x80], false), ("a surrogate", [0xed, 0xa0, 0x80], false),
    ("an overlong slash", [0xc0, 0xaf], false), ("a cut sequence", [0xf0, 0x9f, 0x98], false),
  ])
  func `a body is text exactly where it is UTF-8 without NUL`(name: String, body: [UInt8], text: Bool) throws {
    let journal = try scratch.open()
    try journal.append([Message(body: body)], journal.start())
    var seen: Bool?
    _ = try JournalReader(path: scratch.journal).read(after: .origin, limit: 1) { row in
      seen = row.bodyIsText
      return true
    }
    #expect(seen == text, "\(name)")
  }

  @Test func `reading stops where it is told to`() throws {
    let journal = try scratch.open()
    try journal.append((1...10).map { Message(deliveryTag: $0) }, journal.start())
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all(after: Position(rawValue: 3), limit: 4).map(\.0.rawValue) == [4, 5, 6, 7])
    #expect(try reader.all(after: Position(rawValue: 10)).isEmpty)
    #expect(try reader.all(limit: 0).isEmpty)
    #expect(try reader.read(after: .origin, limit: 10) { $0.position.rawValue < 3 } == 3)
    #expect(throws: CancellationError.self) {
      _ = try reader.read(after: .origin, limit: 10) { _ in throw CancellationError() }
    }
    #expect(try reader.read(after: .origin, limit: 10) { _ in true } == 10)
  }

  @Test func `a closed reader says so`() throws {
    let journal = try scratch.open()
    try journal.append([Message()], journal.start())
    let reader = try JournalReader(path: scratch.journal)
    #expect(
      failure {
        _ = try reader.read(after: .origin, limit: 1) { _ in
          try reader.close()
          return true
        }
      } != nil)
    try reader.close()
    try reader.close()
    #expect(failure { _ = try reader.all() } == .invalid("closed"))
    #expect(failure { _ = try reader.consumer(1) } == .invalid("closed"))
    #expect(failure { _ = try reader.status() } != nil)
  }

  @Test func `the reader sees each commit, and nothing of an open transaction`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    let reader = try JournalReader(path: scratch.journal)
    try journal.write { tx in
      try tx.append(Message(), consumer)
      #expect(try reader.all().isEmpty)
    }
    #expect(try reader.all().count == 1)
  }

  @Test func `what a closure throws undoes its transaction`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    #expect(throws: CancellationError.self) {
      try journal.write { tx in
        try tx.append(Message(), consumer)
        try tx.setOutput("o", OutputRecord(file: 1, length: 1, startedAt: 0))
        throw CancellationError()
      }
    }
    #expect(journal.positions.last == .origin)
    #expect(try journal.output("o") == nil)
    #expect(try journal.append([Message()], consumer) == Position(rawValue: 1))
  }

  @Test func `a failure that the closure swallows still undoes its transaction`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    #expect(throws: JournalError.self) {
      try journal.write { tx in
        try tx.append(Message(), consumer)
        try? tx.setEmitted(through: Position(rawValue: 2))
      }
    }
    #expect(journal.positions.last == .origin)
    #expect(try JournalReader(path: scratch.journal).all().isEmpty)
  }

  @Test func `positions only move forward and keep their order`() throws {
    let journal = try scratch.open()
    try journal.append([Message(), Message(), Message()], journal.start())
    let beyond = failure { try journal.write { try $0.setCommitted(through: Position(rawValue: 1)) } }
    #expect(beyond == .invalid("position 1 is beyond the emitted, 0"))
    try journal.write { try $0.setEmitted(through: Position(rawValue: 2)) }
    try journal.write { try $0.setEmitted(through: Position(rawValue: 1)) }
    #expect(journal.positions.emittedThrough == Position(rawValue: 2))
    #expect(failure { try journal.write { try $0.setEmitted(through: Position(rawValue: 4)) } } != nil)
    try journal.commit(through: Position(rawValue: 3))
    try journal.write { try $0.setCommitted(through: Position(rawValue: 1)) }
    #expect(journal.positions.committedThrough == Position(rawValue: 3))
  }

  @Test func `only what is committed is pruned, oldest first`() throws {
    let journal = try scratch.open()
    try journal.append((1...10).map { Message(deliveryTag: $0) }, journal.start())
    #expect(try journal.write { try $0.prune(limit: 5) } == 0)
    try journal.commit(through: Position(rawValue: 7))
    #expect(try journal.write { try $0.prune(limit: 0) } == 0)
    #expect(try journal.write { try $0.prune(limit: 5) } == 5)
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.all().map(\.0.rawValue) == [6, 7, 8, 9, 10])
    #expect(try journal.write { try $0.prune(limit: .max) } == 2)
    #expect(try reader.all().map(\.0.rawValue) == [8, 9, 10])
  }

  @Test func `positions are never used twice, also after everything was pruned and the file reopened`() throws {
    var journal = try scratch.open()
    try journal.append([Message(), Message()], journal.start())
    try journal.commit(through: Position(rawValue: 2))
    try journal.write { _ = try $0.prune(limit: 10) }
    try journal.close()
    journal = try scratch.open()
    #expect(journal.positions.last == Position(rawValue: 2))
    #expect(try journal.append([Message()], journal.start()) == Position(rawValue: 3))
  }

  @Test func `a reader learns what a message's consumer was, also in a later session`() throws {
    var journal = try scratch.open()
    let first = try journal.start("s-1")
    try journal.append([Message()], first)
    let again = try journal.beginConsumer(tag: "t-2")
    #expect(again.id > first.id)
    try journal.close()
    journal = try scratch.open()
    let later = try journal.start("s-2")
    #expect(later.sessionBase == Position(rawValue: 1))
    #expect(later.id > again.id)
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.consumer(first.id) == first)
    #expect(try reader.consumer(again.id) == again)
    #expect(try reader.consumer(later.id) == later)
    #expect(failure { _ = try reader.consumer(99) } == .invalid("there is no consumer 99"))
    #expect(failure { try journal.append([Message()], first) } != nil, "a consumer of an earlier session")
  }

  @Test func `a session id is used once`() throws {
    let journal = try scratch.open()
    _ = try journal.start("s")
    #expect(failure { _ = try journal.start("s") } == .invalid("session s was there before"))
  }

  @Test func `consumers and sessions without messages are forgotten after a thousand more`() throws {
    let journal = try scratch.open()
    let kept = try journal.start("s-1")
    try journal.append([Message()], kept)
    for number in 2...1_003 { _ = try journal.start("s-\(number)") }
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.consumer(kept.id) == kept)
    try journal.commit(through: Position(rawValue: 1))
    try journal.write { _ = try $0.prune(limit: 1) }
    _ = try journal.beginConsumer(tag: "t")
    #expect(failure { _ = try reader.consumer(kept.id) } != nil)
    #expect(try reader.status().sessions == 1_000)
  }

  @Test func `the output's length changes with the committed position`() throws {
    var journal = try scratch.open()
    try journal.append([Message()], journal.start())
    try journal.write { tx in
      try tx.setEmitted(through: Position(rawValue: 1))
      try tx.setCommitted(through: Position(rawValue: 1))
      try tx.setOutput("stream", OutputRecord(file: 3, length: 1_000, startedAt: 7))
    }
    try journal.close()
    journal = try scratch.open()
    #expect(try journal.output("stream") == OutputRecord(file: 3, length: 1_000, startedAt: 7))
    #expect(try journal.output("other") == nil)
  }

  @Test func `status counts what is pending`() throws {
    let journal = try scratch.open()
    let reader = try JournalReader(path: scratch.journal)
    #expect(try reader.status().oldestReceivedAt == nil)
    try journal.append(
      (1...4).map { Message(receivedAt: $0, body: [UInt8](repeating: 65, count: Int($0) * 10)) }, journal.start())
    try journal.commit(through: Position(rawValue: 1))
    let status = try reader.status()
    #expect(status.identifier == journal.identifier)
    #expect(status.positions == journal.positions)
    #expect(status.pendingRows == 3)
    #expect(status.pendingBytes == 90)
    #expect(status.oldestReceivedAt == 2)
    #expect(status.usedBytes == journal.usedBytes)
    #expect(status.schemaVersion == 6)
  }
}
