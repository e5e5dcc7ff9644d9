import Foundation
import Support
import Testing

/// What docs/production.md promises, as far as no other suite shows it.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ProductionTests {
  let broker: TestBroker
  let publisher: Publisher
  let queue = TestBroker.uniqueName("production")

  init() throws {
    broker = try TestBroker()
    publisher = try Publisher(broker)
  }

  private func configuration(_ options: JSON, in directory: String) throws -> String {
    let path = directory + "/capture-\(TestBroker.uniqueName()).yaml"
    try broker.configuration(queue: queue, options).text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  private func documents(_ directory: String) throws -> [JSON] {
    try Data(contentsOf: URL(filePath: "\(directory)/\(queue)-000001.jsonl")).split(separator: 0x0A)
      .map { try JSON(parsing: Array($0)) }
  }

  private func ids(_ documents: [JSON]) -> [String] {
    documents.compactMap { $0[path: "properties", "message_id"]?.string }
  }

  /// "Moving a journal"
  @Test func `after a kill the directory goes on in another place, with nothing lost or repeated`() throws {
    try publisher.declare(queue)
    let directory = try temporaryDirectory()
    let config = try configuration(["consumer": ["exclusive": true]], in: directory)
    try publisher.publishMany(300, .simple(bytes: 200), routingKey: queue)
    let first = try Command(["run", config, "--output", directory + "/old"])
    try waitForLines(300, in: "\(directory)/old/\(queue)-000001.jsonl")
    try first.child.kill()
    try FileManager.default.moveItem(atPath: directory + "/old", toPath: directory + "/new")
    try publisher.publishMany(20, .simple(bytes: 200), start: 301, routingKey: queue)
    let second = try Command(["run", config, "--output", directory + "/new"])
    try waitForLines(320, in: "\(directory)/new/\(queue)-000001.jsonl")
    second.child.signal(SIGTERM)
    #expect(try second.end().exit == .exited(0))
    #expect(try ids(documents(directory + "/new")) == (1...320).map { Publisher.messageID($0) })

    // The newest file should come along: a directory that has the series' lock file goes on without it, with a warning.
    let files = FileManager.default
    try files.removeItem(atPath: "\(directory)/new/\(queue)-000001.jsonl")
    try publisher.publishMany(1, .simple(bytes: 200), start: 321, routingKey: queue)
    let third = try Command(["run", config, "--output", directory + "/new"])
    try waitForLines(1, in: "\(directory)/new/\(queue)-000002.jsonl")
    third.child.signal(SIGTERM)
    let (output, exit) = try third.end()
    #expect(exit == .exited(0))
    #expect(output.log.contains { $0.contains("was taken away") && $0.contains(#""level":"warn""#) })
    // One that has not is another directory.
    try files.removeItem(atPath: "\(directory)/new/\(queue)-000002.jsonl")
    try files.removeItem(atPath: "\(directory)/new/.\(queue).lock")
    for _ in 1...2 {
      let fourth = try Command(["run", config, "--output", directory + "/new"]).end()
      #expect(fourth.exit == .exited(1))
      #expect(logMessage(fourth.output.log.last ?? "")?.contains("put the file back") == true)
    }
    try publisher.delete(queue)
  }

  /// "Quorum queues and their delivery limit"
  @Test
  func `a crash counts a delivery for all that is unacknowledged, and a dead-letter exchange keeps what is above`()
    throws
  {
    let dead = queue + "-dead"
    try publisher.declare(dead)
    let runtime = try FlowRuntime(
      config: broker.configuration(
        queue: queue,
        [
          "consumer": ["prefetch_count": 20, "exclusive": true],
          "queue": [
            "arguments": [
              "x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": "",
              "x-dead-letter-routing-key": .string(dead),
            ]
          ],
        ]))
    try runtime.startConsuming()
    try publisher.publish("first", routingKey: queue)
    try runtime.waitUntil(committedCount: 1)
    runtime.policy.holdCommits = true
    try publisher.publishMany(20, .simple(bytes: 100), routingKey: queue)
    // Without a commit none of them is acknowledged.
    try runtime.waitUntil(documentsRead: 21)
    try runtime.kill()
    try runtime.start()
    try runtime.waitUntil(documentsRead: 41)
    try runtime.kill()
    try publisher.waitForReady(dead) { $0 == 20 }
    try publisher.delete(queue)
    try publisher.delete(dead)
  }

  /// "Several agents on one queue"
  @Test func `a stand-by on a single-active-consumer queue is healthy, and takes over what the other one leaves`()
    throws
  {
    let directory = try temporaryDirectory()
    let options: JSON = [
      "queue": ["arguments": ["x-queue-type": "quorum", "x-single-active-consumer": true]], "reconnect_delay": 1,
    ]
    let config = try configuration(options, in: directory)
    let active = try ListeningAgent([config, "--output", directory + "/a"])
    _ = try active.page("healthz") { $0.status == 200 }
    let standby = try ListeningAgent([config, "--output", directory + "/b"])
    _ = try standby.page("healthz") { $0.status == 200 }
    try publisher.publishMany(50, .simple(bytes: 100), routingKey: queue)
    try waitForLines(50, in: "\(directory)/a/\(queue)-000001.jsonl")
    #expect(try Page(standby.url + "metrics")["received_messages_total"] == 0)
    try active.command.child.kill()
    try publisher.publishMany(50, .simple(bytes: 100), start: 51, routingKey: queue)
    let page = try standby.page("metrics") { ($0["journaled_messages_total"] ?? 0) >= 50 }
    // What the first one kept unacknowledged is captured here too: the last eight of its own.
    #expect((page["received_messages_total"] ?? 0) <= 58)
    try broker.waitForDepth(queue, ready: 0, unacknowledged: 0)
    standby.command.child.signal(SIGTERM)
    #expect(try standby.command.end().exit == .exited(0))
    let second = try documents(directory + "/b")
    let all = try Set(ids(documents(directory + "/a")) + ids(second))
    #expect(all == Set((1...100).map { Publisher.messageID($0) }))
    let repeated = second.filter { ($0[path: "properties", "message_id"]?.string ?? "") <= Publisher.messageID(50) }
    #expect(repeated.allSatisfy { $0[path: "delivery", "redelivered"] == true } && repeated.count <= 8)
    try publisher.delete(queue)
  }
}
