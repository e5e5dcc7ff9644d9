import Foundation
import Platform
import Support
import Testing

/// A consumer that gets nothing, and a queue that does not answer: played, since no RabbitMQ does it when it is asked to.
@Suite(.timeLimit(.minutes(5))) struct StandstillTests {
  private static func agent(_ broker: ScriptedBroker) throws -> Command {
    let directory = try temporaryDirectory()
    let config: JSON = [
      "host": "127.0.0.1", "port": JSON(broker.port), "heartbeat": 0,
      "queue": ["name": "q", "declare": "none", "type": "quorum"],
    ]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    return try Command(["run", directory + "/c.yaml", "--output", directory + "/out"])
  }

  @Test func `a consumer that gets nothing is another one after a minute, and a queue that does not answer is told`()
    throws
  {
    func onProbe(_ payload: [UInt8]) -> [UInt8] { Wire.frame(1, payload, channel: 2) }
    let opened = onProbe(Wire.method(20, 11, Wire.integer(0, 4)))
    let holds = onProbe(Wire.method(50, 11, Wire.short("q"), Wire.integer(5, 4), Wire.integer(1, 4)))
    let silent = try ScriptedBroker([
      { client in
        client.greet()
        client.startConsumer()
        client.skip()
        client.send(opened)
        client.skip()
        client.send(holds)
        // The goodbye.
        client.skip()
        client.send(Wire.frame(1, Wire.method(20, 41)))
        client.drain()
      },
      { client in
        client.greet()
        let tag = client.startConsumer()
        client.send(Wire.delivery(.init(tag: 1, body: [0x7B, 0x7D]), consumer: tag).flatMap(\.self))
        client.drain()
      },
    ])
    let leaderless = try ScriptedBroker([
      { client in
        client.greet()
        client.startConsumer()
        client.drain()
      }
    ])
    // A queue that delivers all the time is not asked at all: this one would not answer.
    let sent = Monitor(UInt64(0))
    let busy = try ScriptedBroker([
      { client in
        client.greet()
        let tag = client.startConsumer()
        for number in UInt64(1)... {
          // The rhythm of a publisher: what is tested is time, and nothing but that passes in between.
          Thread.sleep(forTimeInterval: 2)
          guard client.send(Wire.delivery(.init(tag: number, body: [0x7B, 0x7D]), consumer: tag).flatMap(\.self)) else {
            return
          }
          sent.update { $0 = number }
        }
      }
    ])
    let (first, second) = (try Self.agent(silent), try Self.agent(leaderless))
    let third = try Self.agent(busy)
    try silent.wait(connections: 2)
    let text = #"queue \"q\" has 5 messages and delivers none, though there is room"#
    try first.wait("the finding") { $0.log.contains { $0.contains(text) } }
    try second.wait("the status") { output in
      output.log.contains { line in
        line.contains("connectorStatus") && line.contains(#"queue \"q\" does not answer: no leader?"#)
      }
    }
    // In as many seconds as the others needed to be asked and to be missed.
    #expect(sent.wait(atMost: generousLimit) { $0 >= 40 ? true : nil } == true)
    #expect(!third.written.log.contains { $0.contains("does not answer") || $0.contains("delivers none") })
    for agent in [first, second, third] {
      agent.child.signal(SIGTERM)
      #expect(try agent.end().exit == .exited(0))
    }
  }
}
