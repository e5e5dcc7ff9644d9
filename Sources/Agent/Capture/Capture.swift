import Journal
import Logging
import Platform

/// A running capture: broker → journal → documents.
///
/// Four threads, each the only owner of what it touches: the connection, the journal's writer, the emitter with a
/// reading connection of its own, and the one that reports what is committed (the reader of stdin, or the sink itself). They
/// tell one another what matters by one value, ``CaptureMachine``, and the connection, which waits for its socket too, by
/// `ConnectionMailbox`. This type wires them, waits for the end, and brings it about as ``Lifecycle`` says.
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
    /// Emit what lies after this position.
    var start: Position
    var mode: AcknowledgementMode
    /// Name of the output in the journal, for the length of its file.
    var outputName = "output"
    var sessionID: String
    /// What is captured into it; nil if nothing is.
    var session: Journal.Session?
    var policy: DeduplicationPolicy
    /// By what it goes on after a channel, or a process, has ended.
    var resumption: Resumption
    /// Nothing is consumed, and nothing emitted: the capture has no binding, or another shard has it.
    var idle = false
    /// The journal has messages of subscriptions that are not captured.
    var hasParked = false
    /// Earlier processes may have ended before they got anything through.
    var isInDoubt = false
    /// Whom connections are made as; nil for the configuration's own user.
    var logins: Logins?
  }

  private let plan: Plan
  private let log: Logger
  let status: StatusBoard
  private let machine: Monitor<CaptureMachine>
  private let mailboxes: [ConnectionMailbox]
  private let closing = Monitor<[@Sendable () -> Void]>([])

  init(_ plan: Plan, log: Logger) {
    self.plan = plan
    self.log = log
    status = StatusBoard(log: log)
    // What the journal of an idle capture holds waits for the binding to come back: there is nowhere to send it.
    let lifecycle = Lifecycle(
      awaitsCommit: plan.mode == .committed && !plan.idle, committed: plan.start,
      brokerKeeps: !plan.configuration.consumer.noAck, ended: plan.idle ? [.connection, .emitter] : [])
    // What the runtime has committed before this process is committed for the journal too.
    mailboxes = [ConnectionMailbox()]
    machine = Monitor(
      CaptureMachine(
        lifecycle, subscriptions: mailboxes.count, journaled: plan.journal.positions.last, start: plan.start))
  }

  /// Starts the threads.
  func start(into sink: some DocumentSink & Sendable) throws(JournalError) {
    let document = DocumentOptions(plan.configuration.document)
    let writer = JournalLoop(
      journal: plan.journal, capture: machine,
      subscriptions: [
        JournalLoop.Subscription(
          session: plan.session, mailbox: mailboxes[0],
          acknowledgementMode: plan.configuration.consumer.noAck ? nil : plan.mode, resumption: plan.resumption,
          prefetch: plan.resumption.keeper?.prefetch ?? plan.configuration.consumer.prefetchCount)
      ], status: status, log: log, maxBytes: Int64(plan.configuration.journal.maxBytes), outputName: plan.outputName,
      document: document)
    let connection = ConnectionLoop(
      index: 0,
      topology: Topology(
        configuration: plan.configuration, connectionName: plan.connectionName, sessionID: plan.sessionID,
        prefetch: plan.resumption.keeper?.prefetch, stream: plan.resumption.stream, logins: plan.logins),
      mailbox: mailboxes[0], capture: machine, status: status, log: log, policy: plan.policy,
      settings: ConnectionMachine.Settings(plan), random: { Double.random(in: 0...1) })
    OSThread.start("journal") { [self] in
      ended(.journal) { () throws(CaptureFailure) in try writer.run() }
    }
    if plan.idle {
      machine.report { $0.intakeEnded() }
    } else {
      let reader = try JournalReader(path: plan.journal.path)
      let emitter = EmitterLoop(
        reader: reader, capture: machine, mailboxes: mailboxes,
        indices: plan.session.map { [$0.subscription.key: 0] } ?? [:], status: status, document: document,
        start: plan.start,
        trail: CheckpointTrail([(plan.resumption, captured: plan.session?.base ?? plan.journal.positions.last)]))
      OSThread.start("emitter") { [self] in
        ended(.emitter) { () throws(CaptureFailure) in
          defer { try? reader.close() }
          try emitter.run(into: sink)
          machine.report { $0.emissionEnded() }
        }
      }
      if let logins = plan.logins, logins.mayChange {
        OSThread.start("secrets") { [self] in watch(logins) }
      }
      OSThread.start("amqp", stackBytes: 16 << 20) { [self] in
        ended(.connection) { () throws(CaptureFailure) in
          if let failure = connection.run() { throw failure }
        }
      }
    }
  }

  /// Looks for a new login each second, until the end.
  private func watch(_ logins: Logins) {
    var watch = LoginWatch(logins.newest)
    while machine.wait(as: CaptureMachine.end, atMost: .seconds(1), until: { $0.isEnding ? true : nil }) == nil {
      switch watch.looked(Result { () throws(ConfigurationError) in try logins.read() }) {
      case .none: break
      case .changed(let login): post { $0.login = login }
      case .unreadable(let error):
        log.warning("a new login cannot be read, and the old one may expire: \(error)")
      }
    }
  }

  /// Adds to what the connection is to do for every subscription.
  private func post(_ change: (inout ConnectionCommands) -> Void) { for mailbox in mailboxes { mailbox.post(change) } }

  private func ended(_ part: Lifecycle.Part, _ body: () throws(CaptureFailure) -> Void) {
    var failure: CaptureFailure?
    do throws(CaptureFailure) { try body() } catch { failure = error }
    machine.report { [failure] in $0.ended(part, failure) }
  }

  /// The runtime has committed a checkpoint.
  func committed(_ checkpoint: Checkpoint) {
    machine.report { $0.committed(checkpoint) }
  }

  /// Ends the capture in order. May be called from any thread, more than once.
  func requestStop() { machine.report { $0.requestStop() } }

  /// No one will report commits any more.
  func acknowledgementsEnded() {
    machine.report { $0.acknowledgementsEnded() }
  }

  /// Lets `body` run before the journal is closed in order, to close what else has it open.
  func beforeClosing(_ body: @escaping @Sendable () -> Void) { closing.update { $0.append(body) } }

  /// Ends the capture because of `failure`.
  func fail(_ failure: CaptureFailure) {
    machine.report { $0.fail(failure) }
  }

  /// Waits until the capture has ended.
  ///
  /// - Returns: Why it failed; nil if it was asked to stop, and did.
  func wait() -> CaptureFailure? {
    while true {
      switch next() {
      case .notify(let shortage):
        log.warning("stopping although there is no room; nothing is lost, and the next start goes on: \(shortage)")
      // The journal's thread has heard of it by now: it settles when the connection ends, or not.
      case .stop:
        status.changed(to: .stopping)
        post { $0.stop = true }
      case .closeReaders(let isUncommitted):
        if isUncommitted {
          log.info("the last documents were not committed in time; the next start emits them again")
        }
        // The last connection to it takes the WAL away, so that a copy of the file alone is whole.
        let close = { @Sendable [closing, machine] in
          for close in closing.read({ $0 }) { close() }
          machine.report { $0.readersClosed() }
        }
        // A thread that hangs in it keeps no one from ending, unless there is no thread for it.
        if OSThread.tryToStart("closing", close) != 0 { close() }
      // The journal's last words are acknowledgements, so the connection is closed after it.
      case .closeJournal: break
      case .disconnect(let isUnclosed):
        if isUnclosed { log.warning("the journal could not be closed in time; the next start recovers it") }
        post { $0.settled = true }
      case .end: return machine.read { $0.lifecycle.failure }
      }
    }
  }

  /// Waits for the next step of the end, and lets everybody hear of it.
  private func next() -> Lifecycle.Action {
    let action = machine.wait(as: CaptureMachine.end, for: { $0.next(at: Instant.now) })
    machine.report { _ in .all }
    return action
  }
}

extension ConnectionMachine.Settings {
  init(_ plan: Capture.Plan) {
    let configuration = plan.configuration
    let queue = configuration.queue
    self.init(
      queue: queue.name, prefetch: plan.resumption.keeper?.prefetch ?? configuration.consumer.prefetchCount,
      noAck: configuration.consumer.noAck, keepsConsumer: (plan.resumption.keeper?.anchor ?? 0) > 0,
      canNarrow: !queue.exclusive && !queue.autoDelete,
      // What waits for an acknowledgement of a slow runtime may expire.
      beginsNarrow: plan.isInDoubt && queue.arguments["x-message-ttl"] == nil,
      waitsForRuntime: plan.mode == .committed, asksForDepth: queue.declaration != .none,
      skipsUndeliverable: configuration.consumer.undeliverable == .skip,
      delay: configuration.reconnectDelay, attempts: configuration.maxReconnectAttempts,
      binds: queue.declaration == .active && !configuration.bindings.isEmpty,
      isSingleActive: queue.arguments["x-single-active-consumer"] == .bool(true))
  }
}
