import Foundation
import Platform
import Support
import Testing

/// What people and programs do to the files of `source-amqp run`, and to its journal.
@Suite(.serialized) struct OutputHandsTests {
  private func ids(_ lines: [String]) throws -> [String] {
    try lines.map { try JSON(parsing: $0)[path: "properties", "message_id"]?.string ?? "" }
  }

  @Test(arguments: [nil, "20k"] as [String?])
  func `a journal that is older than its files is refused with the range, and nothing is taken back`(size: String?)
    throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let output = directory + "/out"
    let command = ["run", config, "--output", output] + (size.map { ["--rotate-size", $0] } ?? [])
    func capture(_ count: Int, from start: Int) throws {
      try bench.publisher.publishMany(count, .simple(bytes: 200), start: start, routingKey: bench.queue)
      let agent = try Command(command)
      try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
      agent.child.signal(SIGTERM)
      #expect(try agent.end().exit == .exited(0))
    }
    func journal() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: output).filter {
        $0.hasPrefix("journal.db") && !$0.hasSuffix("lock")
      }
    }
    func content() throws -> [String: [String]] {
      let names = try FileManager.default.contentsOfDirectory(atPath: output).filter { $0.hasSuffix(".jsonl") }
      return Dictionary(uniqueKeysWithValues: names.map { ($0, lines(output + "/" + $0)) })
    }
    try capture(100, from: 1)
    let copy = directory + "/copy"
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
    for name in try journal() {
      try FileManager.default.copyItem(atPath: "\(output)/\(name)", toPath: "\(copy)/\(name)")
    }
    try capture(100, from: 101)
    for name in try journal() { try FileManager.default.removeItem(atPath: "\(output)/\(name)") }
    for name in try FileManager.default.contentsOfDirectory(atPath: copy) {
      try FileManager.default.copyItem(atPath: "\(copy)/\(name)", toPath: "\(output)/\(name)")
    }
    let before = try content()
    #expect(before.values.map(\.count).reduce(0, +) == 200)

    let refused = try Command(command).end()
    #expect(refused.exit == .exited(1))
    let cause = logMessage(refused.output.log.last ?? "") ?? ""
    #expect(cause.contains("went back in time") && cause.contains("100 documents, sequence 1 of session"), "\(cause)")
    #expect(try content() == before)

    try bench.publisher.publishMany(1, .simple(bytes: 200), start: 201, routingKey: bench.queue)
    let agent = try Command(command + ["--continue-output"])
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    let after = try content()
    #expect(after.merging(before) { $1 } == after)
    #expect(after.count == before.count + 1)
    #expect(Set(try ids(after.values.flatMap { $0 })) == Set((1...201).map { Publisher.messageID($0) }))
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: ["move", "delete", "copytruncate"])
  func `a file that is taken from under the agent is noticed before the next commit, and nothing is lost`(hand: String)
    throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let files = (1...2).map { directory + "/\(bench.queue)-00000\($0).jsonl" }
    let agent = try Command(["run", config, "--output", directory])
    try bench.publisher.publishMany(100, .simple(bytes: 200), start: 1, routingKey: bench.queue)
    try wait(for: 100, in: files[0], agent)
    let taken = directory + "/taken"
    if hand == "move" {
      try FileManager.default.moveItem(atPath: files[0], toPath: taken)
    } else {
      try FileManager.default.copyItem(atPath: files[0], toPath: taken)
      if hand == "delete" { try FileManager.default.removeItem(atPath: files[0]) }
      if hand == "copytruncate" { #expect(unsafe truncate(files[0], 0) == 0) }
    }
    try bench.publisher.publishMany(100, .simple(bytes: 200), start: 101, routingKey: bench.queue)
    try wait(for: 100, in: files[1], agent)
    agent.child.signal(SIGTERM)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    // A batch that was not committed yet when the file was copied is written again, so a copy may hold it as well.
    let found = try ids(lines(taken) + lines(files[1]))
    let expected = (1...200).map { Publisher.messageID($0) }
    if hand == "move" { #expect(found == expected) } else { #expect(Set(found) == Set(expected)) }
    #expect(lines(files[0]).isEmpty)
    let word = ["move": "was moved away", "delete": "was deleted", "copytruncate": "was cut from"][hand]!
    #expect(output.log.contains { $0.contains(word) && $0.contains("\"warn\"") }, "\(output.log.suffix(5))")
    try bench.publisher.delete(bench.queue)
  }

  /// The clock is the process's own: a library in place of the C library's lies to it.
  @Test(arguments: [-3_600, 3_600]) func `a clock that is set does not keep a file from coming of age`(step: Int) throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let shim = try Shim(in: directory + "/shim")
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try Command(
      ["run", config, "--output", directory, "--rotate-age", "2"], environment: shim.environment)
    func file(_ number: Int) -> String { directory + "/\(bench.queue)-00000\(number).jsonl" }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try wait(for: 5, in: file(1), agent)
    try shim.tell(.wall, step)
    // Complete although the clock says that it is of the future, or an hour old.
    let deadline = ContinuousClock().now + generousLimit
    while !FileManager.default.fileExists(atPath: file(2)) {
      try #require(ContinuousClock().now < deadline, "the next file does not begin")
      _ = try run("/bin/true", [])
    }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    try wait(for: 5, in: file(2), agent)
    let received = try JSON(parsing: lines(file(2))[0])["received_at"]?.string
    let before = try JSON(parsing: lines(file(1))[0])["received_at"]?.string
    #expect((received ?? "" > before ?? "") == (step > 0), "the clock was set: \(before ?? ""), \(received ?? "")")
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  /// A pipe of one page, of which no one reads more than the beginning.
  @Test(arguments: [15, 0]) func `a stderr that nobody reads stops nothing, not even the end`(signal: Int32) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    // Without a signal: it ends by an error, whose line cannot be written either.
    let options: JSON = signal == 0 ? ["document": ["max_bytes": 2_097_152]] : [:]
    let config = try RunTests.configuration(bench, options, in: directory)
    let isRead = Monitor(false)
    let narrow = "import fcntl, os, sys; fcntl.fcntl(2, 1031, 4096); os.execv(sys.argv[1], sys.argv[1:])"
    let agent = try ChildProcess(
      try pythonInterpreter(), ["-c", narrow, try connectorBinary(), "run", config, "--output", directory],
      environment: ["LOG_LEVEL": "debug", "LOG_FORMAT": "json"], onOutput: { _ in },
      // Longer than anything here waits: else a log that waits for its reader would only be slow.
      onError: { _ in _ = isRead.wait(atMost: generousLimit * 10) { $0 ? true : nil } })
    defer { isRead.update { $0 = true } }
    let file = directory + "/\(bench.queue)-000001.jsonl"
    for number in 1...40 {
      try bench.publisher.publishMany(1, .simple(bytes: 200), start: number, routingKey: bench.queue)
      try waitForLines(number, in: file)
    }
    if signal == 0 {
      try bench.publisher.publishMany(1, .simple(bytes: 3_000_000), start: 41, routingKey: bench.queue)
    } else {
      agent.signal(signal)
    }
    #expect(try agent.waitForExit() == .exited(signal == 0 ? 1 : 0))
    #expect(lines(file).count == 40)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `an orderly stop leaves no WAL, so a copy of the journal alone is whole`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let output = directory + "/out"
    for start in [1, 51] {
      try bench.publisher.publishMany(50, .simple(bytes: 200), start: start, routingKey: bench.queue)
      let agent = try Command(["run", config, "--output", output, "--listen", "127.0.0.1:0"])
      try wait(for: start + 49, in: output + "/\(bench.queue)-000001.jsonl", agent)
      agent.child.signal(SIGTERM)
      #expect(try agent.end().exit == .exited(0))
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: output).filter { $0.hasPrefix("journal") }.sorted()
          == ["journal.db", "journal.db.lock"])
      let copy = directory + "/copy-\(start).db"
      try FileManager.default.copyItem(atPath: output + "/journal.db", toPath: copy)
      let status = try Command(["journal", "status", copy, "--json"]).end()
      #expect(try JSON(parsing: status.output.lines.joined())["committed_position"] == JSON(start + 49))
    }
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: ["renamed", "taken"])
  func `a file that was taken within the second before a kill does not keep the agent down`(hand: String) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let files = (1...2).map { directory + "/\(bench.queue)-00000\($0).jsonl" }
    let agent = try Command(["run", config, "--output", directory])
    try bench.publisher.publishMany(50, .simple(bytes: 200), start: 1, routingKey: bench.queue)
    try wait(for: 50, in: files[0], agent)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try agent.child.kill()
    let taken = hand == "renamed" ? files[0] + ".1" : try temporaryDirectory() + "/taken"
    try FileManager.default.moveItem(atPath: files[0], toPath: taken)
    try bench.publisher.publishMany(50, .simple(bytes: 200), start: 51, routingKey: bench.queue)
    let checked = try Command(["check", config, "--output", directory]).end()
    #expect(checked.exit == .exited(0), "\(checked.output.lines)")
    let again = try Command(["run", config, "--output", directory])
    try wait(for: 50, in: files[1], again)
    again.child.signal(SIGTERM)
    let (output, exit) = try again.end()
    #expect(exit == .exited(0))
    #expect(try ids(lines(taken) + lines(files[1])) == (1...100).map { Publisher.messageID($0) })
    let word = hand == "renamed" ? "was moved to" : "was taken away"
    #expect(output.log.contains { $0.contains(word) && $0.contains("\"warn\"") }, "\(output.log)")
    try bench.publisher.delete(bench.queue)
  }

  /// The example's own file, days passing by the dates in logrotate's state and of the files.
  @Test func `logrotate takes each file away, compresses it a day later, and deletes it after thirty`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let output = directory + "/out"
    let agent = try Command(["run", config, "--output", output])
    let state = directory + "/state"
    let example = try String(contentsOfFile: repository + "/examples/logrotate.conf", encoding: .utf8)
    let conf = example.replacing("/var/lib/source-amqp", with: output)
      .replacing(
        "systemctl kill --kill-who=main --signal=HUP source-amqp.service", with: "kill -HUP \(agent.child.pid)")
    #expect(conf.contains("kill -HUP \(agent.child.pid)") && conf.contains("find \(output)/"))
    try conf.write(toFile: directory + "/logrotate.conf", atomically: true, encoding: .utf8)
    let files = FileManager.default
    func names() throws -> [String] {
      try files.contentsOfDirectory(atPath: output).filter { $0.contains(".jsonl") }.sorted()
    }
    func name(_ number: Int, _ suffix: String) -> String { "\(bench.queue)-00000\(number).jsonl\(suffix)" }
    for day in 1...4 {
      try bench.publisher.publishMany(10, .simple(bytes: 200), start: day * 10 - 9, routingKey: bench.queue)
      try wait(for: 10, in: output + "/" + name(day, ""), agent)
      // Since the day before yesterday nothing was rotated; what was is eleven days older.
      var dates = "logrotate state -- version 2\n"
      for name in try names() {
        if name.hasSuffix(".jsonl") { dates += "\"\(output)/\(name)\" 2026-1-\(day)-0:0:0\n" }
        guard !name.hasSuffix(".jsonl"),
          let date = try files.attributesOfItem(atPath: output + "/" + name)[.modificationDate] as? Date
        else { continue }
        try files.setAttributes([.modificationDate: date - 11 * 86_400], ofItemAtPath: output + "/" + name)
      }
      try dates.write(toFile: state, atomically: true, encoding: .utf8)
      try run("/usr/sbin/logrotate", ["-s", state, directory + "/logrotate.conf"])
    }
    // The agent goes on in the fifth file, after SIGHUP.
    try bench.publisher.publishMany(10, .simple(bytes: 200), start: 41, routingKey: bench.queue)
    try wait(for: 10, in: output + "/" + name(5, ""), agent)
    #expect(try names() == [name(2, ".1.gz"), name(3, ".1.gz"), name(4, ".1"), name(5, "")])
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    let kept = try run("/bin/sh", ["-c", "cd \(output) && { zcat *.gz; cat *.1 *.jsonl; }"]).split(separator: "\n").map(
      String.init)
    #expect(try ids(kept) == (11...50).map { Publisher.messageID($0) })
    try bench.publisher.delete(bench.queue)
  }

  @Test func `two agents with journals of their own cannot write one series, and a killed one leaves no lock`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let other = try temporaryDirectory()
    let second = try RunTests.configuration(bench, ["journal": ["path": .string(other + "/own.db")]], in: other)
    let agent = try Command(["run", config, "--output", directory])
    try agent.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    let refused = try Command(["run", second, "--output", directory]).end()
    #expect(refused.exit == .exited(1))
    let cause = logMessage(refused.output.log.last ?? "") ?? ""
    #expect(cause.contains("are written by pid ") && cause.contains("--output"), "\(cause)")
    try agent.child.kill()
    let again = try Command(["run", second, "--output", directory])
    try again.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    again.child.signal(SIGTERM)
    #expect(try again.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a queue with the longest name has files`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let name = bench.queue + String(repeating: "q", count: 255 - bench.queue.utf8.count)
    let path = directory + "/capture.yaml"
    let config = bench.broker.configuration(queue: name)
    try config.text.write(toFile: path, atomically: true, encoding: .utf8)
    try bench.publisher.declare(name)
    try bench.publisher.publish("x", routingKey: name)
    #expect(try Command(["check", path]).end().exit == .exited(0))
    let agent = try Command(["run", path, "--output", directory])
    try bench.broker.waitForDepth(name, ready: 0, unacknowledged: 0)
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    let files = try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".jsonl") }
    #expect(files.map(\.utf8.count) == [255])
    #expect(files.flatMap { lines(directory + "/" + $0) }.count == 1)
    try bench.publisher.delete(name)
    try bench.publisher.delete(bench.queue)
  }
}
