import Journal
import Platform

/// How a capture comes to its end, in order: nothing more is consumed; what has arrived is journaled; what is journaled is emitted; the
/// runtime commits it; the journal is closed; the broker hears the last acknowledgements, and goodbye.
///
/// ```
/// running ──► draining ──► emitting ──► awaiting commit ──► closing readers ──► closing journal ──► disconnecting ──► ended
///    │  stop, or a failure      └──── journaled, or failed ────┘                                           ▲
///    └────────────────────────── the journal's thread had ended before ───────────────────────────────────┘
/// ```
///
/// Each state is left by what it waits for, or by its deadline: no one waits for ever for one who hangs, and giving up costs nothing but
/// time at the next start. A `kill -9` in any state is as good an end as any.
///
/// A value without clock and I/O: reports in, actions out. Its runner performs each action before asking for the next.
struct Lifecycle: Sendable {
  /// What has a thread of its own.
  enum Part: Hashable, Sendable { case connection, emitter, journal }

  enum State: Equatable, Sendable {
    /// Leaves by a wish to stop, or a failure.
    case running
    /// The connection hands over what has arrived, and the journal writes it. Leaves once no row will follow.
    case draining
    /// Leaves once everything is emitted.
    case emitting
    /// Leaves once the runtime has committed everything, or commits nothing more.
    case awaitingCommit
    /// The other readers of the journal close it, so that it can be closed whole. Leaves when they have.
    case closingReaders
    /// Leaves when the journal's thread has ended.
    case closingJournal
    /// Leaves when the connection's thread has ended.
    case disconnecting
    case ended
  }

  enum Action: Equatable, Sendable {
    /// A want of room that is no failure.
    case notify(CaptureFailure)
    /// No one waits for better times any more; the flag says that the capture may be killed any moment.
    case stop(failed: Bool)
    /// The flag says that documents were emitted and not committed: they come again.
    case closeReaders(isUncommitted: Bool)
    case closeJournal
    /// Everything that may be acknowledged was; the flag says that the journal's thread hangs, and the next start recovers it.
    case disconnect(isUnclosed: Bool)
    case end
  }

  /// From the wish to stop until no one is waited for any more; closing takes one and a half more at the most.
  static let stopTime = Duration.seconds(8)
  /// For the journal's end after that, when documents that no one takes are waited for no longer; half of it for its readers.
  static let closeTime = Duration.seconds(1)
  /// How long acknowledgements of the last checkpoints are waited for (`committed` mode).
  static let acknowledgementTime = Duration.seconds(3)
  /// For a goodbye after a journal that failed.
  static let goodbyeTime = Duration.seconds(2)

  private(set) var state = State.running
  /// Why it ends, if no one asked for it: the first failure is the cause, and others follow from it.
  private(set) var failure: CaptureFailure?
  private(set) var stopRequested = false
  /// Acknowledgements rest on the runtime's commits.
  let awaitsCommit: Bool
  /// The broker has what was not acknowledged; with `no_ack` it has forgotten what it sent.
  let brokerKeeps: Bool
  private var ended: Set<Part>
  /// A want of room that was not told yet.
  private var shortage: CaptureFailure?
  private var isDrained = false
  /// The journal's thread had ended before anybody wanted to stop.
  private var isBroken = false
  private var areReadersClosed = false
  /// No one will report commits any more.
  private var acknowledgementsEnded = false
  /// What is to be committed before the end; nil until everything is emitted.
  private var owed: Checkpoint?
  private var committed: Checkpoint
  /// Of the whole end, and of the present state.
  private var deadline = Instant.distantPast
  private var until = Instant.distantPast

  /// - Parameters:
  ///   - committed: Documents up to here were committed before.
  ///   - ended: What never begins.
  init(
    awaitsCommit: Bool = false, committed: Position = .origin, brokerKeeps: Bool = true, ended: Set<Part> = []
  ) {
    self.awaitsCommit = awaitsCommit
    self.brokerKeeps = brokerKeeps
    self.ended = ended
    self.committed = Checkpoint(through: committed)
  }

  // MARK: Reports

  mutating func requestStop() { stopRequested = true }

  mutating func fail(_ cause: CaptureFailure) { failure = failure ?? cause }

  /// No row will follow.
  mutating func drained() { isDrained = true }

  /// A thread has ended.
  ///
  /// - Parameter cause: Why, if it has failed (``failed(_:)``).
  mutating func ended(_ part: Part, _ cause: CaptureFailure?) {
    ended.insert(part)
    if part == .journal { isDrained = true }
    if let cause { failed(cause) }
  }

  /// A thread has failed, or one of several of its kind. A want of room does not count if the capture was to stop anyway: what was
  /// acknowledged is in the journal, and the broker has the rest.
  mutating func failed(_ cause: CaptureFailure) {
    if cause.kind == .shortage, brokerKeeps, stopRequested, failure == nil { shortage = cause } else { fail(cause) }
  }

  /// Everything is emitted, documents up to `last`.
  ///
  /// - Parameter settlements: The newest steps of settlings that hold: an anchor's release is a checkpoint of its own, after that of the
  ///   last document.
  mutating func emitted(through last: Position, _ settlements: [Settlement]) {
    owed = Checkpoint(
      through: last, parts: settlements.map { Checkpoint.Part(index: $0.index, releasable: $0.captured) })
  }

  /// The runtime has committed a checkpoint.
  mutating func committed(_ checkpoint: Checkpoint) {
    committed.merge(checkpoint.numbers)
  }

  mutating func acknowledgementsAreOver() { acknowledgementsEnded = true }

  mutating func readersClosed() { areReadersClosed = true }

  // MARK: What is next

  /// The next action, or until when there is none unless something is reported.
  mutating func next(at now: Instant) -> Next<Action> {
    if let shortage = shortage.take() { return .now(.notify(shortage)) }
    while true {
      let isLate = now >= until
      switch state {
      case .running:
        guard stopRequested || failure != nil else { return .later(.distantFuture) }
        deadline = now + Self.stopTime
        isBroken = ended.contains(.journal)
        let failed = failure != nil && !Mutant.forgetsTheFailure.isOn
        return .now(enter(.draining, until: deadline, .stop(failed: failed)))
      case .draining:
        // A failed journal writes nothing more: then there is nothing to wait for.
        if isBroken { return .now(disconnect(until: now + Self.goodbyeTime)) }
        guard isDrained || isLate else { return .later(until) }
        (state, until) = (.emitting, deadline)
      case .emitting:
        guard ended.contains(.emitter) || isLate else { return .later(until) }
        // A failed emitter emits nothing more, and what no one has emitted no one commits.
        let waits = awaitsCommit && owed != nil && failure == nil
        if waits { (state, until) = (.awaitingCommit, min(deadline, now + Self.acknowledgementTime)) }
        if !waits { return .now(closeReaders(isUncommitted: false, at: now)) }
      case .awaitingCommit:
        guard isCommitted || acknowledgementsEnded || isLate else { return .later(until) }
        return .now(closeReaders(isUncommitted: !isCommitted, at: now))
      case .closingReaders:
        // A reader may hang just now with its disk.
        guard areReadersClosed || isLate else { return .later(until) }
        return .now(enter(.closingJournal, until: max(deadline, now + Self.closeTime), .closeJournal))
      case .closingJournal:
        if ended.contains(.journal) { return .now(disconnect(until: deadline)) }
        guard isLate else { return .later(until) }
        return .now(enter(.disconnecting, until: deadline, .disconnect(isUnclosed: true)))
      case .disconnecting:
        guard ended.contains(.connection) || isLate else { return .later(until) }
        return .now(enter(.ended, until: .distantFuture, .end))
      case .ended: return .later(.distantFuture)
      }
    }
  }

  private mutating func enter(_ state: State, until: Instant, _ action: Action) -> Action {
    (self.state, self.until) = (state, until)
    return action
  }

  private mutating func closeReaders(isUncommitted: Bool, at now: Instant) -> Action {
    let until = max(deadline, now + Self.closeTime / 2)
    return enter(.closingReaders, until: until, .closeReaders(isUncommitted: isUncommitted))
  }

  private mutating func disconnect(until: Instant) -> Action {
    enter(.disconnecting, until: until, .disconnect(isUnclosed: false))
  }

  private var isCommitted: Bool {
    owed.map { committed.covers($0) } ?? true
  }
}
