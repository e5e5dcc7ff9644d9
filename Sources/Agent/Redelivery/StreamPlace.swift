import AMQP

/// Where in a stream a capture is: which deliveries are new, and whether the stream is still the one that it was.
///
/// A stream keeps its messages and gives each an offset, so nothing has to be recognised by its place among others. But a
/// stream may be deleted and made anew, and begins at offset 0 then: an offset alone would skip what the new one has below
/// it. So a channel begins at the newest captured message itself, and that one is compared, by its digest. A consumer gets
/// whole chunks, so messages from before the wished offset come first; they are passed over.
/// https://www.rabbitmq.com/docs/streams#consuming
///
/// A value without I/O: deliveries in, verdicts out.
struct StreamPlace: Hashable, Sendable {
  enum Verdict: Equatable, Sendable {
    /// New.
    case capture
    /// New, and the stream begins later than the channel was to: its retention has dropped `missing` before they came.
    case captureAfterGap(missing: ClosedRange<Int64>)
    /// New, and so many offsets before it are none of a message: entries of other kinds take offsets as well.
    case captureAfterJump(offsets: Int64)
    /// Captured before: only the broker's credit is given back.
    case pass
    /// The stream is another one. Nothing of this channel is captured; it is to be read from its beginning.
    case anotherStream
  }

  private enum State: Hashable {
    /// Nothing was captured yet. Leaves by a capture.
    case fresh
    /// The channel has begun, and the newest captured message is expected. Leaves when it comes, or a later one, or another
    /// one in its place.
    case looking(offset: Int64, digest: DeliveryDigest?)
    /// Captured up to this offset. Leaves by `channelBegan`.
    case following(offset: Int64, digest: DeliveryDigest?)
  }

  private var state: State
  /// What stands up to here cannot be sent, and is gone past: the channel begins after it.
  private let passed: Int64?

  /// - Parameters:
  ///   - digest: Of the message at `offset`; nil if it is not known, and then not compared.
  ///   - passed: The last of the offsets after `offset` that are gone past.
  init(offset: Int64? = nil, digest: DeliveryDigest? = nil, passed: Int64? = nil) {
    state = offset.map { .looking(offset: $0, digest: digest) } ?? .fresh
    self.passed = passed
  }

  /// True until the newest captured message has come again on this channel.
  var isLooking: Bool {
    switch state {
    case .looking: true
    case .fresh, .following: false
    }
  }

  /// The newest captured offset; nil before the first.
  var offset: Int64? {
    switch state {
    case .fresh: nil
    case .looking(let offset, _), .following(let offset, _): offset
    }
  }

  /// A new consumer, from the newest captured offset on.
  mutating func channelBegan() {
    switch state {
    case .fresh, .looking: break
    case .following(let offset, let digest): state = .looking(offset: offset, digest: digest)
    }
  }

  /// The next delivery of the channel.
  mutating func delivered(_ offset: Int64, _ digest: DeliveryDigest) -> Verdict {
    if let passed, offset <= passed { return .pass }
    switch state {
    case .fresh:
      state = .following(offset: offset, digest: digest)
      return .capture
    case .looking(let last, let known):
      if offset < last { return .pass }
      if offset == last {
        guard known == nil || known == digest else {
          state = .fresh
          return .anotherStream
        }
        state = .following(offset: last, digest: digest)
        return .pass
      }
      state = .following(offset: offset, digest: digest)
      if let passed {
        // The channel began right after them.
        return offset - 1 > passed ? .captureAfterJump(offsets: offset - 1 - passed) : .capture
      }
      return offset - 1 > last ? .captureAfterGap(missing: last + 1...offset - 1) : .capture
    case .following(let last, _):
      guard offset > last else { return .pass }
      state = .following(offset: offset, digest: digest)
      return offset - 1 > last ? .captureAfterJump(offsets: offset - 1 - last) : .capture
    }
  }
}
