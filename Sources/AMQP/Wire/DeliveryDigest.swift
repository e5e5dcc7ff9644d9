/// What a message looks like, in 128 bits: equal for every delivery of the same message, and for messages that are
/// alike. It says "equal", never "the same".
public struct DeliveryDigest: Hashable, Sendable {
  /// The first 64 of the 128 bits.
  public var high: UInt64
  /// The last 64 bits.
  public var low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Of everything that `hash` was given.
  init(ending hash: DigestHash) {
    (high, low) = hash.end()
  }
}

/// Which headers a digest covers.
public enum DigestForm: Sendable, CaseIterable {
  /// All of them: for queues that add none, where a header with the name of a broker's is the publisher's.
  case complete
  /// All but `x-delivery-count`, `x-acquired-count` and `x-stream-offset`, which the broker sets or replaces when it
  /// delivers again. https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
  case withoutBrokers
  /// Version 0.1.0's: as ``withoutBrokers``, but an empty table and none are two things. For digests that it has stored.
  case first
}
