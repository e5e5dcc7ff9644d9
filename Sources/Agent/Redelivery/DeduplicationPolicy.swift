/// Whether redeliveries can be recognised with a configuration, and why not if they can't (docs/settings.md,
/// `consumer.deduplicate`, `consumer.deduplicate_by`). What is not certain is not assumed: then delivery is at least once.
struct DeduplicationPolicy: Equatable, Sendable {
  /// `none` if redeliveries are not recognised by position.
  var trust: RedeliveryMachine.Trust
  /// Redeliveries are recognised by the ids that publishers gave the messages.
  var byMessageID = false
  /// It holds only if the queue is a classic one, which the broker has yet to tell: quorum queues grant exclusive consumption, and
  /// do not enforce it.
  var needsClassicQueue = false
  /// Why, as the end of a sentence.
  var reason: String

  /// Length of the anchor for a prefetch count: at most a quarter of it, so that intake never waits for it.
  static func anchor(prefetch: Int) -> Int { min(RedeliveryMachine.largestAnchor, prefetch / 4) }

  /// False if every redelivery is captured again.
  var isOn: Bool { trust != .none || byMessageID }

  init(trust: RedeliveryMachine.Trust, reason: String) {
    self.trust = trust
    self.reason = reason
  }

  /// Largest prefetch count for which a checkpoint carries the digests of everything that may be unacknowledged.
  static let largestCarriedPrefetch = 8192

  /// - Parameter isCarried: The journal does not outlive the process, and checkpoints carry what it would know; nil
  ///   if neither does.
  init(_ configuration: EndpointConfiguration, isCarried: Bool?) {
    func off(_ reason: String) -> DeduplicationPolicy { DeduplicationPolicy(trust: .none, reason: reason) }
    let consumer = configuration.consumer
    let arguments = configuration.queue.arguments
    if StreamResumption.isStream(configuration) {
      self = off("a stream goes on by offset instead")
      return
    }
    guard consumer.deduplicate != .off else {
      self = off("consumer.deduplicate is off")
      return
    }
    guard let isCarried else {
      self = off("neither a journal nor a checkpoint outlives the process")
      return
    }
    guard !consumer.noAck else {
      self = off("consumer.no_ack leaves nothing to acknowledge")
      return
    }
    let byMessageID = consumer.deduplicateBy == .messageID
    if byMessageID && isCarried && consumer.prefetchCount == 0 {
      self = off("without journal.path the checkpoints carry the ids, and consumer.prefetch_count is unlimited")
      return
    }
    guard byMessageID || consumer.prefetchCount >= 4 else {
      self = off(
        "consumer.prefetch_count is \(consumer.prefetchCount), and 4 is the least that bounds what is in doubt")
      return
    }
    if isCarried && consumer.prefetchCount > Self.largestCarriedPrefetch {
      self = off(
        "without journal.path the checkpoints carry the window, and consumer.prefetch_count is larger than "
          + "\(Self.largestCarriedPrefetch)")
      return
    }
    if byMessageID {
      self.init(
        trust: .none,
        reason:
          "consumer.deduplicate_by says that publishers set unique message ids; a message without one is captured "
          + "at least once")
      self.byMessageID = true
      return
    }
    if arguments["x-max-priority"] != nil {
      self = off("a priority queue redelivers out of order")
      return
    }
    if consumer.deduplicate == .assert {
      self.init(trust: .sole, reason: "consumer.deduplicate asserts that this is the queue's only consumer")
    } else if arguments["x-single-active-consumer"] == .bool(true), configuration.queue.declaration == .active {
      self.init(trust: .sole, reason: "the queue has a single active consumer")
    } else if configuration.queue.exclusive {
      self = off("an exclusive queue is gone with its connection, and nothing is redelivered")
    } else if consumer.exclusive && arguments["x-queue-type"] == .string("quorum") {
      self = off(
        "quorum queues ignore consumer.exclusive; declare the queue with queue.single_active_consumer, or set "
          + "consumer.deduplicate: assert")
    } else if consumer.exclusive {
      self.init(trust: .exclusive, reason: "the queue is consumed exclusively")
      // A declaration compares the type; else the configuration may be mistaken about it.
      needsClassicQueue = arguments["x-queue-type"] != .string("classic") || configuration.queue.declaration != .active
    } else {
      self = off(
        "other consumers are possible; set consumer.exclusive, declare the queue with queue.single_active_consumer, or set "
          + "consumer.deduplicate: assert")
    }
  }
}

extension DeduplicationPolicy {
  /// Why redeliveries are captured again on this queue, although the settings aim at more; nil if they do not, or if it holds.
  func shortfall(on queue: QueueNature) -> String? {
    guard isOn, needsClassicQueue else { return nil }
    let again = "redeliveries are captured again, marked redelivered: "
    switch queue.kind {
    case .classic, .stream: return nil
    case .quorum:
      return again
        + "this is a quorum queue, which ignores consumer.exclusive, so others may consume it too, and a crash may repeat "
        + "messages. Declare it with queue.single_active_consumer, or set consumer.deduplicate: assert"
    case .unknown:
      return again
        + "the broker does not tell whether this is a classic queue, and quorum queues ignore consumer.exclusive, so a crash "
        + "may repeat messages. Let the capture declare the queue with its type (queue.declare: active, queue.type), or set "
        + "consumer.deduplicate: assert"
    }
  }
}
