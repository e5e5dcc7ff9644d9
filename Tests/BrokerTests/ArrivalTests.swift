import Foundation
import Platform
import Support
import Testing

/// A large message takes its time to arrive, and nothing else can come meanwhile: that is no silence.
@Suite(.timeLimit(.minutes(5))) struct ArrivalTests {
  private static let bodies = ["m1", "m2", "m3", String(repeating: "x", count: 1 << 20)].map { Array($0.utf8) }

  /// The time in which half of a body has come is what is tested, so it passes: longer than what ends a wait for deliveries.
  private static let seconds = 7.0

  private static func deliveries(_ consumer: String, redelivered: Bool) -> [[UInt8]] {
    bodies.enumerated().map { index, body in
      Wire.delivery(.init(tag: UInt64(index + 1), redelivered: redelivered, body: body), consumer: consumer).flatMap(
        \.self)
    }
  }

  @Test func `redeliveries that wait are not taken for new while another message arrives`() throws {
    let directory = try temporaryDirectory()
    let isCaptured = Monitor(false)
    let broker = try ScriptedBroker([
      { client in
        client.greet()
        client.send(Self.deliveries(client.startConsumer(), redelivered: false).flatMap(\.self))
        // The connection ends once all of it is captured.
        _ = isCaptured.wait(atMost: generousLimit, until: { $0 ? true : nil })
      },
      { client in
        client.greet()
        let tag = client.startConsumer()
        let again = Self.deliveries(tag, redelivered: true)
        client.send(again.dropLast().flatMap(\.self))
        client.send(Array(again[3].prefix(600_000)))
        // No signal ends this: an agent that goes on waiting does nothing that could be seen, and one that does not is the failure.
        Thread.sleep(forTimeInterval: Self.seconds)
        client.send(Array(again[3].dropFirst(600_000)))
        client.send(Wire.delivery(.init(tag: 5, body: Array("new".utf8)), consumer: tag).flatMap(\.self))
        client.drain()
      },
    ])
    let config: JSON = [
      "host": "127.0.0.1", "port": JSON(broker.port), "reconnect_delay": .number("0.01"),
      "queue": ["name": "q", "declare": "none", "type": "classic"], "consumer": ["deduplicate": "assert"],
    ]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    let agent = try Command(["run", directory + "/c.yaml", "--output", directory + "/out"])
    let file = directory + "/out/q-000001.jsonl"
    try waitForLines(4, in: file)
    isCaptured.update { $0 = true }
    try waitForLines(5, in: file)
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    let sizes = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map {
      try JSON(parsing: String($0))["body_size"]?.int
    }
    #expect(sizes == [2, 2, 2, 1 << 20, 3])
  }
}
