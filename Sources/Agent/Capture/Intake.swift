import AMQP
import Journal

/// Decides what becomes of each delivery of a batch, and writes it.
///
/// Properties are rendered to JSON here, once; bodies are not looked at, so that no message can do anything but be stored.
/// Only where a message's document would be larger than `document.max_bytes` does the policy decide, since it has to be
/// known before the acknowledgement. Where redeliveries are recognised, `RedeliveryMachine` says which are old.
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
    /// How many bytes the body has: more than `body` where it was not kept whole.
    fileprivate var bodySize: Int
    /// The property block where the JSON cannot hold all of it, else empty.
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
    func row(at position: Position, consumer: Int64, _ arena: Span<UInt8>, _ rendered: Span<UInt8>) -> Row {
      Row(
        position: position, consumer: consumer, deliveryTag: tag, redelivered: redelivered, receivedAt: receivedAt,
        exchange: arena.extracting(exchange), routingKey: arena.extracting(routingKey),
        properties: rendered.extracting(properties), body: arena.extracting(body), bodyIsText: false, bodySize: bodySize
      )
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
    /// Properties of the batch's messages as JSON, one behind the other.
    fileprivate(set) var rendered: [UInt8] = []
    /// The messages of earlier batches that are among ``items``, with their bytes.
    fileprivate var held = Held()
    /// Which of ``items`` begin a line (``RedeliveryMachine/lineStart``), in order.
    fileprivate var lines: [Int] = []
    /// Deliveries that are acknowledged with what is captured in front of them, and how many of ``items`` that are; tags grow.
    /// They were captured before, by their ids or as what comes first of a stream, or are among ``oversizeOffsets``.
    fileprivate(set) var known: [(tag: UInt64, behind: Int)] = []
    /// How many of them their ids tell.
    fileprivate(set) var knownByID = 0
    /// Deliveries that were captured before, as which of all captured messages.
    var recognised: [(tag: UInt64, count: Int64)] = []
    /// Tags of messages that `document.oversize: reject` sends to the dead-letter exchange.
    var rejected: [UInt64] = []
    /// Offsets of such messages of a stream, which has none, and from which nothing can be rejected.
    var oversizeOffsets: [Int64] = []
    /// What follows in the batch, and on the channel, is not decided about and not acknowledged: a new channel is to bring
    /// it again.
    var startsOver: StartOver.Reason?
    /// Offsets of a stream that its retention has dropped before they were captured.
    var gap: ClosedRange<Int64>?
    /// How many offsets in the middle of a stream were none of a message, and the newest that stand beside each other.
    var jumped: Int64 = 0
    var jump: ClosedRange<Int64>?
    /// How often the queue has taken back the message of which it has most often; 0 for none.
    var returns: Int64 = 0
    /// The capture must end before this message: `document.oversize: fail`.
    var failure: CaptureFailure?

    /// Offsets and digests of the messages to be appended; none where the queue is no stream.
    var streamOffsets: [Int64] { items.compactMap(\.streamOffset) }
    var streamDigests: [DeliveryDigest] { items.compactMap { $0.streamOffset == nil ? nil : $0.digest } }

    /// How many messages are to be appended.
    var count: Int { items.count }
    /// One of them was never delivered before.
    var hasFresh: Bool { items.contains { !$0.redelivered } }
    /// Messages of earlier batches are among them.
    var hasHeld: Bool { !held.items.isEmpty }
    /// ``Intake/forEachTag(of:known:_:)`` of this plan.
    func forEachTag(_ body: (_ tag: UInt64, _ number: Int) -> Void) {
      Intake.forEachTag(of: items.lazy.map(\.tag), known: known, body)
    }

    /// Captures messages of earlier batches, with their bytes.
    fileprivate mutating func capture(_ messages: Held) {
      // Usually nothing is there, and the bytes move in.
      if held.items.isEmpty { held = messages } else { held.append(messages) }
      items += held.items.suffix(messages.items.count)
    }

    /// Deliveries with these tags are the last captured ones up to the `newest`-th, in order.
    fileprivate mutating func recognise(_ tags: [UInt64], upTo newest: Int64) {
      for (index, tag) in tags.enumerated() { recognised.append((tag, newest - Int64(tags.count - 1 - index))) }
    }

    /// How many of them the broker may have sent before.
    var redelivered: Int { items.count { $0.redelivered } }
    /// Their digests, 16 bytes each, in groups of one line; none where none are kept.
    var digests: [Digests] {
      guard items.last?.digest != nil else { return [] }
      var groups: [Digests] = []
      for start in (lines.first == 0 ? [] : [0]) + lines {
        let end = lines.first { $0 > start } ?? items.count
        var group = Digests(following: items.count - end, beginsLine: lines.contains(start))
        group.bytes.reserveCapacity((end - start) * 16)
        for item in items[start..<end] { item.digest?.append(to: &group.bytes) }
        groups.append(group)
      }
      return groups
    }

    /// Digests of neighbours among the messages to be appended.
    struct Digests {
      var bytes: [UInt8] = []
      /// How many messages follow on the last of them.
      var following: Int
      var beginsLine: Bool
    }
  }

  /// Bytes of properties of the last batch: as many are made room for at once in the next one.
  private var usualRendered = 0
  private var propertiesRenderer = PropertiesRenderer()
  private var documentRenderer: DocumentRenderer
  private let options: DocumentOptions
  private let digests = DigestMaker()
  private var held = Held()
  /// Recognises redeliveries; nil where that is not possible.
  var redelivery: RedeliveryMachine?
  /// Where the line began whose messages were planned last.
  private var plannedLine: Int64
  /// Where in the stream it is; nil where the queue is none, or that is not known yet.
  private(set) var place: StreamPlace?
  private let stream: StreamResumption?

  init(document options: DocumentOptions, redelivery: RedeliveryMachine?, stream: StreamResumption? = nil) {
    self.stream = stream
    self.options = options
    self.redelivery = redelivery
    plannedLine = redelivery?.lineStart ?? 0
    documentRenderer = DocumentRenderer(options: options)
  }

  /// Each tag of a message that is, or was, captured, with how many messages of a batch are captured when it is: its own
  /// number, from 1, or that of the newest one in front of a message that is known. Tags and numbers grow.
  ///
  /// - Parameters:
  ///   - tags: Of the messages to be appended, in order.
  ///   - known: Of those that were captured before, and how many of `tags` come before each.
  static func forEachTag(
    of tags: some Sequence<UInt64>, known: [(tag: UInt64, behind: Int)], _ body: (_ tag: UInt64, _ number: Int) -> Void
  ) {
    var rest = known[...]
    for (index, tag) in tags.enumerated() {
      while let next = rest.first, next.behind <= index {
        body(next.tag, next.behind)
        rest.removeFirst()
      }
      body(tag, index + 1)
    }
    for next in rest { body(next.tag, next.behind) }
  }

  /// A new consumer on a new channel: what waits of the old one will come again.
  mutating func sessionStarted(_ trust: RedeliveryMachine.Trust, on queue: QueueNature, prefetch: Int? = nil) {
    held = Held()
    // What was decided about and not written comes again.
    place = queue.kind == .stream ? stream?.place : nil
    redelivery?.sessionStarted(trust, on: queue, prefetch: prefetch)
  }

  /// Decides about the deliveries in order. Stops in front of a message that must end the capture.
  mutating func prepare(_ batch: DeliveryBatch, consumer: ConsumerRecord) -> Plan {
    var plan = Plan()
    plan.rendered.reserveCapacity(usualRendered)
    plan.items.reserveCapacity(batch.deliveries.count)
    defer { usualRendered = plan.rendered.count }
    for delivery in batch.deliveries {
      let block = batch.arena.span.extracting(delivery.properties)
      let properties = try? BasicProperties(block: block)
      // Only where something depends on them: most captures need none.
      let marks = place != nil || redelivery != nil ? DeliveryMarks(properties, of: block) : DeliveryMarks()
      var streamDigest: DeliveryDigest?
      if place != nil, let offset = marks.streamOffset {
        let digest = digests.digest(delivery, of: batch, properties: properties)
        streamDigest = digest
        switch place!.delivered(offset, digest) {
        case .capture: break
        case .captureAfterGap(let missing): plan.gap = missing
        case .captureAfterJump(let offsets):
          plan.jumped += offsets
          plan.jump = offset - offsets...offset - 1
        case .pass:
          plan.known.append((delivery.tag, plan.items.count))
          continue
        case .anotherStream:
          plan.startsOver = .anotherStream
          return plan
        }
      }
      var item = render(delivery, properties, of: batch, into: &plan.rendered)
      if let size = oversize(item, batch, plan.rendered, consumer) {
        if options.oversize == .reject {
          if place != nil {
            plan.known.append((delivery.tag, plan.items.count))
            plan.oversizeOffsets.append(marks.streamOffset ?? 0)
          } else {
            plan.rejected.append(delivery.tag)
          }
          continue
        }
        plan.failure = tooLarge(item, batch, size)
        break
      }
      if let streamDigest {
        item.digest = streamDigest
        item.streamOffset = marks.streamOffset
      }
      guard redelivery != nil else {
        plan.items.append(item)
        continue
      }
      if delivery.redelivered, let count = marks.deliveryCount { plan.returns = max(plan.returns, count) }
      let seen = look(at: delivery, properties, marks, of: batch)
      item.digest = seen.digest
      switch redelivery!.delivered(seen) {
      case .capture:
        noteLine(&plan)
        plan.items.append(item)
      case .startOver:
        held = Held()
        plan.startsOver = .takenBack
        return plan
      case .known:
        plan.known.append((item.tag, plan.items.count))
        plan.knownByID += 1
      case .hold: hold(item, batch, plan.rendered)
      case .holdBehindOld(let count, let newest):
        hold(item, batch, plan.rendered)
        plan.recognise(held.items.prefix(count).map(\.tag), upTo: newest)
        held.removeFirst(count)
      case .captureHeld:
        noteLine(&plan)
        plan.capture(held.take())
        plan.items.append(item)
      case .recognised:
        plan.recognise(held.items.map(\.tag) + [item.tag], upTo: redelivery!.captured)
        held = Held()
      }
    }
    return plan
  }

  /// The deliveries that wait, since no other came behind them; nil where none do.
  mutating func prepareHeld() -> Plan? {
    guard redelivery?.silent() == true else { return nil }
    var plan = Plan()
    noteLine(&plan)
    plan.capture(held.take())
    return plan
  }

  /// What is captured next may begin a line.
  private mutating func noteLine(_ plan: inout Plan) {
    guard let redelivery, redelivery.lineStart != plannedLine else { return }
    plannedLine = redelivery.lineStart
    plan.lines.append(plan.items.count)
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

  /// What there is to know of a delivery, where redeliveries are recognised.
  private func look(
    at delivery: DeliveryBatch.Delivery, _ properties: BasicProperties?, _ marks: DeliveryMarks, of batch: DeliveryBatch
  ) -> RedeliveryMachine.Delivery {
    let form = redelivery!.digestForm
    func digest(_ form: DigestForm) -> DeliveryDigest {
      digests.digest(delivery, of: batch, properties: properties, form: form)
    }
    var seen = RedeliveryMachine.Delivery(digest: digest(form), redelivered: delivery.redelivered, marks: marks)
    if delivery.redelivered, redelivery!.comparesDigests {
      for other in redelivery!.otherForms {
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

  /// Copies the message out of the batch.
  private mutating func hold(_ item: Item, _ batch: DeliveryBatch, _ rendered: [UInt8]) {
    held.append(item, of: batch.arena, properties: rendered)
  }
}
