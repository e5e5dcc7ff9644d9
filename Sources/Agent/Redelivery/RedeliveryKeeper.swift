import AMQP
import Journal

/// Carries a `RedeliveryMachine` over crashes: reads its state from the journal, and gives what a transaction has to
/// write so that the state changes together with the rows.
struct RedeliveryKeeper: Sendable {
  /// How many digests are kept. A broker that lost its last acknowledgements in a crash sends at most so many again:
  /// classic queues are known to forget some ten thousand.
  static let positionWindow = 65_536
  /// How many messages are recognised by their ids, at least: more than any broker is known to send again.
  static let ledgerWindow = 131_072
  /// How many digests a checkpoint carries for that, unless more messages than this can be unacknowledged.
  static let carriedLedgerWindow = 8192

  let trust: RedeliveryMachine.Trust
  /// How many digests the journal keeps.
  let window: Int
  /// How many digests a checkpoint carries.
  let carriedWindow: Int
  /// Digests of another queue mean nothing.
  let queue: QueueIdentity
  /// Whose numbers ``position(of:)`` gives.
  let subscription: SubscriptionRecord
  /// The prefetch count to consume with: it may not shrink while deliveries of a larger one can be unacknowledged, since
  /// a quorum queue then returns them out of order.
  let prefetch: Int
  /// Length of the anchor.
  let anchor: Int
  /// True if the journal may not outlive the process, so that the checkpoints' state has to carry this.
  let isCarriedByCheckpoints: Bool
  /// How many messages were captured before the subscription's first in the journal.
  let base: Int64
  private let initial: RedeliveryMachine

  /// What is added to the positions of a journal that is kept, for the counts in a state that checkpoints carry: large enough
  /// that none of a window's becomes negative.
  private static let carriedBase: Int64 = 1 << 20

  /// - Parameters:
  ///   - isTemporary: The journal is new, and counts go on from those of `state`.
  ///   - isCarried: The checkpoints carry what the journal knows.
  ///   - state: What the committed checkpoint carries; looked at only if the journal knows nothing.
  /// - Returns: Nil if redeliveries are not recognised; the state of an earlier session is then void.
  init?(
    _ policy: DeduplicationPolicy, _ configuration: EndpointConfiguration, journal: Journal,
    _ subscription: SubscriptionRecord, isTemporary: Bool, isCarried: Bool, state: RedeliveryState?
  ) throws {
    guard policy.isOn else { return nil }
    trust = policy.trust
    let windowLimit = policy.byMessageID ? Self.ledgerWindow : Self.positionWindow
    self.window = windowLimit
    let queue = QueueIdentity(configuration)
    self.queue = queue
    self.subscription = subscription
    isCarriedByCheckpoints = isCarried
    let state = state.map { queue.matches($0.queue) } == true ? state : nil
    if let state, !isTemporary { try Self.adopt(state, queue, journal: journal, subscription, windowLimit) }
    let captured = try journal.captured(of: subscription).rawValue
    let last = isTemporary ? state?.captured ?? 0 : captured + (isCarried ? Self.carriedBase : 0)
    base = last - captured
    let wished = configuration.consumer.prefetchCount
    var releasable = last
    var settled = last
    var window: [DeliveryDigest] = []
    var priority: UInt8?
    var prioritySince = last
    var prefetch = wished
    var lineStart: Int64 = 0
    if isTemporary, let state {
      window = state.window ?? []
      lineStart = state.lineStart
      releasable = state.releasable
      settled = state.settled
      priority = state.priority
      prioritySince = state.prioritySince
      if !window.isEmpty && settled < last { prefetch = max(wished, state.prefetch) }
    } else if let record = try journal.redelivery(of: subscription), queue.matches(record.queue) {
      window = DeliveryDigest.array(try journal.newestDigests(limit: self.window, of: subscription))
      lineStart = try journal.lineStart(of: subscription).rawValue + base
      // What damage has left of them may be beyond the last.
      releasable = min(record.releasable.rawValue, captured) + base
      settled = min(record.settled.rawValue, captured) + base
      priority = record.priority
      prioritySince = record.prioritySince.rawValue + base
      if !window.isEmpty && settled < last { prefetch = max(wished, min(record.prefetch, Int(UInt16.max))) }
    }
    self.prefetch = prefetch
    anchor = policy.byMessageID ? 0 : DeduplicationPolicy.anchor(prefetch: wished)
    carriedWindow = max(prefetch, anchor, policy.byMessageID ? min(4 * prefetch, Self.carriedLedgerWindow) : 0)
    initial = RedeliveryMachine(
      anchor: anchor, windowLimit: self.window, captured: last, releasable: releasable, window: window,
      priority: priority, prioritySince: prioritySince, prefetch: prefetch, byMessageID: policy.byMessageID,
      lineStart: lineStart, settled: settled)
  }

  /// Lets a new journal know what the checkpoints of sessions without it carried, so that giving `journal.path` captures
  /// nothing again.
  private static func adopt(
    _ state: RedeliveryState, _ queue: QueueIdentity, journal: Journal, _ subscription: SubscriptionRecord,
    _ windowLimit: Int
  ) throws {
    guard try journal.captured(of: subscription) == .origin, try journal.redelivery(of: subscription) == nil,
      let window = state.window, !window.isEmpty
    else { return }
    func bytes(_ digests: some Sequence<DeliveryDigest>) -> [UInt8] {
      var bytes: [UInt8] = []
      for digest in digests { digest.append(to: &bytes) }
      return bytes
    }
    let inLine = min(window.count, Int(clamping: state.captured - state.lineStart))
    let earlier = bytes(window.dropLast(inLine))
    let since = Position(rawValue: state.prioritySince - state.captured)
    let record = RedeliveryRecord(
      queue: queue.text, releasable: Position(rawValue: state.releasable - state.captured),
      settled: Position(rawValue: state.settled - state.captured), prefetch: state.prefetch, priority: state.priority,
      prioritySince: since)
    try journal.write { tx in
      try tx.record(subscription)
      if !earlier.isEmpty {
        let through = Position(rawValue: -Int64(inLine))
        try tx.appendDigests(
          earlier, of: subscription, through: through, priority: nil, since: through + 1, window: windowLimit)
      }
      if inLine > 0 {
        try tx.appendDigests(
          bytes(window.suffix(inLine)), of: subscription, priority: state.priority, since: since, beginsLine: true,
          window: windowLimit)
      }
      try tx.setRedelivery(record, of: subscription)
    }
  }

  /// The machine as the journal's last commit left it.
  var machine: RedeliveryMachine { initial }

  /// What the journal has to remember of `machine`.
  func record(of machine: RedeliveryMachine) -> RedeliveryRecord {
    RedeliveryRecord(
      queue: queue.text, releasable: position(of: machine.releasable), settled: position(of: machine.settled),
      prefetch: prefetch, priority: machine.priority, prioritySince: position(of: machine.prioritySince))
  }

  /// The journal's number of the `count`-th captured message; below 1 for those of before the journal.
  func position(of count: Int64) -> Position { Position(rawValue: count - base) }

  /// The inverse of ``position(of:)``.
  func count(of position: Position) -> Int64 { position.rawValue + base }
}
