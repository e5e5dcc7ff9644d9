import AMQP
import Logging
import Platform

/// What the connection thread tells: how consuming was lost and came back, what a broker is like, what limits the throughput, and how
/// many messages wait in the queue.
extension ConnectionLoop {
  private var queueText: String { "queue \"\(topology.configuration.queue.name)\"" }

  /// Tells a failure, as far as it is news (``OutageLog``).
  func notify(_ failure: CaptureFailure, _ report: OutageLog.Report, pause: Duration) {
    let next = "next attempt in \((pause.inSeconds * 10).rounded() / 10) s"
    switch report {
    case .cause:
      log.warning("not consuming: \(failure); \(next)", metadata: ["cause": .string(failure.cause)])
    case .reminder(let time, let attempts, let losses):
      let still =
        losses == 0
        ? "still not consuming, for \(Quantity.age(time)), after \(attempts) attempts"
        : "a consumer was lost \(losses) time\(losses == 1 ? "" : "s") in \(Quantity.age(time)), each within a minute"
      log.warning("\(still): \(failure)", metadata: ["cause": .string(failure.cause)])
    case .nothing:
      log.debug("not consuming: \(failure); \(next)", metadata: ["cause": .string(failure.cause)])
    }
  }

  /// Tells what is between two channels.
  func notify(_ action: ConnectionMachine.Action) {
    switch action {
    case .takenBack:
      log.warning(
        """
        the queue took back what was not acknowledged and delivers it again on the same channel, as quorum queues do when \
        the nodes of a cluster lose each other for a moment; consuming anew, so that it is recognised
        """)
    case .silent:
      log.warning(
        """
        nothing of what the queue took back has come again within \(TakenBack.patience.components.seconds) s, as happens when what its \
        leader sends is lost between nodes of a cluster; trying another channel
        """)
    case .narrows(let failure, let prefetch):
      log.info(
        "the broker ended the channel by an error of its own; finding out at which offset, with fewer deliveries at a time",
        metadata: [
          "cause": .string("\(failure)"), "prefetch_count": .stringConvertible(prefetch),
          "captured_offset": .string(topology.stream?.offset.map { "\($0)" } ?? "none"),
        ])
    case .pass(let range, .some): notifyOfPassing(range)
    case .forgetStream(let evidence):
      let stands =
        switch evidence {
        case .endsAt(let last): "ends at offset \(last), before \(topology.stream?.offset ?? 0), which was captured"
        case .otherMessage:
          "has another message at offset \(topology.stream?.offset ?? 0) than the one that was captured there"
        }
      log.warning(
        "stream \"\(topology.configuration.queue.name)\" \(stands), so it was deleted and made anew; it is read from consumer.stream_offset on"
      )
    case .searches(let failure): log.warning("\(failure). Looking for the next offset that it can send")
    case .stillSearches(let first, let now):
      log.info(
        "still looking for an offset that the broker can send",
        metadata: ["first_offset": .stringConvertible(first), "offset": .stringConvertible(now)])
    case .pass(_, nil), .status, .failed, .settled, .forgetPassed: break
    }
  }

  private func notifyOfPassing(_ range: ClosedRange<Int64>) {
    let offsets =
      range.lowerBound == range.upperBound
      ? "offset \(range.lowerBound)" : "offsets \(range.lowerBound) to \(range.upperBound)"
    log.warning(
      """
      gone past in stream "\(topology.configuration.queue.name)", since the broker cannot send them over AMQP 0-9-1 \
      (consumer.undeliverable: skip): \(offsets)
      """,
      metadata: [
        "first_offset": .stringConvertible(range.lowerBound), "last_offset": .stringConvertible(range.upperBound),
        "count": .stringConvertible(range.upperBound - range.lowerBound + 1),
      ])
  }

  /// Tells of a connection that is open.
  func notify(of connection: Connection) {
    log.debug(
      "connected and logged in",
      metadata: [
        "node": .string(connection.node.text),
        "broker": .string("\(connection.server.product) \(connection.server.version)"),
        "virtual_host": .string(topology.configuration.virtualHost),
        "heartbeat_seconds": .stringConvertible(connection.heartbeatSeconds),
        "frame_max": .stringConvertible(connection.frameMax),
      ])
  }

  /// Tells what a channel shows.
  func notify(_ notice: ConnectionMachine.Notice, _ consumer: Consumer) {
    switch notice {
    case .guarantee(let nature):
      // Otherwise it was logged at the start (``CaptureSetup``).
      guard policy.isOn, policy.needsClassicQueue else { return }
      log.log(
        level: policy.shortfall(on: nature) == nil ? .info : .warning,
        "\(Guarantee(topology.configuration, policy, on: nature).description)")
    case .consuming(let outage, let isRepeated): notify(consumer, outage, isRepeated: isRepeated)
    case .windowBounds(let finding, let limit):
      log.warning(
        """
        consumer.prefetch_count bounds the throughput: at most \(limit) messages can be unacknowledged, each until the runtime has \
        committed it, and \(Int(finding.messagesPerSecond)) messages/s came through in the last minute. \
        \(finding.prefetch > limit ? "Set consumer.prefetch_count: \(finding.prefetch), or give" : "Give") the journal a disk that \
        outlives the process (journal.path)
        """)
    case .consumesAnew(let finding, let text):
      // A stream's numbers may only be unknown here.
      log.log(
        level: finding == .undelivered ? .info : .warning,
        "nothing came for a while: \(text); consuming anew")
    case .standsStill(let finding, let text):
      log.warning("\(text)", metadata: ["cause": .string(finding.cause)])
    case .boundAgain:
      log.info(
        """
        nothing came for a minute, so \(queueText) was bound again as bindings say, in case an exchange was deleted and made again
        """)
    case .blocked(let reason): log.warning("the broker blocks publishers on this connection: \(reason)")
    case .unblocked: log.info("the broker no longer blocks publishers")
    }
  }

  /// Tells of a consumer that runs, and of the outage that is over with it.
  private func notify(_ consumer: Consumer, _ outage: ConnectionMachine.Outage?, isRepeated: Bool) {
    let configuration = topology.configuration
    let (connection, consuming) = (consumer.connection, consumer.consuming)
    if configuration.queue.declaration == .active {
      log.debug("declared \(queueText)")
      for binding in configuration.bindings {
        log.debug(
          "bound \(queueText) to exchange \"\(binding.exchange)\"",
          metadata: ["routing_key": .string(binding.routingKey)])
      }
    }
    let after = outage.map { outage in
      " again after \(Quantity.age(outage.time)), \(outage.attempts) attempt\(outage.attempts == 1 ? "" : "s")"
    }
    log.log(
      level: isRepeated ? .debug : .info,
      "consuming from \(queueText)\(after ?? "")",
      metadata: [
        "broker": .string("\(connection.server.product) \(connection.server.version)"),
        "consumer_tag": .string(consuming.consumerTag),
        "messages_ready": .stringConvertible(consumer.queue?.messages ?? 0),
        "other_consumers": .stringConvertible(consumer.queue?.consumers ?? 0),
        "heartbeat_seconds": .stringConvertible(connection.heartbeatSeconds),
      ].merging(consuming.narrowPrefetch.map { ["prefetch_count": .stringConvertible($0)] } ?? [:]) { $1 })
    status.found(inQueue: consuming.queue.kind == .stream ? nil : consumer.queue.map { Int($0.messages) }, of: index)
  }
}
