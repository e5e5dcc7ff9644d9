import Foundation
import Support
import Testing

/// The standalone agent: `source-amqp run` (docs/standalone.md).
@Suite(.serialized) struct RunTests {
  /// Writes the endpoint configuration to a file; JSON is YAML.
  static func configuration(_ bench: Bench, _ options: JSON = [:], in directory: String) throws -> String {
    let path = directory + "/capture.yaml"
    let config = bench.broker.configuration(queue: bench.queue, options)
    try config.text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  /// The documents of a JSONL file; records an issue where its last line is torn.
  private func documents(_ path: String) throws -> [JSON] {
    let text = try Data(contentsOf: URL(fileURLWithPath: path))
    #expect(text.isEmpty || text.last == 0x0A, "a torn line")
    return try text.split(separator: 0x0A).map { try JSON(parsing: Array($0)) }
  }

  /// The documents of all files of `stem`, in order; records an issue where a file is torn, empty or missing.
  private func documents(in directory: String, _ stem: String) throws -> [JSON] {
    var found: [JSON] = []
    let names = try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".jsonl") }
      .sorted()
    for (index, name) in names.enumerated() {
      let digits = String(index + 1)
      #expect(name == stem + "-" + String(repeating: "0", count: 6 - digits.count) + digits + ".jsonl")
      let content = try documents(directory + "/" + name)
      #expect(!content.isEmpty || index == names.count - 1)
      found += content
    }
    #expect(names.count > 3, "\(names.count) files: nothing was rotated")
    return found
  }

  @Test(arguments: [(1, 10, 1000, nil), (2, 50, 200, "64k")] as [(UInt64, Int, Int, String?)])
  func `kills under load leave each journaled message once, in order, and no torn line`(
    seed: UInt64, kills: Int, share: Int, rotateSize: String?
  ) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try Self.configuration(bench, ["consumer": ["prefetch_count": 500]], in: directory)
    let output = directory + "/captured"
    let command = ["run", config, "--output", output] + (rotateSize.map { ["--rotate-size", $0] } ?? [])
    var random = Seeded(seed)
    for cycle in 0..<kills {
      try bench.publisher.publishMany(
        share, .mixed(seed: Int(seed)), start: cycle * share + 1, routingKey: bench.queue)
      let agent = try Command(command)
      // The queue's emptying is the clock: some kills fall into the start, some into the load, some after it.
      let ready = Int.random(in: 0..<share + share / 5, using: &random)
      try bench.publisher.waitForReady(bench.queue, consumer: agent) { $0 <= ready }
      try agent.child.kill()
    }
    let agent = try Command(command)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))

    let found =
      rotateSize == nil
      ? try documents(output + "/\(bench.queue)-000001.jsonl")
      : try documents(in: output, bench.queue)
    var last: [String: Int] = [:]
    var outOfOrder = 0
    var unmarked = 0
    var seen: Set<String> = []
    for document in found {
      let session = document["session_id"]?.string ?? ""
      if document["sequence"]?.int != (last[session] ?? 0) + 1 { outOfOrder += 1 }
      last[session] = document["sequence"]?.int
      let isNew = seen.insert(document[path: "properties", "message_id"]?.string ?? "").inserted
      if !isNew, document[path: "delivery", "redelivered"] != true { unmarked += 1 }
    }
    #expect(outOfOrder == 0)
    #expect(unmarked == 0)
    #expect(seen == Set((1...kills * share).map { Publisher.messageID($0) }))
    try bench.publisher.delete(bench.queue)
  }

  /// The first file that is opened would get its number: documents went into the journal's lock file, and counted as committed.
  @Test func `a stdout that is closed gets no document, and is no file`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try Self.configuration(
      bench, ["journal": ["path": .string(directory + "/journal.db")]], in: directory)
    try bench.publisher.publishMany(20, .mixed(seed: 1), routingKey: bench.queue)
    let script = "\"$0\" run \"$1\" --output - >&- 2>\"$2\"; echo $? >>\"$2\""
    try run("/bin/sh", ["-c", script, try connectorBinary(), config, directory + "/log"])
    let log = try String(contentsOfFile: directory + "/log", encoding: .utf8)
    #expect(log.hasSuffix("\n1\n") && log.contains("writing to stdout: Bad file descriptor"), "\(log)")
    for file in try FileManager.default.subpathsOfDirectory(atPath: directory) where file.hasSuffix(".lock") {
      let bytes = try #require(FileManager.default.contents(atPath: directory + "/" + file))
      #expect(bytes.count <= 1024, "\(file)")
    }
    try bench.publisher.delete(bench.queue)
  }

  @Test func `documents stream to stdout with --output -`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try Self.configuration(bench, in: directory)
    try bench.publisher.publishMany(300, .mixed(seed: 1), routingKey: bench.queue)
    let agent = try Command(["run", config, "--output", "-"])
    try agent.wait("300 lines") { $0.lines.count >= 300 }
    agent.child.signal(SIGINT)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    #expect(output.torn.isEmpty)
    // What a sink commits by itself is not waited for.
    #expect(!output.log.contains { $0.contains("not committed in time") })
    let documents = try output.lines.map { try JSON(parsing: $0) }
    #expect(documents.map { $0["sequence"]?.int } == Array(1...300))
    #expect(
      documents.map { $0[path: "properties", "message_id"]?.string } == (1...300).map { Publisher.messageID($0) })
    for line in output.log { logMessage(line) }
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `what somebody else wrote is not taken back, also before anything was recorded`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try Self.configuration(bench, in: directory)
    let file = directory + "/\(bench.queue)-000001.jsonl"
    let first = try Command(["run", config, "--output", directory])
    try first.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    try first.child.kill()
    let foreign = "{\"written\":\"and not recorded\"}\n{\"tor"
    try foreign.write(toFile: file, atomically: false, encoding: .utf8)
    try bench.publisher.publish("x", routingKey: bench.queue)
    let refused = try Command(["run", config, "--output", directory]).end()
    #expect(refused.exit == .exited(1))
    #expect(logMessage(refused.output.log.last ?? "")?.contains("--continue-output") == true)
    let second = try Command(["run", config, "--output", directory, "--continue-output"])
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    second.child.signal(SIGTERM)
    #expect(try second.end().exit == .exited(0))
    #expect(try String(contentsOfFile: file, encoding: .utf8) == foreign)
    #expect(try documents(directory + "/\(bench.queue)-000002.jsonl").map { $0["body"]?.string } == ["x"])
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a file that the journal does not know is left alone`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try Self.configuration(bench, in: directory)
    let file = directory + "/\(bench.queue)-000001.jsonl"
    try "{}\n".write(toFile: file, atomically: true, encoding: .utf8)
    let (output, exit) = try Command(["run", config, "--output", directory]).end()
    #expect(exit == .exited(1))
    let cause = logMessage(output.log.last ?? "") ?? ""
    #expect(cause.contains(file) && cause.contains("did not write"), "\(cause)")
    #expect(try String(contentsOfFile: file, encoding: .utf8) == "{}\n")
    try bench.publisher.delete(bench.queue)
  }
}

/// The other commands, and what every command has (docs/standalone.md).
@Suite struct CommandLineTests {
  @Test func `check shows each check as a line and exits with 0 where all is well`() throws {
    let bench = try Bench()
    let config = try RunTests.configuration(bench, in: try temporaryDirectory())
    let (output, exit) = try Command(["check", config]).finish()
    #expect(exit == .exited(0))
    #expect(output.lines.count == 5)
    #expect(output.lines[..<4].allSatisfy { $0.hasPrefix("ok     ") })
    #expect(output.lines[3].hasPrefix("ok     acknowledgement mode journaled: "))
    #expect(output.lines[4].hasPrefix("note   captured at least once: "), "\(output.lines)")
    #expect(output.lines.first == "ok     configuration \(config)")
    #expect(output.lines[1].contains("RabbitMQ"))
    #expect(output.lines[2].contains("queue \"\(bench.queue)\": exists, 0 messages ready, 0 consumers"))
    try bench.publisher.delete(bench.queue)
  }

  @Test(
    arguments: [
      (["password": "wrong-secret"], 1, ["ACCESS_REFUSED"]),
      (
        ["queue": ["declare": "passive", "name": "missing-queue"], "bindings": [["exchange": "missing-exchange"]]], 1,
        ["queue \"missing-queue\"", "exchange \"missing-exchange\""]
      ),
      (["port": 0, "prefetch": 1, "message_ttl": -1], 78, ["port", "prefetch", "message_ttl"]),
    ] as [(JSON, Int32, [String])])
  func `check shows all problems at once`(change: JSON, status: Int32, words: [String]) throws {
    let bench = try Bench()
    let config = try RunTests.configuration(bench, change, in: try temporaryDirectory())
    let (output, exit) = try Command(["check", config]).finish()
    #expect(exit == .exited(status))
    let wrong = output.lines.filter { $0.hasPrefix("wrong  ") }
    #expect(wrong.count == words.count, "\(output.lines)")
    for word in words { #expect(wrong.contains { $0.contains(word) }, "\(wrong)") }
    #expect(!output.lines.joined().contains("wrong-secret"))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `run with a wrong configuration exits with 78 and names every problem`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(
      bench, ["port": 0, "prefetch": 1, "message_ttl": -1, "password": "the-secret"], in: directory)
    let (output, exit) = try Command(["run", config, "--output", directory + "/captured"]).finish()
    #expect(exit == .exited(78))
    let cause = logMessage(output.log.last ?? "") ?? ""
    for word in [config, "port", "prefetch", "message_ttl"] { #expect(cause.contains(word), "\(cause)") }
    #expect(!output.log.joined().contains("the-secret"))
    #expect(!FileManager.default.fileExists(atPath: directory + "/captured"), "nothing is made before")
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: ["run", "check"])
  func `a missing configuration file exits with 78 and is named`(command: String) throws {
    let (output, exit) = try Command([command, "/nowhere/capture.yaml"]).finish()
    #expect(exit == .exited(78))
    #expect((output.lines + output.log).joined().contains("/nowhere/capture.yaml"))
  }

  @Test func `no library for clients of HTTP is in the process`() throws {
    let libraries = try run("/usr/bin/ldd", [connectorBinary()])
    #expect(libraries.contains("librabbitmq") && !libraries.contains("libcurl") && !libraries.contains("Networking"))
  }

  @Test func `spec prints both schemas`() throws {
    let (output, exit) = try Command(["spec"]).finish()
    #expect(exit == .exited(0))
    let value = try JSON(parsing: output.lines.joined(separator: "\n"))
    #expect(value["configSchema"]?["properties"]?["host"]?["default"] == "localhost")
    #expect(value["resourceConfigSchema"]?["properties"]?["stream"] != nil)
    #expect(value["documentSchema"]?["required"] == ["session_id", "sequence"])
  }

  @Test(
    arguments: [
      [], ["run"], ["check"], ["spec"], ["journal"], ["journal", "status"], ["journal", "pending"],
      ["journal", "export"], ["journal", "verify"], ["journal", "salvage"],
    ])
  func `every command has help with an example`(command: [String]) throws {
    let (output, exit) = try Command(command + ["--help"]).finish()
    #expect(exit == .exited(0))
    let text = output.lines.joined(separator: "\n")
    #expect(text.contains("USAGE: source-amqp"), "\(text)")
    #expect(text.contains("Example"), "\(text)")
    #expect(output.log.isEmpty)
  }

  /// Full RELRO: the loader binds everything at the start, and what it has filled in cannot be written to any more.
  @Test func `the addresses of the libraries' functions are read-only once the program runs`() throws {
    let headers = try run("/usr/bin/env", ["readelf", "-dlW", try connectorBinary()])
    #expect(headers.contains("GNU_RELRO") && headers.contains("BIND_NOW"))
  }

  @Test func `the version is one line, and wrong usage exits with 64`() throws {
    let version = try Command(["--version"]).finish()
    #expect(version.exit == .exited(0))
    #expect(version.output.lines.count == 1)
    #expect(version.output.lines.first?.wholeMatch(of: /\d+\.\d+\.\d+(-[a-z]+)?( \([0-9a-f]{12}\))?/) != nil)
    for arguments in [
      ["nonsense"], ["run"], ["run", "a", "--colour"], ["run", "a", "--listen", "9090"],
      ["run", "a", "--rotate-size", "none"], ["run", "a", "--output", "-", "--rotate-age", "1h"],
    ] {
      let (output, exit) = try Command(arguments).finish()
      #expect(exit == .exited(64))
      #expect(output.lines.isEmpty)
      #expect(output.log.contains { $0.hasPrefix("Usage: source-amqp") || $0.hasPrefix("Error") })
    }
    let misspelt = try Command(["chek", "a.yaml"]).finish()
    #expect(misspelt.exit == .exited(64))
    #expect(misspelt.output.log.first == "Error: There is no command 'chek'; did you mean 'check'?")
  }
}
