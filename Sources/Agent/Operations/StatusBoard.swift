import Logging
import Synchronization

/// What the capture is doing, in one place: counters for people, and the connector status that Flow shows.
///
/// A status event is logged when the state changes, and only then.
/// https://github.com/estuary/flow/blob/master/crates/models/src/status/connector.rs
final class StatusBoard: Sendable {
  /// What the capture is doing now.
  enum State: Equatable, Sendable {
    case starting
    case connecting
    case consuming
    /// Not consuming, and coming back.
    case reconnecting(cause: String, reason: String)
    /// Consuming, but nothing more is taken in, for a reason that passes.
    case paused(reason: String)
    case stopping

    /// One sentence for a user; Markdown is allowed.
    var message: String {
      switch self {
      case .starting: "Starting the capture"
      case .connecting: "Connecting to the broker"
      case .consuming: "Capture started"
      case .reconnecting(_, let reason): "Not consuming, trying again: \(reason)"
      case .paused(let reason): "Intake is paused: \(reason)"
      case .stopping: "Stopping the capture"
      }
    }
  }

  struct Counters: Equatable, Sendable {
    var received = 0
    var journaled = 0
    var acknowledgements = 0
    var emitted = 0
    /// Captured although the broker may have sent them before.
    var redelivered = 0
    /// Not captured, since they were captured before.
    var recognised = 0
    var rejected = 0
    var consumersStarted = 0
  }

  private struct Board {
    var state = State.starting
    var counters = Counters()
  }

  private let board = Mutex(Board())
  private let log: Logger

  init(log: Logger) { self.log = log }

  var state: State { board.withLock { $0.state } }
  var counters: Counters { board.withLock { $0.counters } }

  func changed(to state: State) {
    let isNew = board.withLock { board in
      if state == .consuming { board.counters.consumersStarted += 1 }
      defer { board.state = state }
      return board.state != state
    }
    if isNew { log.info("\(state.message)", metadata: ["eventType": "connectorStatus"]) }
  }

  func count(_ change: (inout Counters) -> Void) { board.withLock { change(&$0.counters) } }
}
