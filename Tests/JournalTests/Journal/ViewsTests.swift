import Foundation
import Journal
import Testing

/// The views as people see them: in the `sqlite3` shell, while the writer has the journal open.
struct ViewsTests {
  let scratch = Scratch()

  @Test func `pending lists what is not committed, in order and readable`() throws {
    let journal = try scratch.open()
    try journal.append([Message()], journal.start("s-1"))
    try journal.append(
      [
        Message(deliveryTag: .max, redelivered: true, receivedAt: 1_700_000_000_000_007, body: Array("Zoë".utf8)),
        Message(receivedAt: 0, properties: "{}", body: []),
        Message(properties: "not JSON", body: [0xff, 0x00]),
        Message(properties: #"{"message_id":{"base64":"/w=="}}"#),
      ], journal.start("s-2"))
    try journal.write { tx in
      try tx.setEmitted(through: Position(rawValue: 2))
      try tx.setCommitted(through: Position(rawValue: 1))
    }
    let columns = "position,session_id,sequence,received_at,exchange,routing_key,redelivered,message_id,state,"
    #expect(
      try scratch.shell("SELECT \(columns) properties,quote(body),body_size,queue FROM pending") == """
        2|s-2|1|2023-11-14T22:13:20.000007Z|orders|a.b|1|m-1|emitted|{"message_id":"m-1"}|'Zoë'|4|q
        3|s-2|2|1970-01-01T00:00:00.000000Z|orders|a.b|0||received|{}|''|0|q
        4|s-2|3|2026-09-21T14:13:20.123456Z|orders|a.b|0||received|not JSON|X'FF00'|2|q
        5|s-2|4|2026-09-21T14:13:20.123456Z|orders|a.b|0|{"base64":"/w=="}|received|\
        {"message_id":{"base64":"/w=="}}|'hello'|5|q
        """)
    #expect(try scratch.shell("SELECT * FROM pending LIMIT 1").hasPrefix("2|s-2|1|"))
    try journal.append([Message()], journal.beginConsumer(tag: "t"))
    #expect(try scratch.shell("SELECT max(sequence) FROM pending") == "5")
  }

  @Test func `summary is one row, also where nothing is pending`() throws {
    let journal = try scratch.open()
    let columns = "pending_rows,pending_bytes,oldest_received_at,oldest_age_seconds > 1,last_position,"
    let sql = "SELECT journal_id,\(columns) emitted_position,committed_position,sessions FROM summary"
    let id = journal.identifier
    #expect(try scratch.shell(sql) == "\(id)|0|0|||0|0|0|0")
    try journal.append(
      [Message(), Message(receivedAt: 1_700_000_000_000_007), Message()], journal.start("s-1"))
    try journal.commit(through: Position(rawValue: 1))
    #expect(try scratch.shell(sql) == "\(id)|2|10|2023-11-14T22:13:20.000007Z|1|3|1|1|1")
    try journal.commit(through: Position(rawValue: 3))
    try journal.write { _ = try $0.prune(limit: 3) }
    #expect(try scratch.shell(sql) == "\(id)|0|0|||3|3|3|1")
  }

  @Test func `neither summary nor the first rows of pending read the backlog`() throws {
    let journal = try scratch.open()
    let summary = try scratch.shell("EXPLAIN QUERY PLAN SELECT * FROM summary")
    #expect(summary.contains("SEARCH m USING INTEGER PRIMARY KEY (rowid=?)"))
    let pending = try scratch.shell("EXPLAIN QUERY PLAN SELECT * FROM pending LIMIT 10")
    #expect(pending.contains("SEARCH m USING INTEGER PRIMARY KEY (rowid>?)"))
    #expect(!pending.contains("TEMP B-TREE"))
    try journal.close()
  }

  @Test func `the shell can look while a transaction is open, and its writer goes on`() throws {
    let journal = try scratch.open()
    let consumer = try journal.start()
    try journal.write { tx in
      try tx.append(Message(), consumer)
      #expect(try scratch.shell("SELECT count(*) FROM pending") == "0")
    }
    #expect(try scratch.shell("SELECT count(*) FROM pending") == "1")
    #expect(try scratch.shell("SELECT count(*) FROM pending; PRAGMA integrity_check") == "1\nok")
  }
}
