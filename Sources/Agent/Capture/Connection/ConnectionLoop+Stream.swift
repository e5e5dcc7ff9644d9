import AMQP
import Logging
import Platform

/// How the connection thread looks at a stream's end.
extension ConnectionLoop {
  /// How long the last message may take.
  private static let endTime = Duration.seconds(10)

  /// Reads what stands at the stream's end, on a connection of its own, and forgets the place if it is another stream.
  ///
  /// - Returns: That the broker cannot send it. All else that fails here fails again at the next attempt, which reports it.
  func look(at end: inout StreamEnd, _ machine: inout ConnectionMachine) -> CaptureFailure? {
    guard let stream = topology.stream else { return nil }
    let last: StreamEnd.Message?
    do {
      var topology = topology
      topology.isAbandoned = { [mailbox] in mailbox.isStopping }
      let connection = try topology.connect()
      last = try self.last(on: connection)
      try? connection.close()
    } catch {
      let failure = (error as? AMQPError).map { topology.explained($0) }
      guard let failure, failure.isInternalError else { return nil }
      return .unknownEnd(ofStream: stream.queue.queue, captured: stream.offset ?? 0, failure)
    }
    guard stream.isAnother(last, &end) else { return nil }
    log.warning(
      """
      stream "\(stream.queue.queue)" ends at offset \(last?.offset ?? 0), before \(stream.offset ?? 0), which was captured, so it \
      was deleted and made anew; it is read from consumer.stream_offset on
      """)
    stream.forget()
    machine.forgetStream()
    status.changed(to: ConnectionMachine.anotherStream)
    return nil
  }

  /// The last message of the stream; nil where none comes.
  private func last(on connection: Connection) throws(AMQPError) -> StreamEnd.Message? {
    // A consumer gets the last chunk whole, and its last message is the stream's.
    let first = try read(
      from: .string("last"), ArgumentTable(), prefetch: .max, within: Self.endTime, on: connection)
    guard !first.isEmpty else { return nil }
    // The channel sends a chunk in one go: its answer to this comes behind it.
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
      _ = try connection.receive(deliveries: Self.batchDeliveries, bytes: Self.batchBytes)
      if connection.batch.isEmpty {
        try connection.wait(until: min(deadline, Instant.now + .seconds(1)), wakeup: mailbox.wakeup, reading: true)
      }
    }
    return connection.takeBatch(refilling: DeliveryBatch())
  }

  // MARK: - What the broker cannot send

  /// Looks at what the broker could not send, before the next channel.
  ///
  /// - Returns: What stands in the way; nil if nothing does, or the capture is to stop.
  func seek(_ machine: inout ConnectionMachine) -> CaptureFailure? {
    guard let stream = topology.stream, let first = machine.offsets.blocked else { return nil }
    let failure = CaptureFailure.undeliverable(
      first, ofStream: stream.queue.queue, captured: stream.offset, "it ends the channel by an internal error (541)")
    let skips = machine.settings.skipsUndeliverable
    if skips {
      log.warning("\(failure). Looking for the next offset that it can send")
      status.changed(to: .reconnecting(cause: failure.cause, reason: failure.description))
    }
    do throws(CaptureFailure) {
      return try search(stream, OffsetSearch(first: first, skips: skips, captured: stream.offset), &machine)
        ? nil : failure
    } catch {
      return error.cause == CaptureFailure.abandoned ? nil : error
    }
  }

  /// Looks at what the search says.
  ///
  /// - Returns: Whether a channel may begin.
  private func search(
    _ stream: StreamResumption, _ search: OffsetSearch, _ machine: inout ConnectionMachine
  ) throws(CaptureFailure) -> Bool {
    var search = search
    var told = Instant.now
    var step = search.begin(machine.offsets)
    while true {
      if case .look = step {
        // Nothing follows from a search that was not carried through; the channel that may begin then does not.
        if mailbox.isStopping { return true }
        if search.skips, Instant.now - told > .seconds(10) {
          told = Instant.now
          log.info(
            "still looking for an offset that the broker can send",
            metadata: [
              "first_offset": .stringConvertible(search.first),
              "offset": .stringConvertible(machine.offsets.probed ?? search.first),
            ])
        }
      }
      switch step {
      case .begin: return true
      case .report: return false
      case .pass(let range):
        pass(range, of: stream, &machine)
        return true
      case .anotherStream:
        log.warning(
          "stream \"\(stream.queue.queue)\" was made anew: another message stands at offset \(stream.offset ?? 0)")
        stream.forget()
        machine.forgetStream()
        return true
      case .look(.captured(let offset)):
        step = search.saw(isStill: stream.isStill(try message(at: offset)), &machine.offsets)
      case .look(.offset(let offset, let onEveryNode)):
        step = search.saw(try probe(.integer(offset), onEveryNode: onEveryNode), &machine.offsets)
      case .look(.next): step = search.saw(try probe(.string("next")), &machine.offsets)
      case .look(.last): step = search.saw(try probe(.string("last")), &machine.offsets)
      }
    }
  }

  private func pass(_ range: ClosedRange<Int64>, of stream: StreamResumption, _ machine: inout ConnectionMachine) {
    stream.pass(through: range.upperBound)
    guard let count = machine.passes(range) else { return }
    status.count { $0.undeliverable += Int(count) }
    let offsets =
      range.lowerBound == range.upperBound
      ? "offset \(range.lowerBound)" : "offsets \(range.lowerBound) to \(range.upperBound)"
    log.warning(
      """
      gone past in stream "\(stream.queue.queue)", since the broker cannot send them over AMQP 0-9-1 (consumer.undeliverable: \
      skip): \(offsets)
      """,
      metadata: [
        "first_offset": .stringConvertible(range.lowerBound), "last_offset": .stringConvertible(range.upperBound),
        "count": .stringConvertible(range.upperBound - range.lowerBound + 1),
      ])
  }

  /// What a channel brings that begins there; nothing of it is captured.
  ///
  /// - Parameter onEveryNode: It fails only where it does on each node of the settings: another one may have a copy that is whole.
  private func probe(_ start: Argument, onEveryNode: Bool = false) throws(CaptureFailure)
    -> UndeliverableOffsets.Outcome
  {
    for node in 0..<(onEveryNode ? topology.nodes.count : 1) {
      do throws(CaptureFailure) {
        guard let message = try message(from: start, node: onEveryNode ? node : nil) else { return .isQuiet }
        return .sends(message.offset)
      } catch {
        guard error.isInternalError else { throw error }
      }
    }
    return .fails
  }

  private func message(at offset: Int64) throws(CaptureFailure) -> StreamEnd.Message? {
    do throws(CaptureFailure) {
      return try message(from: .integer(offset), node: nil)
    } catch {
      if error.isInternalError { return nil }
      throw error
    }
  }

  private func message(from start: Argument, node: Int?) throws(CaptureFailure) -> StreamEnd.Message? {
    var topology = topology
    topology.isAbandoned = { [mailbox] in mailbox.isStopping }
    topology.firstNode = node
    let connection = try topology.connect()
    do throws(AMQPError) {
      // As a capture consumes, or it would be told of other messages.
      let arguments = try Topology.table(topology.configuration.consumer.arguments)
      let batch = try read(from: start, arguments, prefetch: 1, within: StreamEnd.patience, on: connection)
      try? connection.close()
      return batch.deliveries.first.flatMap { Self.message($0, batch) }
    } catch {
      throw topology.explained(error)
    }
  }
}
