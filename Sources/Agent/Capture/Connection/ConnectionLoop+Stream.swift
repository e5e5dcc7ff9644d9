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
      switch try onOwnConnection(node: nil, { (open) throws(AMQPError) in try last(on: open) }) {
      case .success(let last): return .message(last)
      case .failure(let failure): return .notSent(failure)
      }
    } catch {
      return .notConnected(error)
    }
  }

  /// The last message of the stream; nil if none comes.
  private func last(on open: Open) throws(AMQPError) -> StreamEnd.Message? {
    // A consumer gets the last chunk whole, and its last message is the stream's.
    let first = try read(
      from: .string("last"), ArgumentTable(), prefetch: .max, within: Self.endTime, on: open)
    guard !first.isEmpty else { return nil }
    // The channel sends a chunk in one go: its answer to this comes after it.
    _ = try open.channel.declareQueue(QueueDeclaration(name: topology.configuration.queue.name), passive: true)
    let rest = open.channel.takeBatch(refilling: DeliveryBatch())
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

  /// What comes first on a channel that reads the stream from somewhere; empty if nothing comes for so long. A large message takes its
  /// time: as long as more of it comes.
  private func read(
    from start: Argument, _ arguments: ArgumentTable, prefetch: UInt16, within time: Duration,
    on open: Open
  ) throws(AMQPError) -> DeliveryBatch {
    let (connection, channel) = open
    try channel.setPrefetch(prefetch)
    var arguments = arguments
    arguments.append(StreamResumption.key, start)
    try channel.consume(
      Consumption(queue: topology.configuration.queue.name, noAck: false, exclusive: false, arguments: arguments),
      tag: "source-amqp-\(randomUUID())")
    var patience = LookPatience(time, received: connection.receivedBytes, at: Instant.now)
    while channel.batch.isEmpty, !mailbox.isStopping {
      let received = try connection.receive(deliveries: Gathering.mostDeliveries, bytes: Gathering.largestBytes)
      try channel.check()
      let (arriving, bytes) = (channel.isArriving, connection.receivedBytes)
      guard let deadline = patience.looked(isArriving: arriving, received: bytes, at: Instant.now) else { break }
      if channel.batch.isEmpty, received != .more {
        try connection.wait(until: deadline, wakeup: mailbox.wakeup, reading: true)
      }
    }
    // A read that a stop has cut short says nothing of the stream.
    if mailbox.isStopping { throw AMQPError(.abandoned, during: "reading a stream") }
    return channel.takeBatch(refilling: DeliveryBatch())
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
      try onOwnConnection(node: node) { (open) throws(AMQPError) in
        // As a capture consumes, or it would be told of other messages.
        let arguments = try Topology.table(topology.configuration.consumer.arguments)
        let batch = try read(from: start, arguments, prefetch: 1, within: StreamEnd.patience, on: open)
        return batch.deliveries.first.flatMap { Self.message($0, batch) }
      }
    switch found {
    case .success(let message): return message.map { .message($0) } ?? .nothing
    case .failure(let failure): return try OffsetSearch.found(failure)
    }
  }

  private typealias Open = (connection: Connection, channel: AMQPChannel)

  /// Runs `body` on a connection of its own.
  ///
  /// - Returns: What it returned, or how the connection failed meanwhile.
  /// - Parameter node: Which of the settings' nodes is tried first, from 0; nil for any.
  /// - Throws: If the connection or its channel cannot be opened.
  private func onOwnConnection<Found>(
    node: Int?, _ body: (Open) throws(AMQPError) -> Found
  ) throws(CaptureFailure) -> Result<Found, CaptureFailure> {
    var topology = topology
    topology.isAbandoned = { [mailbox] in mailbox.isStopping }
    topology.firstNode = node
    let connection = try topology.connect()
    let channel = try topology.openChannel(on: connection)
    do throws(AMQPError) {
      let found = try body((connection, channel))
      try? connection.close()
      return .success(found)
    } catch {
      return .failure(topology.explained(error))
    }
  }
}
