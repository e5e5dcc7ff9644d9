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
    // A consumer gets the last chunk whole, and its last message is the stream's.
    let first = try read(from: .string("last"), prefetch: .max, within: Self.endSeconds, on: connection)
    guard !first.isEmpty else { return nil }
    // The channel sends a chunk in one go: its answer to this comes behind it.
    _ = try connection.declareQueue(QueueDeclaration(name: topology.configuration.queue.name), passive: true)
    let rest = connection.takeBatch(refilling: DeliveryBatch())
    let batch = rest.isEmpty ? first : rest
    guard let delivery = batch.deliveries.last else { return nil }
    let block = batch.arena.span.extracting(delivery.properties)
    let properties = try? BasicProperties(block: block)
    guard let offset = Self.offset(of: delivery, batch) else { return nil }
    return StreamEnd.Message(
      offset: offset, digest: DigestMaker().digest(delivery, of: batch, properties: properties))
  }

  /// What comes first on a channel that reads the stream from somewhere; empty where nothing comes for so many seconds.
  private func read(
    from start: Argument, prefetch: UInt16, within seconds: Double, on connection: Connection
  ) throws(AMQPError) -> DeliveryBatch {
    try connection.setPrefetch(prefetch)
    var arguments = ArgumentTable()
    arguments.append(StreamResumption.key, start)
    try connection.consume(
      Consumption(queue: topology.configuration.queue.name, noAck: false, exclusive: false, arguments: arguments),
      tag: "source-amqp-\(randomUUID())")
    let deadline = SystemClock.now() + seconds
    while connection.batch.isEmpty, SystemClock.now() < deadline, !mailbox.isStopping {
      _ = try connection.receive(deliveries: Self.batchDeliveries, bytes: Self.batchBytes)
      if connection.batch.isEmpty {
        try connection.wait(until: min(deadline, SystemClock.now() + 1), wakeup: mailbox.wakeup, reading: true)
      }
    }
    return connection.takeBatch(refilling: DeliveryBatch())
  }

  private static func offset(of delivery: DeliveryBatch.Delivery, _ batch: DeliveryBatch) -> Int64? {
    let block = batch.arena.span.extracting(delivery.properties)
    return DeliveryMarks(try? BasicProperties(block: block), of: block).streamOffset
  }

  // MARK: - What the broker cannot send

  /// Takes a failure of a stream's channel into account, and says more of one that an offset is to blame for.
  func narrow(
    _ stream: StreamResumption, after failure: CaptureFailure, isInternalError: Bool, _ course: inout Course
  ) -> CaptureFailure {
    guard isInternalError else {
      forgetOffsets(&course)
      return failure
    }
    // The journal thread has decided about all that was delivered.
    guard returning(&course) != nil else { return failure }
    // Where the newest captured message itself does not come, nothing shows that the stream is the one that was captured.
    let next = stream.isUnconfirmed ? nil : stream.next
    course.offsets.failed(newest: stream.offset, next: next, configured: course.configured)
    guard course.offsets.isBlocked else {
      log.info(
        "the broker ended the channel by an error of its own; finding out at which offset, with fewer deliveries at a time",
        metadata: [
          "cause": .string("\(failure)"),
          "prefetch_count": .stringConvertible(course.offsets.width ?? course.configured),
          "captured_offset": .string(stream.offset.map { "\($0)" } ?? "none"),
        ])
      return failure
    }
    return undeliverable(course.offsets.blocked, of: stream, "\(failure)")
  }

  /// What was known of offsets may no longer be so.
  func forgetOffsets(_ course: inout Course) {
    course.offsets.forget()
    topology.stream?.pass(through: nil)
  }

  private func undeliverable(_ offset: Int64?, of stream: StreamResumption, _ failure: String) -> CaptureFailure {
    let place =
      offset.map { "at offset \($0)" } ?? stream.offset.map { "at or behind offset \($0)" }
      ?? "where consumer.stream_offset begins"
    let advice =
      offset == nil
      ? "Set consumer.stream_offset to an offset behind it, or read it with a client of the stream protocol"
      : "consumer.undeliverable: skip goes past it; with wait it is tried again. To have it, read it with a client of the stream "
        + "protocol"
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send what stands \(place) of stream \"\(stream.queue.queue)\": \(failure). A client of the stream "
        + "protocol wrote it as bytes that are no AMQP message, or compressed (RabbitMQ 3). \(advice)", needsUser: false
    )
  }

  /// Looks at what the broker could not send, before the next session.
  ///
  /// - Returns: What stands in the way; nil if nothing does, or the capture is to stop.
  func seek(_ course: inout Course) -> CaptureFailure? {
    guard let stream = topology.stream, let first = course.offsets.blocked else { return nil }
    let cannot = "it ends the channel by an internal error (541)"
    while let offset = course.offsets.probed, !mailbox.isStopping {
      let outcome: UndeliverableOffsets.Outcome
      do throws(CaptureFailure) {
        outcome = try probe(offset)
      } catch {
        return error.cause == CaptureFailure.abandoned ? nil : error
      }
      guard topology.configuration.consumer.undeliverable == .skip else {
        course.offsets.sawAgain(outcome)
        return outcome == .fails ? undeliverable(first, of: stream, cannot) : nil
      }
      switch course.offsets.saw(outcome) {
      case .probe: break
      case .goOn: return nil
      case .tryLater: return undeliverable(first, of: stream, cannot)
      case .pass(let range):
        stream.pass(through: range.upperBound)
        let count = range.upperBound - range.lowerBound + 1
        status.count { $0.undeliverable += Int(count) }
        log.warning(
          """
          gone past in stream "\(stream.queue.queue)", since the broker cannot send them over AMQP 0-9-1 (consumer.undeliverable: \
          skip): \(range.lowerBound == range.upperBound ? "offset \(range.lowerBound)" : "offsets \(range.lowerBound) to \(range.upperBound)")
          """,
          metadata: [
            "first_offset": .stringConvertible(range.lowerBound), "last_offset": .stringConvertible(range.upperBound),
            "count": .stringConvertible(count),
          ])
        return nil
      }
    }
    return nil
  }

  /// What a channel brings that begins with `offset`; nothing of it is captured.
  private func probe(_ offset: Int64) throws(CaptureFailure) -> UndeliverableOffsets.Outcome {
    var topology = topology
    topology.isAbandoned = { [mailbox] in mailbox.isStopping }
    let connection = try topology.connect()
    do throws(AMQPError) {
      let batch = try read(from: .integer(offset), prefetch: 1, within: StreamEnd.patience, on: connection)
      try? connection.close()
      guard let delivery = batch.deliveries.first else { return .isQuiet }
      return .sends(Self.offset(of: delivery, batch) ?? offset)
    } catch {
      let failure = topology.explained(error)
      if failure.cause == "connection_closed_541" || failure.cause == "channel_closed_541" { return .fails }
      throw failure
    }
  }
}
