import Support
import Testing

/// When the broker gets its acknowledgement (docs/guarantees.md), and what happens while no one reads (ARCHITECTURE.md).
@Suite struct AcknowledgementTests {
  @Test func `committed mode acknowledges only what the runtime acknowledged`() throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue))
    runtime.policy.holdAcknowledgements = true
    try bench.publisher.publishMany(50, .mixed(seed: 1), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 50)
    #expect(try bench.broker.queueDepth(bench.queue) == (0, 50))
    #expect(runtime.checkpoints.acknowledged == 0)
    runtime.policy.holdAcknowledgements = false
    try runtime.waitUntilSettled()
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(runtime.log.contains { $0.message?.hasPrefix("acknowledgement mode committed") == true })
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `committed mode leaves what was not acknowledged in the queue`() throws {
    let bench = try Bench()
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue))
    runtime.policy.holdCommits = true
    try bench.publisher.publishMany(50, .simple(bytes: 100), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(documentsRead: 50)
    try runtime.kill()
    try bench.broker.waitForDepth(bench.queue, ready: 50, unacknowledged: 0)
    runtime.policy.holdCommits = false
    try runtime.start()
    try runtime.waitUntil(committedCount: 50)
    #expect(runtime.committed.allSatisfy { $0.redelivered == true })
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `journaled mode acknowledges although the runtime commits nothing`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]))
    runtime.policy.holdCommits = true
    try bench.publisher.publishMany(500, .mixed(seed: 1), routingKey: bench.queue)
    try runtime.start()
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(runtime.committed.isEmpty && runtime.checkpoints.acknowledged == 0)
    try runtime.kill()
    // Only the journal has them now, and the next session replays them under the session that they were captured in.
    runtime.policy.holdCommits = false
    try runtime.start()
    try runtime.waitUntil(committedCount: 500)
    #expect(runtime.committed.map(\.sequence) == Array(1...500))
    #expect(Set(runtime.committed.map(\.sessionID)).count == 1)
    #expect(runtime.log.contains { $0.message?.hasPrefix("acknowledgement mode journaled") == true })
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `the mode may be chosen against the default, and is`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(journal), "acknowledge": "committed"]]))
    runtime.policy.holdCommits = true
    try bench.publisher.publishMany(20, .simple(bytes: 100), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(documentsRead: 20)
    #expect(try bench.broker.queueDepth(bench.queue) == (0, 20))
    runtime.policy.holdCommits = false
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `the anchor of a sole consumer is acknowledged once the queue is idle`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(journal)], "consumer": ["deduplicate": "assert"]]))
    try bench.publisher.publishMany(100, .simple(bytes: 100), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 100)
    // Without the settling the anchor's eight would stay.
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}

/// A runtime that reads nothing, and a journal that is full (docs/settings.md `journal.max_bytes`, docs/production.md).
@Suite(.serialized) struct BackPressureTests {
  /// 64 MiB as promised, and what a debug build's larger code takes; 50 MiB were measured.
  private static let residentLimit = 72 << 20

  @Test func `the journal takes what the runtime does not read, in bounded memory`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(journal)], "consumer": ["prefetch_count": 1000]]))
    try runtime.start()
    runtime.policy.pauseReading = true
    let count = 50_000
    #expect(try bench.publisher.publishMany(count, .simple(bytes: 200), routingKey: bench.queue) == count)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(runtime.committed.count < count / 2, "most of it was never read")
    runtime.policy.pauseReading = false
    try runtime.waitUntil(committedCount: count, atMost: .seconds(300))
    let peak = try runtime.peakResidentBytes()
    #expect(peak < Self.residentLimit)
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.map(\.sequence) == Array(1...count))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `intake pauses at the journal's cap and goes on by itself below it`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(journal), "max_bytes": JSON(16 << 20)]]))
    runtime.policy.holdCommits = true
    let count = 3000
    try bench.publisher.publishMany(count, .simple(bytes: 10_000), routingKey: bench.queue)
    try runtime.start()
    try runtime.waitForLog("the pause") {
      $0.message?.hasPrefix("Intake is paused: the journal is at journal.max_bytes") == true
        && $0.json?[path: "fields", "eventType"] == "connectorStatus"
    }
    let ready = try #require(try bench.publisher.queueInfo(bench.queue)?.ready)
    #expect(ready > count / 4, "the queue keeps the rest")
    #expect(runtime.log.filter { $0.message == "Capture started" }.count == 1)
    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: count)
    #expect(runtime.log.contains { $0.message?.hasPrefix("intake goes on") == true })
    #expect(runtime.committed.map(\.sequence) == Array(1...count))
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
