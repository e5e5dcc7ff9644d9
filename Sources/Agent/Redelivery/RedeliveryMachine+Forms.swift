import AMQP

/// Which headers the digests cover by which redeliveries are recognised.
extension RedeliveryMachine {
  /// Which headers the digests of captured messages cover.
  var digestForm: DigestForm {
    switch shown.queue.kind {
    // Headers of the broker's names are the publisher's there, and tell messages apart.
    case .classic: .complete
    case .quorum, .unknown, .stream: .withoutBrokers
    }
  }

  /// Other forms of digests under which a redelivery may have been stored.
  var otherForms: [DigestForm] {
    switch (shown.trust, shown.queue.kind) {
    case (.none, _): ledger == nil ? [] : [.first, digestForm == .complete ? .withoutBrokers : .complete]
    case (_, .classic): [.withoutBrokers, .first]
    case (_, .quorum), (_, .stream), (_, .unknown): [.first, .complete]
    }
  }
}
