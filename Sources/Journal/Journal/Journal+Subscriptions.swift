extension Journal {
  /// Those that the journal knows, in the order in which they came.
  public var subscriptions: [SubscriptionRecord] { durableSubscriptions.all }

  /// What is to be captured into a journal.
  public struct Wanted: Equatable, Sendable {
    /// Where documents go.
    public var stream: String
    /// The queue's name.
    public var queue: String
    /// Its virtual host.
    public var virtualHost: String

    public init(_ stream: String, queue: String, virtualHost: String) {
      (self.stream, self.queue, self.virtualHost) = (stream, queue, virtualHost)
    }
  }

  /// The subscriptions of these names, in their order. Nothing is written before their first sessions begin.
  ///
  /// A name that the journal does not know may be a new one of a subscription that it knows: of what has the same queue, and no other
  /// claims, first what has no name, then what has another; a journal of before version 6 that is captured as one goes on as that. All
  /// others are new.
  ///
  /// - Throws: `.invalid` if the journal has had 16,384 of them.
  public func subscriptions(_ wanted: [Wanted]) throws(JournalError) -> [SubscriptionRecord] {
    try checkUsable()
    for (index, wish) in wanted.enumerated()
    where wanted[..<index].contains(where: { $0.stream.utf8.elementsEqual(wish.stream.utf8) }) {
      throw invalid("\"\(wish.stream)\" is named twice", "look for a subscription")
    }
    let known = durableSubscriptions.all
    var claimed: Set<Int64> = []
    var found: [Int: SubscriptionRecord] = [:]
    func claim(_ record: SubscriptionRecord?, _ index: Int) {
      guard let record else { return }
      found[index] = record
      claimed.insert(record.key)
    }
    for (index, wish) in wanted.enumerated() { claim(known.first { $0.isNamed(wish.stream) }, index) }
    for isUnnamed in [true, false] {
      for (index, wish) in wanted.enumerated() where found[index] == nil {
        let alike = known.filter {
          $0.isUnnamed == isUnnamed && !claimed.contains($0.key)
            && $0.isOf(queue: wish.queue, virtualHost: wish.virtualHost)
        }
        if alike.count == 1 { claim(alike[0], index) }
      }
    }
    if wanted.count == 1, known.count == 1, known[0].isUnnamed { claim(known[0], 0) }
    var next = durableSubscriptions.nextKey
    return try wanted.enumerated().map { (index, wish) throws(JournalError) in
      let key = found[index]?.key ?? next
      if found[index] == nil { next += 1 }
      guard key <= SubscriptionRecord.largestKey else {
        throw invalid("it has had \(key) subscriptions, and takes no more: begin a new journal", "subscribe")
      }
      return SubscriptionRecord(key: key, stream: wish.stream, queue: wish.queue, virtualHost: wish.virtualHost)
    }
  }

  /// Records a subscription in the open transaction, unless the journal knows it as it is.
  func record(_ subscription: SubscriptionRecord) throws(JournalError) {
    var known = workingSubscriptions
    if let index = known.index(of: subscription) {
      if known.all[index] == subscription { return }
      known.all[index] = subscription
    } else {
      // From the second on, each counts for itself.
      if known.all.count == 1, !known.hasNumbers { known.captured = [working.last] }
      if known.hasNumbers { known.captured.append(0) }
      known.all.append(subscription)
      known.nextKey = max(known.nextKey, subscription.key + 1)
    }
    for (index, each) in known.all.enumerated()
    where workingSubscriptions.all.count < known.all.count || each == subscription {
      _ = try inserting(
        """
        INSERT INTO subscription (key, stream, queue, virtual_host, captured) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (key) DO UPDATE SET stream = ?2, queue = ?3, virtual_host = ?4, captured = ?5
        """,
        [
          .integer(each.key), each.stream.map(Value.text) ?? .null, .text(each.queue), .text(each.virtualHost),
          known.hasNumbers ? .integer(known.captured[index]) : .null,
        ], "record a subscription")
    }
    _ = try inserting(Schema.setDigest("subscription"), [], "record a subscription")
    workingSubscriptions = known
  }

  /// The number of its newest message; the origin before the first.
  ///
  /// - Parameter subscription: Nil for the journal's only one.
  public func captured(of subscription: SubscriptionRecord? = nil) throws(JournalError) -> Position {
    let index = try index(of: subscription)
    return Position(rawValue: durableSubscriptions.captured(index, last: durable.last))
  }

  /// The number of the newest message of a subscription that stands at or before `position`, or of one that was pruned; the origin if there
  /// was none. It costs time with the messages that follow, if the journal has had several subscriptions.
  public func newest(of subscription: SubscriptionRecord, through position: Position) throws(JournalError) -> Position {
    let captured = try captured(of: subscription)
    guard position.rawValue < durable.last else { return captured }
    guard durableSubscriptions.hasNumbers else { return min(captured, position) }
    let next = try database.first(
      """
      SELECT ifnull(number, position) FROM message WHERE position > \(position.rawValue) AND consumer IN (SELECT c.id
        FROM consumer c JOIN session s ON s.number = c.session WHERE s.subscription = \(subscription.key)) ORDER BY position LIMIT 1
      """, "look for the next message"
    ) { $0.integer(0) }
    return next.map { Position(rawValue: $0 - 1) } ?? captured
  }

  /// Which of the journal's subscriptions is meant; nil if it has not begun a session.
  ///
  /// - Parameter subscription: Nil for the only one.
  func index(of subscription: SubscriptionRecord?) throws(JournalError) -> Int? {
    guard let subscription else {
      guard durableSubscriptions.all.count <= 1 else {
        throw invalid("it has several subscriptions, and none was named", "look for a subscription")
      }
      return durableSubscriptions.all.isEmpty ? nil : 0
    }
    return durableSubscriptions.index(of: subscription)
  }
}
