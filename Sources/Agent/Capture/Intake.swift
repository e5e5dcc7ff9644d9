import AMQP
import Journal

/// Does with the bytes of each delivery of a batch what ``SubscriptionMachine`` decides, and writes them.
///
/// Properties are rendered to JSON here, once; bodies are not looked at, so that no message can do anything but be stored.
/// Only if a message's document would be larger than `document.max_bytes` does the policy decide, since it has to be
/// known before the acknowledgement.
///
/// Preparing changes the machine and happens once; writing happens in a transaction that may be rolled back and run
/// again, and changes nothing but the journal. So a plan owns what it says: held messages move into it with their bytes,
/// and whatever is decided about the rest of the batch leaves them as they are.
struct Intake {
  /// One message to be written, with where its parts lie.
  struct Item: Sendable {
    fileprivate var tag: UInt64
    fileprivate var redelivered: Bool
    fileprivate var receivedAt: Int64
    /// In the batch's arena, or among the held bytes.
    fileprivate var exchange: Range<Int>
    fileprivate var routingKey: Range<Int>
    fileprivate var body: Range<Int>
    /// How many bytes the body has: more than `body` if it was not kept whole.
    fileprivate var bodySize: Int
    /// The property block if the JSON cannot hold all of it, else empty.
    fileprivate var rawProperties: Range<Int>
    /// In ``Plan/rendered``, or among the held bytes.
    fileprivate var properties: Range<Int>
    fileprivate var digest: DeliveryDigest?
    fileprivate var streamOffset: Int64?
    /// It lies in the plan's ``Plan/held``, all of it.
    fileprivate var isHeld = false

    /// The row that the journal makes of it, but for how the body is stored.
    ///
    /// - Parameters:
    ///   - arena: Where all parts but the properties lie.
    ///   - rendered: Where the properties lie.
    @_lifetime(copy arena, copy rendered)
    func row(
      at position: Position, number: Position? = nil, consumer: Int64, _ arena: Span<UInt8>, _ rendered: Span<UInt8>
    ) -> Row {
      Row(
        position: position, consumer: consumer, deliveryTag: tag, redelivered: redelivered, receivedAt: receivedAt,
        exchange: arena.extracting(exchange), routingKey: arena.extracting(routingKey),
        properties: rendered.extracting(properties), body: arena.extracting(body), bodyIsText: false,
        bodySize: bodySize,
        number: number)
    }
  }

  /// Deliveries that wait for a verdict, with bytes of their own: the batch they came in has gone.
  fileprivate struct Held {
    var bytes: [UInt8] = []
    var items: [Item] = []

    /// Keeps the message, whose parts lie in `source`, and its properties in `rendered`.
    mutating func append(_ item: Item, of source: [UInt8], properties rendered: [UInt8]) {
      func keep(_ range: Range<Int>, of source: [UInt8]) -> Range<Int> {
        let start = bytes.count
        bytes.append(contentsOf: source[range])
        return start..<bytes.count
      }
      var copy = item
      copy.exchange = keep(item.exchange, of: source)
      copy.routingKey = keep(item.routingKey, of: source)
      copy.body = keep(item.body, of: source)
      copy.rawProperties = keep(item.rawProperties, of: source)
      copy.properties = keep(item.properties, of: rendered)
      copy.isHeld = true
      items.append(copy)
    }

    /// Gives everything away.
    mutating func take() -> Held {
      defer { self = Held() }
      return self
    }

    mutating func append(_ others: Held) {
      for item in others.items { append(item, of: others.bytes, properties: others.bytes) }
    }

    /// Forgets the first `count`, with their bytes.
    mutating func removeFirst(_ count: Int) {
      var rest = Held()
      for item in items.dropFirst(count) { rest.append(item, of: bytes, properties: bytes) }
      self = rest
    }
  }

  /// What was decided about a batch. It owns the bytes of everything that it captures but the batch's own: nothing that is
  /// decided later changes what is written.
  struct Plan {
    fileprivate(set) var items: [Item] = []
    /// Properties of the batch's messages as JSON, one after the other.
    fileprivate(set) var rendered: [UInt8] = []
    /// The messages of earlier batches that are among ``items``, with their bytes.
    fileprivate var held = Held()
    /// What was decided, by tags; those it captures are the items', in their order.
    fileprivate(set) var decision = SubscriptionMachine.Decision()
    /// Offsets of messages of a stream, from which nothing can be rejected, that are too large (`document.oversize: reject`).
    var oversizeOffsets: [Int64] = []
    /// The capture must end before this message: `document.oversize: fail`.
    var failure: CaptureFailure?

    /// Offsets and digests of the messages to be appended; none if the queue is no stream.
    var streamOffsets: [Int64] { items.compactMap(\.streamOffset) }
    var streamDigests: [DeliveryDigest] { items.compactMap { $0.streamOffset == nil ? nil : $0.digest } }

    /// How many messages are to be appended.
    var count: Int { items.count }
    /// They are messages of the batch, and of no earlier one: the emitter can have them from its memory.
    var isWholeBatch: Bool { !items.isEmpty && held.items.isEmpty }

    /// Captures messages of earlier batches, with their bytes.
    fileprivate mutating func capture(_ messages: Held) {
      // Usually nothing is there, and the bytes move in.
      if held.items.isEmpty { held = messages } else { held.append(messages) }
      items += held.items.suffix(messages.items.count)
    }

    /// How many of them the broker may have sent before.
    var redelivered: Int { items.count { $0.redelivered } }
    /// Their digests, 16 bytes each, in groups of one line; none if none are kept.
    var digests: [RedeliveryWrite.Group] {
      guard items.last?.digest != nil else { return [] }
      var groups: [RedeliveryWrite.Group] = []
      let lines = decision.lines
      for start in (lines.first == 0 ? [] : [0]) + lines {
        let end = lines.first { $0 > start } ?? items.count
        var group = RedeliveryWrite.Group(following: items.count - end, beginsLine: lines.contains(start))
        group.bytes.reserveCapacity((end - start) * 16)
        for item in items[start..<end] { item.digest?.append(to: &group.bytes) }
        groups.append(group)
      }
      return groups
    }
  }

  /// Bytes of properties of the last batch: as many are made room for at once in the next one.
  private var usualRendered = 0
  private var propertiesRenderer = PropertiesRenderer()
  private var documentRenderer: DocumentRenderer
  private let options: DocumentOptions
  private let digests = DigestMaker()
  private var held = Held()
  private let isAlone: Bool

  /// - Parameter isAlone: The capture has no other subscription, and ends by a message that must not be captured.
  init(document options: DocumentOptions, isAlone: Bool = true) {
    self.isAlone = isAlone
    self.options = options
    documentRenderer = DocumentRenderer(options: options)
  }

  /// A new consumer on a new channel: what waits of the old one will come again.
  mutating func channelBegan() { held = Held() }

  /// Does what the machine decides about the deliveries, in order. Stops before a message that must end the capture, or the channel.
  mutating func prepare(
    _ batch: DeliveryBatch, consumer: ConsumerRecord, _ machine: inout SubscriptionMachine
  ) -> Plan {
    var plan = Plan()
    plan.rendered.reserveCapacity(usualRendered)
    plan.items.reserveCapacity(batch.deliveries.count)
    defer { usualRendered = plan.rendered.count }
    for delivery in batch.deliveries {
      let block = batch.arena.span.extracting(delivery.properties)
      let properties = try? BasicProperties(block: block)
      // Only if something depends on them: most captures need none.
      let marks =
        machine.place != nil || machine.redelivery != nil ? DeliveryMarks(properties, of: block) : DeliveryMarks()
      var streamDigest: DeliveryDigest?
      if machine.place != nil, let offset = marks.streamOffset {
        let digest = digests.digest(delivery, of: batch, properties: properties)
        streamDigest = digest
        switch machine.delivered(delivery.tag, offset: offset, digest, &plan.decision) {
        case nil: break
        case .startOver: return plan
        default: continue
        }
      }
      var item = render(delivery, properties, of: batch, into: &plan.rendered)
      if let size = oversize(item, batch, plan.rendered, consumer) {
        guard options.oversize == .reject else {
          let failure = tooLarge(item, batch, size)
          if isAlone {
            plan.failure = failure
          } else {
            held = Held()
            machine.refused(item.tag, for: failure, &plan.decision)
          }
          return plan
        }
        machine.refused(delivery.tag, &plan.decision)
        if machine.place != nil { plan.oversizeOffsets.append(marks.streamOffset ?? 0) }
        continue
      }
      if let streamDigest {
        item.digest = streamDigest
        item.streamOffset = marks.streamOffset
      }
      guard machine.redelivery != nil else {
        machine.capture(delivery.tag, redelivered: delivery.redelivered, &plan.decision)
        plan.items.append(item)
        continue
      }
      let seen = look(at: delivery, properties, marks, of: batch, machine.redelivery!)
      item.digest = seen.digest
      switch machine.delivered(delivery.tag, seen, &plan.decision) {
      case .capture: plan.items.append(item)
      case .captureHeld:
        plan.capture(held.take())
        plan.items.append(item)
      case .hold: held.append(item, of: batch.arena, properties: plan.rendered)
      case .holdForgetting(let count):
        held.append(item, of: batch.arena, properties: plan.rendered)
        held.removeFirst(count)
      case .pass: break
      case .forgetHeld: held = Held()
      case .startOver:
        held = Held()
        return plan
      }
    }
    return plan
  }

  /// The plan of a decision about the deliveries that wait: all of them are captured.
  mutating func prepareHeld(_ decision: SubscriptionMachine.Decision) -> Plan {
    var plan = Plan()
    plan.decision = decision
    plan.capture(held.take())
    return plan
  }

  /// Appends what the plan says, in order.
  static func write(
    _ plan: Plan, of batch: DeliveryBatch, consumer: Int64, to tx: borrowing WriteTransaction
  ) throws(JournalError) {
    for item in plan.items {
      let bytes = item.isHeld ? plan.held.bytes.span : batch.arena.span
      let properties = item.isHeld ? plan.held.bytes.span : plan.rendered.span
      try tx.append(
        consumer: consumer, deliveryTag: item.tag, redelivered: item.redelivered, receivedAt: item.receivedAt,
        exchange: bytes.extracting(item.exchange), routingKey: bytes.extracting(item.routingKey),
        properties: properties.extracting(item.properties), rawProperties: bytes.extracting(item.rawProperties),
        body: bytes.extracting(item.body), bodySize: item.bodySize)
    }
  }
}

// MARK: - One delivery

extension Intake {
  private mutating func render(
    _ delivery: DeliveryBatch.Delivery, _ properties: BasicProperties?, of batch: DeliveryBatch,
    into rendered: inout [UInt8]
  ) -> Item {
    let start = rendered.count
    let block = batch.arena.span.extracting(delivery.properties)
    let fidelity = propertiesRenderer.render(properties, of: block, into: &rendered)
    return Item(
      tag: delivery.tag, redelivered: delivery.redelivered, receivedAt: delivery.receivedAt,
      exchange: delivery.exchange, routingKey: delivery.routingKey, body: delivery.body, bodySize: delivery.bodySize,
      rawProperties: fidelity == .exact ? 0..<0 : delivery.properties, properties: start..<rendered.count)
  }

  private mutating func oversize(
    _ item: Item, _ batch: DeliveryBatch, _ rendered: [UInt8], _ consumer: ConsumerRecord
  ) -> Int? {
    let row = item.row(at: .origin, consumer: consumer.id, batch.arena.span, rendered.span)
    return documentRenderer.oversize(row, consumer: consumer)
  }

  /// What there is to know of a delivery, if redeliveries are recognised.
  private func look(
    at delivery: DeliveryBatch.Delivery, _ properties: BasicProperties?, _ marks: DeliveryMarks,
    of batch: DeliveryBatch,
    _ redelivery: RedeliveryMachine
  ) -> RedeliveryMachine.Delivery {
    let form = redelivery.digestForm
    func digest(_ form: DigestForm) -> DeliveryDigest {
      digests.digest(delivery, of: batch, properties: properties, form: form)
    }
    var seen = RedeliveryMachine.Delivery(digest: digest(form), redelivered: delivery.redelivered, marks: marks)
    if delivery.redelivered, redelivery.comparesDigests {
      for other in redelivery.otherForms {
        let digest = digest(other)
        if digest != seen.digest { seen.otherDigests.append(digest) }
      }
    }
    return seen
  }

  private func tooLarge(_ item: Item, _ batch: DeliveryBatch, _ size: Int) -> CaptureFailure {
    let exchange = String(decoding: batch.arena[item.exchange], as: UTF8.self)
    let routingKey = String(decoding: batch.arena[item.routingKey], as: UTF8.self)
    return CaptureFailure(
      cause: "oversize",
      description: "a message of \(item.bodySize) bytes (exchange \"\(exchange)\", routing key \"\(routingKey)\", "
        + "delivery tag \(item.tag)) would make a document of \(size) bytes, and document.max_bytes is "
        + "\(options.maxBytes). It was not acknowledged. Raise document.max_bytes; or set document.oversize to truncate; "
        + "or to reject, which drops it unless the queue has a dead-letter exchange", needsUser: true)
  }
}
