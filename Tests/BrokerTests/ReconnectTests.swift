import Support
import Testing

/// Losses of the connection, the broker and the queue, without a restart of the process (docs/troubleshooting.md).
@Suite(.serialized) struct ReconnectTests {
  /// Publishes a message with this id until it reached the queue: it may not be there, or the broker just back.
  private func publish(_ id: String, _ bench: Bench) throws {
    let clock = ContinuousClock()
    let deadline = clock.now + generousLimit
    while clock.now < deadline {
      let properties = persistent(id)
      if (try? bench.publisher.publish("x", properties: properties, routingKey: bench.queue)) == 1 { return }
    }
    throw SupportError("\(id) did not reach queue \(bench.queue)")
  }

  private func persistent(_ id: String) -> Properties {
    var properties = Properties(messageID: id)
    properties.deliveryMode = 2
    return properties
  }

  private func session(_ bench: Bench, _ options: JSON = [:]) throws -> FlowRuntime {
    let journal = try temporaryDirectory() + "/journal.db"
    let base: JSON = [
      "reconnect_delay": .number("0.2"), "journal": ["path": .string(journal)], "heartbeat": 2,
    ]
    return try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, base.merged(with: options)))
  }

  /// Waits for the documents with these ids, all of one process and one session.
  private func expectAll(_ ids: [String], _ runtime: FlowRuntime) throws {
    var missing = Set(ids)
    var seen = 0
    while true {
      let committed = runtime.committed
      for document in committed[seen...] { missing.remove(document.messageID ?? "") }
      seen = committed.count
      if missing.isEmpty { break }
      try runtime.waitUntil(committedCount: seen + 1)
    }
    #expect(Set(runtime.committed.map(\.sessionID)).count == 1)
    #expect(runtime.committed.map(\.sequence) == Array(1...runtime.committed.count))
    let tags = Set(runtime.committed.compactMap { $0.json[path: "delivery", "consumer_tag"]?.string })
    #expect(tags.count > 1, "every consumer has a fresh tag")
    #expect(try runtime.closeInput() == .exited(0))
  }

  private func waitForConsumer(_ number: Int, _ runtime: FlowRuntime) throws {
    var seen = 0
    try runtime.waitForLog("consumer number \(number)") { line in
      if line.message?.hasPrefix("consuming from queue") == true { seen += 1 }
      return seen == number
    }
  }

  @Test func `closed connections, a stopped broker and a killed one cost no message`() throws {
    let broker = try TestBroker.own()
    let bench = try Bench(broker)
    let runtime = try session(bench)
    try runtime.start()
    var ids: [String] = []
    func send(_ id: String) throws {
      ids.append(id)
      try publish(id, bench)
    }
    // The kill comes last: a broker writes down a second or two later that there is a queue, and one that it was killed before
    // loses the queue with the messages that it confirmed.
    let losses: [(String, () throws -> Void)] = [
      ("close", { try broker.closeConnections() }),
      (
        "stop",
        {
          try broker.stop()
          try broker.start()
        }
      ),
      (
        "kill",
        {
          try broker.kill()
          try broker.start()
        }
      ),
    ]
    for (index, loss) in losses.enumerated() {
      try waitForConsumer(index + 1, runtime)
      try send("before-\(loss.0)")
      try loss.1()
      try send("during-\(loss.0)")
      try waitForConsumer(index + 2, runtime)
      try send("after-\(loss.0)")
    }
    try expectAll(ids, runtime)
    let reconnects = runtime.log.filter { $0.message?.hasPrefix("Not consuming, trying again") == true }
    #expect(reconnects.count >= 3)
    try broker.remove()
  }

  @Test(arguments: ["active", "passive"])
  func `a deleted queue is noticed, and consumed again once it is there`(declare: String) throws {
    let bench = try Bench()
    let runtime = try session(bench, ["queue": ["declare": .string(declare)]])
    try runtime.start()
    try waitForConsumer(1, runtime)
    try publish("before", bench)
    try runtime.waitUntil(committedCount: 1)
    try bench.publisher.delete(bench.queue)
    try runtime.waitForLog("the cancellation") { $0.json?[path: "fields", "cause"] == "consumer_cancelled" }
    if declare == "passive" {
      try runtime.waitForLog("the missing queue") { $0.json?[path: "fields", "cause"] == "channel_closed_404" }
      try bench.publisher.declare(bench.queue)
      try publish("during", bench)
    }
    try waitForConsumer(2, runtime)
    try publish("after", bench)
    try expectAll(["before", "after"] + (declare == "passive" ? ["during"] : []), runtime)
    #expect(runtime.log.contains { $0.message?.contains("the broker cancelled the consumer") == true })
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a broker that does not answer is noticed within two heartbeats`() throws {
    let broker = try TestBroker.own()
    let bench = try Bench(broker)
    let runtime = try session(bench, ["connection_timeout": 2])
    try runtime.start()
    try waitForConsumer(1, runtime)
    try publish("before", bench)
    try runtime.waitUntil(committedCount: 1)
    try broker.freeze()
    try runtime.waitForLog("the missed heartbeats") { $0.json?[path: "fields", "cause"] == "heartbeats_missed" }
    try broker.thaw()
    try waitForConsumer(2, runtime)
    try publish("after", bench)
    try expectAll(["before", "after"], runtime)
    try broker.remove()
  }
}
