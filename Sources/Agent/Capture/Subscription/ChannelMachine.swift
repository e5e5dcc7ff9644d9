/// Decides what of the journal's commands is for the channel that consumes now, and what of the broker's answers is for the journal.
///
/// Delivery tags are those of a channel: an acknowledgement of an older channel means nothing on this one, and would be taken for
/// others, so it is dropped. What it was for comes again.
///
/// A value without I/O; the connection's thread has one for each channel.
struct ChannelMachine: Hashable, Sendable {
  /// What is sent to the broker, in this order.
  enum Order: Hashable, Sendable {
    /// Without requeue.
    case reject(tag: UInt64)
    /// Everything up to the tag, which is so many messages.
    case acknowledge(tag: UInt64, messages: Int)
    /// The broker is asked for the queue, and answers once it has handled all that was sent before.
    case ask
  }

  /// Of the channel: 1 for the first of the process, growing with every connection.
  let generation: Int
  /// The newest tag that was acknowledged; 0 before the first.
  private(set) var acknowledged: UInt64 = 0

  init(generation: Int) { self.generation = generation }

  /// What of the commands is for this channel.
  mutating func obey(_ commands: ConnectionCommands) -> [Order] {
    var orders = commands.rejected.filter { $0.generation == generation }.map { Order.reject(tag: $0.tag) }
    if let acknowledgement = commands.acknowledgement,
      acknowledgement.generation == generation || Mutant.acknowledgesOnAnotherChannel.isOn
    {
      // Tags of a channel count its deliveries: 1, 2, 3 …
      let messages = Int(acknowledgement.tag) - Int(acknowledged)
      acknowledged = acknowledgement.tag
      orders.append(.acknowledge(tag: acknowledgement.tag, messages: messages))
    }
    if commands.question == generation { orders.append(.ask) }
    return orders
  }

  /// Why the channel is to be given up for another; nil if it is not.
  func startsOver(_ commands: ConnectionCommands) -> StartOver.Reason? {
    commands.startOver.flatMap { $0.generation == generation ? $0.reason : nil }
  }

  /// The broker's answer to ``Order/ask``, as it goes to the journal; nil if something was delivered before it that the journal does not
  /// have yet: then it tells nothing of what the journal knows.
  ///
  /// - Parameters:
  ///   - consumers: How many consumers the queue has, ours among them.
  ///   - messages: How many messages wait in it.
  func answered(consumers: UInt32, messages: UInt32, hasUnread: Bool) -> SettlingAnswer? {
    guard !hasUnread || Mutant.settlesByAnyAnswer.isOn else { return nil }
    return SettlingAnswer(generation: generation, consumers: consumers, messages: messages)
  }
}
