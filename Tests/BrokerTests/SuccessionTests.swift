import Support
import Testing

/// What one connector leaves unacknowledged, and the next one finds: before everything newer, or it would be
/// captured again (docs/guarantees.md).
@Suite(.serialized) struct SuccessionTests {
  private static let arguments: [String: JSON] = [
    "classic": [:], "quorum": ["x-queue-type": "quorum", "x-single-active-consumer": true],
  ]

  private func configuration(_ bench: Bench, _ arguments: JSON, _ journal: JSON) -> JSON {
    let options: JSON = [
      "queue": ["name": .string(bench.queue), "arguments": arguments], "reconnect_delay": .number("0.1"),
      "consumer": ["prefetch_count": 60, "exclusive": .bool(arguments == [:])], "journal": journal,
    ]
    return bench.broker.configuration(queue: bench.queue, options)
  }

  /// A runtime that is gone leaves a connector behind which still waits for its acknowledgements.
  @Test(arguments: ["classic", "quorum"])
  func `a connector that starts while the last one still ends captures nothing again, and in order`(
    queue: String
  ) throws {
    let arguments = Self.arguments[queue]!
    let bench = try Bench(arguments: arguments)
    let configuration = configuration(bench, arguments, ["acknowledge": "committed"])
    let last = try FlowRuntime(config: configuration)
    try bench.publisher.publishMany(100, .mixed(seed: 1), routingKey: bench.queue)
    try last.start()
    try last.waitUntil(committedCount: 100)
    try last.waitUntilSettled()
    last.policy.holdCommits = true
    try bench.publisher.publishMany(300, .mixed(seed: 1), start: 101, routingKey: bench.queue)
    // The anchor and 52 more: the window is full, and the runtime commits none of it.
    try last.waitUntil(documentsRead: 152)
    let state = last.committedState
    last.signal(15)
    try last.waitForLog("the end to begin") { $0.message == "Stopping the capture" }

    let next = try FlowRuntime(config: configuration, state: state)
    try next.start()
    try next.waitUntil(committedCount: 300)
    try next.waitUntilSettled()
    expectOnceInOrder(last.committed + next.committed, 400)
    try bench.broker.waitForDepth(bench.queue, atMost: 8)
    #expect(try next.closeInput() == .exited(0))
    _ = try last.waitForExit()
    try bench.publisher.delete(bench.queue)
  }

  /// A classic queue learns of acknowledgements on disk late, so a broker that is killed sends thousands again, far more
  /// than the prefetch count lets through at once.
  @Test func `acknowledgements that a killed broker forgot cost no duplicate`() throws {
    let broker = try TestBroker.own()
    let bench = try Bench(broker)
    let journal: JSON = ["path": .string(try temporaryDirectory() + "/journal.db")]
    let runtime = try FlowRuntime(config: configuration(bench, [:], journal))
    var published = 0
    var forgotten = 0
    // How many it forgets is up to the broker's own rhythm.
    for round in 1...5 where forgotten <= 60 {
      // Confirmed before the connector gets any: what the broker has not confirmed it may lose, the anchor with it.
      try bench.publisher.publishMany(3000, .simple(bytes: 100), start: published + 1, routingKey: bench.queue)
      published += 3000
      if round == 1 { try runtime.start() }
      try runtime.waitUntil(documentsRead: published - 2700)
      try broker.kill()
      let captured = runtime.committed.count
      try broker.start()
      var consumers = 0
      let line = try runtime.waitForLog("consumer number \(round + 1)") { line in
        if line.message?.hasPrefix("consuming from queue") == true { consumers += 1 }
        return consumers == round + 1
      }
      let ready = line.json?[path: "fields", "messages_ready"]?.int ?? 0
      forgotten = ready - (published - captured)
      try runtime.waitUntil(committedCount: published)
    }
    print("a killed broker forgot at least \(forgotten) acknowledgements; \(published) messages were published")
    #expect(forgotten > 60, "the broker forgot nothing, so this shows nothing")
    try bench.publisher.publishMany(1, .simple(bytes: 100), start: published + 1, routingKey: bench.queue)
    try runtime.waitUntil(committedCount: published + 1)
    expectOnceInOrder(runtime.committed, published + 1)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    try broker.remove()
  }
}
