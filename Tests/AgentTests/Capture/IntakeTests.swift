import Journal
import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

/// What is journaled is what was delivered, byte for byte, whatever the machine decides about a batch and in which order.
struct IntakeTests {
  /// A machine that has captured `captured`, with an anchor of `anchor` of them.
  private static func machine(captured: [TestDelivery], anchor: Int) throws -> SubscriptionMachine {
    let batch = try deliveryBatch(captured)
    let digests = DigestMaker()
    let window = batch.deliveries.map { digests.digest($0, of: batch, form: .complete) }
    return .recognising(
      RedeliveryMachine(
        anchor: anchor, windowLimit: 100, captured: Int64(captured.count), releasable: Int64(captured.count - anchor),
        window: window, priority: nil, prioritySince: 0, prefetch: 100), .exclusive)
  }

  private static let channel = Consuming(
    generation: 1, consumerTag: "c",
    queue: QueueNature(kind: .classic, hasPriorities: false, countsAcquisitions: false))

  /// The rows of a journal as deliveries, and their properties as documents show them.
  private static func rows(_ journal: Journal) throws -> [(TestDelivery, properties: String)] {
    let reader = try JournalReader(path: journal.path)
    var found: [(TestDelivery, properties: String)] = []
    _ = try reader.read(after: .origin, limit: .max) { row in
      found.append(
        (
          TestDelivery(
            body: Array(copying: row.body), redelivered: row.redelivered, exchange: String(copying: row.exchange),
            routingKey: String(copying: row.routingKey)), String(copying: row.properties)
        ))
      return true
    }
    try reader.close()
    return found
  }

  /// A delivery that does not fit lets those that wait be captured, and one after it asks for a new channel: what waited is
  /// in the plan by then, and stays what it was.
  @Test func `held messages are journaled as they came though the rest of their batch starts over`() throws {
    func message(_ number: Int, redelivered: Bool) -> TestDelivery {
      TestDelivery(body: Array("message \(number)".utf8), redelivered: redelivered)
    }
    var intake = Intake(document: DocumentOptions())
    var machine = try Self.machine(captured: (1...20).map { message($0, redelivered: false) }, anchor: 8)
    _ = machine.began(Self.channel, place: nil, at: 0)
    try withJournal { journal in
      let consumer = try journal.beginConsumer(tag: "c")
      let sent = [message(13, redelivered: true), message(21, redelivered: false), message(13, redelivered: true)]
      let batch = try deliveryBatch(sent)
      let plan = intake.prepare(batch, consumer: consumer, &machine)
      #expect(plan.decision.startsOver == .takenBack && plan.count == 2)
      #expect(plan.digests.map(\.beginsLine) == [true] && plan.digests.map(\.following) == [0])
      try journal.write { (tx) in try Intake.write(plan, of: batch, consumer: consumer.id, to: tx) }
      #expect(try Self.rows(journal).map(\.0) == Array(sent.prefix(2)))
    }
  }

  /// Deliveries in every order that a broker, or someone who plays one, can think of.
  @Test(arguments: 0..<60 as Range<UInt64>)
  func `no row holds what was not delivered`(seed: UInt64) throws {
    var random = Seeded(seed)
    let published = (1...40).map { number in
      TestDelivery(
        body: Array("\(number) ".utf8)
          + [UInt8](repeating: UInt8(number), count: Int.random(in: 0...300, using: &random)),
        exchange: String(repeating: "x", count: number % 5), routingKey: "key-\(number)")
    }
    var intake = Intake(document: DocumentOptions())
    var machine = try Self.machine(captured: Array(published.prefix(20)), anchor: Int.random(in: 1...8, using: &random))
    try withJournal { journal in
      let consumer = try journal.beginConsumer(tag: "c")
      var written = 0
      for _ in 1...Int.random(in: 1...4, using: &random) {
        intake.channelBegan()
        _ = machine.began(Self.channel, place: nil, at: 0)
        var tag: UInt64 = 1
        var place = Int.random(in: 8...19, using: &random)
        for _ in 1...Int.random(in: 1...5, using: &random) {
          let deliveries = (1...Int.random(in: 1...8, using: &random)).map { _ in
            // Mostly the next one in line; someone may have given others back.
            if Int.random(in: 1...4, using: &random) == 1 { place = Int.random(in: 0..<40, using: &random) }
            defer { place = (place + 1) % 40 }
            var delivery = published[place]
            delivery.redelivered = Int.random(in: 1...5, using: &random) > 1
            return delivery
          }
          let batch = try deliveryBatch(deliveries, firstTag: tag)
          tag += UInt64(deliveries.count)
          let plan = intake.prepare(batch, consumer: consumer, &machine)
          try journal.write { (tx) in try Intake.write(plan, of: batch, consumer: consumer.id, to: tx) }
          written += plan.count
          if plan.decision.startsOver != nil { break }
        }
        if let decision = machine.silent() {
          let plan = intake.prepareHeld(decision)
          try journal.write { (tx) in try Intake.write(plan, of: DeliveryBatch(), consumer: consumer.id, to: tx) }
          written += plan.count
        }
      }
      let rows = try Self.rows(journal)
      #expect(rows.count == written)
      for (row, properties) in rows {
        #expect(
          published.contains { $0.body == row.body && $0.exchange == row.exchange && $0.routingKey == row.routingKey })
        #expect(properties == #"{"content_type":"text","delivery_mode":2}"#)
      }
    }
  }
}
