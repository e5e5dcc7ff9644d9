import Foundation
import Support
import Testing

/// The real process against brokers that break the protocol: it says what was wrong, connects again, and stays small.
@Suite(.timeLimit(.minutes(5))) struct BrokenBrokerTests {
  /// What one broker does to a client that connects, and what the log says of it.
  private struct Play: Sendable {
    var text: String
    var play: @Sendable (ScriptedBroker.Client) -> Void

    init(_ text: String, _ play: @escaping @Sendable (ScriptedBroker.Client) -> Void) {
      self.text = text
      self.play = play
    }

    /// Up to a consumer, then these bytes.
    static func consuming(_ text: String, _ bytes: @escaping @Sendable (String) -> [UInt8]) -> Play {
      Play(text) { client in
        client.greet()
        client.send(bytes(client.startConsumer()))
        client.drain()
      }
    }
  }

  private static func delivery(_ tag: UInt64, _ consumer: String, channel: Int = 1) -> [UInt8] {
    Wire.delivery(.init(tag: tag, body: [1]), consumer: consumer, channel: channel).flatMap(\.self)
  }

  private static func header(_ consumer: String, size: UInt64) -> [UInt8] {
    Wire.delivery(.init(tag: 1, body: []), consumer: consumer)[0]
      + Wire.frame(2, Wire.integer(60, 2) + [0, 0] + Wire.integer(size, 8) + [0, 0])
  }

  /// A table of 128 KiB in which each table holds another one.
  private static let nested: [UInt8] = {
    var table: [UInt8] = []
    while table.count < 120_000 { table = [0] + Array("F".utf8) + Wire.long(table) }
    return Wire.long(table)
  }()

  private static let tags: [Play] = [
    .consuming("a delivery with tag 0, but 1 was expected") { delivery(0, $0) },
    .consuming("a delivery with tag 1, but 2 was expected") { delivery(1, $0) + delivery(1, $0) },
    .consuming("a delivery with tag 3, but 2 was expected") { delivery(1, $0) + delivery(3, $0) },
    .consuming("a delivery with tag 9223372036854775807, but 1 was expected") { delivery(1 << 63 - 1, $0) },
    .consuming("a delivery with tag 18446744073709551615, but 1 was expected") { delivery(.max, $0) },
    .consuming(#"a delivery for consumer "other", which is not ours"#) { _ in delivery(1, "other") },
    .consuming("basic.deliver on channel 7, which is not open") { delivery(1, $0, channel: 7) },
    .consuming("basic.deliver on channel 0, which is not open") { delivery(1, $0, channel: 0) },
    Play("a delivery before consume-ok") { client in
      client.greet()
      client.send(delivery(1, client.startConsumer(confirming: false)))
      client.drain()
    },
    Play("a delivery without a consumer") { client in
      client.greet()
      client.send(delivery(1, ""))
      client.drain()
    },
  ]

  private static let frames: [Play] = [
    .consuming("a body of 9223372036854775808 bytes") { header($0, size: 1 << 63) },
    .consuming("more body than its header announced") { header($0, size: 3) + Wire.frame(3, [1, 2, 3, 4]) },
    .consuming("a body frame without a header") { header($0, size: 0) + Wire.frame(3, [1]) },
    .consuming("a frame of unknown type 77") { _ in Wire.frame(77, []) },
    .consuming("a frame without its end octet") { _ in Wire.heartbeat.dropLast() + [0] },
    .consuming("a frame of 4294967295 bytes") { _ in [3, 0, 1, 255, 255, 255, 255] },
    .consuming("the broker closed the connection: 320 CONNECTION_FORCED") {
      Array(header($0, size: 9)) + Wire.close(320, "CONNECTION_FORCED")
    },
    .consuming("the broker closed the channel: 404 NOT_FOUND") { _ in Wire.channelClose(404, "NOT_FOUND") },
    .consuming("the broker cancelled the consumer") { Wire.frame(1, Wire.method(60, 30, Wire.short($0), [1])) },
    .consuming("basic.get-ok out of turn") { _ in Wire.frame(1, Wire.method(60, 71)) },
    Play("an endless row of empty body frames") { client in
      client.greet()
      client.send(header(client.startConsumer(), size: 1))
      client.flood(Wire.frame(3, []))
    },
    Play("the broker closed the TCP connection") { client in
      client.greet()
      client.send(header(client.startConsumer(), size: 1 << 29))
    },
    Play("a flood of connection.blocked") { client in
      client.greet()
      client.startConsumer()
      client.flood(Wire.blocked(String(repeating: "x", count: 255)))
    },
  ]

  /// Messages that are right, and larger than anybody wants: bodies of a quarter of a gibibyte, and header frames of 4 MB, with as
  /// many fields as fit, under different keys and under one.
  private static let messages: [Play] = [
    Play("320 BODY") { client in
      client.greet()
      client.send(header(client.startConsumer(), size: 1 << 28))
      client.flood(Wire.frame(3, [UInt8](repeating: 0x78, count: 1 << 16)), atMost: 1 << 28 + 1)
      client.send(Wire.close(320, "BODY"))
      client.drain()
    },
    .consuming("320 FIELDS") {
      fields($0, { [3] + Wire.integer($0, 3) + Array("V".utf8) }) + Wire.close(320, "FIELDS")
    },
    .consuming("320 EQUAL FIELDS") { fields($0, { _ in [0] + Array("V".utf8) }) + Wire.close(320, "EQUAL FIELDS") },
  ]

  private static func fields(_ consumer: String, _ field: (Int) -> [UInt8]) -> [UInt8] {
    var table: [UInt8] = []
    table.reserveCapacity(4_000_000)
    for number in 0... {
      let next = field(number)
      guard table.count + next.count <= 3_900_000 else { break }
      table += next
    }
    return Wire.delivery(.init(tag: 1, properties: [0x20, 0] + Wire.long(table), body: [1]), consumer: consumer)
      .flatMap(\.self)
  }

  private static let handshakes: [Play] = [
    Play("a flood of connection.blocked") { client in
      client.skip(header: true)
      client.send(Wire.start())
      client.flood(Wire.blocked(String(repeating: "x", count: 255)))
    },
    Play("basic.deliver on channel 1, which is not open") { client in
      client.skip(header: true)
      client.send(Wire.start())
      client.flood(delivery(1, "x"))
    },
    Play("an unexpected answer, start(") { client in
      client.skip(header: true)
      client.flood(Wire.start())
    },
    Play("an unexpected answer, start(") { client in
      client.skip(header: true)
      client.flood(Wire.start(properties: nested))
    },
    Play("queue.declare") { client in
      client.skip(header: true)
      client.flood(Wire.frame(1, Wire.method(50, 10, [0, 0], Wire.short("q"), [0], nested)))
    },
    Play("no answer in time") { client in
      client.skip(header: true)
      client.flood(Wire.heartbeat)
    },
    Play("no answer in time") { client in
      client.skip(header: true)
      client.send(Wire.start())
      client.flood(Wire.heartbeat)
    },
    Play("the least is 4096") { client in
      client.skip(header: true)
      client.send(Wire.start() + Wire.tune(channels: 0, frame: 1, heartbeat: 65_535))
      client.drain()
    },
    Play("the broker closed the connection: 501 FRAME_ERROR") { client in
      client.skip(header: true)
      client.send(Wire.start() + Wire.tune(channels: 1, frame: 0, heartbeat: 65_535) + Wire.close(501, "FRAME_ERROR"))
      client.drain()
    },
    Play("no answer in time") { client in
      client.greet()
      client.skip()
      client.send(Wire.qosOk)
      client.flood(Wire.heartbeat)
    },
  ]

  @Test(arguments: [("tags", tags), ("frames", frames), ("handshakes", handshakes), ("messages", messages)])
  private func `each break of the protocol is named, and the next connection comes, in bounded memory`(
    _ name: String, plays: [Play]
  ) throws {
    // One session that is right comes first: before it, a peer that is no broker ends the process.
    let good: @Sendable (ScriptedBroker.Client) -> Void = { client in
      client.greet()
      client.startConsumer()
      client.send(Wire.close(320, "first"))
      client.drain()
    }
    let last: @Sendable (ScriptedBroker.Client) -> Void = { client in
      client.greet()
      client.startConsumer()
      client.drain()
    }
    let broker = try ScriptedBroker([good] + plays.map(\.play) + [last])
    let directory = try temporaryDirectory()
    let config: JSON = [
      "host": "127.0.0.1", "port": JSON(broker.port), "reconnect_delay": .number("0.01"), "connection_timeout": 4,
      "queue": ["name": "q", "declare": "none", "type": "classic"],
      "document": ["max_bytes": 2_097_152, "oversize": "truncate"],
    ]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    let agent = try Command(
      ["run", directory + "/c.yaml", "--output", directory + "/out"], environment: ["LOG_LEVEL": "debug"])
    let before = "not consuming: "
    try agent.wait("all plays") { output in output.log.count { $0.contains(before) } > plays.count }
    try broker.wait(connections: plays.count + 2)
    let said = agent.written.log.filter { $0.contains(before) }
    for (play, line) in zip(plays, said.dropFirst()) {
      let message = try JSON(parsing: line)["message"]?.string ?? ""
      #expect(message.contains(play.text), "\(message)")
    }
    #expect(try peakResidentBytes(of: agent.child.pid) <= 64 << 20, "\(name)")
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
  }
}
