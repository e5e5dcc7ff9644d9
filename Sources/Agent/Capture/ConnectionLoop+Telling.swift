import AMQP
import Logging

/// What the connection thread tells: how consuming was lost and came back, what a broker is like, what limits the throughput, and how
/// many messages wait in the queue.
extension ConnectionLoop {
  /// Tells a failure, as far as it is news (``OutageLog``).
  func report(_ failure: CaptureFailure, _ action: ReconnectMachine.Action, _ course: inout Course) {
    guard case .wait(let seconds) = action else { return }
    let next = "next attempt in \((seconds * 10).rounded() / 10) s"
    switch course.outage.failed(cause: failure.cause, at: SystemClock.now()) {
    case .cause:
      log.warning("not consuming: \(failure); \(next)", metadata: ["cause": .string(failure.cause)])
    case .reminder(let seconds, let attempts, let losses):
      let still =
        losses == 0
        ? "still not consuming, for \(Progress.age(seconds)), after \(attempts) attempts"
        : "a consumer was lost \(losses) times in \(Progress.age(seconds)), each within a minute"
      log.warning("\(still): \(failure)", metadata: ["cause": .string(failure.cause)])
    case .nothing:
      log.debug("not consuming: \(failure); \(next)", metadata: ["cause": .string(failure.cause)])
    }
    status.changed(to: .reconnecting(cause: failure.cause, reason: failure.description))
  }

  /// Tells of a connection that is open.
  func tell(of connection: Connection) {
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

  /// Tells of a consumer that runs, and of the outage that is over with it.
  func tell(of channel: Consuming, _ queue: QueueStatus?, _ connection: Connection, _ course: inout Course) {
    let configuration = topology.configuration
    let name = "queue \"\(configuration.queue.name)\""
    if configuration.queue.declaration == .active {
      log.debug("declared \(name)")
      for binding in configuration.bindings {
        log.debug(
          "bound \(name) to exchange \"\(binding.exchange)\"", metadata: ["routing_key": .string(binding.routingKey)])
      }
    }
    let outage = course.outage.recovered(at: SystemClock.now()).map { outage in
      " again after \(Progress.age(outage.seconds)), \(outage.attempts) attempt\(outage.attempts == 1 ? "" : "s")"
    }
    log.log(
      level: course.outage.isRepeated ? .debug : .info,
      "consuming from \(name)\(outage ?? "")",
      metadata: [
        "broker": .string("\(connection.server.product) \(connection.server.version)"),
        "consumer_tag": .string(channel.consumerTag), "messages_ready": .stringConvertible(queue?.messages ?? 0),
        "other_consumers": .stringConvertible(queue?.consumers ?? 0),
        "heartbeat_seconds": .stringConvertible(connection.heartbeatSeconds),
      ].merging(channel.narrowPrefetch.map { ["prefetch_count": .stringConvertible($0)] } ?? [:]) { $1 })
    status.found(inQueue: channel.queue.kind == .stream ? nil : queue.map { Int($0.messages) })
  }

  /// Tells what redeliveries lead to, where the queue's type decides about it.
  func tell(of queue: QueueNature, _ told: inout QueueNature.Kind?) {
    guard policy.isOn, policy.needsClassicQueue, queue.kind != told, queue.kind != .stream else { return }
    told = queue.kind
    log.log(
      level: policy.shortfall(on: queue) == nil ? .info : .warning,
      "\(Guarantee(topology.configuration, policy, on: queue).description)")
  }

  /// Looks whether the window bounds the throughput, and says so once.
  ///
  /// - Parameters:
  ///   - newest: The newest delivery's tag.
  ///   - before: What was acknowledged at the turn before, and `now` after this one.
  func look(at newest: UInt64, since before: UInt64, _ now: UInt64, _ course: inout Course) {
    if now > before { log.debug("acknowledged \(now - before) messages") }
    guard waitsForRuntime, course.width == .configured else { return }
    let finding = course.window.turned(
      unacknowledged: newest - min(newest, now), prefetch: course.limit, acknowledged: Int(now - before),
      at: SystemClock.now())
    guard let finding else { return }
    log.warning(
      """
      consumer.prefetch_count bounds the throughput: \(course.limit) messages are on their way at most, each until the runtime has \
      committed it, so \(Int(finding.messagesPerSecond)) messages/s came through in the last minute. \
      \(finding.prefetch > course.limit ? "Set consumer.prefetch_count: \(finding.prefetch), or give" : "Give") the journal a disk that \
      outlives the process (journal.path)
      """)
  }

  /// When the queue was last asked how many messages wait in it.
  struct Backlog {
    static let seconds = 60.0
    private var asked: Double
    private var newest: UInt64 = 0

    init(at now: Double) { asked = now }

    /// - Parameters:
    ///   - tag: The newest delivery's; without a new one, and with room for one, the queue is at rest, and what was found is still so.
    ///   - isFull: No more can be delivered.
    mutating func isDue(at now: Double, newest tag: UInt64, isFull: Bool) -> Bool {
      guard now - asked >= Self.seconds, tag != newest || isFull else { return false }
      (asked, newest) = (now, tag)
      return true
    }
  }

  /// Asks now and then how many messages wait in the queue, and notes the answer. Of a stream that number says nothing.
  func look(
    for backlog: inout Backlog, of channel: Consuming, newest: UInt64, isFull: Bool, on connection: Connection
  ) throws(AMQPError) {
    if let answer = connection.takeDepth() { status.found(inQueue: Int(answer.messages)) }
    guard channel.queue.kind != .stream, topology.configuration.queue.declaration != .none,
      backlog.isDue(at: SystemClock.now(), newest: newest, isFull: isFull)
    else { return }
    try connection.askBehind(for: topology.configuration.queue.name, isForDepth: true)
  }
}
