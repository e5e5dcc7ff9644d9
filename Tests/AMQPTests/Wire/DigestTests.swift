import Testing

@testable import AMQP

/// Digests are equal for every delivery of a message, and differ where messages differ.
@Suite struct DigestTests {
  /// A message's parts; headers are keys with encoded values.
  private struct Message {
    var exchange = "amq.topic"
    var routingKey = "orders.new"
    /// Nil for no table.
    var headers: [(String, [UInt8])]? = [("a", [0x49, 0, 0, 0, 5]), ("b", [0x74, 1])]
    var contentType = "text/plain"
    var body = "hello"

    var digest: DeliveryDigest { digest(.withoutBrokers) }

    func digest(_ form: DigestForm) -> DeliveryDigest {
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler(consumer: "c")
      var method: [UInt8] = [1, 0x63] + [0, 0, 0, 0, 0, 0, 0, 1] + [0]
      for text in [exchange, routingKey] { method += [UInt8(text.utf8.count)] + Array(text.utf8) }
      // Flags: content type, and headers if there are any.
      var block: [UInt8] =
        [headers == nil ? 0x80 : 0xA0, 0] + [UInt8(contentType.utf8.count)] + Array(contentType.utf8)
      if let headers {
        let table = headers.flatMap { [UInt8($0.0.utf8.count)] + Array($0.0.utf8) + $0.1 }
        block += [0, 0, UInt8(table.count >> 8), UInt8(table.count & 0xFF)] + table
      }
      let size = [0, 0, 0, 0, 0, 0, 0, UInt8(body.utf8.count)]
      do {
        try assembler.deliver(method.span, into: &batch)
        try assembler.header(([0, 60, 0, 0] + size + block).span, at: 0, into: &batch)
        if !body.isEmpty { try assembler.body(Array(body.utf8).span, at: 0, into: &batch) }
      } catch { Issue.record("\(error)") }
      return DigestMaker().digest(batch.deliveries[0], of: batch, form: form)
    }
  }

  @Test func `the encoding of a message does not change over versions`() {
    let digest = Message().digest
    // Version 1; a change here voids every stored window and needs another version.
    #expect(String(digest.high, radix: 16) == "177d5cf7b04d4aca")
    #expect(String(digest.low, radix: 16) == "4014bab72df5b613")
  }

  @Test func `what a broker adds or writes otherwise when it delivers again is left out`() {
    let first = Message().digest
    var again = Message()
    again.headers!.append(("x-delivery-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 2]))
    again.headers!.append(("x-acquired-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 3]))
    #expect(again.digest == first)
    again.headers!.swapAt(0, 1)
    #expect(again.digest == first)
    again.headers![1] = ("a", [0x6C, 0, 0, 0, 0, 0, 0, 0, 5])
    #expect(again.digest == first)
  }

  /// What a quorum queue adds, with a table and its flag if there was none; what a publisher has put there is replaced.
  private static let broker: [(String, [UInt8])] = [
    ("x-delivery-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 1]), ("x-acquired-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 1]),
  ]

  @Test(arguments: [
    nil, [], ["a"], ["x-delivery-count"], ["x-acquired-count", "x-delivery-count"], ["a", "x-stream-offset"],
  ])
  func `a message that a quorum queue delivers again is still the same`(names: [String]?) {
    var first = Message()
    first.headers = names?.map { ($0, [0x49, 0, 0, 0, 7]) }
    var again = first
    let kept = (first.headers ?? []).filter { name in !Self.broker.contains { $0.0 == name.0 } }
    again.headers = kept + Self.broker
    #expect(again.digest == first.digest)
    // As version 0.1.0 stored it: by one of the forms of the redelivery.
    #expect([again.digest, again.digest(.first)].contains(first.digest(.first)))
    // On a classic queue it comes back as it was.
    #expect(
      [first.digest(.complete), first.digest(.withoutBrokers), first.digest(.first)].contains(first.digest(.first)))
  }

  @Test func `no table, an empty one and one with nothing but the broker's are one thing, and no other`() {
    func digest(_ headers: [(String, [UInt8])]?, _ form: DigestForm) -> DeliveryDigest {
      var message = Message()
      message.headers = headers
      return message.digest(form)
    }
    #expect(Set([nil, [], Self.broker].map { digest($0, .withoutBrokers) }).count == 1)
    #expect(digest(nil, .complete) == digest([], .complete))
    #expect(digest(nil, .complete) == digest(nil, .withoutBrokers))
    #expect(digest(nil, .complete) != digest(Self.broker, .complete))
    #expect(digest([("a", [0x56])], .withoutBrokers) != digest(nil, .withoutBrokers))
    // Version 0.1.0 told no table from an empty one.
    #expect(digest(nil, .first) == digest(nil, .withoutBrokers))
    #expect(digest([], .first) != digest(nil, .first))
  }

  @Test func `where no broker adds headers, those of its names tell messages apart`() {
    var one = Message()
    var other = Message()
    one.headers = [("x-delivery-count", [0x49, 0, 0, 0, 3])]
    other.headers = [("x-delivery-count", [0x49, 0, 0, 0, 4])]
    #expect(one.digest(.complete) != other.digest(.complete))
    #expect(one.digest == other.digest)
  }

  @Test func `every part of a message counts`() {
    var messages = [Message()]
    func add(_ change: (inout Message) -> Void) {
      var message = Message()
      change(&message)
      messages.append(message)
    }
    add { $0.exchange = "" }
    add { $0.routingKey = "orders.old" }
    // The same bytes, cut at another place.
    add { ($0.exchange, $0.routingKey) = ("amq.topico", "rders.new") }
    add { $0.body = "hellO" }
    add { $0.body = "" }
    add { $0.contentType = "text/html" }
    add { $0.headers![0].1 = [0x49, 0, 0, 0, 6] }
    add { $0.headers![0].1 = [0x74, 1] }
    add { $0.headers!.removeLast() }
    add { $0.headers!.append(("x-death", [0x56])) }
    #expect(Set(messages.map(\.digest)).count == messages.count)
  }

  @Test func `a property block that does not decode still has a digest, of its bytes`() {
    var message = Message()
    message.headers = [("broken", [0x53, 0xFF, 0xFF, 0xFF, 0xFF])]
    var other = message
    other.headers![0].0 = "brokem"
    #expect(message.digest == message.digest && message.digest != other.digest)
  }

  @Test func `marks are read from the headers`() throws {
    func marks(_ headers: [UInt8]) -> DeliveryMarks {
      let block: [UInt8] = [0x28, 0] + [0, 0, 0, UInt8(headers.count)] + headers + [7]
      return DeliveryMarks(block: block.span)
    }
    func header(_ key: String, _ number: UInt8) -> [UInt8] {
      [UInt8(key.utf8.count)] + Array(key.utf8) + [0x6C, 0, 0, 0, 0, 0, 0, 0, number]
    }
    #expect(marks([]) == DeliveryMarks(priority: 7))
    #expect(marks(header("x-delivery-count", 2)) == DeliveryMarks(priority: 7, deliveryCount: 2))
    #expect(
      marks(header("x-delivery-count", 2) + header("x-acquired-count", 4))
        == DeliveryMarks(priority: 7, deliveryCount: 2, acquiredCount: 4))
    #expect(marks(header("x-stream-offset", 9)).streamOffset == 9)
    // A publisher's own stand after the broker's.
    for key in ["x-delivery-count", "x-acquired-count", "x-stream-offset"] {
      #expect(marks(header(key, 1) + header(key, 9)) == marks(header(key, 1)))
      let text = [UInt8(key.utf8.count)] + Array(key.utf8) + [0x53, 0, 0, 0, 1, 0x39]
      #expect(marks(text + header(key, 9)) == marks([]))
    }
    #expect(DeliveryMarks(block: ([1, 2] as [UInt8]).span) == DeliveryMarks())
  }
}
