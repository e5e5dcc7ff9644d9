import Foundation
import Support
import Testing

/// People with plain `sqlite3` at the journal of a running capture, and people who move its files; then it is killed.
/// The long form is `scripts/crash --visitors`.
@Suite(.serialized) struct VisitorTests {
  private static func configuration(_ bench: Bench, _ journal: String) -> JSON {
    bench.broker.configuration(
      queue: bench.queue,
      ["journal": ["path": .string(journal), "acknowledge": "journaled"], "consumer": ["exclusive": true]])
  }

  /// How many POSIX locks the process has on a file.
  private func locks(of pid: Int32, on path: String) throws -> Int {
    let inode = try #require(FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as? Int)
    return try String(contentsOfFile: "/proc/locks", encoding: .utf8).split(separator: "\n").count { line in
      let fields = line.split(separator: " ")
      return fields.count == 8 && fields[4] == "\(pid)" && fields[5].hasSuffix(":\(inode)")
    }
  }

  /// What a visitor runs with plain sqlite3; `COPY` is a path beside the journal.
  static let visits = [
    "SELECT count(*) FROM pending", "SELECT * FROM summary", ".backup COPY", "PRAGMA wal_checkpoint(TRUNCATE)",
    "VACUUM",
    "PRAGMA journal_mode = DELETE",
  ]

  /// A capture that has read so many messages, which stay in the journal: nothing is committed.
  private func capturing(_ count: Int, _ bench: Bench, _ journal: String) throws -> FlowRuntime {
    let runtime = try FlowRuntime(config: Self.configuration(bench, journal))
    runtime.policy.holdCommits = true
    try runtime.start()
    try bench.publisher.publishMany(count, .simple(bytes: 3000), start: 1, routingKey: bench.queue)
    try runtime.waitUntil(documentsRead: count)
    return runtime
  }

  /// Starts the capture again, commits, and expects each message once and in order.
  private func expectAll(_ count: Int, of runtime: FlowRuntime, _ bench: Bench) throws {
    runtime.policy.holdCommits = false
    try runtime.start()
    try runtime.waitUntil(committedCount: count)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.compactMap(\.messageID) == (1...count).map { Publisher.messageID($0) })
    try bench.publisher.delete(bench.queue)
  }

  /// The visitor must not take itself for the last connection: it would delete the WAL under the capture, and what is
  /// acknowledged after that would be nowhere once it is killed.
  @Test(arguments: visits)
  func `a visit and a kill cost nothing that was acknowledged`(visit: String) throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capturing(50, bench, journal)
    let pid = try #require(runtime.pid)
    #expect(try locks(of: pid, on: journal) > 0 && locks(of: pid, on: journal + "-shm") > 0)
    // Some of them may be refused, which is the visitor's trouble.
    _ = try? run("/usr/bin/sqlite3", [journal, visit.replacing("COPY", with: journal + ".copy")])
    #expect(try locks(of: pid, on: journal) > 0 && locks(of: pid, on: journal + "-shm") > 0)
    try bench.publisher.publishMany(150, .simple(bytes: 3000), start: 51, routingKey: bench.queue)
    try runtime.waitUntil(documentsRead: 200)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    try runtime.kill()
    try expectAll(200, of: runtime, bench)
  }

  /// `journal` commands look from a process of their own.
  @Test func `no command that looks into the journal costs the capture its locks`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capturing(10, bench, journal)
    let pid = try #require(runtime.pid)
    for command in ["status", "pending", "export", "verify", "salvage"] {
      let (output, exit) = try Command(["journal", command, journal]).end()
      // What mends a journal must not be run on one that is in use.
      #expect(exit == .exited(command == "salvage" ? 1 : 0), "\(command): \(output.log)")
      #expect(try locks(of: pid, on: journal) > 0 && locks(of: pid, on: journal + "-shm") > 0, "after \(command)")
    }
    runtime.policy.holdCommits = false
    try runtime.waitUntil(committedCount: 10)
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test(arguments: [[""], ["-wal"], ["-shm"], ["", "-wal", "-shm"]])
  func `a capture whose journal was moved ends with the cause, and goes on when it is back`(suffixes: [String]) throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try capturing(50, bench, journal)
    for suffix in suffixes {
      try FileManager.default.moveItem(atPath: journal + suffix, toPath: journal + ".away" + suffix)
    }
    try bench.publisher.publishMany(50, .simple(bytes: 3000), start: 51, routingKey: bench.queue)
    #expect(try runtime.waitForExit() == .exited(1))
    let cause = runtime.log.last?.message ?? ""
    #expect(cause.contains("\(journal)\(suffixes[0]) was moved or deleted while it was in use"), "\(cause)")
    for suffix in suffixes {
      try FileManager.default.moveItem(atPath: journal + ".away" + suffix, toPath: journal + suffix)
    }
    try expectAll(100, of: runtime, bench)
  }

  /// What cannot be told apart is captured, though it may have been captured before.
  @Test func `messages that are all alike, on a queue that lost the old ones, are captured`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let runtime = try FlowRuntime(config: Self.configuration(bench, directory + "/journal.db"))
    try runtime.start()
    func publish(_ count: Int) throws { try bench.publisher.publish("ping", routingKey: bench.queue, count: count) }
    try publish(40)
    try runtime.waitUntil(committedCount: 40)
    try runtime.kill()
    // As if the old ones had expired.
    try bench.broker.waitForDepth(bench.queue, atMost: 40)
    try bench.publisher.purge(bench.queue)
    try publish(20)
    // Someone looks at them: all of them are marked redelivered now.
    #expect(try bench.publisher.take(20, from: bench.queue, .requeue).count == 20)
    try runtime.start()
    try runtime.waitUntil(committedCount: 60)
    try runtime.waitForLog("the reason") { $0.message?.contains("cannot be told apart") == true }
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.committed.count == 60)
    try bench.publisher.delete(bench.queue)
  }
}
