import Journal
import Logging
import Platform

/// A running capture: broker → journal → documents.
///
/// A few threads, each the only owner of what it touches: a connection for each subscription, the journal's writer, the emitter with a
/// reading connection of its own, and the one that reports what is committed (the reader of stdin, or the sink itself). They
/// tell one another what matters by one value, ``CaptureMachine``, and the connections, which wait for their sockets too, by a
/// `ConnectionMailbox` each. This type wires them, waits for the end, and brings it about as ``Lifecycle`` says.
///
/// A `kill -9` at any moment is as good an end as any: what was not acknowledged comes again, what was journaled is
/// emitted by the next process.
final class Capture: Sendable {
  /// What a capture works with.
  struct Plan: Sendable {
    /// Broker, journal and documents: what is the same for all.
    var endpoint: EndpointConfiguration
    /// None if nothing is consumed, and nothing emitted: the capture has no binding, or other shards have all of them.
    var subscriptions: [Subscription]
    /// What the broker's management shows as the connections' name.
    var connectionName: String
    var journal: Journal
    /// Emit what lies after this position.
    var start: Position
    var mode: AcknowledgementMode
    /// The journal has messages of subscriptions that are not captured.
    var hasParked = false
    /// Whom connections are made as; nil for the configuration's own user.
    var logins: Logins?
  }

  /// One queue, as it is captured.
  struct Subscription: Sendable {
    var stream: String
    var configuration: EndpointConfiguration
    /// What is captured into, and its identifier.
    var session: Journal.Session
    var sessionID: String
    var policy: DeduplicationPolicy
    /// By what it goes on after a channel, or a process, has ended.
    var resumption: Resumption
    /// Earlier processes may have ended before they got anything through.
    var isInDoubt = false
    /// Name of its output in the journal, for the length of its file.
    var outputName = "output"
  }

  private let plan: Plan
  private let log: Logger
  let status: StatusBoard
  private let machine: Monitor<CaptureMachine>
  private let mailboxes: [ConnectionMailbox]
  private let budget: ArrivalBudget
  private let closing = Monitor<[@Sendable () -> Void]>([])

  init(_ plan: Plan, log: Logger) {
    self.plan = plan
    self.log = log
    let subscriptions = plan.subscriptions
    status = StatusBoard(
      log: log,
      subscriptions: subscriptions.map { .init(stream: $0.stream, queue: $0.configuration.queue.name) })
    // What the journal of an idle capture holds waits for the binding to come back: there is nowhere to send it.
    let isIdle = subscriptions.isEmpty
    let lifecycle = Lifecycle(
      awaitsCommit: plan.mode == .committed && !isIdle, committed: plan.start,
      brokerKeeps: !subscriptions.contains { $0.configuration.consumer.noAck },
      ended: isIdle ? [.connection, .emitter] : [])
    // What the runtime has committed before this process is committed for the journal too.
    budget = ArrivalBudget(subscriptions.count)
    mailboxes = subscriptions.map { [budget] _ in ConnectionMailbox(batchBytes: budget.batchBytes) }
    machine = Monitor(
      CaptureMachine(
        lifecycle, subscriptions: mailboxes.count, journaled: plan.journal.positions.last, start: plan.start))
  }

  /// Says of whom it tells, if there are several.
  private func log(of subscription: Subscription) -> Logger {
    var log = log
    if plan.subscriptions.count > 1 { log[metadataKey: "stream"] = .string(subscription.stream) }
    return log
  }

  /// Starts the threads.
  func start(into sink: some DocumentSink & Sendable) throws(JournalError) {
    let document = DocumentOptions(plan.endpoint.document)
    let writer = JournalLoop(
      journal: plan.journal, capture: machine,
      subscriptions: zip(plan.subscriptions, mailboxes).map { (subscription, mailbox) in
        let consumer = subscription.configuration.consumer
        return JournalLoop.Subscription(
          session: subscription.session, mailbox: mailbox,
          acknowledgementMode: consumer.noAck ? nil : plan.mode, resumption: subscription.resumption,
          prefetch: subscription.resumption.keeper?.prefetch ?? consumer.prefetchCount,
          outputName: subscription.outputName, log: log(of: subscription))
      }, status: status, log: log, maxBytes: Int64(plan.endpoint.journal.maxBytes), document: document)
    OSThread.start("journal") { [self] in
      ended(.journal) { () throws(CaptureFailure) in try writer.run() }
    }
    if plan.subscriptions.isEmpty { return }
    let reader = try JournalReader(path: plan.journal.path)
    let emitter = EmitterLoop(
      reader: reader, capture: machine, mailboxes: mailboxes,
      indices: Dictionary(
        uniqueKeysWithValues: plan.subscriptions.enumerated().map { ($1.session.subscription.key, $0) }),
      status: status, document: document, start: plan.start,
      trail: CheckpointTrail(plan.subscriptions.map { ($0.resumption, captured: $0.session.base) }))
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
    for (index, subscription) in plan.subscriptions.enumerated() {
      let connection = connection(of: subscription, index)
      OSThread.start("amqp", stackBytes: 16 << 20) { [self] in
        let failure = connection.run()
        machine.report { $0.disconnected(index, failure) }
      }
    }
  }

  private func connection(of subscription: Subscription, _ index: Int) -> ConnectionLoop {
    var topology = Topology(
      configuration: subscription.configuration, connectionName: plan.connectionName,
      sessionID: subscription.sessionID, prefetch: subscription.resumption.keeper?.prefetch,
      stream: subscription.resumption.stream, logins: plan.logins)
    topology.readSize = budget.readBytes
    return ConnectionLoop(
      index: index, batchBytes: budget.batchBytes, topology: topology,
      mailbox: mailboxes[index], capture: machine, status: status, log: log(of: subscription),
      policy: subscription.policy,
      settings: ConnectionMachine.Settings(
        subscription, plan.mode, isAlone: plan.subscriptions.count == 1),
      random: { Double.random(in: 0...1) })
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
        status.stops()
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
        post { $0.mayClose = true }
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
  init(_ subscription: Capture.Subscription, _ mode: AcknowledgementMode, isAlone: Bool) {
    let (configuration, keeper) = (subscription.configuration, subscription.resumption.keeper)
    let queue = configuration.queue
    self.init(
      queue: queue.name, prefetch: keeper?.prefetch ?? configuration.consumer.prefetchCount,
      noAck: configuration.consumer.noAck, keepsConsumer: (keeper?.anchor ?? 0) > 0,
      canNarrow: !queue.exclusive && !queue.autoDelete,
      // What waits for an acknowledgement of a slow runtime may expire.
      beginsNarrow: subscription.isInDoubt && queue.arguments["x-message-ttl"] == nil,
      waitsForRuntime: mode == .committed, asksForDepth: queue.declaration != .none,
      skipsUndeliverable: configuration.consumer.undeliverable == .skip,
      delay: configuration.reconnectDelay, attempts: configuration.maxReconnectAttempts,
      binds: queue.declaration == .active && !configuration.bindings.isEmpty,
      isSingleActive: queue.arguments["x-single-active-consumer"] == .bool(true), isAlone: isAlone)
  }
}
