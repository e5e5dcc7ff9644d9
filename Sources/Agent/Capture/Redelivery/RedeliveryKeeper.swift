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
  /// The prefetch count to consume with: it may not shrink while deliveries of a larger one can be unacknowledged, since
  /// a quorum queue then returns them out of order.
  let prefetch: Int
  /// Length of the anchor.
  let anchor: Int
  /// True where the journal does not outlive the process, so that the checkpoints' state has to carry this.
  let isCarriedByCheckpoints: Bool
  /// How many messages were captured before the journal's first position.
  private let base: Int64
  private let initial: RedeliveryMachine

  /// - Parameter state: What the committed checkpoint carries; looked at only where the journal is temporary.
  /// - Returns: Nil where redeliveries are not recognised; the state of an earlier session is then void.
  init?(
    _ policy: DeduplicationPolicy, _ configuration: EndpointConfiguration, journal: Journal, isTemporary: Bool,
    state: RedeliveryState?
  ) throws(JournalError) {
    guard policy.isOn else { return nil }
    trust = policy.trust
    self.window = policy.byMessageID ? Self.ledgerWindow : Self.positionWindow
    let queue = QueueIdentity(configuration)
    self.queue = queue
    isCarriedByCheckpoints = isTemporary
    let state = isTemporary && state.map { queue.matches($0.queue) } == true ? state : nil
    let last = state?.captured ?? journal.positions.last.rawValue
    base = last - journal.positions.last.rawValue
    let wished = configuration.consumer.prefetchCount
    var releasable = last
    var window: [DeliveryDigest] = []
    var priority: UInt8?
    var prioritySince = last
    var prefetch = wished
    if let state {
      window = state.window ?? []
      releasable = state.releasable
      priority = state.priority
      prioritySince = state.prioritySince
      if !window.isEmpty && releasable < last { prefetch = max(wished, state.prefetch) }
    } else if let record = try journal.redelivery(), queue.matches(record.queue) {
      window = DeliveryDigest.array(try journal.newestDigests(limit: self.window))
      releasable = record.releasable.rawValue
      priority = record.priority
      prioritySince = record.prioritySince.rawValue
      if !window.isEmpty && releasable < last { prefetch = max(wished, record.prefetch) }
    }
    self.prefetch = prefetch
    anchor = policy.byMessageID ? 0 : DeduplicationPolicy.anchor(prefetch: wished)
    carriedWindow = max(prefetch, anchor, policy.byMessageID ? min(4 * prefetch, Self.carriedLedgerWindow) : 0)
    initial = RedeliveryMachine(
      anchor: anchor, windowLimit: self.window, captured: last, releasable: releasable, window: window,
      priority: priority, prioritySince: prioritySince, prefetch: prefetch, byMessageID: policy.byMessageID)
  }

  /// The machine as the journal's last commit left it.
  var machine: RedeliveryMachine { initial }

  /// What the journal has to remember of `machine`.
  func record(of machine: RedeliveryMachine) -> RedeliveryRecord {
    RedeliveryRecord(
      queue: queue.text, releasable: position(of: machine.releasable), prefetch: prefetch, priority: machine.priority,
      prioritySince: position(of: machine.prioritySince))
  }

  /// The journal's position of the `count`-th captured message; below 1 for those of before the journal.
  func position(of count: Int64) -> Position { Position(rawValue: count - base) }

  /// The inverse of ``position(of:)``.
  func count(of position: Position) -> Int64 { position.rawValue + base }
}
