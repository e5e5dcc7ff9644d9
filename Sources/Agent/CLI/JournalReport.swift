internal import Journal

/// What `journal status` and `journal pending` show, as tables for people and as JSON for programs.
enum JournalReport {
  /// One pending message. Of a body only the beginning is kept.
  struct Line: Equatable {
    /// Bytes of a body that are shown in JSON, and characters in a table.
    static let shownBytes = 256
    static let shownCharacters = 40

    var position: Position
    var number: Position
    var consumer: Int64
    /// Nil if the journal does not know it.
    var stream: String?
    var sessionID = ""
    var sequence = 0
    var receivedAt: Int64
    var exchange: String
    var routingKey: String
    var redelivered: Bool
    var isEmitted: Bool
    var bodySize: Int
    /// The beginning of the body; nil if it is no text.
    var bodyStart: String?

    init(_ row: borrowing Row, emitted: Position) {
      position = row.position
      number = row.number
      consumer = row.consumer
      receivedAt = row.receivedAt
      exchange = String(copying: row.exchange)
      routingKey = String(copying: row.routingKey)
      redelivered = row.redelivered
      isEmitted = row.position <= emitted
      bodySize = row.bodySize
      bodyStart = row.bodyIsText ? String(copying: row.body.extracting(first: Self.shownBytes)) : nil
    }

    var json: JSONValue {
      var object = JSONObject()
      object["position"] = .number("\(position)")
      object["stream"] = stream.map { .string($0) } ?? .null
      object["session_id"] = .string(sessionID)
      object["sequence"] = .number("\(sequence)")
      object["received_at"] = .string(JournalReport.time(receivedAt))
      object["exchange"] = .string(exchange)
      object["routing_key"] = .string(routingKey)
      object["redelivered"] = .bool(redelivered)
      object["state"] = .string(isEmitted ? "emitted" : "received")
      object["body_size"] = .number("\(bodySize)")
      if let bodyStart { object["body_start"] = .string(bodyStart) }
      return .object(object)
    }
  }

  /// - Parameter streams: What it holds of each subscription.
  static func json(_ status: JournalStatus, _ streams: [StreamStatus]) -> JSONValue {
    var object = JSONObject()
    object["journal_id"] = .string(status.identifier)
    object["schema_version"] = .number("\(status.schemaVersion)")
    object["created_at"] = .string(time(status.createdAt))
    object["last_position"] = .number("\(status.positions.last)")
    object["emitted_position"] = .number("\(status.positions.emittedThrough)")
    object["committed_position"] = .number("\(status.positions.committedThrough)")
    object["pending_messages"] = .number("\(status.pendingRows)")
    object["pending_bytes"] = .number("\(status.pendingBytes)")
    object["oldest_received_at"] = status.oldestReceivedAt.map { .string(time($0)) } ?? .null
    object["sessions"] = .number("\(status.sessions)")
    object["used_bytes"] = .number("\(status.usedBytes)")
    object["streams"] = .array(
      streams.map { one in
        var object = JSONObject()
        object["stream"] = one.stream.map { .string($0) } ?? .null
        object["queue"] = .string(one.queue)
        object["pending_messages"] = .number("\(one.pendingRows)")
        object["pending_bytes"] = .number("\(one.pendingBytes)")
        object["oldest_received_at"] = one.oldestReceivedAt.map { .string(time($0)) } ?? .null
        object["parked_messages"] = .number("\(one.parkedRows)")
        object["parked_bytes"] = .number("\(one.parkedBytes)")
        return .object(object)
      })
    return .object(object)
  }

  /// - Parameter streams: What it holds of each subscription, which is shown if there are several, or something is parked.
  static func table(_ status: JournalStatus, _ streams: [StreamStatus], path: String) -> String {
    let positions = status.positions
    let rows = streams.map { one in
      [
        one.stream ?? "(not known)", one.queue, Quantity.grouped(one.pendingRows), Quantity.size(one.pendingBytes),
        one.oldestReceivedAt.map(time) ?? "none",
        one.parkedRows == 0 ? "none" : "\(Quantity.grouped(one.parkedRows)), \(Quantity.size(one.parkedBytes))",
      ]
    }
    let isOne = streams.count <= 1 && streams.allSatisfy { $0.parkedRows == 0 }
    let details =
      isOne ? "" : "\n" + columns([["stream", "queue", "pending", "of bodies", "oldest pending", "parked"]] + rows)
    return columns([
      ["journal", path],
      ["id", "\(status.identifier) (schema \(status.schemaVersion), made \(time(status.createdAt)))"],
      ["pending", "\(Quantity.grouped(status.pendingRows)) messages, \(Quantity.size(status.pendingBytes)) of bodies"],
      ["oldest pending", status.oldestReceivedAt.map(time) ?? "none"],
      ["last position", Quantity.grouped(Int(positions.last.rawValue))],
      ["emitted to", Quantity.grouped(Int(positions.emittedThrough.rawValue))],
      ["committed to", Quantity.grouped(Int(positions.committedThrough.rawValue))],
      ["sessions", "\(status.sessions)"],
      ["in use", Quantity.size(status.usedBytes)],
    ]) + details
  }

  /// - Parameter total: How many are pending in all.
  static func table(_ lines: [Line], of total: Int) -> String {
    guard !lines.isEmpty else { return total == 0 ? "nothing is pending\n" : "\(total) pending\n" }
    let header = [
      "position", "stream", "session_id", "sequence", "received_at", "exchange", "routing_key", "redelivered", "state",
      "size",
      "body",
    ]
    let rows = lines.map { line in
      [
        "\(line.position)", line.stream ?? "", line.sessionID, "\(line.sequence)", time(line.receivedAt), line.exchange,
        line.routingKey,
        line.redelivered ? "yes" : "no", line.isEmitted ? "emitted" : "received",
        "\(line.bodySize)",
        line.bodyStart.map { String($0.prefix(Line.shownCharacters)) } ?? "(not text)",
      ]
    }
    let more = total - lines.count
    return columns([header] + rows) + (more > 0 ? "and \(Quantity.grouped(more)) more (--limit)\n" : "")
  }

  /// Rows with their columns aligned, two spaces apart, a line each.
  private static func columns(_ texts: [[String]]) -> String {
    // Names and bodies are publishers' words.
    let rows = texts.map { $0.map(PrintableText.escaped) }
    var widths: [Int] = []
    for row in rows {
      for (index, cell) in row.enumerated() {
        if index == widths.count { widths.append(0) }
        widths[index] = max(widths[index], cell.count)
      }
    }
    return rows.map { row in
      row.enumerated().map { index, cell in
        index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count)
      }.joined(separator: "  ") + "\n"
    }.joined()
  }

  private static func time(_ microseconds: Int64) -> String {
    var bytes: [UInt8] = []
    RFC3339.append(microseconds, fractionalDigits: 6, to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }
}
