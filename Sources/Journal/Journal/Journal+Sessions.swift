/// The queue that a session was of.
public struct QueueName: Equatable, Sendable {
  /// The queue's name.
  public var name: String
  /// Its virtual host.
  public var virtualHost: String

  /// That of the newest session; nil if there is none.
  init?(newestIn database: Database) throws(JournalError) {
    let found = try database.first(
      "SELECT queue, virtual_host FROM session ORDER BY number DESC LIMIT 1", "look for the newest session"
    ) { ($0.string(0), $0.string(1)) }
    guard let found else { return nil }
    (name, virtualHost) = found
  }
}

extension JournalReader {
  /// The queue that messages came from last; nil if no one has captured into this journal.
  public func newestQueue() throws(JournalError) -> QueueName? { try QueueName(newestIn: database) }
}

extension Journal {
  /// The queue that messages came from last; nil if no one has captured into this journal.
  public func newestQueue() throws(JournalError) -> QueueName? { try QueueName(newestIn: database) }

  /// Consumers older than the oldest message's by more than this are forgotten; a message appended late can still
  /// name any of the last thousand reconnections.
  private static let retainedConsumers = 1_000

  /// The newest session's `base`: what is after it was captured since. Nil if there is none.
  public func newestSessionBase() throws(JournalError) -> Position? {
    try database.first("SELECT base FROM session ORDER BY number DESC LIMIT 1", "look for the newest session") {
      Position(rawValue: $0.integer(0))
    }
  }

  /// Begins a session: one start of the connector on one queue.
  ///
  /// - Parameters:
  ///   - id: A UUID, never used before in this journal.
  ///   - startedAt: Microseconds since 1970, UTC.
  /// - Returns: The session, whose `base` is the last position so far.
  @discardableResult
  public func beginSession(
    id: String, queue: String, virtualHost: String, startedAt: Int64
  ) throws(JournalError) -> Session {
    let begun = try transaction { (tx) throws(JournalError) in
      try tx.noting { () throws(JournalError) in
        if try inserting("SELECT number FROM session WHERE id = ?1", [.text(id)], "look for the session") != nil {
          throw invalid("session \(id) was there before", "begin a session")
        }
        let base = working.last
        let number = try inserting(
          """
          INSERT INTO session (id, queue, virtual_host, started_at, base) VALUES (?1, ?2, ?3, ?4, ?5)
          RETURNING number
          """,
          [.text(id), .text(queue), .text(virtualHost), .integer(startedAt), .integer(base)], "begin a session")
        _ = try inserting(Schema.setDigest("session", where: "number = ?1"), [.integer(number ?? 0)], "begin a session")
        return Session(
          number: number ?? 0, id: id, queue: queue, virtualHost: virtualHost, base: Position(rawValue: base))
      }
    }
    session = begun
    consumers = nil
    return begun
  }

  /// Begins a consumer of the current session; each reconnection has a new one, with its own tag.
  ///
  /// Consumers and sessions to which no message belongs any more are forgotten here.
  public func beginConsumer(tag: String) throws(JournalError) -> ConsumerRecord {
    try checkUsable()
    guard let session else { throw invalid("there is no session", "begin a consumer") }
    let id = try transaction { (tx) throws(JournalError) in
      try tx.noting { () throws(JournalError) in
        let id = try inserting(
          "INSERT INTO consumer (session, tag) VALUES (?1, ?2) RETURNING id", [.integer(session.number), .text(tag)],
          "begin a consumer")
        _ = try inserting(Schema.setDigest("consumer", where: "id = ?1"), [.integer(id ?? 0)], "begin a consumer")
        _ = try inserting(
          """
          DELETE FROM consumer WHERE id < ?2 - \(Self.retainedConsumers) AND id <
            coalesce((SELECT consumer FROM message ORDER BY position LIMIT 1), ?2) - \(Self.retainedConsumers)
          """, [.integer(0), .integer(id ?? 0)], "forget old consumers")
        _ = try inserting(
          "DELETE FROM session WHERE number < (SELECT session FROM consumer ORDER BY id LIMIT 1)", [],
          "forget old sessions")
        return id ?? 0
      }
    }
    consumers = (consumers?.lowerBound ?? id)...id
    return ConsumerRecord(
      id: id, sessionID: session.id, sessionBase: session.base, tag: tag, queue: session.queue,
      virtualHost: session.virtualHost)
  }

  /// Where the output `name` stood at the last commit; nil before its first.
  public func output(_ name: String) throws(JournalError) -> OutputRecord? {
    try checkUsable()
    return try OutputRecord(named: name, statements.getOutput)
  }

  private enum Value {
    case integer(Int64)
    case text(String)
  }

  /// Runs a rare statement with values and returns the integer of its first row.
  private func inserting(
    _ sql: String, _ values: [Value], _ operation: StaticString
  ) throws(JournalError) -> Int64? {
    try database.with(sql, operation) { statement throws(JournalError) in
      var result: Int64?
      for (index, value) in values.enumerated() {
        switch value {
        case .integer(let number): try statement.bind(Int32(index + 1), number)
        case .text(let text): try statement.bind(Int32(index + 1), copying: text)
        }
      }
      while try statement.step() { result = result ?? statement.integer(0) }
      return result
    }
  }
}
