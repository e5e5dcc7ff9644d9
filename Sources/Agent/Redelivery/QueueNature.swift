import AMQP

/// What kind of queue a channel consumes, as far as it decides how the broker delivers again.
///
/// A classic queue delivers a message again as it was sent. A quorum queue counts its deliveries in headers, which replace
/// a publisher's headers of these names. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
struct QueueNature: Hashable, Sendable {
  enum Kind: Hashable, Sendable {
    case classic
    case quorum
    /// Nothing is taken back: each message has an offset (``StreamPlace``).
    case stream
    /// Neither the settings nor the broker say.
    case unknown
  }

  var kind: Kind
  /// A message may come before one that was published earlier, if its priority is higher: so it is in classic queues with
  /// `x-max-priority`. Quorum queues of RabbitMQ 4 know two priorities, but what they take back they deliver again in the order
  /// of delivery, before everything (tried on 4.0.5 and 4.3.6). https://www.rabbitmq.com/docs/quorum-queues#priorities
  var hasPriorities: Bool
  /// RabbitMQ counts in `x-acquired-count` how often a consumer has had the message; those before 4.3 leave that header alone
  /// (tried on 3.10.8, 4.0.5 and 4.3.6).
  var countsAcquisitions: Bool
  /// How often a quorum queue takes a message back before it drops or dead-letters it; nil if that is not known, or
  /// without a limit. A policy may set a lower one. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
  var deliveryLimit: Int64?

  /// Nothing is known.
  static let unknown = QueueNature(kind: .unknown, hasPriorities: true, countsAcquisitions: true)

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
  ///   - type: The queue's type if the broker, or the settings, say it (`x-queue-type`).
  ///   - hasLevels: Nil if no one says whether the queue was declared with `x-max-priority`; a policy cannot set it.
  ///   - deliveryLimit: The argument `x-delivery-limit`, if it is known.
  ///   - brokerVersion: For example `4.0.5`.
  init(type: String?, hasLevels: Bool?, deliveryLimit: Int64? = nil, brokerVersion: String) {
    let numbers = brokerVersion.split(separator: ".").prefix(2).map { Int($0) ?? 0 }
    let hasLimit = numbers.first ?? 4 >= 4
    countsAcquisitions = numbers.count == 2 && (numbers[0], numbers[1]) >= (4, 3)
    switch type {
    case "classic":
      kind = .classic
      hasPriorities = hasLevels != false
    case "quorum":
      kind = .quorum
      hasPriorities = false
      // RabbitMQ 4.0 brought a default; negative numbers are none.
      let limit = deliveryLimit ?? (hasLimit ? 20 : -1)
      self.deliveryLimit = limit >= 0 ? limit : nil
    case "stream":
      kind = .stream
      hasPriorities = false
    default:
      kind = .unknown
      hasPriorities = true
    }
  }

  init(kind: Kind, hasPriorities: Bool, countsAcquisitions: Bool) {
    self.kind = kind
    self.hasPriorities = hasPriorities
    self.countsAcquisitions = countsAcquisitions
  }
}
