import AMQP

/// Decides from what stands at a stream's end whether it is the stream that was captured.
///
/// A channel begins at the newest captured message, which comes at once and is compared (``StreamPlace``). A stream that was
/// made anew, and has fewer messages than that, sends nothing. But neither does a broker that is busy, or a node whose copy of
/// the stream is behind; and the broker's count of messages is 0 for seconds after its start, and small for ever after
/// retention. So the last message is read:
///
///   - The stream reaches the captured offset: it only takes its time.
///   - It ends before, with a message that was captured: this copy of it is behind; unless that stays so for a minute.
///   - It ends before, with a message that was not captured although all of them would be known: it is another stream.
///   - It is not known whether that message was captured: it is another stream if it ends there for three looks.
///
/// A value without I/O.
struct StreamEnd: Equatable, Sendable {
  /// After so long without the newest captured message the end is looked at.
  static let patience = Duration.seconds(5)
  /// How often a stream has to end at one place if nothing else tells.
  private static let looks = (usual: 3, known: 12)

  /// Where it ended, and how often in a row.
  private var seen: Seen?

  private struct Seen: Equatable, Sendable {
    var message: Message
    var count: Int
  }

  /// The last message of a stream.
  struct Message: Equatable, Sendable {
    var offset: Int64
    var digest: DeliveryDigest
  }

  /// Whether the stream is another one.
  ///
  /// - Parameters:
  ///   - last: What stands at its end; nil if nothing came.
  ///   - captured: The newest captured offset.
  ///   - known: Digests of the newest captured messages, without a gap.
  mutating func isAnother(_ last: Message?, captured: Int64, known: some Collection<DeliveryDigest>) -> Bool {
    guard let last, last.offset < captured else {
      seen = nil
      return false
    }
    let isKnown = known.contains(last.digest)
    // An offset may be none of a message, so there are at most so many.
    if !isKnown, Int64(known.count) > captured - last.offset { return true }
    let count = (seen?.message == last ? seen?.count ?? 0 : 0) + 1
    seen = Seen(message: last, count: count)
    return count >= (isKnown ? Self.looks.known : Self.looks.usual)
  }
}
