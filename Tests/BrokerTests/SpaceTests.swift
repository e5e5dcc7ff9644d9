import Foundation
import Support
import Testing

/// A journal whose disk is nearly full (docs/production.md).
struct SpaceTests {
  /// An agent with one mebibyte as the limit for the size of a file, that of the whole process.
  private func limitedAgent(_ bench: Bench, in directory: String) throws -> Command {
    // Few messages a transaction, so that the WAL has room for each.
    let config = try RunTests.configuration(bench, ["consumer": ["prefetch_count": 5]], in: directory)
    // In units of 512 bytes.
    let limited = #"ulimit -S -f 2048 && exec "$0" "$@""#
    return try Command(
      ["-c", limited, connectorBinary(), "run", config, "--output", directory + "/captured"], executable: "/bin/sh")
  }

  private func raiseLimit(_ agent: Command) throws {
    try run("/usr/bin/prlimit", ["--pid", "\(agent.child.pid)", "--fsize=unlimited"])
  }

  private func documents(in directory: String) throws -> Int {
    let names = try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".jsonl") }
    return try names.reduce(0) { count, name in
      try count + Data(contentsOf: URL(fileURLWithPath: directory + "/" + name)).count { $0 == 0x0A }
    }
  }

  /// Without an ignored SIGXFSZ the process would end without a word.
  @Test func `a journal that must not grow pauses intake, and goes on when the limit is raised`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try limitedAgent(bench, in: directory)
    try bench.publisher.publishMany(1, .simple(bytes: 2_000_000), routingKey: bench.queue)
    try agent.wait("the pause") { output in
      output.log.contains {
        $0.contains("Intake is paused") && $0.contains("the limit for the size of a file is reached")
      }
    }
    try raiseLimit(agent)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    #expect(try documents(in: directory + "/captured") == 1)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `an end while the journal has no room loses nothing, so it is an orderly one`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try limitedAgent(bench, in: directory)
    try bench.publisher.publishMany(1, .simple(bytes: 2_000_000), routingKey: bench.queue)
    try agent.wait("the pause") { output in output.log.contains { $0.contains("Intake is paused") } }
    agent.child.signal(SIGTERM)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    #expect(output.log.contains { $0.contains("stopping although there is no room; nothing is lost") })
    try bench.broker.waitForDepth(bench.queue, ready: 1, unacknowledged: 0)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `an output file that must not grow waits, and goes on when the limit is raised`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let agent = try limitedAgent(bench, in: directory)
    try bench.publisher.publishMany(40, .simple(bytes: 50_000), routingKey: bench.queue)
    try agent.wait("the pause") { output in
      output.log.contains { $0.contains("Documents wait in the journal: ") && $0.contains("File too large") }
    }
    try raiseLimit(agent)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try agent.wait("the end of the pauses") { output in
      output.log.last { $0.contains("connectorStatus") }?.contains("Capture started") == true
    }
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))
    #expect(try documents(in: directory + "/captured") == 40)
    try bench.publisher.delete(bench.queue)
  }

  /// On a file system whose blocks are smaller than a page a WAL index has no room for what lies past its last byte: writing it ended the
  /// process by SIGBUS.
  @Test(.enabled(if: isRoot, "mounting a small disk needs root"), arguments: ["TERM", "KILL"])
  func `a start on a full disk is an error with words, however little is free`(end: String) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let (small, output) = (directory + "/small", directory + "/small/out")
    try run(
      "/bin/sh",
      [
        "-ec", #"truncate -s 8M "$0/image"; mkfs.ext4 -q -b 1024 -m 0 -O ^has_journal "$0/image"; mkdir "$0/small""#,
        directory,
      ])
    try run("/bin/mount", ["-o", "loop", directory + "/image", small])
    defer { _ = try? run("/bin/umount", ["-l", small]) }
    let agent = try Command(["run", config, "--output", output])
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    try waitForLines(5, in: "\(output)/\(bench.queue)-000001.jsonl")
    agent.child.signal(end == "TERM" ? SIGTERM : SIGKILL)
    _ = try agent.end()
    try run("/bin/sh", ["-c", #"cat /dev/zero >"$0/ballast" 2>/dev/null; sync"#, small])
    for _ in 0..<20 {
      try run("/usr/bin/truncate", ["-s", "-3K", small + "/ballast"])
      try run("/bin/sh", ["-c", "rm -f \"$0\"/journal.db-shm; sync", output])
      let (written, exit) = try Command(
        ["-c", "exec timeout 3 \"$0\" run \"$1\" --output \"$2\"", connectorBinary(), config, output],
        executable: "/bin/sh"
      ).end()
      // Room enough: it was ended by `timeout`.
      if exit == .exited(0) || exit == .exited(124) { break }
      #expect(
        exit == .exited(1) && written.log.last?.contains("no space left") == true, "\(exit) \(written.log.suffix(2))")
    }
    try FileManager.default.removeItem(atPath: small + "/ballast")
    let again = try Command(["run", config, "--output", output])
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    try waitForLines(10, in: "\(output)/\(bench.queue)-000001.jsonl")
    again.child.signal(SIGTERM)
    #expect(try again.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test(.enabled(if: isRoot, "mounting a small disk needs root"))
  func `intake pauses before the journal's disk is full, and goes on when there is room`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let small = directory + "/small"
    try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: false)
    _ = try run("/bin/mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", small])
    defer { _ = try? run("/bin/umount", ["-l", small]) }
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(small + "/journal.db"), "acknowledge": "committed"]]))
    try runtime.start()
    try bench.publisher.publishMany(10, .simple(bytes: 1000), routingKey: bench.queue)
    try runtime.waitUntil(committedCount: 10)
    // Less than a twentieth is left.
    try run("/bin/sh", ["-c", "head -c 62M /dev/zero >\"$0/ballast\"", small])
    try bench.publisher.publishMany(100, .simple(bytes: 1000), start: 11, routingKey: bench.queue)
    try runtime.waitForLog("the pause") {
      $0.message?.hasPrefix("Intake is paused: the journal's disk is nearly full") == true
        && $0.json?[path: "fields", "eventType"] == "connectorStatus"
    }
    #expect(runtime.committed.count == 10, "nothing was taken from the queue")
    try FileManager.default.removeItem(atPath: small + "/ballast")
    try runtime.waitUntil(committedCount: 110)
    #expect(runtime.committed.map(\.sequence) == Array(1...110))
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
