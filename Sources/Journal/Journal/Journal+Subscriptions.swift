extension Journal {
  /// Those that the journal knows, in the order in which they came.
  public var subscriptions: [SubscriptionRecord] { durableSubscriptions.all }

  /// The subscription with this name, or a new one. Nothing is written before its first session begins.
  ///
  /// - Parameters:
  ///   - queue: That it captures from now.
  ///   - adopting: If none has the name, the one without a name gets it.
  /// - Throws: `.invalid` if the journal has had 16,384 of them.
  public func subscription(
    _ stream: String, queue: String, virtualHost: String, adopting: Bool
  ) throws(JournalError) -> SubscriptionRecord {
    try checkUsable()
    let known = durableSubscriptions.all + plannedSubscriptions
    let found = known.first { $0.isNamed(stream) } ?? (adopting ? known.first { !$0.isNamed } : nil)
    let key = found?.key ?? (known.map(\.key).max() ?? -1) + 1
    guard key <= SubscriptionRecord.largestKey else {
      throw invalid("it has had \(key) subscriptions, and takes no more: begin a new journal", "subscribe")
    }
    let subscription = SubscriptionRecord(key: key, stream: stream, queue: queue, virtualHost: virtualHost)
    plannedSubscriptions.removeAll { $0.key == key }
    plannedSubscriptions.append(subscription)
    return subscription
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
    }
    for (index, each) in known.all.enumerated()
    where workingSubscriptions.all.count < known.all.count || each == subscription {
      _ = try inserting(
        "INSERT OR REPLACE INTO subscription (key, stream, queue, virtual_host, captured) VALUES (?1, ?2, ?3, ?4, ?5)",
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
    guard let index = try index(of: subscription) else { return .origin }
    return Position(rawValue: durableSubscriptions.captured(index, last: durable.last))
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
