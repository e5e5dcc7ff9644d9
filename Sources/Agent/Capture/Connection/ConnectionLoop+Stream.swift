import AMQP
import Logging
import Platform

/// How the connection thread looks at a stream's end.
extension ConnectionLoop {
  /// How long the last message may take.
  private static let endTime = Duration.seconds(10)

  /// What stands at the stream's end, read on a connection of its own.
  func foundAtEnd() -> ConnectionMachine.EndFound {
    do throws(CaptureFailure) {
      switch try connected(node: nil, { (connection) throws(AMQPError) in try last(on: connection) }) {
      case .success(let last): return .message(last)
      case .failure(let failure): return .notSent(failure)
      }
    } catch {
      return .notConnected(error)
    }
  }

  /// The last message of the stream; nil if none comes.
  private func last(on connection: Connection) throws(AMQPError) -> StreamEnd.Message? {
    // A consumer gets the last chunk whole, and its last message is the stream's.
    let first = try read(
      from: .string("last"), ArgumentTable(), prefetch: .max, within: Self.endTime, on: connection)
    guard !first.isEmpty else { return nil }
    // The channel sends a chunk in one go: its answer to this comes after it.
    _ = try connection.declareQueue(QueueDeclaration(name: topology.configuration.queue.name), passive: true)
    let rest = connection.takeBatch(refilling: DeliveryBatch())
    let batch = rest.isEmpty ? first : rest
    return batch.deliveries.last.flatMap { Self.message($0, batch) }
  }

  private static func message(_ delivery: DeliveryBatch.Delivery, _ batch: DeliveryBatch) -> StreamEnd.Message? {
    let block = batch.arena.span.extracting(delivery.properties)
    let properties = try? BasicProperties(block: block)
    guard let offset = DeliveryMarks(properties, of: block).streamOffset else { return nil }
    return StreamEnd.Message(
      offset: offset, digest: DigestMaker().digest(delivery, of: batch, properties: properties))
  }

  /// What comes first on a channel that reads the stream from somewhere; empty if nothing comes for so long.
  private func read(
    from start: Argument, _ arguments: ArgumentTable, prefetch: UInt16, within time: Duration,
    on connection: Connection
  ) throws(AMQPError) -> DeliveryBatch {
    try connection.setPrefetch(prefetch)
    var arguments = arguments
    arguments.append(StreamResumption.key, start)
    try connection.consume(
      Consumption(queue: topology.configuration.queue.name, noAck: false, exclusive: false, arguments: arguments),
      tag: "source-amqp-\(randomUUID())")
    var deadline = Instant.now + time
    while connection.batch.isEmpty, Instant.now < deadline, !mailbox.isStopping {
      if connection.isArriving { deadline = Instant.now + time }
      _ = try connection.receive(deliveries: Gathering.mostDeliveries, bytes: Gathering.largestBytes)
      if connection.batch.isEmpty {
        try connection.wait(until: min(deadline, Instant.now + .seconds(1)), wakeup: mailbox.wakeup, reading: true)
      }
    }
    // What has not come by then tells nothing.
    if mailbox.isStopping { throw AMQPError(.abandoned, during: "reading a stream") }
    return connection.takeBatch(refilling: DeliveryBatch())
  }

  // MARK: - What the broker cannot send

  /// What a channel brings that begins there; nothing of it is captured.
  func found(_ look: OffsetSearch.Look) throws(CaptureFailure) -> OffsetSearch.Found {
    let (start, node): (Argument, Int?) =
      switch look {
      case .offset(let offset, let node): (.integer(offset), node)
      case .captured(let offset): (.integer(offset), nil)
      case .next: (.string("next"), nil)
      case .last: (.string("last"), nil)
      }
    let found: Result<StreamEnd.Message?, CaptureFailure> =
      try connected(node: node) { (connection) throws(AMQPError) in
        // As a capture consumes, or it would be told of other messages.
        let arguments = try Topology.table(topology.configuration.consumer.arguments)
        let batch = try read(from: start, arguments, prefetch: 1, within: StreamEnd.patience, on: connection)
        return batch.deliveries.first.flatMap { Self.message($0, batch) }
      }
    switch found {
    case .success(let message): return message.map { .message($0) } ?? .nothing
    case .failure(let failure) where failure.kind == .internalError: return .fails
    case .failure(let failure): throw failure
    }
  }

  /// Runs `body` on a connection of its own.
  ///
  /// - Returns: What it returned, or how the connection failed meanwhile.
  /// - Throws: If there is no connection.
  private func connected<Found>(
    node: Int?, _ body: (Connection) throws(AMQPError) -> Found
  ) throws(CaptureFailure) -> Result<Found, CaptureFailure> {
    var topology = topology
    topology.isAbandoned = { [mailbox] in mailbox.isStopping }
    topology.firstNode = node
    let connection = try topology.connect()
    do throws(AMQPError) {
      let found = try body(connection)
      try? connection.close()
      return .success(found)
    } catch {
      return .failure(topology.explained(error))
    }
  }
}
