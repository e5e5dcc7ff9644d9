/// A message on its way to the agent, as `basic.deliver` shows it.
struct ModelDelivery: Hashable {
  /// Counts from 1 on each channel.
  var tag: UInt64
  /// Which message it is. The agent must not look at this: it sees the payload only.
  var message: Int
  var redelivered: Bool
  /// `x-delivery-count` of a quorum queue; nil at the first delivery and on classic queues.
  var returns: Int64?
}

/// One queue of a RabbitMQ with one consumer, as far as redelivery goes.
///
/// Facts that it models, measured on RabbitMQ 3.10 and read in its source:
///   - Acknowledgements and deliveries are asynchronous: both directions are FIFOs, of which a fault lets a prefix of the
///     acknowledgements arrive and loses the deliveries.
///   - A classic queue requeues at the original places. Its redelivered flag means "was sent before", is exact over a
///     clean restart, and is set on everything after a crash. Acknowledgements reach its disk late: a crash takes a
///     suffix of them back.
///   - A quorum queue serves returned messages first, in the order of their delivery, counts returns, checks out as many
///     messages as the prefetch count allows in one step, and loses no acknowledgement that it has processed.
///   - A quorum queue whose leader loses the consumer's node for a moment takes back what the consumer holds and delivers
///     it again on the same channel, with new tags; acknowledgements of the older tags mean nothing then.
///   - Someone else can look at a message and give it back: it is flagged then, and counted.
struct ModelBroker {
  enum Kind: Hashable { case classic, quorum }

  let kind: Kind
  /// How many acknowledgements a crash can take back at the most.
  let regressLimit: Int
  private(set) var published = 0
  /// Messages that wait, in the order in which they will be sent.
  private(set) var ready: [Int] = []
  /// How many of the first of `ready` were returned (quorum).
  private var returned = 0
  /// Per message: was sent before (classic, 0 or 1), or how often it was returned (quorum).
  private var counts: [UInt8] = []
  private(set) var unacked: [ModelDelivery] = []
  private(set) var toAgent: [ModelDelivery] = []
  /// Tags of `basic.ack` with `multiple`; 0 is a question for the queue.
  private(set) var toBroker: [UInt64] = []
  /// Answers: after how many of `toAgent` each stands, and how many messages waited.
  private(set) var answers: [Answer] = []
  struct Answer: Hashable {
    var place: Int
    var messages: Int
  }
  /// A question was answered since the last acknowledgement.
  private var wasAsked = false
  /// What a consumer holds whose end the broker has not noticed: until then no one else gets anything.
  private(set) var lingering: [Int]?
  /// Acknowledged messages that a crash may bring back, in the order of their acknowledgement.
  private(set) var undurable: [Int] = []
  private(set) var isConnected = false
  private var lastTag: UInt64 = 0
  private var prefetch = 0

  init(kind: Kind, regressLimit: Int) {
    self.kind = kind
    self.regressLimit = regressLimit
  }

  /// True if a message can be sent now.
  var canDeliver: Bool { isConnected && lingering == nil && !ready.isEmpty && unacked.count < prefetch }

  mutating func publish() {
    ready.append(published)
    counts.append(0)
    published += 1
  }

  mutating func consume(prefetch: Int) {
    isConnected = true
    self.prefetch = prefetch
    lastTag = 0
    answers = []
  }

  /// Sends the next message, or all that the prefetch count allows on a quorum queue.
  mutating func deliver() {
    repeat {
      let message = ready.removeFirst()
      let count = counts[message]
      lastTag += 1
      let delivery = ModelDelivery(
        tag: lastTag, message: message, redelivered: count > 0,
        returns: kind == .quorum && count > 0 ? Int64(count) : nil)
      if kind == .classic { counts[message] = 1 }
      returned = max(0, returned - 1)
      unacked.append(delivery)
      toAgent.append(delivery)
    } while kind == .quorum && canDeliver
  }

  /// The agent reads the first `count` deliveries.
  mutating func read(_ count: Int) -> [ModelDelivery] {
    defer {
      toAgent.removeFirst(count)
      answers = answers.map { Answer(place: $0.place - count, messages: $0.messages) }
    }
    return Array(toAgent[..<count])
  }

  mutating func send(ack tag: UInt64) { toBroker.append(tag) }

  /// Asks for the queue after all acknowledgements.
  mutating func ask() { toBroker.append(0) }

  /// The next answer is read.
  mutating func readAnswer() -> (place: Int, messages: Int) {
    let answer = answers.removeFirst()
    return (max(answer.place, 0), answer.messages)
  }

  /// No question is on its way, and no answer.
  var hasAnsweredAll: Bool { answers.isEmpty && !toBroker.contains(0) }

  mutating func processAcknowledgement() {
    let tag = toBroker.removeFirst()
    if tag == 0 {
      // The second question comes a second later: what was acknowledged is on the disk by then.
      if wasAsked { undurable = [] }
      wasAsked = true
      // The queue delivers what it can before it turns to the next question.
      while canDeliver { deliver() }
      answers.append(Answer(place: toAgent.count, messages: ready.count))
      return
    }
    wasAsked = false
    let count = unacked.prefix { $0.tag <= tag }.count
    if kind == .classic {
      undurable += unacked[..<count].map(\.message)
      undurable.removeFirst(max(0, undurable.count - regressLimit))
    }
    unacked.removeFirst(count)
  }

  /// The connection ends: `surviving` of the acknowledgements on their way are processed, what is unacknowledged returns.
  mutating func disconnect(surviving: Int) {
    for _ in 0..<surviving { processAcknowledgement() }
    toBroker = []
    toAgent = []
    answers = []
    isConnected = false
    let back = (lingering ?? []) + unacked.map(\.message)
    lingering = nil
    unacked = []
    switch kind {
    case .classic:
      ready = (back + ready).sorted()
    case .quorum:
      for message in back { counts[message] += 1 }
      ready.insert(contentsOf: back, at: returned)
      returned += back.count
    }
  }

  /// The connection ends, and the broker does not notice.
  mutating func linger(surviving: Int) {
    for _ in 0..<surviving { processAcknowledgement() }
    toBroker = []
    toAgent = []
    answers = []
    isConnected = false
    lingering = (lingering ?? []) + unacked.map(\.message)
    unacked = []
  }

  /// The broker notices the end of a connection.
  mutating func notice() {
    let back = lingering ?? []
    lingering = nil
    for message in back { counts[message] += 1 }
    ready.insert(contentsOf: back, at: returned)
    returned += back.count
  }

  /// The queue takes back what the consumer holds, on a channel that lives on. What is on its way still arrives.
  mutating func takeBack() {
    let back = unacked.map(\.message)
    unacked = []
    for message in back { counts[message] += 1 }
    ready.insert(contentsOf: back, at: returned)
    returned += back.count
  }

  /// True if someone else can take a message.
  var canBeLookedAt: Bool { ready.count > returned }

  /// Someone else takes the first message that no one had, and gives it back.
  mutating func lookedAt() {
    switch kind {
    case .classic: counts[ready[returned]] = 1
    case .quorum:
      counts[ready[returned]] += 1
      returned += 1
    }
  }

  /// The queue drops messages that came back, as an expiry or a length limit makes it do.
  mutating func discard(where isDiscarded: (Int) -> Bool) {
    returned -= ready[..<returned].count(where: isDiscarded)
    ready.removeAll(where: isDiscarded)
  }

  /// The broker is killed and starts again, after ``disconnect(surviving:)``: the last `forgotten` acknowledgements
  /// never happened.
  mutating func crash(forgotten: Int) {
    guard kind == .classic else { return }
    ready = (undurable.suffix(forgotten) + ready).sorted()
    undurable = []
    for message in ready { counts[message] = 1 }
  }

  /// The broker is stopped and starts again, after ``disconnect(surviving:)``.
  mutating func restart() { undurable = [] }

  /// Everything that decides about the future, for comparing states.
  func encode(into key: inout [UInt8]) {
    key.append(isConnected ? 1 : 0)
    key.append(UInt8(truncatingIfNeeded: lastTag))
    key.append(UInt8(truncatingIfNeeded: returned))
    for list in [ready, undurable] {
      key.append(UInt8(truncatingIfNeeded: list.count))
      for message in list { key.append(UInt8(truncatingIfNeeded: message)) }
    }
    key += counts
    // What is on its way is the end of what is unacknowledged, unless it was acknowledged already.
    key.append(UInt8(truncatingIfNeeded: toAgent.count))
    for list in [unacked, toAgent] {
      key.append(UInt8(truncatingIfNeeded: list.count))
      for delivery in list {
        key.append(UInt8(truncatingIfNeeded: delivery.tag))
        key.append(UInt8(truncatingIfNeeded: delivery.message) << 1 | (delivery.redelivered ? 1 : 0))
      }
    }
    key.append(UInt8(truncatingIfNeeded: answers.count))
    for answer in answers {
      key.append(UInt8(truncatingIfNeeded: answer.place))
      key.append(UInt8(truncatingIfNeeded: answer.messages))
    }
    key.append(wasAsked ? 1 : 0)
    key.append(UInt8(lingering?.count ?? 255))
    for message in lingering ?? [] { key.append(UInt8(truncatingIfNeeded: message)) }
    for tag in toBroker { key.append(UInt8(truncatingIfNeeded: tag)) }
    key.append(255)
  }
}
