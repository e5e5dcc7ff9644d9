import AMQP
import Journal

/// Follows the emitter with what recognises redeliveries of the messages that it has emitted, so that a checkpoint can
/// carry it.
struct RedeliveryTrail: Sendable {
  private let keeper: RedeliveryKeeper
  /// Digests up to the emitted number, the newest last, without gaps: empty after messages without one, as they are
  /// journaled while redeliveries are not recognised, or after a salvage.
  private var window: [DeliveryDigest]
  private var emitted: Position
  private var release: ReleaseTrail
  private var priority: UInt8?
  private var prioritySince: Int64
  private var lineStart: Int64
  /// Up to here the checkpoints of this session carried the window.
  private var carried: Position?

  /// - Parameter start: The number of the newest message that was emitted before.
  init(_ keeper: RedeliveryKeeper, start: Position) {
    self.keeper = keeper
    let machine = keeper.machine
    let captured = keeper.count(of: start)
    // The machine has captured what the journal holds, and this begins before what was not emitted.
    window = machine.window.dropLast(Int(clamping: max(0, machine.captured - captured)))
    emitted = start
    release = ReleaseTrail(
      anchor: keeper.anchor, releasable: keeper.position(of: machine.releasable),
      settled: keeper.position(of: machine.settled))
    priority = machine.priority
    prioritySince = min(machine.prioritySince, captured + 1)
    lineStart = min(machine.lineStart, captured)
  }

  /// What a checkpoint for documents up to the number `position` says.
  ///
  /// - Parameter step: Of a settling; from the first on nothing is kept back any more.
  mutating func checkpoint(
    through position: Position, step: Settlement.Step? = nil, reader: JournalReader
  ) throws(JournalError) -> (releasable: Position, state: RedeliveryState?) {
    release.checkpoint(through: position, step: step)
    guard keeper.isCarriedByCheckpoints else { return (release.releasable, nil) }
    if position > emitted { try follow(to: position, reader) }
    // A settling after the checkpoint of its last document changes a number only.
    let isCarried = carried == position
    carried = position
    // What has no digest is not recognised when it comes again, so there is no sense in waiting for it.
    let captured = keeper.count(of: position)
    return (
      release.releasable,
      RedeliveryState(
        queue: keeper.queue.text, captured: captured,
        releasable: min(captured, max(keeper.count(of: release.releasable), captured - Int64(window.count))),
        settled: min(captured, max(keeper.count(of: release.settled), captured - Int64(window.count))),
        prefetch: keeper.prefetch, priority: priority, prioritySince: prioritySince, lineStart: lineStart,
        window: isCarried ? nil : window.suffix(keeper.carriedWindow))
    )
  }

  private mutating func follow(to position: Position, _ reader: JournalReader) throws(JournalError) {
    for group in try reader.digestGroups(of: keeper.subscription, after: emitted, through: position) {
      let digests = DeliveryDigest.array(group.digests)
      let first = Position(rawValue: group.last.rawValue - Int64(digests.count) + 1)
      let from = max(first, emitted + 1)
      let through = min(group.last, position)
      // The next digests may be of messages that are emitted later.
      guard from <= through else { break }
      if from > emitted + 1 { window.removeAll(keepingCapacity: true) }
      if from > emitted + 1 || group.beginsLine && from == first { lineStart = keeper.count(of: from) - 1 }
      window.append(contentsOf: digests[(from - first)...(through - first)])
      if through == group.last || group.prioritySince <= first {
        priority = group.priority
        prioritySince = keeper.count(of: group.prioritySince)
      } else {
        // Priorities change somewhere in the group: of its first part nothing is claimed.
        prioritySince = keeper.count(of: through) + 1
      }
      emitted = through
    }
    if emitted < position {
      // Of the newest messages nothing is known.
      window.removeAll(keepingCapacity: true)
      lineStart = keeper.count(of: position)
      (priority, prioritySince) = (nil, lineStart + 1)
      emitted = position
    }
    let kept = keeper.carriedWindow
    if window.count > 2 * kept { window.removeFirst(window.count - kept) }
  }
}
