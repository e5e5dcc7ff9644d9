import Testing

@testable import AMQP

/// Digests are equal for every delivery of a message, and differ where messages differ.
@Suite struct DigestTests {
  /// A message's parts; headers are keys with encoded values.
  private struct Message {
    var exchange = "amq.topic"
    var routingKey = "orders.new"
    var headers: [(String, [UInt8])] = [("a", [0x49, 0, 0, 0, 5]), ("b", [0x74, 1])]
    var contentType = "text/plain"
    var body = "hello"

    var digest: DeliveryDigest {
      var batch = DeliveryBatch()
      var assembler = DeliveryAssembler()
      var method: [UInt8] = [1, 0x63] + [0, 0, 0, 0, 0, 0, 0, 1] + [0]
      for text in [exchange, routingKey] { method += [UInt8(text.utf8.count)] + Array(text.utf8) }
      let table = headers.flatMap { [UInt8($0.0.utf8.count)] + Array($0.0.utf8) + $0.1 }
      // Flags: content type and headers.
      let block: [UInt8] =
        [0xA0, 0] + [UInt8(contentType.utf8.count)] + Array(contentType.utf8)
        + [0, 0, UInt8(table.count >> 8), UInt8(table.count & 0xFF)] + table
      let size = [0, 0, 0, 0, 0, 0, 0, UInt8(body.utf8.count)]
      do {
        try assembler.deliver(method.span, into: &batch)
        try assembler.header(([0, 60, 0, 0] + size + block).span, at: 0, into: &batch)
        if !body.isEmpty { try assembler.body(Array(body.utf8).span, at: 0, into: &batch) }
      } catch { Issue.record("\(error)") }
      return DigestMaker().digest(batch.deliveries[0], of: batch)
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
    again.headers.append(("x-delivery-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 2]))
    again.headers.append(("x-acquired-count", [0x6C, 0, 0, 0, 0, 0, 0, 0, 3]))
    #expect(again.digest == first)
    again.headers.swapAt(0, 1)
    #expect(again.digest == first)
    again.headers[1] = ("a", [0x6C, 0, 0, 0, 0, 0, 0, 0, 5])
    #expect(again.digest == first)
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
    add { $0.headers[0].1 = [0x49, 0, 0, 0, 6] }
    add { $0.headers[0].1 = [0x74, 1] }
    add { $0.headers.removeLast() }
    add { $0.headers.append(("x-death", [0x56])) }
    #expect(Set(messages.map(\.digest)).count == messages.count)
  }

  @Test func `a property block that does not decode still has a digest, of its bytes`() {
    var message = Message()
    message.headers = [("broken", [0x53, 0xFF, 0xFF, 0xFF, 0xFF])]
    var other = message
    other.headers[0].0 = "brokem"
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
    #expect(marks(header("x-delivery-count", 2)) == DeliveryMarks(priority: 7, returns: 2))
    #expect(marks(header("x-delivery-count", 2) + header("x-acquired-count", 4)).returns == 4)
    #expect(marks(header("x-stream-offset", 9)).streamOffset == 9)
    #expect(DeliveryMarks(block: ([1, 2] as [UInt8]).span) == DeliveryMarks())
  }
}
