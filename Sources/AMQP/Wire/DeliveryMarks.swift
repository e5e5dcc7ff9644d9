/// What tells deliveries of one message apart, or their order wrong.
public struct DeliveryMarks: Hashable, Sendable {
  /// What a number of the broker's can be; another one is none. Sums and differences of a few never overflow.
  public static let numbers: ClosedRange<Int64> = 0...(1 << 61)

  /// The message's priority; nil if it has none.
  public var priority: UInt8?
  /// The header `x-delivery-count`: how often a quorum queue has delivered the message and not been rid of it, if the
  /// message was delivered before; else, and on other queues, whatever a publisher wrote. The first of several: the broker puts
  /// its own in place of that one, and leaves what a publisher has put after it (tried on 3.10.8; 4.x keeps only the first).
  /// https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
  public var deliveryCount: Int64?
  /// The header `x-acquired-count`, which RabbitMQ adds from 4.3 on: how often a consumer has had the message; likewise.
  public var acquiredCount: Int64?
  /// True if the publisher gave the message a `message_id` that is not empty.
  public var hasMessageID = false
  /// Where in a stream the message is: `x-stream-offset`. Nil on other queues, unless a publisher made it up.
  public var streamOffset: Int64?

  public init(
    priority: UInt8? = nil, deliveryCount: Int64? = nil, acquiredCount: Int64? = nil, hasMessageID: Bool = false
  ) {
    self.priority = priority
    self.deliveryCount = deliveryCount
    self.acquiredCount = acquiredCount
    self.hasMessageID = hasMessageID
  }

  /// Reads them from a property block, decoded as `properties`; one that does not decode has none.
  public init(_ properties: BasicProperties?, of block: Span<UInt8>) {
    guard let properties else { return }
    priority = properties.priority
    hasMessageID = properties.messageID?.isEmpty == false
    guard let headers = properties.headers else { return }
    var table = FieldTable(headers, of: block)
    var seen = (acquired: false, delivery: false, offset: false)
    while let field = (try? table.next(block)) ?? nil {
      // All of them begin alike, and hardly any other does.
      guard field.key.count >= 15, block[field.key.lowerBound] == UInt8(ascii: "x") else { continue }
      let key = block.extracting(field.key)
      let count: Int64? =
        if case .integer(let count) = field.value, Self.numbers.contains(count) { count } else { nil }
      // The broker puts its own in place of the first, and leaves what a publisher has put after it.
      func take(_ name: StaticString, _ seen: inout Bool, _ value: inout Int64?) {
        guard !seen, Self.isEqual(key, name) else { return }
        seen = true
        value = count
      }
      take("x-acquired-count", &seen.acquired, &acquiredCount)
      take("x-delivery-count", &seen.delivery, &deliveryCount)
      take("x-stream-offset", &seen.offset, &streamOffset)
    }
  }

  /// The same, with the block decoded here.
  init(block: Span<UInt8>) { self.init(try? BasicProperties(block: block), of: block) }

  private static func isEqual(_ key: Span<UInt8>, _ name: StaticString) -> Bool {
    guard key.count == name.utf8CodeUnitCount else { return false }
    // A static string's bytes live for ever, and the index is below their count.
    for index in 0..<key.count where unsafe key[index] != name.utf8Start[index] { return false }
    return true
  }
}
