/// Whose messages a journal appends, and how many each has.
struct Subscriptions {
  /// In the order of their keys.
  var all: [SubscriptionRecord] = []
  /// Messages ever captured, of each; empty while numbers are positions.
  var captured: [Int64] = []
  /// Which of them a consumer of this process is of.
  var owners: [Int64: Int] = [:]
  /// A key that nothing in the file has.
  var nextKey: Int64 = 0
  /// The consumer that appended last, and whose it is.
  var newest: (consumer: Int64, index: Int) = (-1, 0)

  /// Messages have numbers of their own: the journal has had a second subscription.
  var hasNumbers: Bool { !captured.isEmpty }

  init() {}

  /// - Throws: `.corrupt` if what the file says contradicts itself.
  init(reading database: Database, last: Int64) throws(JournalError) {
    let damage = JournalError(
      kind: .corrupt("its subscriptions do not fit each other, or position \(last)"),
      operation: "read the subscriptions",
      object: database.path)
    var numbers: [Int64?] = []
    try database.with(
      "SELECT key, stream, queue, virtual_host, captured FROM subscription ORDER BY key", "read the subscriptions"
    ) { (row) throws(JournalError) in
      while try row.step() {
        all.append(
          SubscriptionRecord(
            key: row.integer(0), stream: row.isNull(1) ? nil : row.string(1), queue: row.string(2),
            virtualHost: row.string(3)))
        numbers.append(row.isNull(4) ? nil : row.integer(4))
      }
    }
    guard all.allSatisfy({ (0...SubscriptionRecord.largestKey).contains($0.key) }),
      numbers.allSatisfy({ $0.map { (0...last).contains($0) } ?? true })
    else { throw damage }
    captured = numbers.compactMap { $0 }
    guard captured.count == all.count || captured.isEmpty && all.count <= 1 else { throw damage }
    let strangers = try database.integer(
      """
      SELECT (SELECT count(*) FROM session WHERE subscription <> \(SubscriptionRecord.noKey)
          AND subscription NOT IN (SELECT key FROM subscription))
        + (SELECT count(*) FROM consumer WHERE session NOT IN (SELECT number FROM session))
      """, "look for their sessions")
    // A damaged file may name any.
    let half = SubscriptionRecord.span / 2
    let newest = try database.integer(
      """
      SELECT max(coalesce((SELECT max(key) FROM subscription), -1),
        coalesce((SELECT max(subscription) FROM redelivery), -1),
        coalesce((SELECT (min(max(last), \(Statement.numbers.upperBound)) + \(half)) / \(SubscriptionRecord.span) FROM digest), -1))
      """, "look for the newest subscription")
    guard strangers == 0 else { throw damage }
    nextKey = max(0, newest + 1)
    // What a checkpoint carried is written before the first session, and nothing else was there.
    if all.isEmpty, last == 0 { nextKey = 0 }
  }

  /// Gives a message of `consumer` the next number of its subscription.
  ///
  /// - Returns: None of its own if that is its position; nil for a consumer that may not append.
  mutating func number(nextOf consumer: Int64) -> (own: Int64?, Void)? {
    if newest.consumer != consumer {
      guard let index = owners[consumer] else { return nil }
      newest = (consumer, index)
    }
    guard hasNumbers else { return (nil, ()) }
    captured[newest.index] += 1
    return (captured[newest.index], ())
  }

  func index(of subscription: SubscriptionRecord) -> Int? { all.firstIndex { $0.key == subscription.key } }

  /// The number of the newest message of the `index`-th.
  ///
  /// - Parameter index: Nil for one that has not begun: all that a journal of none has captured is its first one's.
  func captured(_ index: Int?, last: Int64) -> Int64 {
    guard let index else { return all.isEmpty ? last : 0 }
    return hasNumbers ? captured[index] : last
  }
}
