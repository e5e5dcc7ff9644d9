import AMQP
import Journal
import Platform

/// What a capture's threads have told one another, and what follows for each: the one value that they share.
///
/// Each thread decides by a value that it alone has (``ConnectionMachine``, ``SubscriptionMachine``, ``EmissionMachine``), and asks this one
/// for what the others have reported; so a thread that hangs in a write or a sync keeps no one from deciding. What several of them have to
/// know is told here once, and reaches all of them in the same moment; the end of the capture is brought about by ``Lifecycle``, which is
/// part of it.
///
/// ```
///   connection ── handed over, answered, intake ended ──►┌─────────────┐◄── emitted, emission ended ── emitter
///                                                        │ this value  │◄── committed, nothing more ── runtime, or the output's file
///      journal ── journaled, carries, rows ended ───────►└─────────────┘◄── stop, fail ────────────── drivers, signals
///                                                     next ▼  ▼  ▼
///                                     journal (inbox) · emitter (progress) · the thread that ends it
/// ```
///
/// Each event returns for whom it matters, and those look again.
///
/// A value without clock and I/O.
struct CaptureMachine: Sendable {
  /// The journal's thread waits for what is in ``inbox``.
  static let journal = Listeners.first
  /// The emitter's thread waits for what is in ``progress``.
  static let emitter = Listeners.second
  /// The thread that brings about the end waits for ``Lifecycle``.
  static let end = Listeners.third

  private(set) var lifecycle: Lifecycle
  var inbox: JournalInbox
  var progress: JournalProgress
  /// The subscriptions whose connection's thread has ended.
  private var endedConnections: Set<Int> = []
  /// The subscriptions of which no row will follow.
  private var endedRows: Set<Int> = []
  /// Those of them of which all are acknowledged.
  private var acknowledgedRows: Set<Int> = []

  /// - Parameters:
  ///   - subscriptions: How many there are. Each is named by its index.
  ///   - journaled: The journal's newest position.
  ///   - start: Documents up to here are committed, even if the journal has not recorded it.
  init(
    _ lifecycle: Lifecycle, subscriptions count: Int = 1, journaled: Position = .origin, start: Position = .origin
  ) {
    self.lifecycle = lifecycle
    inbox = JournalInbox(subscriptions: count)
    progress = JournalProgress(journaled: journaled, subscriptions: count)
    (inbox.emitted, inbox.committed) = (start, start)
  }

  // MARK: - The connection

  /// The journal's thread has no batch of this subscription waiting.
  func takesBatch(of index: Int) -> Bool { inbox.subscriptions[index].handover == nil }

  /// A batch goes to the journal's thread, which has none waiting (``takesBatch(of:)``): one in its place would be lost.
  mutating func handedOver(_ handover: Handover, of index: Int) -> Listeners {
    precondition(takesBatch(of: index), "the journal's thread has a batch waiting")
    inbox.subscriptions[index].handover = handover
    return Self.journal
  }

  /// A consumer runs; nil if none does.
  mutating func consumes(_ channel: Consuming?, of index: Int) -> Listeners {
    inbox.subscriptions[index].consuming = channel
    inbox.subscriptions[index].isArriving = false
    return Self.journal
  }

  /// A delivery has begun to arrive that is not whole yet; or none.
  mutating func arriving(_ isArriving: Bool, of index: Int) -> Listeners {
    inbox.subscriptions[index].isArriving = isArriving
    return Self.journal
  }

  mutating func answered(_ answer: SettlingAnswer, of index: Int) -> Listeners {
    inbox.subscriptions[index].answer = answer
    return Self.journal
  }

  /// The connection has to know what may come again.
  mutating func asksForReturning(of index: Int) -> Listeners {
    inbox.subscriptions[index].asksForReturning = true
    return Self.journal
  }

  /// The broker has shown that it has all acknowledgements of this channel.
  mutating func settled(_ generation: Int, of index: Int) -> Listeners {
    inbox.subscriptions[index].settledGeneration = generation
    return Self.journal
  }

  /// No further batch will come.
  mutating func intakeEnded(of index: Int) -> Listeners {
    inbox.subscriptions[index].intakeEnded = true
    return Self.journal
  }

  /// The thread of a connection has ended. When all have, the connection's part in the end is over.
  mutating func disconnected(_ index: Int, _ cause: CaptureFailure?) -> Listeners {
    inbox.subscriptions[index].intakeEnded = true
    endedConnections.insert(index)
    if endedConnections.count >= inbox.subscriptions.count {
      lifecycle.ended(.connection, cause)
    } else if let cause {
      lifecycle.failed(cause)
    }
    return .all
  }

  // MARK: - The journal

  /// Rows up to `last` may be read.
  ///
  /// - Parameters:
  ///   - counts: How many there are new of each subscription: if there are any, what was to be carried of it is void.
  ///   - batches: The newest of them, in memory, as far as they can be kept, in order.
  /// - Returns: Those whose memory no one needs any more.
  mutating func journaled(
    through last: Position, _ counts: [(index: Int, count: Int)], _ batches: [JournaledBatch] = []
  ) -> [JournaledBatch] {
    progress.journaled = last
    for (index, count) in counts where count > 0 { progress.settlements[index] = nil }
    return batches.compactMap { progress.tail.offer($0) }
  }

  /// A checkpoint is to carry a step of a settling.
  mutating func carries(_ settlement: Settlement) -> Listeners {
    progress.settlements[settlement.index] = settlement
    return Self.emitter
  }

  /// No row of a subscription will follow.
  ///
  /// - Parameter isSettled: All rows' messages were acknowledged, as far as acknowledgements rest on the journal.
  mutating func rowsEnded(of index: Int, isSettled: Bool) -> Listeners {
    endedRows.insert(index)
    if isSettled { acknowledgedRows.insert(index) }
    guard endedRows.count >= inbox.subscriptions.count else { return [] }
    (progress.isSettled, progress.ended) = (acknowledgedRows.count == endedRows.count, true)
    lifecycle.drained()
    return [Self.emitter, Self.end]
  }

  // MARK: - The emitter

  /// Documents up to `position` were written.
  ///
  /// - Parameters:
  ///   - checkpoint: What is committed by that already; nil if someone else says so later.
  ///   - outputs: The output files that have changed, as they are then, of each subscription.
  mutating func emitted(
    through position: Position, _ checkpoint: Checkpoint?, _ outputs: [Int: OutputRecord] = [:]
  ) -> Listeners {
    inbox.emitted = max(inbox.emitted, position)
    inbox.outputs.merge(outputs) { $1 }
    guard let checkpoint else { return Self.journal }
    return committed(checkpoint)
  }

  /// Output files were completed, or others begun.
  mutating func rotated(_ outputs: [Int: OutputRecord]) -> Listeners {
    inbox.outputs.merge(outputs) { $1 }
    return Self.journal
  }

  /// Everything is emitted.
  mutating func emissionEnded() -> Listeners {
    lifecycle.emitted(through: progress.journaled, progress.settlements.compactMap { $0 })
    return Self.end
  }

  // MARK: - The runtime

  /// The runtime, or the output's file, has committed a checkpoint.
  mutating func committed(_ checkpoint: Checkpoint) -> Listeners {
    inbox.committed(checkpoint)
    lifecycle.committed(checkpoint)
    // Before everything is emitted no one waits for a commit to end.
    return lifecycle.state == .awaitingCommit ? [Self.journal, Self.end] : Self.journal
  }

  /// No one will report commits any more.
  mutating func acknowledgementsEnded() -> Listeners {
    inbox.acknowledgementsEnded = true
    lifecycle.acknowledgementsAreOver()
    return [Self.journal, Self.end]
  }

  // MARK: - The end

  mutating func requestStop() -> Listeners {
    lifecycle.requestStop()
    return Self.end
  }

  mutating func fail(_ cause: CaptureFailure) -> Listeners {
    lifecycle.fail(cause)
    return Self.end
  }

  /// A thread has ended.
  mutating func ended(_ part: Lifecycle.Part, _ cause: CaptureFailure?) -> Listeners {
    switch part {
    case .connection: for index in inbox.subscriptions.indices { inbox.subscriptions[index].intakeEnded = true }
    // The emitter stops waiting for rows.
    case .journal: progress.ended = true
    case .emitter: break
    }
    lifecycle.ended(part, cause)
    return .all
  }

  mutating func readersClosed() -> Listeners {
    lifecycle.readersClosed()
    return Self.end
  }

  /// Whether a thread that has no room for what it has in hand waits for it. In an end no one does: what is not written is with the broker,
  /// or in the journal.
  var waitsForRoom: Bool { !inbox.stopping }

  /// The capture is about to end, by a wish or a failure.
  var isEnding: Bool { lifecycle.stopRequested || lifecycle.failure != nil }

  /// What the thread that brings about the end does next, or until when there is nothing to do unless something is reported; and for whom what is
  /// told by that matters.
  mutating func next(at now: Instant) -> Next<Lifecycle.Action> {
    let next = lifecycle.next(at: now)
    switch next {
    case .now(.stop(let failed)): (inbox.stopping, inbox.failed) = (true, failed)
    case .now(.closeJournal): inbox.closing = true
    case .now(.notify), .now(.closeReaders), .now(.disconnect), .now(.end), .later: break
    }
    return next
  }
}

extension Monitor<CaptureMachine> {
  /// How long a thread that has no room waits before it tries again.
  private static var roomDelay: Duration { .seconds(1) }

  /// Waits a moment for room.
  ///
  /// - Returns: Whether it is to be tried again.
  func waitForRoom(as listener: Listeners) -> Bool {
    wait(as: listener, atMost: Self.roomDelay) { $0.waitsForRoom ? nil : false } ?? true
  }
}
