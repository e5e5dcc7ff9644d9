/// What recognises redeliveries after a crash, beside the rows: how far acknowledgements were allowed, and what the
/// newest messages looked like. It changes in the transaction of the rows that it speaks of, and outlives their pruning. Its positions
/// are numbers of a subscription's messages.
public struct RedeliveryRecord: Equatable, Sendable {
  /// Whose deliveries these are: the queue, as the caller names it.
  public var queue: String
  /// No message after this position was ever acknowledged.
  public var releasable: Position
  /// If everything captured is releasable, the broker is known to have the acknowledgements up to here; those of the others
  /// may not have arrived.
  public var settled: Position
  /// The largest prefetch count in use since everything was acknowledged.
  public var prefetch: Int
  /// The newest message's priority; nil if it has none.
  public var priority: UInt8?
  /// From here on, all messages had that priority.
  public var prioritySince: Position
  /// The newest captured offset of a stream; nil on other queues.
  public var streamOffset: Int64?

  public init(
    queue: String, releasable: Position, settled: Position? = nil, prefetch: Int, priority: UInt8?,
    prioritySince: Position, streamOffset: Int64? = nil
  ) {
    self.settled = settled ?? releasable
    self.streamOffset = streamOffset
    self.queue = queue
    self.releasable = releasable
    self.prefetch = prefetch
    self.priority = priority
    self.prioritySince = prioritySince
  }
}

extension Journal {
  /// Bytes of one digest.
  public static let digestBytes = 16

  /// A subscription's record of the last commit that changed it; nil if it never had one.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  public func redelivery(of subscription: SubscriptionRecord? = nil) throws(JournalError) -> RedeliveryRecord? {
    try checkUsable()
    let key = try key(of: subscription)
    return try database.first(
      """
      SELECT queue, releasable, prefetch, priority, priority_since, stream_offset, settled FROM redelivery
      WHERE subscription = \(key)
      """, "read the redelivery state"
    ) { row in
      RedeliveryRecord(
        queue: row.string(0), releasable: Position(rawValue: row.integer(1)),
        settled: Position(rawValue: row.integer(6)), prefetch: Int(row.integer(2)),
        priority: row.isNull(3) ? nil : UInt8(clamping: row.integer(3)),
        prioritySince: Position(rawValue: row.integer(4)), streamOffset: row.isNull(5) ? nil : row.integer(5))
    }
  }

  /// The digests of a subscription's newest messages, oldest first, 16 bytes each, without a gap up to its last number; empty
  /// if the newest message has none.
  ///
  /// - Parameters:
  ///   - limit: Of how many messages at the most, but for the first stored group, which comes whole.
  ///   - subscription: Nil for the journal's only one.
  public func newestDigests(limit: Int, of subscription: SubscriptionRecord? = nil) throws(JournalError) -> [UInt8] {
    try checkUsable()
    let (keys, origin) = try digestKeys(of: subscription)
    var groups: [[UInt8]] = []
    var expected = try captured(of: subscription).rawValue + origin
    var count = 0
    try database.with(
      """
      SELECT last, digests FROM digest WHERE last BETWEEN \(keys.lowerBound) AND \(keys.upperBound) ORDER BY last DESC
      """, "read the digests"
    ) {
      (statement) throws(JournalError) in
      while count < limit, try statement.step() {
        let digests = statement.array(1)
        guard statement.integer(0) == expected, digests.count % Self.digestBytes == 0 else { break }
        groups.append(digests)
        count += digests.count / Self.digestBytes
        expected -= Int64(digests.count / Self.digestBytes)
      }
      statement.reset()
    }
    return Array(groups.reversed().joined())
  }

  /// The last number before the newest line of digests; the origin if no line that is known began.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  public func lineStart(of subscription: SubscriptionRecord? = nil) throws(JournalError) -> Position {
    try checkUsable()
    let (keys, origin) = try digestKeys(of: subscription)
    let found = try database.first(
      """
      SELECT last - length(digests) / \(Self.digestBytes) FROM digest
      WHERE begins_line != 0 AND last BETWEEN \(keys.lowerBound) AND \(keys.upperBound) ORDER BY last DESC LIMIT 1
      """, "read where the line begins"
    ) { $0.integer(0) }
    return Position(rawValue: (found ?? origin) - origin)
  }

  /// The key under which a subscription's record stands: that of the first also before there is any, since what a checkpoint carried is
  /// written first.
  fileprivate func key(of subscription: SubscriptionRecord?) throws(JournalError) -> Int64 {
    if let subscription { return subscription.key }
    return try index(of: nil).map { durableSubscriptions.all[$0].key } ?? 0
  }

  fileprivate func digestKeys(
    of subscription: SubscriptionRecord?
  ) throws(JournalError) -> (keys: ClosedRange<Int64>, origin: Int64) {
    let index = try index(of: subscription)
    let found = subscription ?? index.map { durableSubscriptions.all[$0] } ?? SubscriptionRecord.first
    return (found.digestKeys, found.origin)
  }
}

extension WriteTransaction {
  /// Records what recognises the redeliveries of a subscription.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  /// - Throws: `.invalid` for a releasable number that no message has.
  public borrowing func setRedelivery(
    _ record: RedeliveryRecord, of subscription: SubscriptionRecord? = nil
  ) throws(JournalError) {
    try noting { () throws(JournalError) in
      let last = try captured(of: subscription)
      guard record.releasable <= last else {
        throw journal.invalid("message \(record.releasable) comes after the last, \(last)", "set releasable")
      }
      let statement = journal.statements.setRedelivery
      try statement.bind(1, copying: record.queue)
      try statement.bind(2, record.releasable.rawValue)
      try statement.bind(3, Int64(record.prefetch))
      if let priority = record.priority { try statement.bind(4, Int64(priority)) } else { try statement.bindNull(4) }
      try statement.bind(5, record.prioritySince.rawValue)
      if let offset = record.streamOffset { try statement.bind(6, offset) } else { try statement.bindNull(6) }
      try statement.bind(7, record.settled.rawValue)
      try statement.bind(8, try journal.key(of: subscription))
      try statement.run()
    }
  }

  /// Keeps the digests of the messages appended last in this transaction, and forgets, now and then, those of more than
  /// `window` messages ago.
  ///
  /// - Parameters:
  ///   - digests: 16 bytes a message, oldest first, at least one; the last is of the last number.
  ///   - subscription: Nil for the journal's only one.
  ///   - through: The number that the last one is of instead, if more follow in the same transaction.
  ///   - priority: The last message's priority, and `since` the first number from which on all had it.
  ///   - beginsLine: What was captured before the first of them does not stand before it in the queue
  ///     (``Journal/lineStart()``).
  public borrowing func appendDigests(
    _ digests: [UInt8], of subscription: SubscriptionRecord? = nil, through: Position? = nil, priority: UInt8?,
    since: Position, beginsLine: Bool = false, window: Int
  ) throws(JournalError) {
    try noting { () throws(JournalError) in
      let (keys, origin) = try journal.digestKeys(of: subscription)
      let last = try captured(of: subscription).rawValue
      let insert = journal.statements.appendDigests
      try insert.bind(1, origin + (through?.rawValue ?? last))
      try insert.bind(2, copying: digests)
      if let priority { try insert.bind(3, Int64(priority)) } else { try insert.bindNull(3) }
      try insert.bind(4, since.rawValue)
      try insert.bind(5, beginsLine ? 1 : 0)
      try insert.run()
      // It touches a page at the other end of the table, which is not worth it for a few digests.
      guard last - journal.digestsPruned[origin, default: 0] >= Int64(window / 16) else { return }
      let prune = journal.statements.pruneDigests
      try prune.bind(1, origin + last - Int64(window))
      try prune.bind(2, keys.lowerBound)
      try prune.run()
      journal.digestsPruned[origin] = last
    }
  }
}

/// Digests of neighbouring messages, as one transaction appended them.
public struct DigestGroup: Equatable, Sendable {
  /// The number of the newest of them.
  public var last: Position
  /// 16 bytes a message, oldest first.
  public var digests: [UInt8]
  /// The newest one's priority; nil if it has none.
  public var priority: UInt8?
  /// From here on, all messages up to ``last`` had that priority.
  public var prioritySince: Position
  /// A line begins with the oldest of them: digests of earlier messages say nothing about what comes before it.
  public var beginsLine: Bool
}

extension JournalReader {
  /// A subscription's groups that end after the number `position`, oldest first, up to the one that holds `through`.
  ///
  /// - Parameter subscription: Nil for the journal's first.
  public func digestGroups(
    of subscription: SubscriptionRecord? = nil, after position: Position, through: Position
  ) throws(JournalError) -> [DigestGroup] {
    var groups: [DigestGroup] = []
    let subscription = subscription ?? SubscriptionRecord.first
    let (keys, origin) = (subscription.digestKeys, subscription.origin)
    try database.with(
      """
      SELECT last, digests, priority, priority_since, begins_line FROM digest
      WHERE last > ?1 AND last <= \(keys.upperBound) ORDER BY last
      """, "read the digests"
    ) { (statement) throws(JournalError) in
      try statement.bind(1, max(position.rawValue + origin, keys.lowerBound))
      while groups.isEmpty || groups[groups.count - 1].last < through, try statement.step() {
        groups.append(
          DigestGroup(
            last: Position(rawValue: statement.integer(0) - origin), digests: statement.array(1),
            priority: statement.isNull(2) ? nil : UInt8(clamping: statement.integer(2)),
            prioritySince: Position(rawValue: statement.integer(3)), beginsLine: statement.integer(4) != 0))
      }
      statement.reset()
    }
    return groups
  }
}
