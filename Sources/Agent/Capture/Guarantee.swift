/// What a capture promises with its settings and queue, and why: the line that `check` and the log have (docs/guarantees.md).
struct Guarantee: Equatable, Sendable {
  enum Level: String, Sendable {
    case once = "once and in order"
    /// Publishers' ids are looked at, not places.
    case onceInAnyOrder = "once"
    case atLeastOnce = "at least once"
    case atMostOnce = "at most once"
  }

  let level: Level
  /// Why, and what to set for more.
  let reason: String

  /// - Parameter queue: What the broker says of the queue; nil if it was not asked, or cannot say yet.
  init(_ configuration: EndpointConfiguration, _ policy: DeduplicationPolicy, on queue: QueueNature?) {
    if configuration.consumer.noAck {
      (level, reason) = (
        .atMostOnce,
        "consumer.no_ack lets the broker forget messages as it sends them; leave it out, and nothing is lost"
      )
    } else if StreamResumption.isStream(configuration) || queue?.kind == .stream {
      (level, reason) = (.once, "a stream goes on after the newest captured offset")
    } else if policy.byMessageID {
      (level, reason) = (.onceInAnyOrder, policy.reason)
    } else if let notice = policy.notice(on: queue) {
      let isOnce = policy.isOn && !notice.isWarning
      (level, reason) = (isOnce ? .once : .atLeastOnce, notice.text)
    } else {
      (level, reason) = (
        .once,
        "\(policy.reason), if this is a classic queue; a quorum queue ignores consumer.exclusive (set queue.type: quorum and "
          + "queue.single_active_consumer, or consumer.deduplicate: assert)"
      )
    }
  }

  /// One line.
  var description: String { "captured \(level.rawValue): \(reason)" }
}
