import Support
import Testing

/// The connector is killed (SIGKILL) again and again under load, and nothing is lost (SPEC §4, §8).
///
/// The moments are drawn from a seed as numbers of documents read, so no clock decides; what happens at them also
/// depends on the machine.
@Suite(.serialized) struct CrashTests {
  static let kills = 12
  static let messages = 20_000

  /// Publishes, captures and kills; returns the runtime once everything is committed, at most `rest` messages are left
  /// in the queue, and the connector has ended.
  private func capture(
    _ bench: Bench, _ options: JSON, seed: UInt64, holdingAcknowledgements: Bool, rest: Int = 0
  ) throws -> FlowRuntime {
    var random = Seeded(seed)
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, options))
    let share = Self.messages / (Self.kills + 1)
    var published = 0
    for cycle in 0...Self.kills {
      let count = cycle == Self.kills ? Self.messages - published : share
      let start = published + 1
      published += count
      let load = Background { [bench] in
        try bench.publisher.publishMany(count, .mixed(seed: Int(seed)), start: start, routingKey: bench.queue)
      }
      let read = runtime.documentsRead
      runtime.policy = FlowRuntime.Policy()
      runtime.policy.checkpointsPerTransaction = Int.random(in: 1...3, using: &random)
      if cycle == Self.kills {
        try runtime.start()
        try load.join()
        break
      }
      // One kill in five falls into the start; the others anywhere from the first document to the share's last.
      if Int.random(in: 0..<5, using: &random) == 0 {
        try runtime.start(awaitOpened: false)
      } else {
        if holdingAcknowledgements { runtime.policy.dropAcknowledgements = Bool.random(using: &random) }
        try runtime.start()
        try runtime.waitUntil(documentsRead: read + Int.random(in: 1...share, using: &random))
      }
      try runtime.kill()
      try load.join()
    }
    // Duplicates may be among them: wait for the last id, and then for rest.
    var missing = Set((1...Self.messages).map { Publisher.messageID($0) })
    var seen = 0
    while !missing.isEmpty {
      let committed = runtime.committed
      for document in committed[seen...] { missing.remove(document.messageID ?? "") }
      seen = committed.count
      if !missing.isEmpty { try runtime.waitUntil(committedCount: seen + 1) }
    }
    // The last acknowledgements are on their way, and the end of stdin would overtake them.
    try bench.broker.waitForDepth(bench.queue, atMost: rest)
    #expect(try runtime.closeInput() == .exited(0))
    return runtime
  }

  /// What holds for any mode: sequences without gaps in every session, every id there, repeated ones marked.
  private func judge(_ documents: [FlowRuntime.Document]) {
    var last: [String: Int] = [:]
    var current: String?
    var seen: Set<String> = []
    var outOfOrder = 0
    var unmarked = 0
    var returning = 0
    for document in documents {
      let session = document.sessionID ?? ""
      if session != current, last[session] != nil { returning += 1 }
      current = session
      if document.sequence != (last[session] ?? 0) + 1 { outOfOrder += 1 }
      last[session] = document.sequence ?? 0
      if !seen.insert(document.messageID ?? "").inserted, document.redelivered != true { unmarked += 1 }
    }
    #expect(outOfOrder == 0)
    #expect(returning == 0, "documents of a session stand together")
    #expect(unmarked == 0, "a message captured twice was delivered twice")
    #expect(seen == Set((1...Self.messages).map { Publisher.messageID($0) }))
  }

  @Test(arguments: [1, 2] as [UInt64])
  func `in journaled mode each journaled message is committed once and in order`(seed: UInt64) throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capture(
      bench, ["journal": ["path": .string(journal)], "consumer": ["prefetch_count": 500]], seed: seed,
      holdingAcknowledgements: true)
    judge(runtime.committed)
    // Positions count what was journaled: no more, no less was committed.
    #expect(
      runtime.committedState[path: "bindingStateV1", "orders.v0", "position"]?.int == runtime.committed.count)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a queue's only consumer captures each message once in spite of all kills`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capture(
      bench,
      [
        "journal": ["path": .string(journal)], "consumer": ["prefetch_count": 500, "deduplicate": "assert"],
      ], seed: 3, holdingAcknowledgements: true, rest: 8)
    judge(runtime.committed)
    #expect(runtime.committed.count == Self.messages)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `in committed mode a journal that is gone at every start loses nothing`() throws {
    let bench = try Bench()
    let runtime = try capture(
      bench, ["consumer": ["prefetch_count": 500]], seed: 4, holdingAcknowledgements: false)
    judge(runtime.committed)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a queue's only consumer needs no journal that outlives it to capture each message once`() throws {
    let bench = try Bench()
    let runtime = try capture(
      bench, ["consumer": ["prefetch_count": 500, "exclusive": true], "reconnect_delay": .number("0.1")], seed: 5,
      // Without acknowledgements the prefetch count would end a session.
      // The anchor stays in the queue, and is recognised at the next start.
      holdingAcknowledgements: false, rest: 8)
    judge(runtime.committed)
    #expect(runtime.committed.count == Self.messages)
    try bench.publisher.delete(bench.queue)
  }

  /// A priority queue gives messages back out of order, and other consumers are possible: only ids help.
  @Test func `unique message ids are enough to capture each message once`() throws {
    let bench = try Bench(arguments: ["x-max-priority": 9])
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capture(
      bench,
      [
        "journal": ["path": .string(journal)], "max_priority": 9,
        "consumer": ["prefetch_count": 500, "deduplicate_by": "message_id"],
      ], seed: 6, holdingAcknowledgements: true)
    judge(runtime.committed)
    #expect(runtime.committed.count == Self.messages)
    try bench.publisher.delete(bench.queue)
  }
}
