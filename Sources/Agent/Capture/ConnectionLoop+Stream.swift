import AMQP
import Logging

/// How the connection thread looks at a stream's end.
extension ConnectionLoop {
  /// Seconds that the last message may take.
  private static let endSeconds = 10.0

  /// Reads what stands at the stream's end, on a connection of its own, and forgets the place if it is another stream. What fails
  /// here fails again in the next session, which reports it.
  func look(at end: inout StreamEnd) {
    guard let stream = topology.stream else { return }
    let last: StreamEnd.Message?
    do {
      var topology = topology
      topology.isAbandoned = { [mailbox] in mailbox.isStopping }
      let connection = try topology.connect()
      last = try self.last(on: connection)
      try? connection.close()
    } catch {
      return
    }
    guard stream.isAnother(last, &end) else { return }
    log.warning(
      """
      stream "\(stream.queue.queue)" ends at offset \(last?.offset ?? 0), before \(stream.offset ?? 0), which was captured, so it \
      was deleted and made anew; it is read from consumer.stream_offset on
      """)
    stream.forget()
    status.changed(to: .reconnecting(cause: "another_stream", reason: "the stream was made anew"))
  }

  /// The last message of the stream; nil where none comes.
  private func last(on connection: Connection) throws(AMQPError) -> StreamEnd.Message? {
    let queue = topology.configuration.queue.name
    // A consumer gets the last chunk whole, and its last message is the stream's.
    try connection.setPrefetch(.max)
    var arguments = ArgumentTable()
    arguments.append(StreamResumption.key, .string("last"))
    try connection.consume(
      Consumption(queue: queue, noAck: false, exclusive: false, arguments: arguments),
      tag: "source-amqp-\(randomUUID())")
    let deadline = SystemClock.now() + Self.endSeconds
    while connection.batch.isEmpty, SystemClock.now() < deadline, !mailbox.isStopping {
      _ = try connection.receive(deliveries: Self.batchDeliveries, bytes: Self.batchBytes)
      if connection.batch.isEmpty {
        try connection.wait(until: min(deadline, SystemClock.now() + 1), wakeup: mailbox.wakeup, reading: true)
      }
    }
    guard !connection.batch.isEmpty else { return nil }
    // The channel sends a chunk in one go: its answer to this comes behind it.
    _ = try connection.declareQueue(QueueDeclaration(name: queue), passive: true)
    let batch = connection.takeBatch(refilling: DeliveryBatch())
    guard let delivery = batch.deliveries.last else { return nil }
    let block = batch.arena.span.extracting(delivery.properties)
    let properties = try? BasicProperties(block: block)
    guard let offset = DeliveryMarks(properties, of: block).streamOffset else { return nil }
    return StreamEnd.Message(
      offset: offset, digest: DigestMaker().digest(delivery, of: batch, properties: properties))
  }
}
