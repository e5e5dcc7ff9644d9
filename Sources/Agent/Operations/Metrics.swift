import Journal
import Platform

/// Everything that is shown to who watches a running capture, as of one moment.
struct OperationsSnapshot: Sendable {
  var state: StatusBoard.State
  var counters: StatusBoard.Counters
  /// Nil if the journal was not looked into, or could not be read.
  var journal: JournalStatus?
  /// Messages in the queues that no one has, when they were last asked (once a minute); nil if of none that is known, and without streams.
  var backlog: Int?
  /// By their indices.
  var subscriptions: [StatusBoard.Subscription] = []
  /// Microseconds since 1970.
  var now: Int64

  /// How long ago the oldest message arrived that is not committed downstream; 0 if none is pending.
  var oldestAge: Duration {
    guard let oldest = journal?.oldestReceivedAt else { return .zero }
    return max(.zero, .microseconds(now - oldest))
  }

  /// Whether messages flow from the broker into the journal and out of it; else, why not.
  var health: (isHealthy: Bool, reason: String) {
    switch state {
    case .consuming: (true, "consuming")
    case .standby(let reason): (true, "standing by: \(reason)")
    case .starting, .connecting, .awaitingQueue, .reconnecting, .paused, .stalled, .stopping: (false, state.message)
    }
  }

  /// What each of several subscriptions does, a line each; empty for one.
  var details: String {
    guard subscriptions.count > 1 else { return "" }
    return subscriptions.map { one in
      let state = one.shown == .consuming ? "consuming" : one.shown.message
      return "\(PrintableText.escaped("\"\(one.stream)\", queue \"\(one.queue)\": \(state)"))\n"
    }.joined()
  }

  /// Whether the capture has begun its work: it has consumed, and is not asked to end.
  var isReady: Bool { counters.consumersStarted > 0 && state != .stopping }
}

/// A way to look at a running capture from any thread.
struct OperationsSource: Sendable {
  let status: StatusBoard
  private let journal: Monitor<JournalReader?>

  /// - Parameter path: The capture's journal, which is read through a connection of its own.
  init(_ capture: Capture, journal path: String) throws(JournalError) {
    let reader = Monitor<JournalReader?>(try JournalReader(path: path))
    capture.beforeClosing {
      reader.update { reader in
        try? reader?.close()
        reader = nil
      }
    }
    (status, journal) = (capture.status, reader)
  }

  /// What is known without a look into the journal: it waits for no disk.
  func now() -> OperationsSnapshot { snapshot(nil) }

  /// The same with the journal's numbers.
  func withJournal() -> OperationsSnapshot { snapshot(journal.update { reader in try? reader?.status() }) }

  private func snapshot(_ journal: JournalStatus?) -> OperationsSnapshot {
    let subscriptions = status.subscriptions
    let backlogs = subscriptions.compactMap(\.backlog)
    return OperationsSnapshot(
      state: status.state, counters: status.counters, journal: journal,
      backlog: backlogs.isEmpty ? nil : backlogs.reduce(0, +), subscriptions: subscriptions,
      now: SystemClock.wallMicroseconds())
  }
}

extension OperationsSnapshot {
  /// The snapshot in Prometheus' text format, version 0.0.4.
  /// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
  var prometheusText: String {
    var text = ""
    func family(_ name: String, _ type: String, _ help: String, _ samples: [(labels: String, value: String)]) {
      text += "# HELP source_amqp_\(name) \(help)\n# TYPE source_amqp_\(name) \(type)\n"
      for sample in samples { text += "source_amqp_\(name)\(sample.labels) \(sample.value)\n" }
    }
    func counter(_ name: String, _ help: String, _ value: Int) { family(name, "counter", help, [("", "\(value)")]) }
    func gauge(_ name: String, _ help: String, _ value: String) { family(name, "gauge", help, [("", value)]) }

    family("build_info", "gauge", "The version that runs; always 1.", [(#"{version="\#(Version.text)"}"#, "1")])
    counter("received_messages_total", "Messages that the broker delivered.", counters.received)
    counter("journaled_messages_total", "Messages written to the journal.", counters.journaled)
    counter(
      "acknowledged_messages_total", "Messages acknowledged to the broker, rejected ones among them.",
      counters.acknowledged)
    counter("emitted_documents_total", "Documents written to the output.", counters.emitted)
    counter("committed_documents_total", "Documents known to be safe downstream.", counters.committed)
    counter(
      "dropped_duplicates_total", "Redeliveries recognised as captured before, and not captured again.",
      counters.recognised)
    counter(
      "redelivered_messages_total", "Messages captured although the broker may have sent them before.",
      counters.redelivered)
    counter("rejected_messages_total", "Messages rejected by document.oversize.", counters.rejected)
    counter(
      "stream_gap_messages_total", "Messages that a stream's retention dropped before they were captured.",
      counters.streamGap)
    counter(
      "stream_jumped_offsets_total", "Offsets in the middle of a stream that were none of a message.",
      counters.streamJumps)
    counter(
      "stream_undeliverable_offsets_total", "Offsets of a stream gone past since the broker cannot send them.",
      counters.undeliverable)
    counter("consumers_started_total", "How often the broker confirmed a consumer.", counters.consumersStarted)
    family(
      "reconnects_total", "counter", "How often consuming was lost or could not begin, by cause.",
      counters.reconnects.sorted { $0.key < $1.key }.map { (#"{cause="\#($0.key)"}"#, "\($0.value)") })
    family(
      "state", "gauge", "What the capture is doing: 1 for the state that it is in.",
      StatusBoard.State.names.map { (#"{state="\#($0)"}"#, $0 == state.name ? "1" : "0") })
    if let backlog {
      gauge("queue_ready_messages", "Messages ready in the queues, when they were last asked.", "\(backlog)")
    }
    func each(_ name: String, _ type: String, _ help: String, _ value: (StatusBoard.Subscription) -> Int?) {
      let samples = subscriptions.compactMap { one in value(one).map { (Self.labels(one), "\($0)") } }
      if !samples.isEmpty { family("subscription_\(name)", type, help, samples) }
    }
    each("consuming", "gauge", "1 if the queue is consumed.") { $0.state == .consuming ? 1 : 0 }
    each("received_messages_total", "counter", "Messages that the broker delivered from the queue.") {
      $0.counters.received
    }
    each("journaled_messages_total", "counter", "Messages of the queue written to the journal.") {
      $0.counters.journaled
    }
    each("acknowledged_messages_total", "counter", "Messages acknowledged to the queue.") { $0.counters.acknowledged }
    each("reconnects_total", "counter", "How often consuming the queue was lost or could not begin.") {
      $0.counters.reconnects.values.reduce(0, +)
    }
    each("ready_messages", "gauge", "Messages ready in the queue, when it was last asked.", \.backlog)
    gauge("healthy", "1 if messages flow, as /healthz says.", health.isHealthy ? "1" : "0")
    histogram("commit_duration_seconds", "Time that a journal commit with messages took.", counters.commits, &text)
    if let journal {
      gauge("pending_messages", "Messages journaled and not committed downstream.", "\(journal.pendingRows)")
      gauge("pending_bytes", "Bytes of their bodies.", "\(journal.pendingBytes)")
      gauge("oldest_pending_age_seconds", "Age of the oldest of them; 0 without any.", "\(oldestAge.inSeconds)")
      gauge("journal_used_bytes", "Bytes of the journal's file in use.", "\(journal.usedBytes)")
    }
    return text
  }

  /// https://prometheus.io/docs/instrumenting/exposition_formats/#comments-help-text-and-type-information
  private static func labels(_ one: StatusBoard.Subscription) -> String {
    func quoted(_ value: String) -> String {
      var text = ""
      for character in value.unicodeScalars {
        switch character {
        case "\\": text += "\\\\"
        case "\"": text += "\\\""
        case "\n": text += "\\n"
        default: text.unicodeScalars.append(character)
        }
      }
      return "\"\(text)\""
    }
    return "{stream=\(quoted(one.stream)),queue=\(quoted(one.queue))}"
  }

  private func histogram(_ name: String, _ help: String, _ histogram: Histogram, _ text: inout String) {
    text += "# HELP source_amqp_\(name) \(help)\n# TYPE source_amqp_\(name) histogram\n"
    var count = 0
    for (bound, bucket) in zip(histogram.bounds.map { "\($0)" } + ["+Inf"], histogram.counts) {
      count += bucket
      text += "source_amqp_\(name)_bucket{le=\"\(bound)\"} \(count)\n"
    }
    text += "source_amqp_\(name)_sum \(histogram.sum)\nsource_amqp_\(name)_count \(count)\n"
  }
}
