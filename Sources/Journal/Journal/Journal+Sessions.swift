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

  /// So many of the newest are kept, also if no message names them any more.
  private static let retainedConsumers: Int64 = 1_000

  /// The `base` of a subscription's newest session: what is after it was captured since. Nil if there is none.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  public func newestSessionBase(of subscription: SubscriptionRecord? = nil) throws(JournalError) -> Position? {
    guard let index = try index(of: subscription) else { return nil }
    return try database.first(
      """
      SELECT base FROM session WHERE subscription = \(durableSubscriptions.all[index].key) ORDER BY number DESC LIMIT 1
      """, "look for the newest session"
    ) { Position(rawValue: $0.integer(0)) }
  }

  /// Begins a session: one start of the connector on one subscription.
  ///
  /// - Parameters:
  ///   - id: A UUID, never used before in this journal.
  ///   - startedAt: Microseconds since 1970, UTC.
  /// - Returns: The session, whose `base` is the number of the subscription's newest message.
  @discardableResult
  public func beginSession(
    of subscription: SubscriptionRecord, id: String, startedAt: Int64
  ) throws(JournalError) -> Session {
    try checkUsable()
    let base = try captured(of: subscription)
    let begun = try transaction { (tx) throws(JournalError) in
      try tx.noting { () throws(JournalError) in
        if try inserting("SELECT number FROM session WHERE id = ?1", [.text(id)], "look for the session") != nil {
          throw invalid("session \(id) was there before", "begin a session")
        }
        try record(subscription)
        let number = try inserting(
          """
          INSERT INTO session (id, queue, virtual_host, started_at, base, subscription) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
          RETURNING number
          """,
          [
            .text(id), .text(subscription.queue), .text(subscription.virtualHost), .integer(startedAt),
            .integer(base.rawValue), .integer(subscription.key),
          ], "begin a session")
        _ = try inserting(Schema.setDigest("session", where: "number = ?1"), [.integer(number ?? 0)], "begin a session")
        return Session(number: number ?? 0, id: id, subscription: subscription, base: base)
      }
    }
    for former in sessions where former.subscription.key == subscription.key { endConsumer(of: former) }
    sessions.removeAll { $0.subscription.key == subscription.key }
    sessions.append(begun)
    return begun
  }

  /// Begins a consumer of a session; each reconnection has a new one, with its own tag.
  ///
  /// Consumers and sessions to which no message belongs any more are forgotten here.
  ///
  /// - Parameter session: The newest of its subscription, whose consumer before it appends no more; nil for the one that was begun last.
  /// - Throws: `.invalid` if it is none of this process's.
  public func beginConsumer(tag: String, in session: Session? = nil) throws(JournalError) -> ConsumerRecord {
    try checkUsable()
    guard let session = session ?? sessions.last, sessions.contains(session),
      let index = durableSubscriptions.index(of: session.subscription)
    else { throw invalid("there is no such session", "begin a consumer") }
    let firstSession = sessions.map(\.number).min() ?? 0
    let captured = sessions.map { String($0.subscription.key) }.joined(separator: ", ")
    let forgotten = ended.prefix { $0.through <= durable.pruned }
    let id = try transaction { (tx) throws(JournalError) in
      try tx.noting { () throws(JournalError) in
        let id = try inserting(
          "INSERT INTO consumer (session, tag) VALUES (?1, ?2) RETURNING id", [.integer(session.number), .text(tag)],
          "begin a consumer")
        _ = try inserting(Schema.setDigest("consumer", where: "id = ?1"), [.integer(id ?? 0)], "begin a consumer")
        for old in forgotten {
          let last = min(old.consumers.upperBound, (id ?? 0) - Self.retainedConsumers - 1)
          // Parked messages name those of subscriptions that are not captured.
          _ = try inserting(
            """
            DELETE FROM consumer WHERE id BETWEEN ?1 AND ?2 AND (NOT EXISTS (SELECT 1 FROM parked)
              OR session IN (SELECT number FROM session WHERE subscription IN (\(captured))))
            """, [.integer(old.consumers.lowerBound), .integer(last)], "forget old consumers")
        }
        // One of this process may have no consumer yet.
        _ = try inserting(
          "DELETE FROM session WHERE number < ?1 AND number < (SELECT min(session) FROM consumer)",
          [.integer(firstSession)], "forget old sessions")
        return id ?? 0
      }
    }
    ended.removeFirst(forgotten.prefix { $0.consumers.upperBound < id - Self.retainedConsumers }.count)
    endConsumer(of: session)
    newestConsumers[session.number] = id
    forEachState { $0.owners[id] = index }
    let subscription = session.subscription
    return ConsumerRecord(
      id: id, sessionID: session.id, sessionBase: session.base, tag: tag, queue: subscription.queue,
      virtualHost: subscription.virtualHost, subscription: subscription.key)
  }

  /// Where the output `name` stood at the last commit; nil before its first.
  public func output(_ name: String) throws(JournalError) -> OutputRecord? {
    try checkUsable()
    return try OutputRecord(named: name, statements.getOutput)
  }

  /// The newest consumer of a session appends no more.
  private func endConsumer(of session: Session) {
    guard let id = newestConsumers.removeValue(forKey: session.number) else { return }
    ended.append((consumers: id...id, through: durable.last))
    forEachState { state in
      state.owners[id] = nil
      state.newest = (-1, 0)
    }
  }

  /// Changes what is durable and what the open transaction would make of it alike: of what is not stored.
  private func forEachState(_ body: (inout Subscriptions) -> Void) {
    body(&durableSubscriptions)
    body(&workingSubscriptions)
  }

  enum Value {
    case integer(Int64)
    case text(String)
    case null
  }

  /// Runs a rare statement with values and returns the integer of its first row.
  func inserting(
    _ sql: String, _ values: [Value], _ operation: StaticString
  ) throws(JournalError) -> Int64? {
    try database.with(sql, operation) { statement throws(JournalError) in
      var result: Int64?
      for (index, value) in values.enumerated() {
        switch value {
        case .integer(let number): try statement.bind(Int32(index + 1), number)
        case .text(let text): try statement.bind(Int32(index + 1), copying: text)
        case .null: try statement.bindNull(Int32(index + 1))
        }
      }
      while try statement.step() { result = result ?? statement.integer(0) }
      return result
    }
  }

  // MARK: Seams

  /// Begins a session of the journal's only subscription, which gets the queue's name.
  @discardableResult
  package func beginSession(
    id: String, queue: String, virtualHost: String, startedAt: Int64
  ) throws(JournalError) -> Session {
    let only = try subscriptions([Wanted(queue, queue: queue, virtualHost: virtualHost)])[0]
    return try beginSession(of: only, id: id, startedAt: startedAt)
  }
}
