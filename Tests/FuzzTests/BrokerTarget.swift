import Journal
import Platform

@testable import AMQP
@testable import Agent

/// What a broker sends, from its first byte on: through the connection to what is decided about each delivery, in two sessions that are
/// told the same, of a queue of each type. The first octet is no part of it, and says which type.
func broker(_ input: [UInt8]) {
  guard let first = input.first else { return }
  let kind: QueueNature.Kind = [.classic, .quorum, .unknown, .stream][Int(first) % 4]
  let queue = QueueNature(kind: kind, hasPriorities: first & 4 != 0, countsAcquisitions: first & 8 != 0)
  var intake = Intake(document: DocumentOptions(maxBytes: 2 << 20, oversize: .reject))
  var machine = SubscriptionMachine(
    SubscriptionMachine.Settings(mode: .journaled, trust: kind == .classic ? .exclusive : .sole),
    redelivery: RedeliveryMachine(
      anchor: 2, windowLimit: 16, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0, prefetch: 8),
    captured: .origin, journaled: .origin, at: .distantPast)
  var place = StreamPlace()
  for session in 0..<2 {
    intake.channelBegan()
    let channel = Consuming(
      generation: session + 1, consumerTag: "c", queue: queue, narrowPrefetch: first & 16 != 0 ? 2 : nil)
    _ = machine.began(channel, place: nil, at: .distantPast)
    place.channelBegan()
    do throws(AMQPError) {
      try converse(Array(input.dropFirst())) { batch in
        decide(batch, &intake, &machine, &place)
        if first & 32 != 0, let decision = machine.silent() { _ = intake.prepareHeld(decision) }
      }
    } catch {
      precondition(!"\(error)".isEmpty && !CaptureFailure(error).description.isEmpty)
    }
    if session == 0 { _ = machine.settle() }
  }
}

private func decide(
  _ batch: DeliveryBatch, _ intake: inout Intake, _ machine: inout SubscriptionMachine, _ place: inout StreamPlace
) {
  let consumer = ConsumerRecord(id: 1, sessionID: "s", sessionBase: .origin, tag: "t", queue: "q", virtualHost: "/")
  let plan = intake.prepare(batch, consumer: consumer, &machine)
  var last: UInt64 = 0
  plan.decision.forEachTag { tag, _ in
    precondition(tag > last, "acknowledgements out of order: \(tag) behind \(last)")
    last = tag
  }
  _ = machine.writing(plan.decision, releasable: nil)
  _ = machine.written(
    plan.decision, through: machine.journaled + plan.count, releasable: nil, at: .distantPast)
  let digests = DigestMaker()
  for delivery in batch.deliveries {
    let block = batch.arena.span.extracting(delivery.properties)
    let properties = try? BasicProperties(block: block)
    let digest = digests.digest(delivery, of: batch, properties: properties)
    if let offset = DeliveryMarks(properties, of: block).streamOffset { _ = place.delivered(offset, digest) }
  }
}

/// Connects to a broker that says `bytes`, consumes, and hands on what it delivers, until the bytes are at their end.
private func converse(_ bytes: [UInt8], _ deliver: (DeliveryBatch) -> Void) throws(AMQPError) {
  var settings = ConnectionSettings(
    nodes: [BrokerNode(host: "h", port: 1)], credentials: .plain(username: "u", password: "p"), timeout: .seconds(30))
  settings.bodyLimit = BodyLimit(largest: 300, kept: 100)
  let connection = try Connection(
    settings, over: Bytes(bytes), to: settings.nodes[0], deadline: Instant.now + .seconds(30))
  // Sometimes two, so that what a broker says of a channel that is another's is tried, too.
  var channels = [try connection.openChannel()]
  if bytes.count % 2 == 1 { channels.append(try connection.openChannel()) }
  for channel in channels {
    try channel.setPrefetch(8)
    try channel.consume(Consumption(queue: "q"), tag: "tag")
  }
  while true {
    _ = try connection.receive(deliveries: 4, bytes: 1 << 16)
    for channel in channels {
      try channel.check()
      deliver(channel.takeBatch(refilling: DeliveryBatch()))
      _ = channel.takeEvents()
    }
    _ = connection.takeEvents()
  }
}

/// Bytes that have arrived, and then the end.
private final class Bytes: ByteStream {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  var descriptor: Int32 { -1 }

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Socket.Progress {
    if rest.isEmpty { return .endOfStream }
    let part = rest.prefix(buffer.count)
    unsafe buffer.copyBytes(from: part)
    rest = rest.dropFirst(part.count)
    return .bytes(part.count)
  }

  func write(_ buffer: UnsafeRawBufferPointer) throws(AMQPError) -> Socket.Progress { .bytes(buffer.count) }
  func interest(in events: Int16) -> Int16 { events }
  func wait(for events: Int16, until deadline: Instant) -> Bool { true }
}
