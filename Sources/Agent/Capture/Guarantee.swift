/// What a capture promises with its settings and queue, and why: the line that `check` and the log have (docs/guarantees.md).
struct Guarantee: Equatable, Sendable {
  enum Level: String, Sendable {
    case once = "once and in order"
    /// Publishers' ids are looked at, not places.
    case onceInAnyOrder = "once"
    /// The queue decides, and nothing is known of it yet, or not enough.
    case depends = "once and in order, or at least once"
    case atLeastOnce = "at least once"
    case atMostOnce = "at most once"

    /// Nothing comes twice, and nothing is left out.
    var isOnce: Bool { self == .once || self == .onceInAnyOrder }
  }

  let level: Level
  /// Why, and what to set for more.
  let reason: String

  /// - Parameters:
  ///   - queue: What the broker says of the queue; nil if it was not asked, or cannot say yet.
  ///   - isKept: Something outlives the process: a journal, or checkpoints.
  init(
    _ configuration: EndpointConfiguration, _ policy: DeduplicationPolicy, on queue: QueueNature?, isKept: Bool = true
  ) {
    let consumer = configuration.consumer
    if consumer.noAck {
      (level, reason) = (
        .atMostOnce,
        "consumer.no_ack lets the broker forget messages as it sends them; leave it out, and nothing is lost"
      )
    } else if configuration.queue.exclusive || configuration.queue.autoDelete {
      let setting = configuration.queue.exclusive ? "queue.exclusive" : "queue.auto_delete"
      (level, reason) = (
        .atMostOnce, "\(setting) deletes the queue, and the messages in it, when the connection is lost; leave it out"
      )
    } else if StreamResumption.isStream(configuration) || queue?.kind == .stream {
      (level, reason) =
        isKept
        ? (.once, "a stream goes on after the newest captured offset")
        : (.atLeastOnce, "nothing outlives the process, so a stream is read from consumer.stream_offset at each start")
    } else if policy.byMessageID {
      (level, reason) = (.onceInAnyOrder, policy.reason)
    } else if !policy.isOn {
      (level, reason) = (.atLeastOnce, "redeliveries are captured again, marked redelivered, because \(policy.reason)")
    } else if let shortfall = queue.flatMap(policy.shortfall) {
      (level, reason) = (.atLeastOnce, shortfall)
    } else if policy.needsClassicQueue, queue == nil {
      (level, reason) = (
        .depends,
        "once if this is a classic queue, since \(policy.reason); a quorum queue ignores consumer.exclusive (set queue.type: quorum "
          + "and queue.single_active_consumer, or consumer.deduplicate: assert)"
      )
    } else if queue?.hasPriorities ?? (configuration.queue.declaration != .active) {
      (level, reason) = (
        .depends,
        "once, since \(policy.reason), unless this is a classic queue with x-max-priority and messages differ in their priority"
      )
    } else {
      (level, reason) = (.once, "redeliveries are recognised and not captured again, because \(policy.reason)")
    }
  }

  /// One line.
  var description: String { "captured \(level.rawValue): \(reason)" }
}
