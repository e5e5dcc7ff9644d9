import AMQP
import Journal
import Platform

/// Where a capture of a stream queue goes on: at the newest message that was captured, which ``StreamPlace`` compares.
///
/// Offset and digest are stored in the transaction of the messages, or in the checkpoint that covers them. Acknowledgements
/// are only credit. The offset of each row that is not emitted yet is kept here, as runs of neighbours: a publisher may
/// have written an offset of his own into a message, so a document's headers tell nothing.
final class StreamResumption: Sendable {
  /// The header that every delivery of a stream carries, and the argument to consume from.
  static let key = "x-stream-offset"
  /// For how many rows the journal keeps digests, so that a checkpoint that is behind finds its own.
  static let window = 65_536

  /// Messages with neighbouring numbers and offsets.
  private struct Run {
    var position: Position
    var offset: Int64
    var count: Int
  }

  private struct Shared {
    var offset: Int64?
    var digest: DeliveryDigest?
    /// Digests of the newest captured messages, the newest last.
    var known: [DeliveryDigest] = []
    /// Offsets up to this one are gone past: the next channel begins after them.
    var passed: Int64?
    /// The newest offset that this channel has decided about: captured, or too large for a document.
    var newest: Int64?
    /// The message at `offset` has not been seen on this channel yet.
    var isUnconfirmed = true
    var runs: [Run] = []
  }

  /// The queue that the offset is of.
  let queue: QueueIdentity
  let subscription: SubscriptionRecord
  /// True if the journal may not outlive the process, so that the checkpoints' state has to carry the offset.
  let isCarriedByCheckpoints: Bool
  /// Under which the runtime keeps the state; another one in the journal means that the stream is to be read again.
  private let stateKey: String?
  private let start: StreamStart
  /// The broker leaves messages out by a filter, so offsets jump.
  let isFiltered: Bool
  private let shared: Locked<Shared>

  /// - Parameters:
  ///   - isCarried: The checkpoints carry the offset.
  ///   - state: What the committed checkpoint carries; looked at only if the journal knows nothing, or less.
  /// - Returns: Nil if the queue is certainly no stream.
  init?(
    _ configuration: EndpointConfiguration, journal: Journal, _ subscription: SubscriptionRecord, isCarried: Bool,
    state: State?, stateKey: String? = nil
  ) throws(JournalError) {
    let type = configuration.queue.arguments["x-queue-type"]
    guard type == nil || type == .string("stream") else { return nil }
    let queue = QueueIdentity(configuration)
    self.queue = queue
    self.subscription = subscription
    isCarriedByCheckpoints = isCarried
    self.stateKey = stateKey
    start = configuration.consumer.streamStart
    isFiltered = configuration.consumer.arguments["x-stream-filter"] != nil
    var found = Shared()
    if let record = try journal.redelivery(of: subscription), queue.matches(record.queue),
      let offset = record.streamOffset
    {
      let former = QueueIdentity.stateKey(in: record.queue)
      if stateKey == nil || former == nil || former == stateKey {
        found.offset = offset
        found.known = DeliveryDigest.array(try journal.newestDigests(limit: Self.window, of: subscription))
        found.digest = found.known.last
      }
    }
    // A journal knows more than the checkpoints over itself, also if its stream was made anew and begins at 0 again. Only
    // one that was away for a while knows less.
    let knowsMore = found.offset != nil && state?.journal == journal.identifier
    if let state, !knowsMore, queue.matches(state.queue), found.offset ?? -1 < state.offset {
      found.offset = state.offset
      found.digest = state.digest
      found.known = state.digest.map { [$0] } ?? []
    }
    shared = Locked(found)
  }

  /// A stream is declared as one, or consumed from an offset. Otherwise the broker is asked (``Topology``).
  static func isStream(_ configuration: EndpointConfiguration) -> Bool {
    configuration.queue.arguments["x-queue-type"] == .string("stream") || configuration.consumer.expectsStream
  }

  /// The newest captured offset; nil before the first.
  var offset: Int64? { shared.withLock { $0.offset } }

  /// Where the capture stands, for the start of a channel.
  var place: StreamPlace {
    shared.withLock { StreamPlace(offset: $0.offset, digest: $0.digest, passed: $0.passed) }
  }

  /// The value of the consume argument: the newest captured message, which is compared, or where the configuration begins; the
  /// offset after those that are gone past.
  var argument: Argument {
    if let passed = shared.withLock({ $0.passed }) { return .integer(passed + 1) }
    if let offset = offset { return .integer(offset) }
    switch start {
    case .first: return .string("first")
    case .last: return .string("last")
    case .next: return .string("next")
    case .offset(let offset): return .integer(offset)
    case .instant(let seconds): return .timestamp(UInt64(max(0, seconds)))
    case .interval(let text): return .string(text)
    }
  }

  /// Messages with these offsets and digests are durable in the journal, with numbers from `first` on.
  func captured(_ offsets: [Int64], from first: Position, digests: [DeliveryDigest]) {
    guard let newest = offsets.last else { return }
    shared.withLock { shared in
      shared.offset = newest
      shared.digest = digests.last
      shared.passed = nil
      shared.known += digests
      // Now and then: removing from the front moves everything.
      if shared.known.count >= 2 * Self.window { shared.known.removeFirst(shared.known.count - Self.window) }
      guard isCarriedByCheckpoints else { return }
      for (index, offset) in offsets.enumerated() {
        let position = first + index
        if let last = shared.runs.last, position == last.position + last.count,
          offset.subtractingReportingOverflow(last.offset) == (Int64(last.count), false)
        {
          shared.runs[shared.runs.count - 1].count += 1
        } else {
          shared.runs.append(Run(position: position, offset: offset, count: 1))
        }
      }
    }
  }

  /// A new consumer: the newest captured message has to come first.
  func channelBegan() {
    shared.withLock { shared in
      shared.isUnconfirmed = shared.passed == nil
      shared.newest = nil
    }
  }

  /// The newest captured message has come again, or a later one.
  func confirmed() { shared.withLock { $0.isUnconfirmed = false } }

  /// True if messages were captured, and the newest one has not come again on this channel.
  var isUnconfirmed: Bool { shared.withLock { $0.isUnconfirmed && $0.offset != nil } }

  /// The first offset that is not captured yet: what the next channel is to bring first, or after. Nil if none can be named.
  var next: Int64? {
    let known = shared.withLock { [$0.passed, $0.newest, $0.offset].compactMap(\.self).max() }
    if let known { return known < .max ? known + 1 : nil }
    return switch start {
    case .first: 0
    case .offset(let offset): offset
    case .last, .next, .instant, .interval: nil
    }
  }

  /// The newest offset that was captured, or gone past since it was too large; nil before the first.
  var newest: Int64? { shared.withLock { [$0.newest, $0.offset].compactMap(\.self).max() } }

  /// A message that is too large for a document was gone past (`document.oversize: reject`).
  func refused(_ offset: Int64) { shared.withLock { $0.newest = max($0.newest ?? 0, offset) } }

  /// The channel begins after what is gone past.
  var isPassing: Bool { shared.withLock { $0.passed != nil } }

  /// The next channel begins after `offset`, since what stands up to there cannot be sent; nil takes that back.
  func pass(through offset: Int64?) {
    shared.withLock { shared in
      shared.passed = offset
      shared.newest = nil
    }
  }

  /// The newest captured message; nil before the first.
  var captured: OffsetSearch.Captured? {
    shared.withLock { shared in shared.offset.map { OffsetSearch.Captured(offset: $0, digest: shared.digest) } }
  }

  /// The newest captured offset, and digests of the newest captured messages, the newest last, without a gap.
  struct Newest: Sendable {
    var offset: Int64
    var known: [DeliveryDigest]
  }

  /// Nil before the first message.
  var newestCaptured: Newest? {
    shared.withLock { shared in shared.offset.map { Newest(offset: $0, known: shared.known) } }
  }

  /// The stream is another one: it is read from where the configuration begins.
  func forget() {
    shared.withLock { shared in
      shared.offset = nil
      shared.passed = nil
      shared.newest = nil
      shared.digest = nil
      shared.known = []
    }
  }

  /// What the journal has to remember, in the transaction that appends the messages up to `offset`.
  func record(of offset: Int64?, last: Position) -> RedeliveryRecord {
    RedeliveryRecord(
      queue: queue.text(stateKey: stateKey), releasable: last, prefetch: 0, priority: nil, prioritySince: last,
      streamOffset: offset)
  }

  /// An offset, and the digest of the message there, as a checkpoint's state carries them.
  struct State: Hashable, Sendable {
    var queue: String
    var offset: Int64
    /// Nil in a state of version 0.1.0, or if it was not known.
    var digest: DeliveryDigest?
    /// The journal that the checkpoint was over, which stands beside the offset; nil if that is not known.
    var journal: String?

    var json: JSONValue {
      var text: JSONValue = .null
      if let digest {
        var bytes: [UInt8] = []
        digest.append(to: &bytes)
        var encoded: [UInt8] = []
        Base64.append(bytes.span, to: &encoded)
        text = .string(String(decoding: encoded, as: UTF8.self))
      }
      // In a merge patch null removes the digest of an older state.
      return ["queue": .string(queue), "offset": .integer(offset), "digest": text]
    }

    init(queue: String, offset: Int64, digest: DeliveryDigest? = nil) {
      self.queue = queue
      self.offset = offset
      self.digest = digest
    }

    /// Nil if there is none.
    init?(json: JSONValue?) {
      guard let queue = json?["queue"]?.stringValue, let offset = json?["offset"]?.int64Value,
        DeliveryMarks.numbers.contains(offset)
      else { return nil }
      let digest = json?["digest"]?.stringValue.flatMap(Base64.decoded).map { DeliveryDigest.array($0) }
      self.init(queue: queue, offset: offset, digest: digest?.first)
    }
  }

  /// The state for a checkpoint after everything that was captured; nil before the first message.
  var newestState: State? {
    shared.withLock { shared in
      shared.offset.map { State(queue: queue.text, offset: $0, digest: shared.digest) }
    }
  }

  /// The state for a checkpoint that ends with the message of the number `position`; nil if that is none of the stream.
  func state(through position: Position, reader: JournalReader) throws(JournalError) -> State? {
    let offset = shared.withLock { shared -> Int64? in
      let done = shared.runs.prefix { $0.position + $0.count <= position }.count
      shared.runs.removeFirst(done)
      guard let run = shared.runs.first, run.position <= position else { return nil }
      return run.offset + Int64(position - run.position)
    }
    guard let offset else { return nil }
    let group = try reader.digestGroups(
      of: subscription, after: Position(rawValue: position.rawValue - 1), through: position
    ).first
    let digest = group.flatMap { group -> DeliveryDigest? in
      let digests = DeliveryDigest.array(group.digests)
      let index = digests.count - 1 - (group.last - position)
      return digests.indices.contains(index) ? digests[index] : nil
    }
    return State(queue: queue.text, offset: offset, digest: digest)
  }
}
