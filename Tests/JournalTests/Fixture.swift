import Foundation
import Journal

/// A directory for one test, removed with the object.
final class Scratch {
  let path: String

  init() {
    // The real path: temporary directories are often reached through a symbolic link.
    let parent = URL(fileURLWithPath: NSTemporaryDirectory()).resolvingSymlinksInPath().path
    path = "\(parent)/journal-tests-\(UUID().uuidString)"
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      fatalError("no scratch directory: \(error)")
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The journal of the test.
  var journal: String { file("j.sqlite") }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  func open() throws -> Journal { try Journal.open(JournalSettings(path: journal)) }

  /// Copies database and WAL as they are now: what a crash at this instant leaves on the disk.
  func crashImage(_ name: String = "crash.sqlite") throws -> String {
    for suffix in ["", "-wal", "-shm", ".lock"] { try? FileManager.default.removeItem(atPath: file(name) + suffix) }
    try FileManager.default.copyItem(atPath: journal, toPath: file(name))
    if FileManager.default.fileExists(atPath: journal + "-wal") {
      try FileManager.default.copyItem(atPath: journal + "-wal", toPath: file(name) + "-wal")
    }
    return file(name)
  }

  func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  /// What the `sqlite3` shell prints for a query on the open journal.
  func shell(_ sql: String, at path: String? = nil) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["sqlite3", path ?? journal, sql]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: text, as: UTF8.self).trimmingCharacters(in: .newlines)
  }
}

/// One message as a test writes and compares it.
struct Message: Equatable {
  var deliveryTag: UInt64 = 1
  var redelivered = false
  var receivedAt: Int64 = 1_790_000_000_123_456
  var exchange: [UInt8] = Array("orders".utf8)
  var routingKey: [UInt8] = Array("a.b".utf8)
  var properties = #"{"message_id":"m-1"}"#
  var body: [UInt8] = Array("hello".utf8)
}

extension Journal {
  /// A session and a consumer, as every start has them.
  func start(_ id: String = UUID().uuidString.lowercased()) throws -> ConsumerRecord {
    try beginSession(id: id, queue: "q", virtualHost: "/", startedAt: 1)
    return try beginConsumer(tag: "tag-\(id)")
  }

  @discardableResult
  func append(_ messages: [Message], _ consumer: ConsumerRecord) throws -> Position {
    try write { tx in
      for message in messages { try tx.append(message, consumer) }
      return tx.positions.last
    }
  }

  func commit(through position: Position) throws {
    try write { tx in
      try tx.setEmitted(through: position)
      try tx.setCommitted(through: position)
    }
  }
}

extension WriteTransaction {
  @discardableResult
  borrowing func append(_ message: Message, _ consumer: ConsumerRecord) throws -> Position {
    try append(
      consumer: consumer.id, deliveryTag: message.deliveryTag, redelivered: message.redelivered,
      receivedAt: message.receivedAt, exchange: message.exchange.span, routingKey: message.routingKey.span,
      properties: Array(message.properties.utf8).span, rawProperties: Span(), body: message.body.span)
  }
}

extension JournalReader {
  /// All messages after a position, copied.
  func all(after: Position = .origin, limit: Int = 1_000_000) throws -> [(Position, Message)] {
    var found: [(Position, Message)] = []
    _ = try read(after: after, limit: limit) { row in
      let message = Message(
        deliveryTag: row.deliveryTag, redelivered: row.redelivered, receivedAt: row.receivedAt,
        exchange: Array(copying: row.exchange), routingKey: Array(copying: row.routingKey),
        properties: String(copying: row.properties), body: Array(copying: row.body))
      found.append((row.position, message))
      return true
    }
    return found
  }
}

/// The kind of the journal error that a closure throws; nil if it throws none.
func failure(_ body: () throws -> Void) -> JournalError.Kind? {
  do { try body() } catch let error as JournalError { return error.kind } catch { return nil }
  return nil
}
