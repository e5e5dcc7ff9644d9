import AMQP
import ArgumentParser
import Glibc
import Journal
import Logging
import Platform

/// Speaks the Flow capture protocol on stdin and stdout: reads lines, does what `FlowMachine` says, writes responses.
///
/// stdin is read to its end whatever else happens: the runtime gives a connector 10 seconds to take an acknowledgement.
struct FlowDriver {
  let log: Logger

  /// Serves requests until the runtime closes stdin, or the capture ends.
  ///
  /// - Throws: `ExitCode` if the process is to end with another status than 0.
  func run() throws {
    let running = Monitor<Capture?>(nil)
    Process.onStopSignal {
      // Before a capture runs there is nothing to finish.
      guard let capture = running.read({ $0 }) else { Process.end(0) }
      capture.requestStop()
    }
    var input = FlowInput()
    while let action = try nextAction(&input) {
      switch action {
      case .replySpec: try write(FlowResponse.spec)
      case .discover(let config): try discover(config)
      case .validate(let request): try validate(request)
      case .apply(let capture): try apply(capture)
      case .open(let request, let range, let state): return try open(request, range, state, input, running)
      case .acknowledge: break  // FlowMachine lets none through before open.
      case .fail(let error): throw Process.failed(error, log: log)
      }
    }
  }

  private func nextAction(_ input: inout FlowInput) throws -> FlowMachine.Action? {
    do throws(FlowProtocolError) { return try input.next() } catch { throw Process.failed(error, log: log) }
  }

  private func write(_ line: [UInt8]) throws {
    do throws(CaptureFailure) { try OutputDescriptor.standardOutput().write(line) } catch {
      throw Process.failed(error, log: log)
    }
  }

  /// - Parameter resources: Those of the bindings, in their order.
  private func parse(_ config: JSONValue, _ resources: [JSONValue] = []) throws -> CaptureConfiguration {
    do throws(ConfigurationError) {
      let given = resources.enumerated().map {
        CaptureConfiguration.Resource(path: "bindings[\($0.offset)].resource", value: $0.element)
      }
      // The text itself would go to the broker as a password, which then only says 403.
      let unresolved =
        SecretReferences.unresolved(in: config)
        + given.flatMap { SecretReferences.unresolved(in: $0.value, path: $0.path) }
      guard unresolved.isEmpty else { throw ConfigurationError(unresolved) }
      return try CaptureConfiguration.parse(config, resources: .given(given))
    } catch {
      throw Process.failed(error, log: log, status: Process.configurationStatus)
    }
  }
}

// MARK: - Unary requests

extension FlowDriver {
  private func discover(_ config: JSONValue) throws {
    let settings = try parse(config)
    let queue = settings.endpoint.queue.name
    guard !queue.isEmpty else {
      // An empty answer would make the control plane remove bindings.
      throw Process.failed(
        "nothing can be discovered without queue.name: give one, or write the bindings by hand, each with a resource that names its queue",
        log: log, status: Process.configurationStatus)
    }
    try require(BrokerCheck(settings, name: "discover").runAtEndpoint())
    try write(FlowResponse.discovered(queue: queue))
  }

  private func validate(_ request: FlowRequest.Validation) throws {
    let settings = try parse(request.config, request.bindings.map(\.resource))
    let configuration = try only(settings)?.configuration ?? settings.endpoint
    status("Validating the capture's configuration")
    let choice = try choose(configuration, isContainer: request.isContainer)
    for binding in request.bindings {
      guard let key = binding.key, key != DocumentSchema.key else { continue }
      log.warning(
        """
        collection \(binding.collection ?? "") has the key \(key.joined(separator: ", ")): messages whose values there are equal, \
        or missing, become one document; \(DocumentSchema.key.joined(separator: ", ")) keeps them apart
        """)
    }
    let findings = BrokerCheck(settings, name: "validate").run()
    try require(findings)
    let isCarried = configuration.journal.path == nil || choice.mayLoseJournal
    let guarantee = Guarantee(
      configuration, DeduplicationPolicy(configuration, isCarried: isCarried),
      on: findings.lazy.compactMap(\.nature).first)
    if !settings.subscriptions.isEmpty { log.info("\(guarantee.description)") }
    try write(FlowResponse.validated(streams: settings.subscriptions.map(\.stream)))
  }

  /// When acknowledgements go out; its warnings are logged, and what must not be ends the process.
  @discardableResult
  private func choose(
    _ configuration: EndpointConfiguration, isContainer: Bool
  ) throws -> AcknowledgementChoice {
    let path = configuration.journal.path
    let choice = AcknowledgementChoice(
      configuration.journal, path: path, isContainer: isContainer, disk: AcknowledgementChoice.disk(ofJournal: path))
    for warning in choice.warnings { log.warning("\(warning)") }
    if let problem = choice.problem { throw Process.failed(problem, log: log, status: Process.configurationStatus) }
    return choice
  }

  /// The one subscription, or none.
  private func only(_ settings: CaptureConfiguration) throws -> Subscription? {
    if settings.subscriptions.isEmpty { return nil }
    do throws(ConfigurationError) { return try settings.only } catch {
      throw Process.failed(error, log: log, status: Process.configurationStatus)
    }
  }

  private func apply(_ capture: FlowRequest.Capture) throws {
    let settings = try parse(capture.config, capture.bindings.map(\.resource))
    status("Applying the capture's configuration")
    guard let subscription = try only(settings) else { return try write(FlowResponse.applied("")) }
    let topology = Topology(subscription.configuration, name: capture.name)
    do throws(CaptureFailure) {
      let connection = try topology.connect()
      let channel = try topology.openChannel(on: connection)
      do throws(AMQPError) { try topology.apply(on: channel) } catch { throw topology.explained(error) }
      try? connection.close()
    } catch {
      throw Process.failed(error, log: log)
    }
    try write(FlowResponse.applied(topology.actionDescription))
  }

  private func require(_ findings: [BrokerCheck.Finding]) throws {
    for warning in findings.compactMap(\.warning) { log.warning("\(warning)") }
    let problems = findings.compactMap(\.told)
    if problems.isEmpty { return }
    throw Process.failed(problems.joined(separator: "; "), log: log)
  }

  private func status(_ message: String) {
    log.info("\(message)", metadata: ["eventType": "connectorStatus"])
  }
}

// MARK: - Capture

extension FlowDriver {
  private func open(
    _ request: FlowRequest.Capture, _ range: KeyRange, _ state: JSONValue, _ input: consuming FlowInput,
    _ running: Monitor<Capture?>
  ) throws {
    let settings = try parse(request.config, request.bindings.map(\.resource))
    let subscription = try only(settings)
    let configuration = subscription?.configuration ?? settings.endpoint
    let choice = try choose(configuration, isContainer: request.isContainer)
    let idle = try idleReason(subscription?.stream, range, configuration)
    status("Starting the capture")
    let ledger = Monitor(CheckpointLedger())
    let capture: Capture
    let source: OperationsSource
    do {
      let stateKey = request.bindings.first?.stateKey ?? ""
      let carried = FlowState(state, stateKey: stateKey)
      if let former = carried.former {
        let consequence =
          StreamResumption.isStream(configuration)
          ? "the stream is read again from consumer.stream_offset on"
          : "a stream would be read again; what was taken from another queue is no longer in it, so only what comes is "
            + "captured, and redeliveries are recognised as before"
        log.info("backfill: the state key changed from \(former) to \(stateKey); \(consequence)")
      }
      let setup = try CaptureSetup(
        configuration, stream: idle == nil ? subscription?.stream : nil, journalPath: configuration.journal.path,
        choice: choice, checkpoints: true,
        state: carried.redelivery, streamState: carried.stream, stateKey: idle == nil ? stateKey : nil, log: log)
      let positions = setup.journal.positions
      let other = min(positions.last, FlowState.position(in: state, of: setup.journal.identifier))
      let start = idle == nil ? max(try resume(setup, carried), other) : positions.committedThrough
      let plan = try setup.plan(
        start: start, connectionName: "source-amqp \(request.name)", outputName: "flow", idle: idle != nil,
        hasCommitted: !carried.isNew)
      capture = Capture(plan, log: log)
      source = try OperationsSource(capture, journal: setup.journal.path)
      try write(FlowResponse.opened)
      try capture.start(
        into: FlowSink(
          bindings: [
            FlowBinding(
              stateKey: stateKey,
              stale: carried.stale.filter { $0 != "stream" || setup.resumption.stream == nil })
          ], journal: setup.journal.identifier, isKept: setup.keepsJournal, hasParked: plan.hasParked,
          ledger: ledger, status: capture.status,
          output: .standardOutput { [status = capture.status] in status.progressed(.reader) }))
    } catch let status as ExitCode {
      throw status
    } catch {
      throw Process.failed("\(error)", log: log)
    }
    if let idle { status(idle) } else { Progress.start(log: log, redraws: false, source: source) }
    running.update { $0 = capture }
    readAcknowledgements(input, ledger, capture)
    if let failure = capture.wait() { throw Process.failed(failure, log: log) }
    log.info("stopped", metadata: Progress.totals(capture.status.counters))
  }

  /// Why nothing is to be consumed here; nil if something is.
  private func idleReason(
    _ stream: String?, _ range: KeyRange, _ configuration: EndpointConfiguration
  ) throws -> String? {
    guard let stream else { return "The capture has no binding, so nothing is consumed" }
    guard !range.isWhole else { return nil }
    let unfit =
      configuration.consumer.deduplicate == .assert
      ? "consumer.deduplicate asserts that this is the queue's only consumer"
      : configuration.journal.path.map { "journal.path is one file (\($0)), and several shards would need one each" }
    if let unfit {
      throw Process.failed(
        "the task is split into shards, but \(unfit): scale it back to a single shard, or change that setting",
        log: log,
        status: Process.configurationStatus)
    }
    return range.holds(stream: stream)
      ? nil : "Another shard of this task captures \"\(stream)\", so nothing is consumed here"
  }

  private func resume(_ setup: CaptureSetup, _ state: FlowState) throws -> Position {
    let mark: ResumeDecision.Mark?
    do throws(FlowProtocolError) { mark = try state.mark() } catch { throw Process.failed(error, log: log) }
    if state.hasKeptJournal, setup.configuration.journal.path == nil, state.stream == nil {
      throw Process.failed(
        """
        journal.path was taken away while its journal was in use: it may hold messages that the broker no longer has, and without it \
        what the broker sends again is captured again. Start once more with journal.path, and stop the capture in order; then it \
        can be taken away. If the journal is lost, or is to be given up, backfill the binding
        """, log: log, status: Process.configurationStatus)
    }
    if state.hasKeptJournal, let path = setup.configuration.journal.path, let mark,
      mark.journal != setup.journal.identifier, state.stream == nil
    {
      throw Process.failed(
        """
        the journal at \(path) (journal.path) is not the one that was in use (\(mark.journal), captured up to position \(mark.position)), \
        which may hold messages that the broker no longer has. Put its file back, with its -wal; or, if it is lost or is to be given up, \
        backfill the binding
        """, log: log, status: Process.configurationStatus)
    }
    let positions = setup.journal.positions
    // A temporary journal is new at every start: that the state belongs to another one says nothing. Nor does it if a
    // container's disk came with it.
    let isExpected =
      setup.configuration.journal.path == nil
      || setup.choice.mayLoseJournal && positions.last == .origin && mark?.journal != setup.journal.identifier
    let decision = ResumeDecision.decide(
      state: isExpected ? nil : mark, journal: setup.journal.identifier, last: positions.last,
      committed: positions.committedThrough)
    switch decision {
    case .refuse(let reason): throw Process.failed(reason, log: log)
    case .resume(let after, let warning):
      if let warning { log.warning("\(warning)") }
      return after
    }
  }

  /// Reads stdin on a thread of its own, to its end.
  private func readAcknowledgements(
    _ input: consuming FlowInput, _ ledger: Monitor<CheckpointLedger>, _ capture: Capture
  ) {
    let handed = Locked(Optional(input))
    OSThread.start("stdin") { [log] in
      guard var input = handed.withLock({ $0.take() }) else { return }
      do throws(FlowProtocolError) {
        while let action = try input.next() {
          switch action {
          case .acknowledge(let checkpoints):
            let newest = ledger.update { ledger in
              let newest = ledger.acknowledged(checkpoints)
              if ledger.count == 0 { capture.status.ended(.runtime) } else { capture.status.progressed(.runtime) }
              return newest
            }
            guard let newest else {
              throw FlowProtocolError(
                "\(checkpoints) checkpoints were acknowledged, but only \(ledger.read { $0.count }) are outstanding")
            }
            capture.committed(newest)
          case .fail(let error): throw error
          case .replySpec, .discover, .validate, .apply, .open: break  // FlowMachine lets none through after open.
          }
        }
        log.info("the runtime closed stdin: stopping")
      } catch {
        capture.fail(CaptureFailure(cause: "protocol", description: error.description, needsUser: true))
      }
      capture.acknowledgementsEnded()
      capture.requestStop()
    }
  }
}

/// stdin as a sequence of what to do.
struct FlowInput: Sendable {
  private var machine = FlowMachine()
  private var splitter = LineSplitter()
  private var lines: ArraySlice<[UInt8]> = []
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)

  /// Waits for the next line; nil at the end of stdin.
  mutating func next() throws(FlowProtocolError) -> FlowMachine.Action? {
    while lines.isEmpty {
      let count = unsafe read(STDIN_FILENO, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      if count <= 0 {
        if let error = machine.ended(remainder: splitter.remainder) { throw error }
        return nil
      }
      lines = splitter.feed(buffer[0..<count])[...]
    }
    return machine.received(lines.removeFirst())
  }
}
