import Support
import Testing

/// The rows of docs/guarantees.md that CrashTests, MessageIDTests, StreamTests and SuccessionTests do not show.
@Suite(.serialized) struct GuaranteeTests {
  static let count = 300

  struct Row: CustomTestStringConvertible {
    var name: String
    var queueType: String?
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
      Row(
        name: "an exclusive consumer of a quorum queue that somebody else declared", queueType: "quorum",
        options: ["queue": ["declare": "passive"], "consumer": ["exclusive": true]],
        reason: "this is a quorum queue, which ignores consumer.exclusive"),
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
    if let type = row.queueType { return ["x-queue-type": .string(type)] }
    return row.options["max_priority"].map { ["x-max-priority": $0] } ?? [:]
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

  /// A journal may hold what the broker no longer has, so it is not left behind without a word. After an orderly stop it holds
  /// nothing; and a stream has everything.
  @Test(arguments: ["kill", "stop", "stream"])
  func `a journal that is taken away while it is in use is missed`(how: String) throws {
    let bench = try Bench(arguments: how == "stream" ? ["x-queue-type": "stream"] : [:])
    let consumer: JSON = how == "stream" ? [:] : ["consumer": ["exclusive": true]]
    let options: JSON = ["reconnect_delay": .number("0.1"), "queue": ["declare": "passive"]]
    let configuration = bench.broker.configuration(queue: bench.queue, options.merged(with: consumer))
    let journal: JSON = ["path": .string(try temporaryDirectory() + "/journal.db")]
    let first = try FlowRuntime(config: configuration.merged(with: ["journal": journal]))
    try bench.publisher.publishMany(30, .simple(bytes: 20), routingKey: bench.queue)
    try first.start()
    try first.waitUntil(committedCount: 30)
    if how == "stop" { #expect(try first.terminate() == .exited(0)) } else { try first.kill() }

    let next = try FlowRuntime(config: configuration, state: first.committedState)
    try next.start(awaitOpened: how != "kill")
    if how == "kill" {
      #expect(try next.waitForExit() != .exited(0))
      try next.waitForLog("what to do") { $0.message?.contains("Start once more with journal.path") == true }
      // As it says.
      try first.start()
      #expect(try first.terminate() == .exited(0))
    } else {
      try bench.publisher.publishMany(3, .simple(bytes: 20), routingKey: bench.queue)
      try next.waitUntil(committedCount: 3)
      #expect(try next.terminate() == .exited(0))
      #expect(next.committed.count == 3)
    }
    #expect(first.committed.count == 30)
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
