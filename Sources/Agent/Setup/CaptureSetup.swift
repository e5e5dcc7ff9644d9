import Glibc
import Journal
import Logging
import Platform

/// Opens what a capture needs and decides where it begins; the part that both drivers share.
struct CaptureSetup {
  let configuration: EndpointConfiguration
  let choice: AcknowledgementChoice
  let journal: Journal
  /// Nil if nothing is captured.
  let subscription: SubscriptionRecord?
  let sessionID: String
  let policy: DeduplicationPolicy
  let resumption: Resumption
  /// The journal outlives the process, and acknowledgements rest on it.
  var keepsJournal: Bool { configuration.journal.path != nil && !choice.mayLoseJournal }
  let log: Logger

  /// Opens the journal, or makes a temporary one, and logs the mode in force and why.
  ///
  /// - Parameters:
  ///   - stream: Where documents go; nil if nothing is captured.
  ///   - path: The journal's file; nil for a private temporary one.
  ///   - choice: When acknowledgements go out.
  ///   - checkpoints: Someone keeps checkpoints with their state over our end.
  ///   - state: What recognises redeliveries in the committed checkpoint, if anything does, and `streamState` where to
  ///     go on in a stream.
  ///   - stateKey: Changes if the user asks for a backfill; nil if that can't be.
  init(
    _ configuration: EndpointConfiguration, stream: String?, journalPath path: String?,
    choice: AcknowledgementChoice, checkpoints: Bool, state: RedeliveryState?, streamState: StreamResumption.State?,
    stateKey: String? = nil, log: Logger
  ) throws {
    self.configuration = configuration
    self.choice = choice
    self.log = log
    for warning in configuration.warnings { log.warning("\(warning)") }
    // A journal that no one can find again may lose its unsynced end: what an acknowledgement rests on may not.
    let settings =
      path.map { JournalSettings(path: $0) }
      ?? .temporary(under: Self.temporaryDirectory, durability: choice.mode == .journaled ? .full : .relaxed)
    journal = try Journal.openSalvaging(settings, log: log)
    sessionID = randomUUID()
    if let stream {
      subscription = try journal.subscriptions([
        Journal.Wanted(stream, queue: configuration.queue.name, virtualHost: configuration.virtualHost)
      ])[0]
    } else {
      subscription = nil
    }
    let isCarried = checkpoints && (path == nil || choice.mayLoseJournal)
    policy = DeduplicationPolicy(configuration, isCarried: isCarried ? true : path != nil ? false : nil)
    resumption = try Resumption(
      policy, configuration, journal: journal, subscription, isTemporary: path == nil, checkpoints: checkpoints,
      isCarried: isCarried,
      state: state, streamState: streamState, stateKey: stateKey)
    log.info(
      "acknowledgement mode \(choice.mode.rawValue): \(choice.mode.explanation), because \(choice.reason)",
      metadata: [
        "version": .string(Version.text), "journal": .string(path ?? "temporary"),
        "journal_id": .string(journal.identifier),
        "last_position": .stringConvertible(journal.positions.last.rawValue),
        "committed_position": .stringConvertible(journal.positions.committedThrough.rawValue),
      ])
    if case .stream(let stream) = resumption {
      let start = stream.offset.map { "goes on after offset \($0)" } ?? "is captured from consumer.stream_offset on"
      log.info("the stream \(start)")
    } else if !policy.isOn || !policy.needsClassicQueue {
      // Else the broker has yet to tell the queue's type.
      let isKept = path != nil || checkpoints
      log.info("\(Guarantee(configuration, policy, on: nil, isKept: isKept).description)")
    }
  }

  /// Begins the session and makes the capture's plan.
  ///
  /// - Parameter hasCommitted: The runtime has committed a checkpoint of this capture before.
  func plan(
    start: Position, connectionName: String, outputName: String, idle: Bool, hasCommitted: Bool = false
  ) throws(JournalError) -> Capture.Plan {
    let isInDoubt = try isInDoubt(hasCommitted: hasCommitted)
    // An idle capture writes nothing, and emits nothing: all waits.
    let parked = try subscription.map { (subscription) throws(JournalError) in
      do throws(JournalError) { return try journal.begin([subscription], emittedThrough: start) } catch {
        // The next start salvages.
        if case .corrupt = error.kind, keepsJournal { try Journal.markDamaged(by: error) }
        throw error
      }
    }
    if let parked { notify(parked) }
    let start = max(start, journal.positions.committedThrough)
    var session: Journal.Session?
    if let subscription {
      session = try journal.beginSession(of: subscription, id: sessionID, startedAt: SystemClock.wallMicroseconds())
    }
    return Capture.Plan(
      configuration: configuration, connectionName: connectionName, journal: journal, start: start, mode: choice.mode,
      outputName: outputName, sessionID: sessionID, session: session, policy: policy, resumption: resumption,
      idle: idle, hasParked: parked?.streams.isEmpty == false,
      isInDoubt: isInDoubt)
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
  private func isInDoubt(hasCommitted: Bool) throws(JournalError) -> Bool {
    guard keepsJournal, let subscription else { return !hasCommitted }
    let captured = try journal.captured(of: subscription)
    let reached =
      choice.mode == .journaled
      ? captured : try journal.newest(of: subscription, through: journal.positions.committedThrough)
    guard let base = try journal.newestSessionBase(of: subscription) else { return reached == .origin }
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
