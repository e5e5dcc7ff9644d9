import Glibc
import Journal
import Logging
import Platform

/// Opens what a capture needs and decides where it begins; the part that both drivers share.
struct CaptureSetup {
  /// A subscription that is to be captured, with what the driver knows of it.
  struct Wanted {
    var subscription: Subscription
    /// What recognises redeliveries in the committed checkpoint, if anything does, and where to go on in a stream.
    var redelivery: RedeliveryState?
    var stream: StreamResumption.State?
    /// Changes if the user asks for a backfill; nil if that can't be.
    var stateKey: String?
    /// The runtime has committed a checkpoint of it before.
    var hasCommitted = false
    /// Name of its output in the journal, for the length of its file.
    var outputName = "output"

    var configuration: EndpointConfiguration { subscription.configuration }
  }

  /// The same with what it goes on by.
  private struct Prepared {
    var wanted: Wanted
    var record: SubscriptionRecord
    /// Of its documents. Each has one of its own: they may go to one collection, which tells them apart by it.
    var sessionID: String
    var policy: DeduplicationPolicy
    var resumption: Resumption
  }

  /// Broker, journal and documents: what is the same for all.
  let endpoint: EndpointConfiguration
  let choice: AcknowledgementChoice
  let journal: Journal
  private let prepared: [Prepared]
  /// The journal outlives the process, and acknowledgements rest on it.
  var keepsJournal: Bool { endpoint.journal.path != nil && !choice.mayLoseJournal }
  let log: Logger

  /// The subscriptions as the journal will have them, in their order.
  var records: [SubscriptionRecord] { prepared.map(\.record) }

  /// By what the subscriptions go on, in their order.
  var resumptions: [Resumption] { prepared.map(\.resumption) }

  /// Opens the journal, or makes a temporary one, and logs the mode in force and why.
  ///
  /// - Parameters:
  ///   - wanted: Gives what is captured for an open journal; none if nothing is.
  ///   - path: The journal's file; nil for a private temporary one.
  ///   - choice: When acknowledgements go out.
  ///   - checkpoints: Someone keeps checkpoints with their state over our end.
  init(
    _ endpoint: EndpointConfiguration, journalPath path: String?, choice: AcknowledgementChoice, checkpoints: Bool,
    log: Logger, _ wanted: (Journal) throws -> [Wanted]
  ) throws {
    (self.endpoint, self.choice, self.log) = (endpoint, choice, log)
    // A journal that no one can find again may lose its unsynced end: what an acknowledgement rests on may not.
    let settings =
      path.map { JournalSettings(path: $0) }
      ?? .temporary(under: Self.temporaryDirectory, durability: choice.mode == .journaled ? .full : .relaxed)
    journal = try Journal.openSalvaging(settings, log: log)
    let all = try wanted(journal)
    Self.warn(all.isEmpty ? [endpoint] : all.map(\.configuration), log: log)
    let records = try journal.subscriptions(
      all.map {
        Journal.Wanted(
          $0.subscription.stream, queue: $0.configuration.queue.name, virtualHost: $0.configuration.virtualHost)
      })
    let isCarried = checkpoints && (path == nil || choice.mayLoseJournal)
    var prepared: [Prepared] = []
    for (wanted, record) in zip(all, records) {
      let policy = DeduplicationPolicy(wanted.configuration, isCarried: isCarried ? true : path != nil ? false : nil)
      let resumption = try Resumption(
        policy, wanted.configuration, journal: journal, record, isTemporary: path == nil, checkpoints: checkpoints,
        isCarried: isCarried, state: wanted.redelivery, streamState: wanted.stream, stateKey: wanted.stateKey)
      prepared.append(
        Prepared(
          wanted: wanted, record: record, sessionID: randomUUID(), policy: policy, resumption: resumption))
    }
    self.prepared = prepared
    log.info(
      "acknowledgement mode \(choice.mode.rawValue): \(choice.mode.explanation), because \(choice.reason)",
      metadata: [
        "version": .string(Version.text), "journal": .string(path ?? "temporary"),
        "journal_id": .string(journal.identifier),
        "last_position": .stringConvertible(journal.positions.last.rawValue),
        "committed_position": .stringConvertible(journal.positions.committedThrough.rawValue),
      ])
    if prepared.count > 1 { warnOfOtherQueues() }
    for one in prepared { notify(one, isKept: path != nil || checkpoints) }
  }

  /// What is warned of, each once.
  private static func warn(_ configurations: [EndpointConfiguration], log: Logger) {
    var told: Set<String> = []
    for warning in configurations.flatMap(\.warnings) where told.insert("\(warning)").inserted {
      log.warning("\(warning)")
    }
  }

  /// Tells whose stream was another queue's before.
  private func warnOfOtherQueues() {
    for one in prepared {
      let (record, configuration) = (one.record, one.wanted.configuration)
      guard let before = journal.subscriptions.first(where: { $0.key == record.key }),
        !before.queue.isSameName(as: configuration.queue.name)
      else { continue }
      log.warning(
        """
        stream \"\(record.stream ?? "")\" was captured from queue \"\(before.queue)\" before, and is from \"\(configuration.queue.name)\" now: \
        nothing is known of what this queue delivers again, and a stream is read from consumer.stream_offset on
        """)
    }
  }

  /// Tells by what a subscription goes on, as far as the settings say.
  private func notify(_ one: Prepared, isKept: Bool) {
    var log = log
    if prepared.count > 1 { log[metadataKey: "stream"] = .string(one.wanted.subscription.stream) }
    if case .stream(let stream) = one.resumption {
      let start = stream.offset.map { "goes on after offset \($0)" } ?? "is captured from consumer.stream_offset on"
      log.info("the stream \(start)")
    } else if !one.policy.isOn || !one.policy.needsClassicQueue {
      // Else the broker has yet to tell the queue's type.
      log.info("\(Guarantee(one.wanted.configuration, one.policy, on: nil, isKept: isKept).description)")
    }
  }

  /// Begins the sessions and makes the capture's plan.
  func plan(start: Position, connectionName: String) throws(JournalError) -> Capture.Plan {
    var areInDoubt: [Bool] = []
    for one in prepared { areInDoubt.append(try isInDoubt(one)) }
    // An idle capture writes nothing, and emits nothing: all waits.
    var parked: Journal.Parked?
    if !prepared.isEmpty {
      do throws(JournalError) { parked = try journal.begin(prepared.map(\.record), emittedThrough: start) } catch {
        // The next start salvages.
        if case .corrupt = error.kind, keepsJournal { try Journal.markDamaged(by: error) }
        throw error
      }
    }
    if let parked { notify(parked) }
    let start = max(start, journal.positions.committedThrough)
    var subscriptions: [Capture.Subscription] = []
    for (one, isInDoubt) in zip(prepared, areInDoubt) {
      let session = try journal.beginSession(
        of: one.record, id: one.sessionID, startedAt: SystemClock.wallMicroseconds())
      subscriptions.append(
        Capture.Subscription(
          stream: one.wanted.subscription.stream, configuration: one.wanted.configuration, session: session,
          sessionID: one.sessionID, policy: one.policy, resumption: one.resumption, isInDoubt: isInDoubt,
          outputName: one.wanted.outputName))
    }
    return Capture.Plan(
      endpoint: endpoint, subscriptions: subscriptions, connectionName: connectionName, journal: journal, start: start,
      mode: choice.mode, hasParked: parked?.streams.isEmpty == false)
  }

  /// Tells what waits, or waits no longer, since a subscription is captured or is not.
  private func notify(_ parked: Journal.Parked) {
    if parked.returned > 0 {
      log.info(
        "\(parked.returned) messages that were parked in the journal go on, since what they are of is captured again")
    }
    guard !parked.streams.isEmpty else { return }
    let names = parked.streams.map { "\"\($0)\"" }.joined(separator: ", ")
    log.warning(
      """
      the journal keeps messages of \(names), which \(parked.streams.count == 1 ? "is" : "are") not captured any more: they are parked, \
      as the view pending shows, and go on when \(parked.streams.count == 1 ? "it is" : "they are") captured into this journal again
      """, metadata: ["parked_now": .stringConvertible(parked.left)])
  }

  /// Whether earlier processes may have ended, again and again, before anything was acknowledged (``PrefetchGuard``): nothing was
  /// captured before, or nothing since the last start.
  private func isInDoubt(_ one: Prepared) throws(JournalError) -> Bool {
    guard keepsJournal else { return !one.wanted.hasCommitted }
    let captured = try journal.captured(of: one.record)
    let reached =
      choice.mode == .journaled
      ? captured : try journal.newest(of: one.record, through: journal.positions.committedThrough)
    guard let base = try journal.newestSessionBase(of: one.record) else { return reached == .origin }
    return reached <= base
  }

  private static var temporaryDirectory: String { environmentVariable("TMPDIR") ?? "/tmp" }
}

extension AcknowledgementMode {
  init(_ setting: AcknowledgeMode) {
    switch setting {
    case .journaled: self = .journaled
    case .committed: self = .committed
    }
  }

  /// What it means, for the log.
  var explanation: String {
    switch self {
    case .journaled: "the broker gets its acknowledgement once the journal is on stable storage"
    case .committed: "the broker gets its acknowledgement once the runtime has committed the checkpoint"
    }
  }
}
