import Journal

/// What names a document: its key in Flow.
struct DocumentKey: Equatable, Sendable {
  var sessionID: String
  var sequence: Int64
}

/// The documents of a journal that are not committed yet, in order, of one subscription or of all. Belongs to one thread.
final class PendingDocuments {
  private static let chunk = 1000

  private let reader: JournalReader
  private let isOurs: (ConsumerRecord) -> Bool
  private var position: Position
  private var keys: [DocumentKey] = []
  private var taken = 0
  private var consumers: [Int64: ConsumerRecord] = [:]

  /// - Parameters:
  ///   - after: Up to here everything is committed.
  ///   - isOurs: Whether the messages of a consumer count.
  init(_ reader: JournalReader, after: Position, of isOurs: @escaping (ConsumerRecord) -> Bool = { _ in true }) {
    self.reader = reader
    self.isOurs = isOurs
    position = after
  }

  func next() throws(CaptureFailure) -> DocumentKey? {
    while taken == keys.count {
      do { guard try fill() else { return nil } } catch { throw CaptureFailure.journal(error) }
    }
    taken += 1
    return keys[taken - 1]
  }

  /// Reads on; false at the end.
  private func fill() throws -> Bool {
    var rows: [(position: Position, number: Position, consumer: Int64)] = []
    _ = try reader.read(after: position, limit: Self.chunk) { row in
      rows.append((row.position, row.number, row.consumer))
      return true
    }
    keys.removeAll(keepingCapacity: true)
    taken = 0
    guard let last = rows.last else {
      let end = try reader.skippingGap(after: position)
      defer { position = end }
      return end > position
    }
    for row in rows {
      let consumer = try consumers[row.consumer] ?? reader.consumer(row.consumer)
      consumers[row.consumer] = consumer
      guard isOurs(consumer) else { continue }
      keys.append(
        DocumentKey(sessionID: consumer.sessionID, sequence: row.number.rawValue - consumer.sessionBase.rawValue))
    }
    position = last.position
    return true
  }
}
