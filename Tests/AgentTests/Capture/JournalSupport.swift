import Foundation
import Journal
import Logging
import Platform
import Support

@testable import AMQP
@testable import Agent

/// A message as a broker delivers it.
struct TestDelivery: Equatable {
  var body: [UInt8]
  var redelivered = false
  var exchange = "ex"
  var routingKey = "key"
  /// Content type and delivery mode.
  var properties: [UInt8] = [0x90, 0, 4] + Array("text".utf8) + [2]
}

/// A batch as a connection makes it of these deliveries, with tags from `firstTag` on.
func deliveryBatch(_ deliveries: [TestDelivery], firstTag: UInt64 = 1) throws -> DeliveryBatch {
  var batch = DeliveryBatch()
  var assembler = DeliveryAssembler(consumer: "", newestTag: firstTag - 1)
  for (index, delivery) in deliveries.enumerated() {
    let time = Int64(index)
    try assembler.deliver(
      ([0] + Wire.big(firstTag + UInt64(index)) + [delivery.redelivered ? 1 : 0] + Wire.short(delivery.exchange)
        + Wire.short(delivery.routingKey)).span, into: &batch)
    try assembler.header(
      ([0, 60, 0, 0] + Wire.big(UInt64(delivery.body.count)) + delivery.properties).span, at: time, into: &batch)
    if !delivery.body.isEmpty { try assembler.body(delivery.body.span, at: time, into: &batch) }
  }
  return batch
}

/// Runs `body` with a new journal that holds one session, in a private directory that goes with it.
func withJournal(_ body: (Journal) throws -> Void) throws {
  let directory = FileManager.default.temporaryDirectory.appending(path: "source-amqp-\(UUID().uuidString)").path()
  try FileManager.default.createDirectory(
    atPath: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  defer { try? FileManager.default.removeItem(atPath: directory) }
  let journal = try Journal.open(JournalSettings(path: directory + "/journal.db"))
  try journal.beginSession(id: "s-1", queue: "orders", virtualHost: "/", startedAt: 0)
  try body(journal)
}

extension Journal {
  /// The subscription that tests capture.
  var only: SubscriptionRecord {
    get throws(JournalError) { try subscriptions([Wanted("orders", queue: "orders", virtualHost: "/")])[0] }
  }
}

/// A logger that says nothing but what must not happen.
var quietLog: Logger {
  var log = Logger(label: "test")
  log.logLevel = .critical
  return log
}

extension SubscriptionMachine {
  /// A machine with nothing but what recognises redeliveries, if anything does.
  static func recognising(
    _ redelivery: RedeliveryMachine?, _ trust: RedeliveryMachine.Trust = .none
  ) -> SubscriptionMachine {
    SubscriptionMachine(
      Settings(mode: .journaled, trust: trust), redelivery: redelivery, captured: .origin, journaled: .origin,
      at: 0)
  }
}

extension SubscriptionMachine {
  /// One of several that has captured three messages, of which the last two are kept as the anchor.
  static func anchored(_ index: Int) -> SubscriptionMachine {
    let redelivery = RedeliveryMachine(
      anchor: 2, windowLimit: 16, captured: 3, releasable: 1, window: (1...3).map { DeliveryDigest(high: 0, low: $0) },
      priority: nil, prioritySince: 0, prefetch: 8)
    return SubscriptionMachine(
      Settings(index: index, mode: .journaled, trust: .exclusive, prefetch: 8), redelivery: redelivery,
      captured: .origin + 3, journaled: .origin + 6, at: 0)
  }
}

// MARK: - One subscription

/// What most tests say of a capture's only subscription.
extension Checkpoint {
  init(through: Position, releasable: Position) {
    self.init(through: through, parts: [Part(index: 0, releasable: releasable)])
  }
}

extension JournalInbox {
  var handover: Handover? {
    get { subscriptions[0].handover }
    set { subscriptions[0].handover = newValue }
  }
  var consuming: Consuming? {
    get { subscriptions[0].consuming }
    set { subscriptions[0].consuming = newValue }
  }
  var intakeEnded: Bool {
    get { subscriptions[0].intakeEnded }
    set { subscriptions[0].intakeEnded = newValue }
  }
}

extension JournalLoop {
  init(
    journal: Journal, capture: Monitor<CaptureMachine>, mailbox: ConnectionMailbox, status: StatusBoard, log: Logger,
    maxBytes: Int64, acknowledgementMode: AcknowledgementMode?, outputName: String, document: DocumentOptions,
    resumption: Resumption
  ) {
    self.init(
      journal: journal, capture: capture,
      subscriptions: [
        Subscription(
          mailbox: mailbox, acknowledgementMode: acknowledgementMode, resumption: resumption, outputName: outputName,
          log: log)
      ], status: status, log: log, maxBytes: maxBytes, document: document)
  }
}
