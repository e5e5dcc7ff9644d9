import Support
import Testing

/// The connector is killed (SIGKILL) again and again under load, and nothing is lost (docs/guarantees.md, docs/production.md).
///
/// The short form of scripts/crash. The moments are drawn from a seed as numbers of documents read, so no clock decides;
/// what happens at them also depends on the machine. Of each kind of queue and mode one seed is fixed; others are drawn,
/// and printed.
@Suite(.serialized) struct CrashTests {
  static let kills = 8
  static let messages = 3_000
  /// Of this run.
  static let drawn = UInt64.random(in: 1_000...999_999_999)

  struct Case: CustomTestStringConvertible {
    var queue: String
    var mode: String
    /// True if the connector knows that it is the only consumer: then each message is captured once.
    var isAlone = true
    var deduplicate = "auto"
    var deduplicateBy = "position"
    var seed: UInt64

    var testDescription: String {
      "\(queue), \(mode), \(isAlone ? "alone" : "not alone"), deduplicate \(deduplicate) by \(deduplicateBy), seed \(seed)"
    }

    var arguments: JSON {
      switch queue {
      case "quorum": ["x-queue-type": "quorum", "x-single-active-consumer": true]
      case "priority": ["x-max-priority": 9]
      default: [:]
      }
    }

    func options(_ bench: Bench) throws -> JSON {
      var journal: [String: JSON] = ["acknowledge": .string(mode)]
      if mode == "journaled" { journal["path"] = .string(try temporaryDirectory() + "/journal.db") }
      return [
        "queue": ["name": .string(bench.queue), "arguments": arguments], "journal": .object(journal),
        "reconnect_delay": .number("0.1"),
        "consumer": [
          "prefetch_count": 300, "deduplicate": .string(deduplicate), "deduplicate_by": .string(deduplicateBy),
          "exclusive": .bool(isAlone && queue == "classic" && deduplicate == "auto"),
        ],
      ]
    }

    static let once = [
      Case(queue: "classic", mode: "journaled", seed: 1), Case(queue: "classic", mode: "journaled", seed: drawn),
      Case(queue: "classic", mode: "journaled", deduplicate: "assert", seed: 2),
      Case(queue: "classic", mode: "committed", seed: 3), Case(queue: "classic", mode: "committed", seed: drawn),
      Case(queue: "quorum", mode: "journaled", seed: 4), Case(queue: "quorum", mode: "committed", seed: drawn),
    ]
    /// A priority queue gives messages back out of order, and other consumers are possible: only ids help.
    static let byID = [
      Case(queue: "priority", mode: "journaled", isAlone: false, deduplicateBy: "message_id", seed: 6),
      Case(queue: "priority", mode: "committed", isAlone: false, deduplicateBy: "message_id", seed: drawn),
    ]
    static let atLeastOnce = [
      Case(queue: "classic", mode: "journaled", isAlone: false, seed: 5),
      Case(queue: "classic", mode: "committed", isAlone: false, seed: drawn),
    ]
  }

  /// Publishes, captures and kills; returns the runtime once everything is committed, acknowledged as far as it can be,
  /// and the connector has ended.
  private func capture(_ run: Case, _ bench: Bench) throws -> FlowRuntime {
    print("killing under load: \(run.testDescription)")
    var random = Seeded(run.seed)
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, run.options(bench)))
    let share = Self.messages / (Self.kills + 1)
    var published = 0
    for cycle in 0...Self.kills {
      let count = cycle == Self.kills ? Self.messages - published : share
      let start = published + 1
      published += count
      let load = Background { [bench] in
        try bench.publisher.publishMany(count, .mixed(seed: Int(run.seed)), start: start, routingKey: bench.queue)
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
        // In committed mode, without acknowledgements the prefetch count would end a session.
        if run.mode == "journaled" { runtime.policy.dropAcknowledgements = Bool.random(using: &random) }
        try runtime.start()
        try runtime.waitUntil(documentsRead: read + Int.random(in: 1...share, using: &random))
      }
      try runtime.kill()
      try load.join()
    }
    try runtime.waitUntilCommitted(messages: Self.messages)
    // The last acknowledgements are on their way, and the end of stdin would overtake them.
    try runtime.waitUntilSettled()
    try bench.broker.waitForDepth(bench.queue, atMost: run.isAlone ? 8 : 0)
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
    let isComplete = seen == Set((1...Self.messages).map { Publisher.messageID($0) })
    #expect(isComplete)
  }

  @Test(arguments: Case.once)
  func `a queue's only consumer captures each message once and in order, in spite of all kills`(run: Case) throws {
    let bench = try Bench(arguments: run.arguments)
    let runtime = try capture(run, bench)
    judge(runtime.committed)
    expectOnceInOrder(runtime.committed, Self.messages)
    // What the anchor keeps is the queue's at the end of a committed capture, and no one's at that of a journaled one.
    try bench.publisher.waitForReady(bench.queue) { $0 <= (run.mode == "journaled" ? 0 : 8) }
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: Case.byID)
  func `unique message ids are enough to capture each message once`(run: Case) throws {
    let bench = try Bench(arguments: run.arguments)
    let runtime = try capture(run, bench)
    judge(runtime.committed)
    #expect(runtime.committed.count == Self.messages)
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: Case.atLeastOnce)
  func `where others may consume, nothing is lost and what comes twice is marked`(run: Case) throws {
    let bench = try Bench(arguments: run.arguments)
    let runtime = try capture(run, bench)
    judge(runtime.committed)
    if run.mode == "journaled" {
      // Positions count what was journaled: no more, no less was committed.
      #expect(
        runtime.committedState[path: "bindingStateV1", "orders.v0", "position"]?.int == runtime.committed.count)
    }
    try bench.publisher.delete(bench.queue)
  }
}

/// Documents of messages 1 to `count`, as `publishMany` makes them: each of them once, in order. Thousands of ids are no
/// good text for a failure.
func expectOnceInOrder(_ documents: [FlowRuntime.Document], _ count: Int) {
  let ids = documents.compactMap(\.messageID)
  #expect(ids.count - Set(ids).count == 0, "duplicates")
  let isInOrder = ids == (1...count).map { Publisher.messageID($0) }
  #expect(isInOrder)
}
