import Foundation
import Journal
import Support
import Testing

/// A capture on a damaged journal (docs/production.md): it never skips a message silently, and goes on once someone has decided.
struct SalvageTests {
  @Test func `salvaging a journal that is not there is an error, and makes none`() throws {
    let path = try temporaryDirectory() + "/misspelt.db"
    let (output, exit) = try Command(["journal", "salvage", path]).finish()
    #expect(exit == .exited(1))
    #expect(logMessage(output.log.last ?? "")?.contains("there is no such file") == true, "\(output)")
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func `a missing message stops the capture and is named, until somebody gives it up`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let path = directory + "/journal.db"
    try journal(of: 5, of: bench, at: path)
    try run("/usr/bin/env", ["sqlite3", path, "DELETE FROM message WHERE position = 3"])
    let config = try RunTests.configuration(bench, ["journal": ["path": .string(path)]], in: directory)
    let command = ["run", config, "--output", directory]
    let file = directory + "/\(bench.queue)-000001.jsonl"

    let first = try Command(command).end()
    #expect(first.exit == .exited(1))
    let found = logMessage(first.output.log.last ?? "") ?? ""
    #expect(found.contains("after message 2 comes 4"), "\(found)")
    try bench.publisher.publish("new", routingKey: bench.queue)
    let second = try Command(command).end()
    #expect(second.exit == .exited(1))
    let refusal = logMessage(second.output.log.last ?? "") ?? ""
    #expect(refusal.contains("sequence 3 of session 0b0e9d4e-0000-4000-8000-000000000001 (position 3)"), "\(refusal)")
    #expect(refusal.contains("source-amqp journal salvage --accept-loss \(path)"), "\(refusal)")
    #expect(
      second.output.log.contains { $0.contains("connectorStatus") && $0.contains("(position 3)") },
      "\(second.output.log)")
    try bench.broker.waitForDepth(bench.queue, ready: 1, unacknowledged: 0)
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)).isEmpty, "and nothing written")

    let asked = try Command(["journal", "salvage", path]).finish()
    #expect(asked.exit == .exited(1))
    #expect(asked.output.lines.joined().contains("Nothing was changed"))
    let given = try Command(["journal", "salvage", "--accept-loss", "--json", path]).finish()
    #expect(given.exit == .exited(0))
    let report = try JSON(parsing: given.output.lines.joined())
    #expect(report["recovered"] == 4)
    #expect(report["lost"]?.array?.first?["first_position"] == 3)
    let aside = try #require(report["set_aside"]?.string)
    #expect(try run("/usr/bin/env", ["sqlite3", aside, "SELECT count(*) FROM message"]).hasPrefix("4"))
    let sound = try Command(["journal", "salvage", path]).finish()
    #expect(sound.exit == .exited(0))
    #expect(sound.output.lines.joined().hasPrefix("sound"))

    let third = try Command(command)
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    third.child.signal(SIGTERM)
    #expect(try third.end().exit == .exited(0))
    let bodies = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map {
      try JSON(parsing: String($0))["body"]?.string
    }
    #expect(bodies == ["message 1", "message 2", "message 4", "message 5", "new"])
    try bench.publisher.delete(bench.queue)
  }

  @Test func `damage that costs nothing is mended at the start, and said`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let path = directory + "/journal.db"
    try journal(of: 5, of: bench, at: path)
    try run("/usr/bin/env", ["sqlite3", path, "UPDATE journal SET last = 4"])
    let config = try RunTests.configuration(bench, ["journal": ["path": .string(path)]], in: directory)
    let agent = try Command(["run", config, "--output", directory])
    try agent.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    agent.child.signal(SIGTERM)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    #expect(output.log.contains { $0.contains("connectorStatus") && $0.contains("nothing is lost") })
    let text = try String(contentsOfFile: directory + "/\(bench.queue)-000001.jsonl", encoding: .utf8)
    #expect(text.split(separator: "\n").count == 5)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory).contains { $0.contains(".corrupt-") })
    try bench.publisher.delete(bench.queue)
  }

  /// A journal with pending messages, as a capture that was killed leaves it.
  private func journal(of count: Int, of bench: Bench, at path: String) throws {
    let journal = try Journal.open(JournalSettings(path: path))
    try journal.beginSession(
      id: "0b0e9d4e-0000-4000-8000-000000000001", queue: bench.queue, virtualHost: bench.broker.virtualHost,
      startedAt: 1)
    let consumer = try journal.beginConsumer(tag: "c")
    try journal.write { tx in
      for number in 1...count {
        try tx.append(
          consumer: consumer.id, deliveryTag: UInt64(number), redelivered: false, receivedAt: 1, exchange: Span(),
          routingKey: Span(), properties: Array("{}".utf8).span, rawProperties: Span(),
          body: Array("message \(number)".utf8).span)
      }
    }
    try journal.close()
  }
}
