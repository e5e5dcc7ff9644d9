import Journal

/// What a transaction stores beside its rows, so that their messages are recognised if they come again.
struct RedeliveryWrite: Equatable, Sendable {
  /// Digests of messages that are appended, which follow on one another in one line.
  struct Group: Equatable, Sendable {
    /// 16 bytes each, at least one.
    var bytes: [UInt8] = []
    /// How many messages are appended after the last of them.
    var following: Int
    /// What was captured before the first of them does not stand before it in the queue.
    var beginsLine: Bool
  }

  /// A group as the journal stores it.
  struct Digests: Equatable, Sendable {
    var bytes: [UInt8]
    /// The number of the last one's message.
    var through: Position
    /// The last one's priority, and the first number from which on all had it.
    var priority: UInt8?
    var since: Position
    var beginsLine: Bool
  }

  var digests: [Digests]
  /// So many of the newest are kept.
  var window: Int
  var record: RedeliveryRecord
  /// Whose messages they are.
  var subscription: SubscriptionRecord

  /// Whether it is worth writing.
  ///
  /// - Parameter known: What the journal has; nil if that is not known.
  func isDue(after known: RedeliveryRecord?) -> Bool { !digests.isEmpty || record != known }

  func write(to tx: borrowing WriteTransaction) throws(JournalError) {
    for group in digests {
      try tx.appendDigests(
        group.bytes, of: subscription, through: group.through, priority: group.priority, since: group.since,
        beginsLine: group.beginsLine, window: window)
    }
    try tx.setRedelivery(record, of: subscription)
  }
}

extension Resumption {
  /// What is written with messages that are appended up to the number `last`, or with none.
  ///
  /// - Parameters:
  ///   - machine: As it is once they are written; nil if nothing recognises redeliveries.
  ///   - isPlaced: A channel of a stream has begun.
  ///   - offset: That of the newest message that is appended; nil if none is.
  func write(
    of groups: [RedeliveryWrite.Group], through last: Position, _ machine: RedeliveryMachine?, isPlaced: Bool,
    offset: Int64?
  ) -> RedeliveryWrite? {
    switch self {
    // Of what is untold there is no channel yet.
    case .none, .untold: return nil
    case .stream(let stream):
      // Before the first channel nothing is known but what was written.
      guard isPlaced else { return nil }
      let digests = groups.map { group in
        RedeliveryWrite.Digests(
          bytes: group.bytes, through: last, priority: nil, since: last, beginsLine: false)
      }
      // Of what is captured: a message that was rejected, or ends the capture, has no digest.
      return RedeliveryWrite(
        digests: digests, window: StreamResumption.window,
        record: stream.record(of: offset ?? stream.offset, last: last), subscription: stream.subscription)
    case .position(let keeper), .messageID(let keeper):
      guard let machine else { return nil }
      let record = keeper.record(of: machine)
      let digests = groups.map { group in
        let through = last + -group.following
        // Of what is not the newest no priority is claimed.
        let isNewest = group.following == 0
        return RedeliveryWrite.Digests(
          bytes: group.bytes, through: through, priority: isNewest ? record.priority : nil,
          since: isNewest ? record.prioritySince : through + 1, beginsLine: group.beginsLine)
      }
      return RedeliveryWrite(digests: digests, window: keeper.window, record: record, subscription: keeper.subscription)
    }
  }
}
