import Support
import Testing

/// What the settings of the consumer and of the queue do to messages: exclusive, priority, prefetch, `no_ack`, TTL, priorities.
@Suite(.timeLimit(.minutes(5))) struct SettingsConsumerTests {
  let broker: TestBroker
  let publisher: Publisher
  let queue = TestBroker.uniqueName("consumer")

  init() throws {
    broker = try TestBroker()
    publisher = try Publisher(broker)
  }

  private func runtime(_ settings: JSON = [:], queue other: String? = nil) throws -> FlowRuntime {
    try FlowRuntime(config: broker.configuration(queue: other ?? queue, settings))
  }

  @Test func `the consumer with the higher priority gets what its prefetch count allows, and the other one the rest`()
    throws
  {
    let low = try runtime(["consumer": ["priority": 0]])
    let high = try runtime(["consumer": ["priority": 9, "prefetch_count": 10]])
    high.policy.holdCommits = true
    try low.startConsuming()
    try high.startConsuming()
    for number in 1...50 { try publisher.publish(String(number), routingKey: queue) }
    try low.waitUntil(committedCount: 40)
    try high.waitUntil(documentsRead: 10)
    #expect(low.bodies == (11...50).map(String.init))
    #expect(high.documentsRead == 10)
    high.policy.holdCommits = false
    try high.waitUntil(committedCount: 10)
    #expect(high.bodies == (1...10).map(String.init))
    #expect(try high.terminate() == .exited(0))
    try publisher.publish("alone", routingKey: queue)
    try low.waitUntil(committedCount: 41)
    #expect(try low.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test(arguments: [true, false])
  func `a queue in exclusive use, also by a connection that lingers, is waited for`(firstIsExclusive: Bool) throws {
    let first = try runtime(["consumer": ["exclusive": .bool(firstIsExclusive)]])
    try first.startConsuming()
    let second = try runtime(["consumer": ["exclusive": .bool(!firstIsExclusive)], "reconnect_delay": .number("0.05")])
    try second.start()
    let refusal =
      "not consuming: consuming from queue \"\(queue)\": the broker closed the channel: 403 ACCESS_REFUSED - queue "
      + "'\(queue)' in vhost '/' in exclusive use. Another consumer has exclusive access to the queue; next attempt in "
    try second.waitForLog("the refusal") { [refusal] in $0.message?.hasPrefix(refusal) == true }
    #expect(try first.terminate() == .exited(0))
    try second.waitForLog("consuming") { $0.message?.hasPrefix("consuming from queue") == true }
    try publisher.publish("for the second", routingKey: queue)
    try second.waitUntil(committedCount: 1)
    #expect(second.bodies.last == "for the second")
    #expect(try second.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test func `an exclusive queue is waited for while another connection holds it, and is gone with its own`() throws {
    let settings: JSON = ["queue": ["exclusive": true], "reconnect_delay": .number("0.05")]
    let first = try runtime(settings)
    try first.startConsuming()
    // The running capture must not stand in the way of a new configuration.
    #expect(try ask("validate", first.configuration).exit == .exited(0))
    let applied = try ask("apply", first.configuration)
    #expect(applied.exit == .exited(0))
    #expect(
      applied.responses.last?[path: "applied", "actionDescription"]?.string
        == "Queue \"\(queue)\" is exclusive: it is declared and bound by the capture's own connection.")
    let second = try runtime(settings)
    try second.start()
    try second.waitForLog("the refusal") {
      $0.message?.contains("405 RESOURCE_LOCKED") == true
        && $0.message?.contains("original declaration. Another connection holds the queue exclusively; next") == true
    }
    try first.kill()
    try second.waitForLog("consuming") { $0.message?.hasPrefix("consuming from queue") == true }
    try publisher.publish("for the second", routingKey: queue)
    try second.waitUntil(committedCount: 1)
    #expect(try second.terminate() == .exited(0))
    #expect(try broker.rows("queues", containing: queue, ["name"]).isEmpty)
  }

  @Test func `without a prefetch limit everything comes at once, with a warning`() throws {
    let runtime = try runtime(["consumer": ["prefetch_count": 0]])
    runtime.policy.holdCommits = true
    try runtime.startConsuming()
    try publisher.publishMany(3000, .simple(bytes: 100), routingKey: queue)
    try runtime.waitUntil(documentsRead: 3000)
    // More than any other setting could have let through: nothing is acknowledged yet.
    let depth = try broker.queueDepth(queue)
    #expect(depth == (0, 3000))
    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: 3000)
    try broker.waitForDepth(queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.terminate() == .exited(0))
    #expect(
      runtime.messages(level: "warn") == [
        "consumer.prefetch_count is 0, so unlimited: messages are captured at least once only."
      ])
    try publisher.delete(queue)
  }

  @Test func `with no_ack nothing is left unacknowledged, and a stop loses nothing that was received`() throws {
    try publisher.declare(queue)
    try publisher.publishMany(20_000, .simple(bytes: 500), routingKey: queue)
    let runtime = try runtime(["consumer": ["no_ack": true]])
    try runtime.start()
    try runtime.waitUntil(documentsRead: 1)
    #expect(try runtime.terminate() == .exited(0))
    let left = try #require(try publisher.queueInfo(queue)).ready
    #expect(runtime.committed.count + left == 20_000)
    #expect(runtime.committed.compactMap(\.sequence) == Array(1...runtime.committed.count))
    #expect(try broker.queueDepth(queue).unacknowledged == 0)
    let expected = "consumer.no_ack is true: messages in flight are lost when the connection breaks."
    #expect(runtime.messages(level: "warn") == [expected])

    // What is left comes with the next start; the runtime commits nothing, and still the broker has forgotten it.
    runtime.policy.holdCommits = true
    try runtime.start()
    try runtime.waitUntil(documentsRead: 20_000)
    #expect(try broker.queueDepth(queue) == (0, 0))
    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: 20_000)
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test func `messages with a higher priority come first where max_priority allows it`() throws {
    let runtime = try runtime(["max_priority": 10])
    #expect(try ask("apply", runtime.configuration).exit == .exited(0))
    for (index, priority) in ([0, nil, 5, 10, 3, 10, 255, 0] as [UInt8?]).enumerated() {
      var properties = Properties()
      properties.priority = priority
      try publisher.publish("\(index)", properties: properties, routingKey: queue)
    }
    try runtime.startConsuming()
    try runtime.waitUntil(committedCount: 8)
    #expect(runtime.bodies == ["3", "5", "6", "2", "4", "0", "1", "7"])
    #expect(runtime.committed.map { $0.json[path: "properties", "priority"]?.int } == [10, 10, 255, 5, 3, 0, nil, 0])
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
  }

  @Test func `messages expire after message_ttl, and their dead letters can be captured`() throws {
    let dead = queue + "-dead"
    let expiring = try runtime([
      "message_ttl": 1,
      "queue": ["arguments": ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(dead)]],
    ])
    #expect(try ask("apply", expiring.configuration).exit == .exited(0))
    let runtime = try runtime(queue: dead)
    try runtime.startConsuming()
    try publisher.publish("late", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    let death = runtime.committed[0].json[path: "properties", "headers", "x-death"]?.array?.first
    #expect(death?["reason"] == "expired")
    #expect(death?["queue"] == .string(queue))
    try runtime.waitUntilSettled()
    #expect(try runtime.terminate() == .exited(0))
    try publisher.delete(queue)
    try publisher.delete(dead)
  }

  @Test func `a journal of one's own is kept, is private, and is acknowledged from`() throws {
    let directory = try run("/bin/mktemp", ["-d", "-t", "source-amqp.XXXXXX"]).split(separator: "\n")[0]
    let path = "\(directory)/journal.db"
    let runtime = try runtime(["journal": ["path": .string(path)]])
    runtime.policy.holdCommits = true
    try runtime.startConsuming()
    try publisher.publishMany(10, .simple(bytes: 100), routingKey: queue)
    try runtime.waitUntil(documentsRead: 10)
    #expect(try run("/usr/bin/stat", ["-c", "%a", path]) == "600\n")
    let mode = "acknowledgement mode journaled: "
    #expect(
      runtime.log.contains { $0.message?.hasPrefix(mode) == true && $0.json?["fields"]?["journal"]?.string == path })
    // The broker forgets them although the runtime has committed nothing, so they can only come from the journal.
    try broker.waitForDepth(queue, ready: 0, unacknowledged: 0)
    try runtime.kill()
    runtime.policy.holdCommits = false
    try runtime.startConsuming()
    try runtime.waitUntil(committedCount: 10)
    #expect(try runtime.terminate() == .exited(0))
    #expect(runtime.committed.map(\.messageID) == (1...10).map { Publisher.messageID($0) })
    try publisher.delete(queue)

    let refused = try ask("validate", broker.configuration(queue: queue, ["journal": ["acknowledge": "journaled"]]))
    #expect(refused.exit == .exited(78))
    #expect(refused.cause?.contains("journal.acknowledge: \"journaled\" needs journal.path") == true)
  }
}
