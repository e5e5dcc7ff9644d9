import Support
import Testing

/// The rows of the README's table of guarantees that CrashTests, MessageIDTests, StreamTests and SuccessionTests do not show.
@Suite(.serialized) struct GuaranteeTests {
  static let count = 300

  struct Row: CustomTestStringConvertible {
    var name: String
    var options: JSON
    /// The reason that the log gives at the start.
    var reason: String
    var testDescription: String { name }

    static let atLeastOnce = [
      Row(name: "other consumers are possible", options: [:], reason: "other consumers are possible"),
      Row(
        name: "a priority queue", options: ["max_priority": 5, "consumer": ["exclusive": true]],
        reason: "a priority queue redelivers out of order"),
      Row(
        name: "a prefetch count of 3", options: ["consumer": ["exclusive": true, "prefetch_count": 3]],
        reason: "consumer.prefetch_count is 3"),
      Row(
        name: "no prefetch count", options: ["consumer": ["exclusive": true, "prefetch_count": 0]],
        reason: "consumer.prefetch_count is 0"),
    ]
  }

  /// Publishes messages of growing ids and mixed priorities, captures some, kills, and goes on until all are there.
  private func captureAcrossKills(_ row: Row, _ bench: Bench) throws -> FlowRuntime {
    let options = row.options.merged(with: [
      "reconnect_delay": .number("0.1"), "journal": ["path": .string(try temporaryDirectory() + "/journal.db")],
    ])
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, options))
    for number in 1...Self.count {
      var properties = Properties(messageID: Publisher.messageID(number))
      properties.priority = UInt8(number % 5)
      try bench.publisher.publish("x", properties: properties, routingKey: bench.queue)
    }
    for share in 1...3 {
      // Committed, acknowledged or not, as it happens to be: the kill comes in the middle of it.
      try runtime.start()
      try runtime.waitUntil(committedCount: share * 60)
      try runtime.kill()
    }
    try runtime.start()
    try runtime.waitForLog("the rule in force") { $0.message?.contains(row.reason) == true }
    try runtime.waitUntilCommitted(messages: Self.count)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    return runtime
  }

  private func arguments(_ row: Row) -> JSON {
    row.options["max_priority"].map { ["x-max-priority": $0] } ?? [:]
  }

  @Test(arguments: Row.atLeastOnce)
  func `where redeliveries cannot be recognised, nothing is lost and what comes twice is marked`(row: Row) throws {
    let bench = try Bench(arguments: arguments(row))
    let runtime = try captureAcrossKills(row, bench)
    var seen: Set<String> = []
    let unmarked = runtime.committed.filter { !seen.insert($0.messageID ?? "").inserted && $0.redelivered != true }
    #expect(unmarked.isEmpty)
    try bench.publisher.delete(bench.queue)
  }

  /// Nothing tells them apart: at worst more are captured than there are.
  @Test func `messages that are all alike are never fewer than what was published`() throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue,
        [
          "reconnect_delay": .number("0.1"), "consumer": ["exclusive": true],
          "journal": ["path": .string(try temporaryDirectory() + "/journal.db")],
        ]))
    var published = 0
    for _ in 1...4 {
      try bench.publisher.publish("all alike", routingKey: bench.queue, count: 300)
      published += 300
      try runtime.start()
      try runtime.waitUntil(documentsRead: runtime.documentsRead + 100)
      try runtime.kill()
    }
    try runtime.start()
    // What waits for a verdict is new after a silence, and the anchor is settled after a longer one.
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.count >= published)
    try bench.publisher.delete(bench.queue)
  }
}
