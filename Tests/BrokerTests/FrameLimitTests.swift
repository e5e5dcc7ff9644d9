import Support
import Testing

/// Whatever `frame_max` the broker has: what was negotiated is taken.
@Suite(.timeLimit(.minutes(5))) struct FrameLimitTests {
  @Test func `bodies and headers of any size pass with any frame limit of the broker's`() throws {
    let broker = try TestBroker.own()
    defer { try? broker.remove() }
    for limit in [0, 64 << 20, 4096] {
      try broker.ctl("eval", "application:set_env(rabbit, frame_max, \(limit)).")
      let bench = try Bench(broker)
      let sizes = [0, 1, 4088, 4089, 131_065, 5 << 20, (1 << 20) - 8]
      for size in sizes {
        try bench.publisher.publish([UInt8](repeating: 0x78, count: size), routingKey: bench.queue)
      }
      let header = [UInt8](repeating: 0x79, count: limit == 4096 ? 3000 : 100_000)
      try bench.publisher.publish(
        "last", properties: Properties(headers: [("h", .string(header))]), routingKey: bench.queue)
      let documents = try bench.capture(sizes.count + 1).map { try JSON(parsing: $0) }
      #expect(documents.map { $0["body"]?.string?.utf8.count } == sizes + [4])
      #expect(documents.last?[path: "properties", "headers", "h"]?.string?.utf8.count == header.count)
    }
  }
}
