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
    status("Validating the capture's configuration")
    let choice = try choose(settings.endpoint, isContainer: request.isContainer)
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
    let isCarried = settings.endpoint.journal.path == nil || choice.mayLoseJournal
    for subscription in settings.subscriptions {
      let (configuration, isAlone) = (subscription.configuration, settings.subscriptions.count == 1)
      let nature = findings.first { $0.nature != nil && (isAlone || $0.stream == subscription.stream) }?.nature
      let guarantee = Guarantee(
        configuration, DeduplicationPolicy(configuration, isCarried: isCarried), on: nature)
      log.info(
        "\(guarantee.description)", metadata: isAlone ? [:] : ["stream": .string(subscription.stream)])
    }
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

  private func apply(_ capture: FlowRequest.Capture) throws {
    let settings = try parse(capture.config, capture.bindings.map(\.resource))
    status("Applying the capture's configuration")
    let isAlone = settings.subscriptions.count == 1
    var (done, problems) = ([String](), [String]())
    if !settings.subscriptions.isEmpty {
      do throws(CaptureFailure) {
        let endpoint = Topology(settings.endpoint, name: capture.name)
        let connection = try endpoint.connect()
        let channel = try endpoint.openChannel(on: connection)
        for subscription in settings.subscriptions {
          let topology = Topology(subscription.configuration, name: capture.name)
          do throws(AMQPError) {
            try channel.reopen()
            try topology.apply(on: channel)
            done.append(topology.actionDescription)
          } catch {
            let failure = topology.explained(error)
            guard case .channelClosed = error.kind else { throw failure }
            problems.append(isAlone ? "\(failure)" : "stream \"\(subscription.stream)\": \(failure)")
          }
        }
        try? connection.close()
      } catch {
        problems.append("\(error)")
      }
    }
    if !problems.isEmpty { throw Process.failed(problems.joined(separator: "; "), log: log) }
    done += left(capture, settings)
    try write(FlowResponse.applied(done.filter { !$0.isEmpty }.joined(separator: " ")))
  }

  /// What stays on the broker of bindings that are not captured any more. Nothing of it is unbound or deleted: it may be someone else's.
  private func left(_ capture: FlowRequest.Capture, _ settings: CaptureConfiguration) -> [String] {
    capture.inactive.compactMap { resource in
      // What a binding that is gone says wrongly keeps no one from applying the others.
      let given = CaptureConfiguration.Resource(path: "inactiveBindings", value: resource)
      guard let one = try? CaptureConfiguration.parse(capture.config, resources: .given([given])).subscriptions.first
      else { return nil }
      let queue = one.configuration.queue.name
      // Another binding may have it by now; and a queue of its own may go with the connection.
      guard !settings.subscriptions.contains(where: { $0.configuration.queue.name.isSameName(as: queue) }),
        !one.configuration.queue.exclusive
      else { return nil }
      let exchanges = one.configuration.bindings.map { "\"\($0.exchange)\"" }
      let bound = exchanges.isEmpty ? "" : ", bound to \(exchanges.joined(separator: ", "))"
      return
        "Queue \"\(queue)\" of stream \"\(one.stream)\" is not captured any more, and stays\(bound): what is published to it fills it "
        + "until it is unbound or deleted."
    }
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
    let choice = try choose(settings.endpoint, isContainer: request.isContainer)
    let (own, idle) = try share(settings, range)
    status("Starting the capture")
    let ledger = Monitor(CheckpointLedger())
    let capture: Capture
    let source: OperationsSource
    do {
      // What another shard captures has a state of its own, which is not ours to go by.
      let states = own.map { FlowState(state, stateKey: request.bindings[$0].stateKey) }
      let setup = try CaptureSetup(
        settings.endpoint, journalPath: settings.endpoint.journal.path, choice: choice, checkpoints: true, log: log
      ) { _ in
        zip(own, states).map { (place, state) in
          CaptureSetup.Wanted(
            subscription: settings.subscriptions[place], redelivery: state.redelivery, stream: state.stream,
            stateKey: state.stateKey, hasCommitted: !state.isNew, outputName: "flow")
        }
      }
      for (place, carried) in zip(own, states) { notify(backfill: carried, settings.subscriptions[place]) }
      let positions = setup.journal.positions
      let other = min(positions.last, FlowState.position(in: state, of: setup.journal.identifier))
      let start = own.isEmpty ? positions.committedThrough : max(try resume(setup, states), other)
      let plan = try setup.plan(start: start, connectionName: "source-amqp \(request.name)")
      let bindings = zip(zip(own, states), setup.resumptions).map { (bound, resumption) in
        FlowBinding(
          bound.0, stateKey: bound.1.stateKey,
          stale: bound.1.stale.filter { $0 != "stream" || resumption.stream == nil })
      }
      capture = Capture(plan, log: log)
      source = try OperationsSource(capture, journal: setup.journal.path)
      try write(FlowResponse.opened)
      try capture.start(
        into: FlowSink(
          bindings: bindings, journal: setup.journal.identifier, isKept: setup.keepsJournal,
          hasParked: plan.hasParked, ledger: ledger, status: capture.status,
          output: .standardOutput { [status = capture.status] in status.progressed(.reader) }))
    } catch let status as ExitCode {
      throw status
    } catch {
      throw Process.failed("\(error)", log: log)
    }
    if let idle { status(idle) }
    if !own.isEmpty { Progress.start(log: log, redraws: false, source: source) }
    running.update { $0 = capture }
    readAcknowledgements(input, ledger, capture)
    if let failure = capture.wait() { throw Process.failed(failure, log: log) }
    log.info("stopped", metadata: Progress.totals(capture.status.counters))
  }

  private func notify(backfill state: FlowState, _ subscription: Subscription) {
    guard let former = state.former else { return }
    let consequence =
      StreamResumption.isStream(subscription.configuration)
      ? "the stream is read again from consumer.stream_offset on"
      : "a stream would be read again; what was taken from another queue is no longer in it, so only what comes is "
        + "captured, and redeliveries are recognised as before"
    log.info("backfill: the state key changed from \(former) to \(state.stateKey); \(consequence)")
  }

  /// The subscriptions that are captured here, by their places, and what is said of those that are not.
  private func share(_ settings: CaptureConfiguration, _ range: KeyRange) throws -> (own: [Int], idle: String?) {
    let subscriptions = settings.subscriptions
    guard !subscriptions.isEmpty else { return ([], "The capture has no binding, so nothing is consumed") }
    guard !range.isWhole else { return (Array(subscriptions.indices), nil) }
    let unfit =
      subscriptions.contains { $0.configuration.consumer.deduplicate == .assert }
      ? "consumer.deduplicate asserts that this is the queue's only consumer"
      : settings.endpoint.journal.path.map {
        "journal.path is one file (\($0)), and several shards would need one each"
      }
    if let unfit {
      throw Process.failed(
        "the task is split into shards, but \(unfit): scale it back to a single shard, or change that setting",
        log: log,
        status: Process.configurationStatus)
    }
    let own = subscriptions.indices.filter { range.holds(stream: subscriptions[$0].stream) }
    if own.count == subscriptions.count { return (own, nil) }
    let others = subscriptions.indices.filter { !own.contains($0) }.map { "\"\(subscriptions[$0].stream)\"" }
    let idle =
      own.isEmpty
      ? "Another shard of this task captures \(others.joined(separator: ", ")), so nothing is consumed here"
      : "Other shards of this task capture \(others.count) of the \(subscriptions.count) queues"
    return (own, idle)
  }

  /// From which position on it is emitted.
  ///
  /// - Parameter states: Of all that is captured; the journal's line is one, and the newest that any of them has committed counts.
  private func resume(_ setup: CaptureSetup, _ states: [FlowState]) throws -> Position {
    var marks: [ResumeDecision.Mark] = []
    let path = setup.endpoint.journal.path
    let identifier = setup.journal.identifier
    for state in states {
      let mark: ResumeDecision.Mark?
      do throws(FlowProtocolError) { mark = try state.mark() } catch { throw Process.failed(error, log: log) }
      if state.hasKeptJournal, path == nil, state.stream == nil {
        throw Process.failed(
          """
          journal.path was taken away while its journal was in use: it may hold messages that the broker no longer has, and without it \
          what the broker sends again is captured again. Start once more with journal.path, and stop the capture in order; then it \
          can be taken away. If the journal is lost, or is to be given up, backfill the binding
          """, log: log, status: Process.configurationStatus)
      }
      if state.hasKeptJournal, let path, let mark, mark.journal != identifier, state.stream == nil {
        throw Process.failed(
          """
          the journal at \(path) (journal.path) is not the one that was in use (\(mark.journal), captured up to position \(mark.position)), \
          which may hold messages that the broker no longer has. Put its file back, with its -wal; or, if it is lost or is to be given up, \
          backfill the binding
          """, log: log, status: Process.configurationStatus)
      }
      if let mark { marks.append(mark) }
    }
    let newest = marks.filter { $0.journal == identifier }.max { $0.position < $1.position } ?? marks.first
    let positions = setup.journal.positions
    // A temporary journal is new at every start: that the state belongs to another one says nothing. Nor does it if a
    // container's disk came with it.
    let isExpected =
      path == nil || setup.choice.mayLoseJournal && positions.last == .origin && newest?.journal != identifier
    let decision = ResumeDecision.decide(
      state: isExpected ? nil : newest, journal: identifier, last: positions.last,
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
