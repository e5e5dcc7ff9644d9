import Glibc
import Support
import Testing

/// What is captured and kept unacknowledged as the anchor must not look like a failure: expire, or count as delivered once
/// more, because the capture was stopped or killed later.
@Suite(.serialized) struct SettlingTests {
  private static let count = 40

  private func runtime(_ bench: Bench, _ options: JSON, journaled: Bool) throws -> FlowRuntime {
    let journal: JSON = journaled ? ["journal": ["path": .string(try temporaryDirectory() + "/journal.db")]] : [:]
    return try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["reconnect_delay": .number("0.1")])
        .merged(with: options).merged(with: journal))
  }

  @Test(arguments: [true, false], ["kill", "end of stdin", "SIGTERM"])
  func `nothing captured expires into the dead letters after the queue was idle`(
    isQuorum: Bool, ending: String
  ) throws {
    let dead = TestBroker.uniqueName("dead")
    let arguments: JSON = [
      "x-queue-type": .string(isQuorum ? "quorum" : "classic"), "x-message-ttl": 200, "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": .string(dead),
    ]
    let bench = try Bench(arguments: arguments)
    try bench.publisher.declare(dead)
    let options: JSON = [
      "queue": ["declare": "passive"],
      "consumer": isQuorum ? ["deduplicate": "assert"] : ["exclusive": true],
    ]
    let runtime = try runtime(bench, options, journaled: false)
    try runtime.start()
    // What waits for the consumer, or for a channel that begins narrow, would expire before it is captured.
    try runtime.waitForLog("the consumer") { $0.message?.hasPrefix("consuming from queue") == true }
    for number in 1...Self.count { try bench.publisher.publish("\(number)", routingKey: bench.queue) }
    try runtime.waitUntil(committedCount: Self.count)
    if ending == "SIGTERM" {
      #expect(try runtime.terminate() == .exited(0))
    } else {
      // Without the settling the anchor's eight would stay.
      try bench.broker.waitUntilAcknowledged(bench.queue)
      if ending == "kill" { try runtime.kill() } else { #expect(try runtime.closeInput() == .exited(0)) }
    }
    // What is left would expire now, after this one.
    try bench.publisher.publish("marker", routingKey: bench.queue)
    try bench.broker.waitForDepth(dead, ready: 1, unacknowledged: 0)
    #expect(try bench.publisher.take(from: dead).map(\.body) == [Array("marker".utf8)])
    for queue in [bench.queue, dead] { try bench.publisher.delete(queue) }
  }

  @Test func `an orderly stop releases the anchor at once while the runtime lives`() throws {
    let bench = try Bench()
    let runtime = try runtime(bench, ["consumer": ["exclusive": true]], journaled: false)
    // The queue is never idle for long enough: what is published last is still uncommitted when the stop comes.
    runtime.policy.holdCommits = true
    try bench.publisher.publishMany(Self.count, .simple(bytes: 20), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(documentsRead: Self.count)
    runtime.signal(SIGTERM)
    runtime.policy.holdCommits = false
    #expect(try runtime.waitForExit() == .exited(0))
    #expect(runtime.committed.count == Self.count)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    // The state says so: what comes now is new.
    try bench.publisher.publishMany(3, .simple(bytes: 20), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: Self.count + 3)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: [true, false])
  func `kills count no delivery of what was captured once it is settled`(journaled: Bool) throws {
    let dead = TestBroker.uniqueName("dead")
    let limit = 3
    let arguments: JSON = [
      "x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": JSON(limit),
      "x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(dead),
    ]
    let bench = try Bench(arguments: arguments)
    try bench.publisher.declare(dead)
    let runtime = try runtime(bench, ["queue": ["arguments": arguments]], journaled: journaled)
    try bench.publisher.publishMany(Self.count, .simple(bytes: 20), routingKey: bench.queue)
    // The first kill leaves an anchor, for which each later start counts a delivery.
    try runtime.start()
    try runtime.waitUntil(documentsRead: Self.count)
    try runtime.kill()
    for _ in 0...limit {
      try runtime.start()
      try runtime.waitUntil(committedCount: Self.count)
      try bench.broker.waitUntilAcknowledged(bench.queue)
      try runtime.kill()
    }
    #expect(runtime.committed.count == Self.count)
    #expect(try bench.broker.queueDepth(dead) == (0, 0))
    for queue in [bench.queue, dead] { try bench.publisher.delete(queue) }
  }

  /// In `committed` mode each start has a new journal, which says nothing of what was captured before.
  @Test(arguments: ["kill", "stop"])
  func `a start to which nothing new comes acknowledges what was captured before`(ending: String) throws {
    let bench = try Bench()
    let runtime = try runtime(bench, ["consumer": ["exclusive": true]], journaled: false)
    try bench.publisher.publishMany(20, .simple(bytes: 20), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 20)
    try runtime.kill()
    try runtime.start()
    try bench.broker.waitUntilAcknowledged(bench.queue)
    if ending == "kill" { try runtime.kill() } else { #expect(try runtime.terminate() == .exited(0)) }
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(runtime.committed.count == 20)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a warning tells that messages come near the delivery limit`() throws {
    let arguments: JSON = [
      "x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": 4,
    ]
    let bench = try Bench(arguments: arguments)
    let runtime = try runtime(bench, ["queue": ["arguments": arguments]], journaled: false)
    // Nothing is ever committed, so each kill counts, and only one message is let through.
    runtime.policy.holdCommits = true
    try bench.publisher.publishMany(10, .simple(bytes: 20), routingKey: bench.queue)
    for start in 1...3 {
      try runtime.start()
      try runtime.waitUntil(documentsRead: start)
      if start < 3 { try runtime.kill() }
    }
    try runtime.waitForLog("near the limit") {
      $0.level == "warn" && $0.message?.contains("delivery limit (4)") == true
    }
    try runtime.kill()
    try bench.publisher.delete(bench.queue)
  }
}

extension TestBroker {
  /// Asks until the channel that consumes the queue has nothing unacknowledged. A quorum queue's own numbers are some seconds
  /// old.
  fileprivate func waitUntilAcknowledged(_ queue: String) throws {
    // The first number of a process id is that of rabbitmqctl's own view of the node.
    func process(_ row: JSON, _ column: String) -> Substring? { row[column]?.string?.drop { $0 != "." } }
    var last: [JSON] = []
    for _ in 0..<120 {
      let consumers = try rows("consumers", containing: queue, ["queue_name", "channel_pid"])
      let mine = consumers.filter { $0["queue_name"]?.string == queue }.compactMap { process($0, "channel_pid") }
      last = try rows("channels", containing: "pid", ["pid", "messages_unacknowledged"], everywhere: true)
      last = last.filter { channel in mine.contains { $0 == process(channel, "pid") } }
      if !last.isEmpty, last.allSatisfy({ $0["messages_unacknowledged"] == 0 }) { return }
    }
    throw SupportError("queue \(queue) still has unacknowledged messages: \(last)")
  }
}
