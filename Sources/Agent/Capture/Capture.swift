import AMQP
import Journal
import Logging

/// A running capture: broker → journal → documents, as DESIGN describes.
///
/// Four threads, each the only owner of what it touches: the connection, the journal's writer, the emitter with a
/// reading connection of its own, and whoever reports what is committed (the reader of stdin, or the sink itself). They
/// exchange values through `JournalInbox`, `JournalProgress` and `ConnectionMailbox`. This type wires them, waits for
/// the end, and brings it about in order: stop consuming, journal, emit, acknowledge, close.
///
/// A `kill -9` at any moment is as good an end as any: what was not acknowledged comes again, what was journaled is
/// emitted by the next process.
final class Capture: Sendable {
  /// What a capture works with.
  struct Plan: Sendable {
    var configuration: EndpointConfiguration
    /// What the broker's management shows as the connection's name.
    var connectionName: String
    var journal: Journal
    /// Emit what lies behind this position.
    var start: Position
    var mode: AcknowledgementMode
    /// Name of the output in the journal, for the length of its file.
    var outputName = "output"
    var sessionID: String
    var policy: DeduplicationPolicy
    /// Recognises redeliveries; nil where that is not possible.
    var redelivery: RedeliveryKeeper?
    /// Remembers where to go on; nil where the queue is no stream.
    var stream: StreamResumption?
    /// Nothing is consumed, and nothing emitted: the capture has no binding, or another shard has it.
    var idle = false
    /// Earlier processes may have ended before they got anything through.
    var isInDoubt = false
    /// Whom connections are made as; nil for the configuration's own user.
    var logins: Logins?
  }

  /// How a capture ends.
  private struct Lifecycle: Sendable {
    var stopRequested = false
    var failure: CaptureFailure?
    var connectionEnded = false
    var emitterEnded = false
    var journalEnded = false
    /// No acknowledgement will come any more.
    var acknowledgementsEnded = false
  }

  /// Seconds from the wish to stop to the end of the process, whoever hangs by then.
  private static let stopSeconds = 8.0
  /// Seconds for the journal's end behind that, when documents that nobody takes are waited for no longer.
  private static let closeSeconds = 1.0
  /// Seconds that acknowledgements of the last checkpoints are waited for (`committed` mode).
  private static let acknowledgementSeconds = 3.0

  private let plan: Plan
  private let log: Logger
  let status: StatusBoard
  private let lifecycle = Monitor(Lifecycle())
  private let inbox = Monitor(JournalInbox())
  private let progress: Monitor<JournalProgress>
  private let mailbox = ConnectionMailbox()
  private let closing = Monitor<[@Sendable () -> Void]>([])

  init(_ plan: Plan, log: Logger) {
    self.plan = plan
    self.log = log
    status = StatusBoard(log: log)
    progress = Monitor(JournalProgress(journaled: plan.journal.positions.last))
  }

  /// Starts the threads.
  func start(into sink: some DocumentSink & Sendable) throws(JournalError) {
    let document = DocumentOptions(plan.configuration.document)
    let writer = JournalLoop(
      journal: plan.journal, inbox: inbox, progress: progress, mailbox: mailbox, status: status, log: log,
      maxBytes: Int64(plan.configuration.journal.maxBytes),
      acknowledgementMode: plan.configuration.consumer.noAck ? nil : plan.mode, outputName: plan.outputName,
      document: document, redelivery: plan.redelivery, stream: plan.stream,
      prefetch: plan.redelivery?.prefetch ?? plan.configuration.consumer.prefetchCount)
    let connection = ConnectionLoop(
      topology: Topology(
        configuration: plan.configuration, connectionName: plan.connectionName, sessionID: plan.sessionID,
        prefetch: plan.redelivery?.prefetch, stream: plan.stream, logins: plan.logins),
      mailbox: mailbox, inbox: inbox, status: status, log: log, policy: plan.policy,
      keepsConsumer: (plan.redelivery?.anchor ?? 0) > 0,
      beginsNarrow: plan.isInDoubt, waitsForRuntime: plan.mode == .committed,
      random: { Double.random(in: 0...1) })
    // What the runtime has committed before this session is committed for the journal too.
    inbox.update { inbox in
      inbox.emitted = plan.start
      inbox.committed = plan.start
    }
    OSThread.start("journal") { [self] in
      ended(\.journalEnded) { () throws(CaptureFailure) in try writer.run() }
    }
    if plan.idle {
      inbox.update { $0.intakeEnded = true }
      lifecycle.update { lifecycle in
        lifecycle.connectionEnded = true
        // What the journal holds waits for the binding to come back: there is nowhere to send it.
        lifecycle.emitterEnded = true
      }
    } else {
      let reader = try JournalReader(path: plan.journal.path)
      let emitter = EmitterLoop(
        reader: reader, inbox: inbox, progress: progress, mailbox: mailbox, status: status, document: document,
        start: plan.start,
        trail: plan.redelivery.map { RedeliveryTrail($0, start: plan.start) }, stream: plan.stream)
      OSThread.start("emitter") { [self] in
        ended(\.emitterEnded) { () throws(CaptureFailure) in
          defer { try? reader.close() }
          try emitter.run(into: sink)
        }
      }
      if let logins = plan.logins, logins.mayChange {
        OSThread.start("secrets") { [self] in watch(logins) }
      }
      OSThread.start("amqp", stackBytes: 16 << 20) { [self] in
        ended(\.connectionEnded) { () throws(CaptureFailure) in
          defer { inbox.update { $0.intakeEnded = true } }
          if let failure = connection.run() { throw failure }
        }
      }
    }
  }

  /// Looks for a new login each second, until the end. A file that is being written may be half there, so it counts if it stays the same
  /// for a second.
  private func watch(_ logins: Logins) {
    var known: Login? = logins.newest
    var candidate = known
    var failures = 0
    while lifecycle.wait(atMost: 1, until: { $0.stopRequested || $0.failure != nil ? true : nil }) == nil {
      let login: Login
      do throws(ConfigurationError) { login = try logins.read() } catch {
        // Connections fail by it until it is back.
        known = nil
        failures += 1
        if failures == 3 { log.warning("a new login cannot be read, and the old one may expire: \(error)") }
        continue
      }
      failures = 0
      if login == candidate, login != known {
        known = login
        mailbox.post { $0.login = login }
      }
      candidate = login
    }
  }

  private func ended(
    _ part: any WritableKeyPath<Lifecycle, Bool> & Sendable, _ body: () throws(CaptureFailure) -> Void
  ) {
    var failure: CaptureFailure?
    do throws(CaptureFailure) { try body() } catch { failure = error }
    // With no_ack the broker has forgotten what it sent.
    if let found = failure, found.isShortage, !plan.configuration.consumer.noAck,
      lifecycle.read({ $0.stopRequested && $0.failure == nil })
    {
      // What was acknowledged is in the journal, and the broker has the rest.
      log.warning("stopping although there is no room; nothing is lost, and the next start goes on: \(found)")
      failure = nil
    }
    // Whoever waits for its last word waits no longer.
    if part == \.journalEnded {
      progress.update { $0.ended = true }
      mailbox.post { $0.settled = true }
    }
    lifecycle.update { lifecycle in
      lifecycle[keyPath: part] = true
      // The first failure is the cause; others follow from it.
      if lifecycle.failure == nil { lifecycle.failure = failure }
    }
  }

  /// The runtime has committed a checkpoint.
  func committed(_ checkpoint: Checkpoint) {
    inbox.update { inbox in
      inbox.committed = max(inbox.committed, checkpoint.through)
      inbox.releasable = max(inbox.releasable ?? checkpoint.releasable, checkpoint.releasable)
    }
  }

  /// Ends the capture in order. May be called from any thread, more than once.
  func requestStop() { lifecycle.update { $0.stopRequested = true } }

  /// Nobody will report commits any more.
  func acknowledgementsEnded() {
    inbox.update { $0.acknowledgementsEnded = true }
    lifecycle.update { $0.acknowledgementsEnded = true }
  }

  /// Lets `body` run before the journal is closed in order, to close what else has it open.
  func beforeClosing(_ body: @escaping @Sendable () -> Void) { closing.update { $0.append(body) } }

  /// Ends the capture because of `failure`.
  func fail(_ failure: CaptureFailure) {
    lifecycle.update { if $0.failure == nil { $0.failure = failure } }
  }

  /// Waits until the capture has ended.
  ///
  /// - Returns: Why it failed; nil where it was asked to stop, and did.
  func wait() -> CaptureFailure? {
    let failure =
      lifecycle.wait { (lifecycle) -> CaptureFailure?? in
        if let failure = lifecycle.failure { return .some(failure) }
        return lifecycle.stopRequested ? .some(nil) : nil
      } ?? nil
    status.changed(to: .stopping)
    let deadline = SystemClock.now() + Self.stopSeconds
    // First the journal: it settles when the connection ends, or not.
    inbox.update { inbox in
      inbox.stopping = true
      inbox.failed = failure != nil
    }
    mailbox.post { $0.stop = true }
    finish(by: deadline)
    return failure ?? lifecycle.read { $0.failure }
  }

  /// Lets the threads end one behind the other; gives up at the deadline, which costs nothing but time at the next start.
  private func finish(by deadline: Double) {
    func left() -> Double { max(deadline - SystemClock.now(), 0) }
    // A failed emitter emits nothing more, and a failed journal writes nothing more: then there is nothing to wait for.
    guard lifecycle.read({ !$0.journalEnded }) else {
      mailbox.post { $0.settled = true }
      _ = lifecycle.wait(atMost: 2) { $0.connectionEnded ? true : nil }
      return
    }
    _ = inbox.wait(atMost: left()) { $0.intakeEnded ? true : nil }
    _ = progress.wait(atMost: left()) { $0.ended ? true : nil }
    let emitted =
      lifecycle.wait(atMost: left()) { $0.emitterEnded ? $0.failure == nil : nil } ?? false
    if emitted && plan.mode == .committed && !plan.idle {
      awaitAcknowledgements(atMost: min(left(), Self.acknowledgementSeconds))
    }
    // The last connection to it takes the WAL away, so that a copy of the file alone is whole.
    let isClosed = Monitor(false)
    OSThread.start("closing") { [closing] in
      for close in closing.read({ $0 }) { close() }
      isClosed.update { $0 = true }
    }
    // Whoever reads it just now may hang with its disk.
    _ = isClosed.wait(atMost: max(left(), Self.closeSeconds / 2)) { $0 ? true : nil }
    // The journal's last words are acknowledgements, so the connection is closed behind it.
    inbox.update { $0.closing = true }
    if lifecycle.wait(atMost: max(left(), Self.closeSeconds), until: { $0.journalEnded ? true : nil }) == nil {
      log.warning("the journal could not be closed in time; the next start recovers it")
    }
    mailbox.post { $0.settled = true }
    _ = lifecycle.wait(atMost: left()) { $0.connectionEnded ? true : nil }
  }

  private func awaitAcknowledgements(atMost seconds: Double) {
    let deadline = SystemClock.now() + seconds
    let (last, settlement) = progress.read { ($0.journaled, $0.settlement) }
    func isCommitted(_ inbox: JournalInbox) -> Bool {
      guard inbox.committed >= last else { return false }
      // The anchor's release is a checkpoint of its own, after that of the last document.
      guard let settlement, settlement.position == last else { return true }
      return inbox.releasable.map { $0 >= last } ?? false
    }
    while !inbox.read(isCommitted) && lifecycle.read({ !$0.acknowledgementsEnded }) {
      let left = deadline - SystemClock.now()
      if left <= 0 { return }
      _ = inbox.wait(atMost: min(left, 0.1)) { isCommitted($0) ? true : nil }
    }
  }
}
