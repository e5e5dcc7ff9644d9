import AMQP

/// Which headers the digests cover by which redeliveries are recognised.
extension RedeliveryMachine {
  /// Which headers the digests of captured messages cover.
  var digestForm: DigestForm {
    switch (session.trust, session.queue.kind) {
    // Headers of the broker's names are the publisher's there, and tell messages apart.
    case (_, .classic), (.exclusive, .unknown): .complete
    case (.exclusive, .quorum), (.sole, _), (.none, _), (_, .stream): .withoutBrokers
    }
  }

  /// Other forms of digests under which a redelivery with these marks may have been stored.
  func otherForms(of marks: DeliveryMarks) -> [DigestForm] {
    switch (session.trust, session.queue.kind) {
    case (.none, _): ledger == nil ? [] : [.first, digestForm == .complete ? .withoutBrokers : .complete]
    case (.exclusive, .unknown):
      // If this is a quorum queue after all, the broker's headers must tell: only a complete digest has them.
      marks.deliveryCount == nil && marks.acquiredCount == nil ? [.withoutBrokers, .first] : []
    case (_, .classic): [.withoutBrokers, .first]
    case (_, .quorum), (_, .stream), (.sole, .unknown): [.first, .complete]
    }
  }
}
