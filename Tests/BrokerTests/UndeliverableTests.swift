import Support
import Testing

/// A message that the broker itself cannot send takes no others along (SPEC §1, `PrefetchGuard`).
@Suite(.serialized, .timeLimit(.minutes(10))) struct UndeliverableTests {
  /// RabbitMQ 4 takes such messages over AMQP 1.0; before that, nothing is known that does it.
  private static let queues = (try? TestBroker().release >= .v40) == true ? ["journaled", "committed"] : []

  @Test(arguments: queues)
  func `one is dead-lettered by the broker, and no other, though the first twenty starts were killed`(
    mode: String
  ) throws {
    let dead = TestBroker.uniqueName("dead")
    let arguments: JSON = [
      "x-queue-type": "quorum", "x-single-active-consumer": true, "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": .string(dead),
    ]
    let bench = try Bench(arguments: arguments)
    try bench.publisher.declare(dead)
    _ = try bench.publisher.publishMany(60, .simple(bytes: 100), prefix: "a", routingKey: bench.queue)
    try bench.publisher.publishUndeliverable(to: bench.queue)
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
    try runtime.waitUntil(committedCount: 120)
    try bench.publisher.waitForReady(dead) { $0 > 0 }
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    let ids = runtime.committed.compactMap { $0.json[path: "properties", "message_id"]?.string }
    #expect(ids.count == 120, "\(runtime.log.compactMap { $0.text }.joined(separator: "\n"))")
    #expect(Set(ids).count == 120)
    #expect(runtime.log.contains { $0.message?.contains("the broker cannot send the message at the front") == true })
    #expect(try bench.publisher.queueInfo(dead)?.ready == 1)
    try bench.publisher.delete(bench.queue)
    try bench.publisher.delete(dead)
  }
}
