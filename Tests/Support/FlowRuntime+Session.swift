import Platform

/// What happens in a session: two threads a session act on one `State`, and only inside its monitor.
extension FlowRuntime {
  /// A checkpoint that was read and is not committed.
  struct Checkpoint {
    /// The documents between the checkpoint before and this one.
    var documents: [Document]
    /// The checkpoint's `state`: `updated` and `mergePatch`.
    var state: JSON?
  }

  /// Everything that the threads share.
  struct State {
    var policy = Policy()
    var committed: [Document] = []
    var state: JSON = [:]
    /// Documents since the last checkpoint.
    var sequence: [Document] = []
    var pending: [Checkpoint] = []
    /// Checkpoints committed, not acknowledged; of this session, because an acknowledgement never spans sessions.
    var owed = 0
    /// An Acknowledge is on its way to the connector's stdin.
    var acknowledging = false
    var acknowledged = 0
    var checkpoints = 0
    var documentsRead = 0
    var violations: [String] = []
    var log: [LogLine] = []
    /// Grows with every start; events of an older session are ignored.
    var session = 0
    /// Of the bindings, in their order.
    var streams: [String] = []
    var specified: JSON?
    var opened: JSON?
    /// The session's output ended, or the session was killed.
    var ended = true
    /// stderr ended.
    var errorEnded = true
    /// The committing thread runs.
    var committing = false
  }
}

extension FlowRuntime {
  /// Takes in one line of the connector's stdout.
  static func read(_ event: ChildProcess.Output, _ session: Int, _ shared: Monitor<State>) {
    // Not a limit but a pause: whoever set pauseReading ends it.
    while shared.wait(atMost: .seconds(3600), until: { !$0.policy.pauseReading || $0.ended ? true : nil }) == nil {}
    switch event {
    case .line(let line):
      do {
        let response = try Response(line: line)
        shared.update { $0.receive(response, line, session) }
      } catch {
        shared.update { if $0.session == session && !$0.ended { $0.violations.append("\(error)") } }
      }
    case .end(let torn):
      shared.update { state in
        guard state.session == session, !state.ended else { return }
        if !torn.isEmpty { state.violations.append("a partial line at the end of the output") }
        if !state.sequence.isEmpty { state.violations.append("the output ended inside a checkpoint sequence") }
        state.ended = true
      }
    }
  }

  /// Takes in one line of the connector's stderr.
  static func readLog(_ event: ChildProcess.Output, _ session: Int, _ shared: Monitor<State>) {
    switch event {
    case .line(let line):
      let text = String(decoding: line, as: UTF8.self)
      let entry = LogLine(text: text, json: try? JSON(parsing: line))
      shared.update { $0.log.append(entry) }
    case .end:
      shared.update { if $0.session == session { $0.errorEnded = true } }
    }
  }

  /// Commits and acknowledges until the session is over and nothing is left to commit.
  static func commit(_ session: Int, _ shared: Monitor<State>, _ child: ChildProcess) {
    enum Step {
      case committed
      case acknowledge(Int)
      case stop
    }
    shared.update { $0.committing = true }
    defer { shared.update { if $0.session == session { $0.committing = false } } }
    while true {
      let step = shared.wait(atMost: .milliseconds(50)) { state -> Step? in
        guard state.session == session else { return .stop }
        if let count = state.nextAcknowledgement() { return .acknowledge(count) }
        if state.commit(atLeast: state.ended ? 1 : state.policy.checkpointsPerTransaction) { return .committed }
        return state.ended ? .stop : nil
      }
      switch step {
      case .acknowledge(let count):
        // The connector may be gone by now; Flow does not mind either.
        try? child.write(line: #"{"acknowledge":{"checkpoints":\#(count)}}"#)
        shared.update { if $0.session == session { $0.acknowledging = false } }
      case .stop: return
      // Someone may wait for it.
      case .committed: shared.update { _ in }
      // Nothing came for a moment: what is there makes the transaction.
      case nil: shared.update { if $0.session == session { _ = $0.commit(atLeast: 1) } }
      }
    }
  }
}

extension FlowRuntime.State {
  /// Files a response of session `from`.
  mutating func receive(_ response: Response, _ line: [UInt8], _ from: Int) {
    guard session == from, !ended else { return }
    switch response {
    case .spec(let value):
      specified = value
    case .opened(let value):
      if opened != nil { violations.append("opened twice") }
      opened = value
    case .captured(let document, let binding):
      guard streams.indices.contains(binding) else {
        violations.append("there is no binding \(binding)")
        return
      }
      if opened == nil { violations.append("captured before opened") }
      documentsRead += 1
      sequence.append(.init(line: line, json: document, session: session, stream: streams[binding]))
    case .checkpoint(let value):
      if opened == nil { violations.append("checkpoint before opened") }
      checkpoints += 1
      pending.append(.init(documents: sequence, state: value))
      sequence = []
    }
  }

  /// Commits as one transaction what is pending, where that is enough; says whether it did.
  mutating func commit(atLeast count: Int) -> Bool {
    guard !policy.holdCommits, !pending.isEmpty, pending.count >= count else { return false }
    let taken = pending.prefix(max(1, policy.checkpointsPerTransaction))
    for checkpoint in taken {
      committed += checkpoint.documents
      guard let change = checkpoint.state else { continue }
      let updated = change["updated"] ?? [:]
      state = change["mergePatch"] == .bool(true) ? state.merged(with: updated) : updated
    }
    pending.removeFirst(taken.count)
    if !policy.dropAcknowledgements { owed += taken.count }
    return true
  }

  /// How many checkpoints to acknowledge now; nil for none.
  mutating func nextAcknowledgement() -> Int? {
    guard owed > 0, !policy.holdAcknowledgements, !ended else { return nil }
    defer {
      acknowledged += owed
      owed = 0
      acknowledging = true
    }
    return owed
  }
}
