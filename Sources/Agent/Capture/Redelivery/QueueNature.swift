import AMQP

/// What kind of queue a session consumes, as far as it decides how the broker delivers again.
///
/// A classic queue delivers a message again as it was sent. A quorum queue counts its deliveries in headers, which replace
/// a publisher's headers of these names. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
struct QueueNature: Equatable, Sendable {
  enum Kind: Equatable, Sendable {
    case classic
    case quorum
    /// Nothing is taken back: each message has an offset (``StreamPlace``).
    case stream
    /// Neither the settings nor the broker say.
    case unknown
  }

  /// Which priorities the queue tells apart: only messages of one level keep their order.
  enum Levels: Equatable, Sendable {
    /// One level, whatever publishers set: classic queues without `x-max-priority`, quorum queues before RabbitMQ 4.
    case one
    /// Priorities up to 4, and those above: quorum queues of RabbitMQ 4.
    /// https://www.rabbitmq.com/docs/quorum-queues#priorities
    case two
    /// Each priority may be a level of its own.
    case each

    /// The level of a priority, as one priority that stands for all of the level. Nil is one too: no priority.
    func level(of priority: UInt8?) -> UInt8? {
      switch self {
      case .one, .each: priority
      case .two: (priority ?? 0) > 4 ? 5 : nil
      }
    }
  }

  var kind: Kind
  var levels: Levels
  /// RabbitMQ 4 counts in `x-acquired-count` how often a consumer has had a message; older ones leave that header alone.
  var countsAcquisitions: Bool
  /// How often a quorum queue takes a message back before it drops or dead-letters it; nil where that is not known, or
  /// without a limit. A policy may set a lower one. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
  var deliveryLimit: Int64?

  /// Nothing is known.
  static let unknown = QueueNature(kind: .unknown, levels: .each, countsAcquisitions: true)

  /// How often the queue has taken a message back, for one that it has delivered before.
  func returns(of marks: DeliveryMarks) -> Int64 {
    (countsAcquisitions ? marks.acquiredCount : nil) ?? marks.deliveryCount ?? 0
  }

  /// Whether a message that was taken back so often comes near the limit.
  func isNearLimit(returns: Int64) -> Bool {
    guard kind == .quorum, let deliveryLimit, returns > 0 else { return false }
    return returns >= deliveryLimit - max(2, deliveryLimit / 4)
  }

  /// - Parameters:
  ///   - type: The queue's type where the broker, or the settings, say it (`x-queue-type`).
  ///   - hasLevels: Nil where nobody says whether the queue was declared with `x-max-priority`; a policy cannot set it.
  ///   - deliveryLimit: The argument `x-delivery-limit`, if it is known.
  ///   - brokerVersion: For example `4.0.5`.
  init(type: String?, hasLevels: Bool?, deliveryLimit: Int64? = nil, brokerVersion: String) {
    let major = Int(brokerVersion.prefix { $0.isNumber })
    countsAcquisitions = (major ?? 4) >= 4
    switch type {
    case "classic":
      kind = .classic
      levels = hasLevels == false ? .one : .each
    case "quorum":
      kind = .quorum
      levels = (major ?? 4) >= 4 ? .two : .one
      // RabbitMQ 4.0 brought a default; negative numbers are none.
      let limit = deliveryLimit ?? ((major ?? 4) >= 4 ? 20 : -1)
      self.deliveryLimit = limit >= 0 ? limit : nil
    case "stream":
      kind = .stream
      levels = .one
    default:
      kind = .unknown
      levels = .each
    }
  }

  init(kind: Kind, levels: Levels, countsAcquisitions: Bool) {
    self.kind = kind
    self.levels = levels
    self.countsAcquisitions = countsAcquisitions
  }
}
