import Support
import Testing

/// A message that the broker itself cannot send takes no others along (docs/settings.md, `PrefetchGuard`).
@Suite(.serialized, .timeLimit(.minutes(10))) struct UndeliverableTests {
  /// RabbitMQ 4 takes such messages over AMQP 1.0; before that, nothing is known that does it.
  private static func isKnown() throws -> Bool { try TestBroker().release >= .v40 }

  @Test(
    .enabled("RabbitMQ 4 is needed, see scripts/test --release") { try isKnown() },
    arguments: ["journaled", "committed"], [0, 12])
  func `one is dead-lettered by the broker, and no other, though the first twenty starts were killed`(
    mode: String, alike: Int
  ) throws {
    let dead = TestBroker.uniqueName("dead")
    let arguments: JSON = [
      "x-queue-type": "quorum", "x-single-active-consumer": true, "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": .string(dead),
    ]
    let bench = try Bench(arguments: arguments)
    try bench.publisher.declare(dead)
    _ = try bench.publisher.publishMany(60, .simple(bytes: 100), prefix: "a", routingKey: bench.queue)
    // What looks like a captured message is none: these are counted.
    if alike > 0 { _ = try bench.publisher.publish("alike", routingKey: bench.queue, count: alike) }
    try bench.publisher.publishUndeliverable(to: bench.queue)
    if alike > 0 { _ = try bench.publisher.publish("alike", routingKey: bench.queue, count: alike) }
    _ = try bench.publisher.publishMany(60, .simple(bytes: 100), prefix: "b", routingKey: bench.queue)
    let journal: JSON = mode == "journaled" ? ["path": .string("\(try temporaryDirectory())/journal.db")] : [:]
    let options: JSON = ["queue": ["arguments": arguments], "reconnect_delay": .number("0.1"), "journal": journal]
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, options))
    runtime.policy.holdCommits = true
    for _ in 0..<20 {
      try runtime.startConsuming()
      try runtime.kill()
    }
    runtime.policy.holdCommits = false
    try runtime.start()
    func ids() -> [String] {
      runtime.committed.compactMap { $0.json[path: "properties", "message_id"]?.string }
    }
    func isComplete() -> Bool { Set(ids()).count == 120 && runtime.bodies.count { $0 == "alike" } >= 2 * alike }
    while !isComplete() { try runtime.waitUntil(committedCount: runtime.committed.count + 1) }
    try bench.publisher.waitForReady(dead) { $0 > 0 }
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    // If messages that are all alike stand in between, nothing tells those apart that come again: they may come twice.
    if alike == 0 { #expect(ids().count == 120) }
    #expect(runtime.log.contains { $0.message?.contains("the broker cannot send the message at the front") == true })
    #expect(try bench.publisher.queueInfo(dead)?.ready == 1)
    try bench.publisher.delete(bench.queue)
    try bench.publisher.delete(dead)
  }
}
