public import Glibc
import Platform

/// Plays Flow's runtime for one capture: runs the source-amqp binary over pipes, session after session.
///
/// Documents and state are committed as Flow does it: a checkpoint closes the documents before it, and together with the
/// checkpoint's state they become visible in one step (`committed`, `state`); only then is the checkpoint acknowledged.
/// What a killed or ended session left without a checkpoint is discarded, a torn last line included. The next `start`
/// opens with the last committed state. It is as strict as Flow: an unknown or repeated member, a blank line, a document
/// that is no object, an end of output inside a checkpoint sequence are `violations`, and every wait fails over one.
///
/// Two threads a session: one takes in what the connector writes, one commits and acknowledges. `policy` can be changed at
/// any time, also while they run.
public final class FlowRuntime: Sendable {
  /// When the runtime commits and acknowledges.
  public struct Policy: Sendable {
    /// How many checkpoints to put into one transaction, and so into one Acknowledge, where that many come. A
    /// transaction with fewer is committed after a moment without another.
    public var checkpointsPerTransaction = 1
    /// Commit nothing: checkpoints pile up.
    public var holdCommits = false
    /// Commit, and send no Acknowledge until this is false again.
    public var holdAcknowledgements = false
    /// Commit, and never send the Acknowledge of what is committed meanwhile, as a runtime does that dies in between.
    public var dropAcknowledgements = false
    /// Read nothing from the connector's stdout, so that its pipe fills.
    public var pauseReading = false

    public init() {}
  }

  /// A committed document.
  public struct Document: Sendable {
    /// The `captured` line it came in.
    public let line: [UInt8]
    public let json: JSON
    /// The session of this runtime (1, 2, …) that read it; not the document's `session_id`.
    public let session: Int
    /// The stream of the binding that it is of.
    public let stream: String

    public var messageID: String? { json[path: "properties", "message_id"]?.string }
    public var redelivered: Bool? { json[path: "delivery", "redelivered"]?.bool }
    public var sequence: Int? { json["sequence"]?.int }
    public var sessionID: String? { json["session_id"]?.string }
  }

  /// A line that the connector wrote to stderr.
  public struct LogLine: Sendable {
    public let text: String
    /// The line as JSON; nil if it is none.
    public let json: JSON?
    public var level: String? { json?["level"]?.string }
    public var message: String? { json?["message"]?.string }
  }

  /// What of Open differs from a capture of one shard, run as a local process.
  public struct Opening: Sendable {
    /// `connectorType`: `IMAGE` is a container.
    public var connectorType = "LOCAL"
    /// The shard's key range.
    public var keys: ClosedRange<UInt32> = 0...UInt32.max
    /// The version in the binding's state key; a backfill counts it up.
    public var stateVersion = 0
    /// What the capture has as bindings instead of its one (``FlowRuntime/binding(stream:resource:stateVersion:)``).
    public var bindings: [JSON]?

    public init() {}
  }

  private let binary: String
  private let name: String
  private let stream: String?
  private let openingNext = Monitor(Opening())
  private let config: Monitor<JSON>
  private let environment: [String: String]
  private let resource: JSON
  private let state = Monitor(State())
  private let process = Monitor<ChildProcess?>(nil)

  /// - Parameter config: The endpoint configuration.
  /// - Parameter stream: The one binding's stream; nil for a capture without bindings.
  /// - Parameter resource: What the binding's resource says beside its stream.
  /// - Parameter environment: Further variables for the connector.
  public init(
    config: JSON, stream: String? = "orders", resource: JSON = [:], name: String = "acmeCo/source-amqp",
    state: JSON = [:],
    environment: [String: String] = [:], binary: String? = nil
  ) throws {
    self.binary = try binary ?? connectorBinary()
    self.config = Monitor(config)
    self.name = name
    self.stream = stream
    self.resource = resource
    self.environment = ["LOG_LEVEL": "debug", "LOG_FORMAT": "json"].merging(environment) { $1 }
    self.state.update { $0.state = state }
  }

  deinit {
    // Its threads keep the child alive no longer than its pipes are open.
    state.update { $0.ended = true }
    process.update { $0?.signal(SIGKILL) }
  }

  /// A capture's binding as Open and Apply carry it.
  ///
  /// - Parameter resource: What the resource says beside its stream.
  public static func binding(stream: String, resource: JSON = [:], stateVersion: Int = 0) -> JSON {
    let own: JSON = ["stream": .string(stream)]
    return [
      "resourceConfig": own.merged(with: resource), "resourcePath": [.string(stream)],
      "collection": [
        "name": .string("acmeCo/" + stream), "key": ["/session_id", "/sequence"], "uuidPtr": "/_meta/uuid",
      ],
      "stateKey": .string(stream + ".v\(stateVersion)"),
    ]
  }

  // MARK: What happened so far

  /// Committed documents of all sessions, in order.
  public var committed: [Document] { state.update { $0.committed } }
  /// The connector's committed state.
  public var committedState: JSON { state.update { $0.state } }
  /// Checkpoints read, and checkpoints acknowledged, over all sessions.
  public var checkpoints: (read: Int, acknowledged: Int) { state.update { ($0.checkpoints, $0.acknowledged) } }
  /// Documents read, committed or not, over all sessions.
  public var documentsRead: Int { state.update { $0.documentsRead } }
  public var violations: [String] { state.update { $0.violations } }
  /// The connector's stderr, all sessions.
  public var log: [LogLine] { state.update { $0.log } }
  /// The response to Open in this session.
  public var opened: JSON? { state.update { $0.opened } }
  /// The connector's process ID; nil before the first start.
  public var pid: Int32? { process.update { $0?.pid } }

  /// When to commit and acknowledge, from now on.
  public var policy: Policy {
    get { state.update { $0.policy } }
    set { state.update { $0.policy = newValue } }
  }

  /// How the next start opens.
  public var opening: Opening {
    get { openingNext.update { $0 } }
    set { openingNext.update { $0 = newValue } }
  }

  /// The endpoint configuration of the next start.
  public var configuration: JSON {
    get { config.update { $0 } }
    set { config.update { $0 = newValue } }
  }

  // MARK: A session

  /// Starts the connector, sends Spec and Open with the committed state, and waits for `opened`.
  ///
  /// - Throws: If the connector ends instead; the error has its exit status and its last log lines.
  public func start(awaitOpened: Bool = true) throws {
    let session = try state.update { state in
      guard state.ended else { throw SupportError("the session before is not over") }
      state.session += 1
      state.sequence = []
      state.pending = []
      state.owed = 0
      state.acknowledging = false
      state.specified = nil
      state.opened = nil
      state.ended = false
      state.errorEnded = false
      return state.session
    }
    let shared = state
    let child = try ChildProcess(binary, [], environment: environment) { event in
      Self.read(event, session, shared)
    } onError: { event in
      Self.readLog(event, session, shared)
    }
    process.update { $0 = child }
    startThread { Self.commit(session, shared, child) }
    try child.write(line: #"{"spec":{"connectorType":"LOCAL","config":{}}}"#)
    try wait("the Spec response") { $0.specified != nil }
    let opening = opening
    let bindings =
      opening.bindings
      ?? stream.map { [Self.binding(stream: $0, resource: resource, stateVersion: opening.stateVersion)] } ?? []
    state.update { $0.streams = bindings.map { $0["resourceConfig"]?["stream"]?.string ?? "" } }
    var range: JSON = ["keyEnd": .number("\(opening.keys.upperBound)"), "rClockEnd": .number("4294967295")]
    // protobuf's JSON leaves out what is 0.
    if opening.keys.lowerBound > 0 {
      range = range.merged(with: ["keyBegin": .number("\(opening.keys.lowerBound)")])
    }
    let open: JSON = [
      "open": [
        "capture": [
          "name": .string(name), "connectorType": .string(opening.connectorType), "config": configuration,
          "bindings": .array(bindings), "intervalSeconds": 300,
        ],
        "version": "0123456789abcdef", "range": range,
        "state": committedState,
      ]
    ]
    try child.write(line: open.text)
    if awaitOpened { try wait("opened") { $0.opened != nil } }
  }

  /// Waits until so many documents are committed, over all sessions.
  public func waitUntil(committedCount count: Int, atMost limit: Duration = generousLimit) throws {
    try wait("\(count) committed documents", atMost: limit) { $0.committed.count >= count }
  }

  /// Waits until so many documents were read, over all sessions, committed or not.
  public func waitUntil(documentsRead count: Int, atMost limit: Duration = generousLimit) throws {
    try wait("\(count) documents", atMost: limit) { $0.documentsRead >= count }
  }

  /// Waits until the connector's committed state is this.
  public func waitUntil(committedState wanted: JSON, atMost limit: Duration = generousLimit) throws {
    try wait("the state \(wanted.text)", atMost: limit) { $0.state == wanted }
  }

  /// Waits until all that was committed is acknowledged and nothing is left to commit.
  public func waitUntilSettled(atMost limit: Duration = generousLimit) throws {
    try wait("all checkpoints to be acknowledged", atMost: limit) {
      $0.sequence.isEmpty && $0.pending.isEmpty && $0.owed == 0 && !$0.acknowledging
    }
  }

  /// Waits for a log line, of any session, for which `found` is true, and returns it.
  @discardableResult
  public func waitForLog(
    _ what: String, atMost limit: Duration = generousLimit, where found: @escaping (LogLine) -> Bool
  ) throws -> LogLine {
    var seen = 0
    return try wait("the log line: \(what)", atMost: limit) { state -> LogLine? in
      defer { seen = state.log.count }
      return state.log[seen...].first(where: found)
    }
  }

  /// SIGKILL at this instant; what is not committed now is lost, as in Flow.
  public func kill() throws {
    state.update { state in
      state.ended = true
      state.pending = []
      state.sequence = []
    }
    try process.update { $0 }?.kill()
  }

  /// Closes the connector's stdin, commits what it still writes, and waits for its end.
  public func closeInput(atMost limit: Duration = generousLimit) throws -> ChildProcess.Exit {
    process.update { $0 }?.closeInput()
    return try waitForExit(atMost: limit)
  }

  /// Sends a signal (SIGTERM), commits what the connector still writes, and waits for its end.
  public func terminate(
    _ signal: Int32 = SIGTERM, atMost limit: Duration = generousLimit
  ) throws -> ChildProcess.Exit {
    process.update { $0 }?.signal(signal)
    return try waitForExit(atMost: limit)
  }

  /// Sends a signal and returns.
  public func signal(_ number: Int32) {
    process.update { $0 }?.signal(number)
  }

  /// Waits until the connector ended and everything it wrote is committed (where the policy allows that).
  public func waitForExit(atMost limit: Duration = generousLimit) throws -> ChildProcess.Exit {
    guard let child = process.update({ $0 }) else { throw SupportError("no session was started") }
    let status = try child.waitForExit(atMost: limit)
    _ = state.wait(atMost: limit) { $0.ended && $0.errorEnded && !$0.committing ? true : nil }
    try failOverViolation()
    return status
  }

  /// The largest resident set that the running connector ever had, in bytes.
  public func peakResidentBytes() throws -> Int {
    guard let pid else { throw SupportError("no session was started") }
    return try Support.peakResidentBytes(of: pid)
  }

  // MARK: Waiting

  /// Waits until `condition` holds; fails over a violation and over the session's end before that.
  private func wait(
    _ what: String, atMost limit: Duration = generousLimit, until condition: (inout State) -> Bool
  ) throws {
    _ = try wait(what, atMost: limit) { condition(&$0) ? true : nil }
  }

  private func wait<Result>(
    _ what: String, atMost limit: Duration, until condition: (inout State) -> Result?
  ) throws -> Result {
    let outcome = state.wait(atMost: limit) { state -> Result?? in
      if !state.violations.isEmpty { return .some(nil) }
      if let result = condition(&state) { return .some(result) }
      return state.ended && state.errorEnded && !state.committing ? .some(nil) : nil
    }
    try failOverViolation()
    if case .some(.some(let result)) = outcome { return result }
    let (summary, lines) = state.update {
      (
        "\($0.documentsRead) documents read, \($0.committed.count) committed, \($0.pending.count) checkpoints pending",
        $0.log.suffix(15).map(\.text).joined(separator: "\n")
      )
    }
    let status = process.update { $0?.exitStatus }.map { "the connector ended (\($0))" }
    throw SupportError(
      "waiting for \(what): \(status ?? "nothing within \(limit)"); \(summary); the last log lines:\n\(lines)")
  }

  private func failOverViolation() throws {
    if let violation = violations.first { throw SupportError("protocol violation: \(violation)") }
  }
}
