import AMQP
import Logging

/// How the connection thread does what `StandstillMachine` says.
extension ConnectionLoop {
  /// What a turn of the loop has seen, for the machine.
  struct Turn {
    /// How many deliveries came.
    var fresh: Int
    /// How many of the channel are not acknowledged.
    var unacknowledged: UInt64
    var queue: QueueNature
    /// The newest captured offset of a stream at the turn before.
    var offset: Int64?
    /// The channel's prefetch count; 0 is no limit.
    var prefetch: Int
  }

  /// One turn of the watch.
  ///
  /// - Returns: Why the consumer is to be given up for another; nil where it goes on.
  func watch(
    _ machine: inout StandstillMachine, _ turn: inout Turn, on connection: Connection
  ) throws(AMQPError) -> StandstillMachine.Finding? {
    let now = SystemClock.now()
    let name = topology.configuration.queue.name
    var actions = [machine.turned(arrival(&turn, on: connection), hasRoom: hasRoom(turn), at: now)]
    if let answer = connection.takeAnswer() {
      actions.append(machine.answered(answer, offset: turn.offset, at: now))
    }
    for action in actions {
      switch action {
      case .none: break
      case .ask: try connection.ask(for: name)
      case .consumeAnew(let finding):
        let text = text(of: finding, machine)
        // A stream's numbers may only be unknown here.
        log.log(level: finding == .undelivered ? .info : .warning, "nothing came for a while: \(text); consuming anew")
        return finding
      case .report(let finding):
        let text = text(of: finding, machine)
        if case .standsBy(_, isStuck: false) = finding {
          status.changed(to: .standby(reason: text))
          continue
        }
        log.warning("\(text)", metadata: ["cause": .string(finding.cause)])
        status.changed(to: .reconnecting(cause: finding.cause, reason: text))
      case .recovered: status.changed(to: .consuming)
      case .bind:
        if try !connection.bindAside(queue: name, try topology.bindings()),
          machine.answered(.bound, offset: turn.offset, at: now) == .recovered
        {
          status.changed(to: .consuming)
        }
      case .boundAgain:
        log.info(
          """
          nothing came for a minute, so queue "\(name)" was bound again as bindings say, in case an exchange was deleted and made \
          again
          """)
      }
    }
    return nil
  }

  func text(of finding: StandstillMachine.Finding, _ machine: StandstillMachine) -> String {
    let queue = topology.configuration.queue
    return finding.text(
      queue: queue.name, attempts: machine.attempts,
      isSingleActive: queue.arguments["x-single-active-consumer"] == .bool(true))
  }

  private func hasRoom(_ turn: Turn) -> Bool {
    topology.configuration.consumer.noAck || turn.prefetch == 0 || turn.unacknowledged < UInt64(turn.prefetch)
  }

  private func arrival(_ turn: inout Turn, on connection: Connection) -> StandstillMachine.Arrival {
    if turn.queue.kind == .stream {
      // A new consumer of a stream gets again what stands in the same chunk as its first message.
      let offset = topology.stream?.offset
      defer { turn.offset = offset }
      return offset != turn.offset ? .new : turn.fresh > 0 ? .old : .nothing
    }
    if turn.fresh == 0 { return .nothing }
    return connection.batch.deliveries.suffix(turn.fresh).contains { !$0.redelivered } ? .new : .old
  }
}
