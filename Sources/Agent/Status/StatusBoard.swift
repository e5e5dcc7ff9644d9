import Logging
import Platform

/// What the capture is doing, in one place: counters for people, and the connector status that Flow shows.
///
/// A status event is logged when the state changes, and only then; of an outage each once, and
/// of one that comes back again and again each at most once a minute. The connection's state and what is paused are kept
/// apart, so that neither hides the other: a capture that lost its connection while its disk was full does not look as
/// if it consumed once the disk has room again.
///
/// Of several subscriptions each has a state and counters of its own. The capture's is the one that is furthest from consuming, and says of
/// whom it is: a capture consumes if all of them do.
/// https://github.com/estuary/flow/blob/master/crates/models/src/status/connector.rs
final class StatusBoard: Sendable {
  /// What the capture is doing now.
  enum State: Equatable, Sendable {
    case starting
    case connecting
    /// Logged in, and the queue of this name does not answer.
    case awaitingQueue(String)
    case consuming
    /// Consuming, and another consumer is preferred.
    case standby(reason: String)
    /// Not consuming, and coming back.
    case reconnecting(cause: String, reason: String)
    /// Consuming, but a part of the capture waits, for a reason that passes.
    case paused(Part, reason: String)
    /// Consuming, but something that the capture waits for takes too long.
    case stalled(Stall)
    case stopping

    /// One sentence for a user; Markdown is allowed.
    var message: String {
      switch self {
      case .starting: "Starting the capture"
      case .connecting: "Connecting to the broker"
      case .awaitingQueue(let name): "Logged in, and waiting for queue \"\(name)\" to answer: it may have no leader"
      case .consuming: "Capture started"
      case .standby(let reason): "Standing by: \(reason)"
      case .reconnecting(_, let reason): "Not consuming, trying again: \(reason)"
      case .paused(.intake, let reason), .paused(.writing, let reason), .paused(.share, let reason):
        "Intake is paused: \(reason)"
      case .paused(.output, let reason): "Documents wait in the journal: \(reason)"
      case .stalled(let stall): "Slow: \(stall.reason)"
      case .stopping: "Stopping the capture"
      }
    }

    /// What is wrong, by a name, since its words may change each time; nil if nothing is.
    var outage: String? {
      switch self {
      case .awaitingQueue: "awaiting_queue"
      case .reconnecting(let cause, _): cause
      case .paused(let part, _): "paused_\(part)"
      case .stalled(let stall): "stalled_\(stall)"
      case .starting, .connecting, .consuming, .standby, .stopping: nil
      }
    }

    /// How far it is from consuming: of several subscriptions the one that is furthest shows.
    fileprivate var rank: Int {
      switch self {
      case .stopping: 6
      case .reconnecting: 5
      case .awaitingQueue: 4
      case .connecting: 3
      case .starting: 2
      case .standby, .paused, .stalled: 1
      case .consuming: 0
      }
    }

    /// The same with a reason that says of whom it is.
    fileprivate func of(_ who: String) -> State {
      switch self {
      case .reconnecting(let cause, let reason): .reconnecting(cause: cause, reason: "\(who): \(reason)")
      case .standby(let reason): .standby(reason: "\(who): \(reason)")
      case .paused(let part, let reason): .paused(part, reason: "\(who): \(reason)")
      case .starting, .connecting, .awaitingQueue, .consuming, .stalled, .stopping: self
      }
    }

    /// One word for it, for metrics and the status line.
    var name: String {
      switch self {
      case .starting: "starting"
      case .connecting, .awaitingQueue: "connecting"
      case .consuming: "consuming"
      case .standby: "standby"
      case .reconnecting: "reconnecting"
      case .paused: "paused"
      case .stalled: "slow"
      case .stopping: "stopping"
      }
    }

    /// Every name that there is, in the order of a capture's life.
    static let names = ["starting", "connecting", "consuming", "standby", "paused", "slow", "reconnecting", "stopping"]
  }

  /// What can be paused by itself.
  enum Part: Sendable {
    /// Taking messages into the journal, until there is room.
    case intake
    /// The same, for a transaction that failed and is tried again, which may be one that makes room.
    case writing
    /// Writing documents.
    case output
    /// Taking messages of one of several queues, which has more than its share of the journal.
    case share
  }

  /// Counts since the process started. Every one only grows.
  struct Counters: Equatable, Sendable {
    /// Messages that the broker delivered.
    var received = 0
    /// Messages written to the journal.
    var journaled = 0
    /// Messages that the broker may forget by our word, rejected ones among them.
    var acknowledged = 0
    /// Documents written.
    var emitted = 0
    /// Documents known to be safe downstream.
    var committed = 0
    /// Captured although the broker may have sent them before.
    var redelivered = 0
    /// Not captured, since they were captured before.
    var recognised = 0
    var rejected = 0
    /// Messages that a stream's retention dropped before they were captured.
    var streamGap = 0
    /// Offsets in the middle of a stream that were none of a message.
    var streamJumps = 0
    /// Offsets of a stream gone past since the broker cannot send them.
    var undeliverable = 0
    var consumersStarted = 0
    /// How often consuming was lost or could not begin, by cause.
    var reconnects: [String: Int] = [:]
    /// Seconds that a journal transaction with messages took, from its begin to its end on stable storage.
    var commits = Histogram(bounds: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10])

    /// Adds those of another subscription; commits are those of all anyway.
    fileprivate mutating func add(_ other: Counters) {
      received += other.received
      journaled += other.journaled
      acknowledged += other.acknowledged
      emitted += other.emitted
      committed += other.committed
      redelivered += other.redelivered
      recognised += other.recognised
      rejected += other.rejected
      streamGap += other.streamGap
      streamJumps += other.streamJumps
      undeliverable += other.undeliverable
      consumersStarted += other.consumersStarted
      reconnects.merge(other.reconnects) { $0 + $1 }
    }
  }

  /// What is shown of one subscription.
  struct Subscription: Equatable, Sendable {
    /// Its name, and that of its queue.
    var stream: String
    var queue: String
    /// What its connection does.
    var state = State.starting
    /// Why what it has delivered waits, while the others go on; nil if it does not.
    var waits: String?
    /// What is to be said of it first.
    var shown: State { state == .consuming ? waits.map { .paused(.share, reason: $0) } ?? state : state }
    /// Messages in the queue that no one has, when it was last asked; nil if that is not known.
    var backlog: Int?
    var counters = Counters()
    /// Grows with each change of a state: the newest of those that are equally bad shows.
    fileprivate var change = 0

    init(stream: String, queue: String) { (self.stream, self.queue) = (stream, queue) }
  }

  private struct Board {
    var subscriptions: [Subscription]
    var changes = 0
    /// When which status of an outage was logged, and after which of them messages flowed.
    var told: [String: Instant] = [:]
    var over: Set<String> = []
    /// The present state was not logged, since it was a moment ago.
    var isUntold = false
    /// The newest that was logged is that messages flow.
    var toldConsuming = false
    /// Why each part is paused. That there is no room lasts while single transactions fail and succeed.
    var pauses: [Part: String] = [:]
    var waits = StallWatch()
    /// The state when a change of it was last looked for: time alone changes it too.
    var known = State.starting
    /// Of all subscriptions together.
    var shared = Counters()

    init(_ subscriptions: [Subscription]) { self.subscriptions = subscriptions }

    var counters: Counters {
      var sum = shared
      for subscription in subscriptions { sum.add(subscription.counters) }
      return sum
    }

    /// The subscription that is furthest from consuming.
    private var worst: Subscription? {
      subscriptions.max { ($0.shown.rank, $0.change) < ($1.shown.rank, $1.change) }
    }

    /// The state of the connections.
    private var connection: State {
      guard let worst else { return .starting }
      guard subscriptions.count > 1 else { return worst.shown }
      let alike = subscriptions.count { $0.shown.rank == worst.shown.rank }
      return worst.shown.of("\"\(worst.stream)\" (\(alike) of \(subscriptions.count) queues)")
    }

    /// What is wrong, by a name that stays the same as long as it is the same.
    func outage(_ state: State) -> String? {
      guard let outage = state.outage, subscriptions.count > 1, let worst, worst.shown.outage == outage else {
        return state.outage
      }
      return "\(outage) \(worst.stream)"
    }

    /// What a user should hear first.
    func state(at now: Instant) -> State {
      let connection = connection
      switch connection {
      case .consuming, .standby: break
      case .starting, .connecting, .awaitingQueue, .reconnecting, .paused, .stalled:
        // What holds up those that do consume is worse than that one of several does not.
        if !subscriptions.contains(where: { $0.state == .consuming }) { return connection }
      case .stopping: return connection
      }
      for part in [Part.intake, .writing, .output] {
        if let reason = pauses[part] { return .paused(part, reason: reason) }
      }
      if let stall = waits.stall(at: now) { return .stalled(stall) }
      return connection
    }
  }

  private let board: Locked<Board>
  private let log: Logger
  private let clock: @Sendable () -> Instant

  /// - Parameters:
  ///   - subscriptions: By their indices.
  ///   - clock: Tells the time.
  init(
    log: Logger, subscriptions: [Subscription] = [Subscription(stream: "", queue: "")],
    clock: @escaping @Sendable () -> Instant = { Instant.now }
  ) {
    board = Locked(Board(subscriptions))
    self.log = log
    self.clock = clock
  }

  var state: State {
    let now = clock()
    return board.withLock { $0.state(at: now) }
  }
  var counters: Counters { board.withLock { $0.counters } }

  /// What is shown of each subscription.
  var subscriptions: [Subscription] { board.withLock { $0.subscriptions } }

  /// A queue was asked how many messages are ready in it; nil if that number says nothing.
  func found(inQueue messages: Int?, of index: Int = 0) {
    board.withLock { $0.subscriptions[index].backlog = messages }
  }

  /// What the connection of a subscription does now; not for ``State/paused(_:reason:)``.
  func changed(to state: State, of index: Int = 0) {
    change { board in
      board.changes += 1
      switch state {
      case .consuming: board.subscriptions[index].counters.consumersStarted += 1
      case .reconnecting(let cause, _): board.subscriptions[index].counters.reconnects[cause, default: 0] += 1
      case .starting, .connecting, .awaitingQueue, .standby, .paused, .stalled, .stopping: break
      }
      if board.subscriptions[index].state != state { board.subscriptions[index].change = board.changes }
      board.subscriptions[index].state = state
    }
  }

  /// What a subscription has delivered waits, while the others go on; nil if it goes on, too.
  func waits(_ index: Int, reason: String?) {
    change { board in
      board.changes += 1
      board.subscriptions[index].change = board.changes
      board.subscriptions[index].waits = reason
    }
  }

  /// The capture stops.
  func stops() {
    change { board in
      for index in board.subscriptions.indices { board.subscriptions[index].state = .stopping }
    }
  }

  /// A part waits for better times; ``resumed(_:)`` ends that.
  func paused(_ part: Part, reason: String) { change { $0.pauses[part] = reason } }

  func resumed(_ part: Part) { change { $0.pauses[part] = nil } }

  /// Something is waited for from now on, until ``ended(_:)``.
  func began(_ stall: Stall) {
    let now = clock()
    board.withLock { $0.waits.began(stall, at: now) }
  }

  /// Something came of what is waited for.
  func progressed(_ stall: Stall) {
    let now = clock()
    board.withLock { $0.waits.progressed(stall, at: now) }
  }

  func ended(_ stall: Stall) {
    let now = clock()
    board.withLock { $0.waits.ended(stall, at: now) }
  }

  /// Runs `body`, which waits for `stall`.
  func waiting<Result, Failure: Error>(
    for stall: Stall, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    began(stall)
    defer { ended(stall) }
    return try body()
  }

  /// Tells what has changed by the passing of time alone; to be called about once a second.
  func look() { change { _ in } }

  private func change(_ body: (inout Board) -> Void) {
    let now = clock()
    let changed: State? = board.withLock { board in
      body(&board)
      let state = board.state(at: now)
      if state == board.known, !board.isUntold { return nil }
      board.known = state
      board.isUntold = false
      if let key = board.outage(state) {
        if let told = board.told[key], !board.over.contains(key) || now - told < OutageLog.stable {
          board.isUntold = board.over.contains(key)
          return nil
        }
        board.told[key] = now
        board.over.remove(key)
      } else if state == .consuming {
        board.over = Set(board.told.keys)
        if board.toldConsuming { return nil }
      }
      board.toldConsuming = state == .consuming
      return state
    }
    guard let changed else { return }
    // What else is wrong has a line of its own beside the status.
    let level: Logger.Level =
      switch changed {
      case .paused(.output, _), .paused(.writing, _), .stalled: .warning
      case .starting, .connecting, .awaitingQueue, .consuming, .standby, .reconnecting, .paused(.intake, _),
        .paused(.share, _),
        .stopping:
        .info
      }
    log.log(level: level, "\(changed.message)", metadata: ["eventType": "connectorStatus"])
  }

  /// Counts what is of no subscription, or of all.
  func count(_ change: (inout Counters) -> Void) { board.withLock { change(&$0.shared) } }

  /// Counts what is of one subscription.
  func count(of index: Int, _ change: (inout Counters) -> Void) {
    board.withLock { change(&$0.subscriptions[index].counters) }
  }
}

/// How many values fell under which bound. https://prometheus.io/docs/concepts/metric_types/#histogram
struct Histogram: Equatable, Sendable {
  /// Upper bounds, inclusive, growing; the last bucket has none.
  let bounds: [Double]
  /// One more than bounds; not cumulative.
  private(set) var counts: [Int]
  private(set) var sum = 0.0
  /// How many values there were.
  var count: Int { counts.reduce(0, +) }

  init(bounds: [Double]) {
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }

  mutating func observe(_ value: Double) {
    counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    sum += value
  }
}
