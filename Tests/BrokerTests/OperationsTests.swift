import Foundation
import Support
import Testing

/// A page of `run --listen`, as a client that shares no code with the agent sees it.
struct Page {
  let status: Int
  let body: String
  /// By name and labels, as prometheus_client's parser gives them.
  let samples: [String: JSON]

  init(_ url: String) throws {
    let answer = try JSON(parsing: try run(try pythonInterpreter(), [repository + "/scripts/lib/scrape.py", url]))
    status = try #require(answer["status"]?.int)
    body = try #require(answer["body"]?.string)
    samples = answer["samples"]?.object ?? [:]
  }

  /// A sample's value; nil if there is none of that name.
  subscript(name: String) -> Double? { samples["source_amqp_" + name].flatMap { Double($0.text) } }
}

/// An agent with `run --listen`.
struct ListeningAgent {
  let command: Command
  let url: String

  init(_ arguments: [String], environment: [String: String] = [:]) throws {
    try self.init(command: Command(["run"] + arguments + ["--listen", "127.0.0.1:0"], environment: environment))
  }

  /// - Parameter command: Runs an agent that listens.
  init(command: Command) throws {
    self.command = command
    try command.wait("the address") { $0.log.contains { $0.contains("metrics and health are served") } }
    let line = try #require(command.written.log.first { $0.contains("metrics and health are served") })
    url = try #require(try JSON(parsing: line)[path: "fields", "url"]?.string?.replacing("/metrics", with: "/"))
  }

  /// Asks until `condition` holds; each question takes a tenth of a second or so.
  func page(_ path: String, where condition: (Page) -> Bool) throws -> Page {
    let clock = ContinuousClock()
    let deadline = clock.now + generousLimit
    var page = try Page(url + path)
    while !condition(page), clock.now < deadline { page = try Page(url + path) }
    try #require(condition(page), "\(page.status) \(page.body) \(command.written.log.suffix(5))")
    return page
  }
}

/// What the people who run it see (docs/standalone.md, docs/journal.md, docs/production.md).
@Suite(.serialized) struct OperationsTests {
  @Test func `metrics count what was received, journaled, acknowledged, written and committed`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try ListeningAgent([config, "--output", directory])
    try bench.publisher.publishMany(70, .simple(bytes: 100), routingKey: bench.queue)
    let page = try agent.page("metrics") {
      $0["committed_documents_total"] == 70 && $0["acknowledged_messages_total"] == 70
    }
    #expect(page.status == 200)
    for name in ["received_messages_total", "journaled_messages_total", "emitted_documents_total"] {
      #expect(page[name] == 70, "\(name)")
    }
    for name in ["redelivered_messages_total", "dropped_duplicates_total", "rejected_messages_total"] {
      #expect(page[name] == 0, "\(name)")
    }
    #expect(page["consumers_started_total"] == 1)
    #expect(page[#"state{state="consuming"}"#] == 1 && page[#"state{state="reconnecting"}"#] == 0)
    let commits = try #require(page["commit_duration_seconds_count"])
    #expect((1...70).contains(commits) && page[#"commit_duration_seconds_bucket{le="+Inf"}"#] == commits)
    #expect(page["pending_messages"] == 0 && page["pending_bytes"] == 0 && page["oldest_pending_age_seconds"] == 0)
    #expect((page["journal_used_bytes"] ?? 0) > 0)

    // A connection that the broker ends is a reconnect with its cause, and what was not acknowledged a redelivery.
    try bench.broker.closeConnections()
    let after = try agent.page("metrics") { $0["consumers_started_total"] == 2 }
    #expect(after[#"reconnects_total{cause="connection_closed_320"}"#] == 1)

    let unknown = try Page(agent.url + "nothing")
    #expect(unknown.status == 404 && unknown.body.contains("/healthz"))
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    try Publisher(bench.broker).delete(bench.queue)
  }

  @Test func `an address that cannot be listened on is an error that names it`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let taken = "127.0.0.1:\(bench.broker.port)"
    let (output, exit) = try Command(["run", config, "--output", directory, "--listen", taken]).end()
    #expect(exit == .exited(1))
    let cause = logMessage(output.log.last ?? "") ?? ""
    #expect(cause.contains("listening on \(taken)") && cause.contains("--listen"), "\(cause)")
    #expect(try bench.publisher.queueInfo(bench.queue)?.consumers == 0)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a file that has come of age is completed although no message comes`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try Command(["run", config, "--output", directory, "--rotate-age", "1s"])
    try bench.publisher.publish("x", routingKey: bench.queue)
    let second = directory + "/\(bench.queue)-000002.jsonl"
    let clock = ContinuousClock()
    let deadline = clock.now + generousLimit
    while !FileManager.default.fileExists(atPath: second), clock.now < deadline { _ = try run("/bin/true", []) }
    #expect(FileManager.default.fileExists(atPath: second))
    try agent.child.kill()
    // The journal may or may not know the second file yet; the next start goes on with either.
    let again = try Command(["run", config, "--output", directory, "--rotate-age", "1d"])
    try bench.publisher.publish("y", routingKey: bench.queue)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    again.child.signal(SIGTERM)
    #expect(try again.end().exit == .exited(0))
    let files = (1...2).map { directory + "/\(bench.queue)-00000\($0).jsonl" }
    let lines = try files.filter(FileManager.default.fileExists).flatMap { file in
      try Data(contentsOf: URL(fileURLWithPath: file)).split(separator: 0x0A).map {
        try JSON(parsing: Array($0))["body"]?.string
      }
    }
    #expect(lines == ["x", "y"])
    try bench.publisher.delete(bench.queue)
  }

  /// An agent whose documents go to a disk of 64 KiB, and 500 messages of 500 bytes for it.
  private func agentOnSmallDisk(_ bench: Bench) throws -> (small: String, config: String, agent: Command) {
    let directory = try temporaryDirectory()
    let small = directory + "/small"
    try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: false)
    _ = try run("/bin/mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", small])
    let config = try RunTests.configuration(
      bench, ["journal": ["path": .string(directory + "/journal.db")]], in: directory)
    try bench.publisher.publishMany(500, .simple(bytes: 500), routingKey: bench.queue)
    return (small, config, try Command(["run", config, "--output", small]))
  }

  /// The sequences of the documents in it.
  private func sequences(_ file: String) throws -> [Int?] {
    try Data(contentsOf: URL(fileURLWithPath: file)).split(separator: 0x0A).map {
      try JSON(parsing: Array($0))["sequence"]?.int
    }
  }

  @Test(.enabled(if: isRoot, "mounting a small disk needs root"))
  func `documents wait in the journal while their disk is full, and follow by themselves`() throws {
    let bench = try Bench()
    let (small, _, agent) = try agentOnSmallDisk(bench)
    defer { _ = try? run("/bin/umount", [small]) }
    try agent.wait("the full disk") { $0.log.contains { $0.contains("Documents wait in the journal: writing to ") } }
    // The broker is rid of them all the same.
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    _ = try run("/bin/mount", ["-o", "remount,size=8m", small])
    let file = small + "/\(bench.queue)-000001.jsonl"
    try agent.wait("the end of the pause") { $0.log.filter { $0.contains("Capture started") }.count == 2 }
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    #expect(try sequences(file) == Array(1...500))
    try bench.publisher.delete(bench.queue)
  }

  @Test(.enabled(if: isRoot, "mounting a small disk needs root"))
  func `an end while the disk of documents is full loses nothing, so it is an orderly one`() throws {
    let bench = try Bench()
    let (small, config, agent) = try agentOnSmallDisk(bench)
    defer { _ = try? run("/bin/umount", [small]) }
    func isFull(_ line: String) -> Bool { line.contains("Documents wait in the journal: writing to ") }
    try agent.wait("the full disk") { $0.log.contains(where: isFull) }
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    agent.child.signal(SIGTERM)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    #expect(output.log.filter(isFull).allSatisfy { $0.contains(#""level":"warn""#) })
    #expect(output.log.contains { $0.contains("stopping although there is no room; nothing is lost") })
    _ = try run("/bin/mount", ["-o", "remount,size=8m", small])
    let again = try Command(["run", config, "--output", small])
    let file = small + "/\(bench.queue)-000001.jsonl"
    try waitForLines(500, in: file)
    again.child.signal(SIGTERM)
    #expect(try again.end().exit == .exited(0))
    #expect(try sequences(file) == Array(1...500))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `the journal commands show what is pending, and export the very documents of the capture`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]))
    runtime.policy.holdCommits = true
    try runtime.start()
    try bench.publisher.publishMany(60, .mixed(seed: 3), routingKey: bench.queue)
    try runtime.waitUntil(documentsRead: 60)

    // While the connector writes it.
    let status = try Command(["journal", "status", journal, "--json"]).finish()
    #expect(status.exit == .exited(0))
    let numbers = try JSON(parsing: status.output.lines.joined())
    #expect(numbers["pending_messages"] == 60 && numbers["last_position"] == 60 && numbers["committed_position"] == 0)
    let table = try Command(["journal", "status", journal]).finish().output.lines
    #expect(table.contains { $0.hasPrefix("pending ") && $0.contains("60 messages") }, "\(table)")

    let pending = try Command(["journal", "pending", journal, "--limit", "7", "--json"]).finish().output.lines
    let rows = try pending.map { try JSON(parsing: $0) }
    #expect(rows.map { $0["sequence"]?.int } == Array(1...7))
    #expect(rows.allSatisfy { $0["routing_key"] == .string(bench.queue) && $0["redelivered"] == .bool(false) })
    let shown = try Command(["journal", "pending", journal, "--limit", "7"]).finish().output.lines
    #expect(shown.count == 9 && shown.last == "and 53 more (--limit)", "\(shown)")

    let all = try Command(["journal", "export", journal]).finish().output.lines
    let part = try Command(["journal", "export", journal, "--pending", "--from", "11", "--to", "20"]).finish().output
      .lines
    #expect(all.count == 60 && part == Array(all[10..<20]))
    let session = try #require(rows.first?["session_id"]?.string)
    #expect(try Command(["journal", "export", journal, "--session", session]).finish().output.lines == all)
    #expect(try Command(["journal", "export", journal, "--session", "none"]).finish().output.lines == [])
    let sound = try Command(["journal", "verify", journal]).finish()
    #expect(sound.exit == .exited(0) && sound.output.lines.first?.hasPrefix("sound: ") == true)

    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: 60)
    #expect(try runtime.committed.map { try documentText($0.line) } == all)
    // The journal learns of the commit by its acknowledgement, which the end of stdin would overtake.
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(try Command(["journal", "pending", journal]).finish().output.lines == ["nothing is pending"])

    // A damaged page is found, and no command changes the file.
    let url = URL(fileURLWithPath: journal)
    var bytes = try Data(contentsOf: url)
    bytes.replaceSubrange((16 << 10)..., with: Data(repeating: 0xA5, count: bytes.count - (16 << 10)))
    try bytes.write(to: url)
    let wrong = try Command(["journal", "verify", journal, "--json"]).finish()
    #expect(wrong.exit == .exited(1), "\(wrong)")
    #expect(try Data(contentsOf: url) == bytes)
    let missing = try Command(["journal", "status", "/nowhere/journal.db"]).finish()
    #expect(missing.exit == .exited(1))
    #expect(logMessage(missing.output.log.last ?? "")?.contains("/nowhere") == true)
    try bench.publisher.delete(bench.queue)
  }
}

extension FaultTests {
  @Suite struct HealthFaultTests {
    @Test func `health is red while the broker is away, says why, and is green again after it`() throws {
      let broker = try FaultTests.hurtBroker.get()
      let bench = try Bench(broker)
      let directory = try temporaryDirectory()
      let config = try RunTests.configuration(
        bench, ["heartbeat": 1, "reconnect_delay": .number("0.2")], in: directory)
      let agent = try ListeningAgent([config, "--output", directory])
      _ = try agent.page("healthz") { $0.status == 200 && $0.body == "consuming\n" }
      #expect(try Page(agent.url + "readyz").status == 200)
      try bench.publisher.closeConnection()
      try broker.freeze()
      var isFrozen = true
      defer { if isFrozen { try? broker.thaw() } }
      let red = try agent.page("healthz") { $0.status == 503 }
      #expect(red.body.contains("Not consuming") || red.body.contains("Connecting"), "\(red.body)")
      #expect(try Page(agent.url + "metrics")["healthy"] == 0)
      try broker.thaw()
      isFrozen = false
      _ = try agent.page("healthz") { $0.status == 200 }
      agent.command.child.signal(SIGTERM)
      #expect(try agent.command.end().exit == .exited(0))
      try Publisher(broker).delete(bench.queue)
    }
  }
}
