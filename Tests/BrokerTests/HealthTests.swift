import Foundation
import Support
import Testing

/// Health is red with its reason while a cause is real, and green when it has gone (docs/production.md).
@Suite(.serialized) struct HealthTests {
  private func healthy(_ agent: ListeningAgent) throws {
    #expect(try agent.page("healthz") { $0.status == 200 }.body == "consuming\n")
  }

  /// A healthy agent that a shim can lie to, and its directory, of which `out` is for documents and journal.
  private func liedTo(_ bench: Bench) throws -> (ListeningAgent, Shim, directory: String) {
    let directory = try temporaryDirectory()
    let shim = try Shim(in: directory + "/shim")
    let config = try RunTests.configuration(bench, ["heartbeat": 2], in: directory)
    let agent = try ListeningAgent([config, "--output", directory + "/out"], environment: shim.environment)
    try healthy(agent)
    return (agent, shim, directory)
  }

  private func red(_ agent: ListeningAgent, _ words: String) throws {
    let page = try agent.page("healthz") { $0.status == 503 }
    #expect(page.body.contains(words), "\(page.body)")
  }

  @Test(arguments: [
    ("journal.db", "the journal's disk takes more than 3 s"), (".jsonl", "the disk of the output files"),
  ])
  func `a disk that is slow is told, and costs neither heartbeats nor messages`(file: String, words: String) throws {
    let bench = try Bench()
    let (agent, shim, _) = try liedTo(bench)
    try shim.tell(.slow, 5, of: file)
    try bench.publisher.publishMany(1000, .simple(bytes: 100), routingKey: bench.queue)
    try red(agent, words)
    // Red for as long as it lasts, also in between.
    for number in 1...30 {
      #expect(try Page(agent.url + "healthz").status == 503)
      try bench.publisher.publishMany(10, .simple(bytes: 100), start: 991 + 10 * number, routingKey: bench.queue)
    }
    try shim.stop(.slow)
    try healthy(agent)
    let page = try agent.page("metrics") { $0["committed_documents_total"] == 1300 }
    #expect(page["consumers_started_total"] == 1)
    agent.command.child.signal(SIGTERM)
    let (output, exit) = try agent.command.end()
    #expect(exit == .exited(0))
    #expect(output.log.contains { $0.contains("\"warn\"") && $0.contains(words) })
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: [("journal.db-wal", "Intake is paused"), (".jsonl", "Documents wait in the journal")])
  func `a disk that has become read-only is told, and nothing is lost`(file: String, words: String) throws {
    let bench = try Bench()
    let (agent, shim, directory) = try liedTo(bench)
    let publishing = Background {
      for batch in 0..<10 {
        try bench.publisher.publishMany(1000, .simple(bytes: 100), start: 1 + 1000 * batch, routingKey: bench.queue)
        guard batch == 3 else { continue }
        if file == ".jsonl" { try shim.tell(.half, 1) }
        try shim.tell(.refuse, Int(EROFS), of: file)
      }
    }
    try red(agent, words)
    try publishing.join()
    #expect(try Page(agent.url + "healthz").body.lowercased().contains("read-only"))
    // Longer than the broker waits for a heartbeat.
    let quiet = ContinuousClock().now + .seconds(6)
    while ContinuousClock().now < quiet { #expect(try Page(agent.url + "healthz").status == 503) }
    try shim.stop(.refuse)
    try healthy(agent)
    #expect(try agent.page("metrics") { _ in true }["consumers_started_total"] == 1)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    let file = try String(contentsOfFile: directory + "/out/\(bench.queue)-000001.jsonl", encoding: .utf8)
    let ids = try file.split(separator: "\n").map {
      try JSON(parsing: String($0))[path: "properties", "message_id"]?.string
    }
    #expect(ids.count == 10_000 && Set(ids).count == 10_000)
    try bench.publisher.delete(bench.queue)
  }

  /// As ext4 does it when its journal is aborted.
  @Test(arguments: [true, false]) func `a sync that says too much is seen by the write behind it`(isJournal: Bool)
    throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let shim = try Shim(in: directory + "/shim")
    let config = try RunTests.configuration(bench, in: directory)
    let arguments = [config, "--output", directory + "/out"]
    let agent = try ListeningAgent(arguments, environment: shim.environment)
    try bench.publisher.publishMany(1, .simple(bytes: 100), start: 1, routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 1 }
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    // It may be the sync of something else, after which nothing is written any more; then once again.
    var number = 1
    let deadline = ContinuousClock().now + generousLimit
    while agent.command.written.ended < 2 {
      number += 1
      try shim.tell(.dying, Int(EROFS), of: isJournal ? "journal.db" : bench.queue)
      try bench.publisher.publishMany(1, .simple(bytes: 100), start: number, routingKey: bench.queue)
      while agent.command.written.ended < 2, (try? Page(agent.url + "healthz"))?.status == 200 {
        try #require(ContinuousClock().now < deadline)
      }
      guard agent.command.written.ended < 2, (try? Page(agent.url + "healthz")) != nil else { break }
      try shim.stop(.refuse)
      try healthy(agent)
    }
    let (output, exit) = try agent.command.end()
    #expect(exit == .exited(1))
    #expect(output.log.last?.contains("failed right after a sync") == true, "\(output.log.suffix(2))")
    // Neither is it acknowledged, nor counts it as written.
    if isJournal { try bench.broker.waitForDepth(bench.queue, ready: 1, unacknowledged: 0) }
    let state = try run(
      "/usr/bin/sqlite3", [directory + "/out/journal.db", "SELECT committed FROM journal"])
    #expect(state == "\(number - 1)\n")
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a reader of stdout that stands still is told, and no line is left in half`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let shim = try Shim(in: directory + "/shim")
    let config = try RunTests.configuration(bench, ["heartbeat": 0], in: directory)
    let fifo = directory + "/fifo"
    try #require(unsafe mkfifo(fifo, 0o600) == 0)
    // Both ends, so that no one waits for the other one to be opened.
    let pipe = unsafe open(fifo, O_RDWR | O_NONBLOCK)
    try #require(pipe >= 0)
    defer { close(pipe) }
    let command =
      "exec '\(try connectorBinary())' run '\(config)' --output - --listen 127.0.0.1:0 >'\(fifo)'"
    let agent = try ListeningAgent(
      command: Command(["-c", command], environment: shim.environment, executable: "/bin/bash"))
    try healthy(agent)
    for number in 1...100 {
      try bench.publisher.publishMany(
        1, .simple(bytes: number.isMultiple(of: 7) ? 90_000 : 700 * number), start: number, routingKey: bench.queue)
    }
    // Some are in the pipe, and the rest waits.
    _ = try agent.page("metrics") { $0["journaled_messages_total"] == 100 }
    try shim.tell(.later, 20)
    try red(agent, "the reader of the documents has taken nothing for 15 s")
    var taken = Data()
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    func take() {
      while case let count = unsafe read(pipe, &buffer, buffer.count), count > 0 { taken += buffer[..<count] }
    }
    _ = try agent.page("metrics") {
      take()
      return $0["committed_documents_total"] == 100
    }
    try shim.tell(.later, 60)
    try healthy(agent)
    for number in 101...120 {
      try bench.publisher.publishMany(1, .simple(bytes: 5_000), start: number, routingKey: bench.queue)
    }
    _ = try agent.page("metrics") { $0["journaled_messages_total"] == 120 }
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    take()
    #expect(taken.last == 0x0A, "\(String(decoding: taken.suffix(100), as: UTF8.self))")
    for line in taken.split(separator: 0x0A) { _ = try JSON(parsing: String(decoding: line, as: UTF8.self)) }
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a runtime that commits nothing is told`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let shim = try Shim(in: directory)
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["heartbeat": 0]), environment: shim.environment)
    runtime.policy.holdAcknowledgements = true
    try runtime.start()
    try bench.publisher.publishMany(10, .simple(bytes: 100), routingKey: bench.queue)
    try runtime.waitUntil(documentsRead: 10)
    try shim.tell(.later, 301)
    try runtime.waitForLog("the stall") {
      $0.level == "warn" && $0.json?[path: "fields", "eventType"] == "connectorStatus"
        && $0.message?.contains("acknowledged no checkpoint for 5 minutes") == true
    }
    runtime.policy.holdAcknowledgements = false
    var wasTold = false
    try runtime.waitUntil(committedCount: 10)
    try bench.publisher.publishMany(1, .simple(bytes: 100), start: 11, routingKey: bench.queue)
    try runtime.waitUntilSettled()
    try runtime.waitForLog("its end") {
      if $0.message?.contains("acknowledged no checkpoint") == true { wasTold = true }
      return wasTold && $0.message == "Capture started"
    }
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
