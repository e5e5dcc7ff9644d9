import Foundation
import Journal
import Support
import Testing

/// The questions of docs/journal.md, with the commands printed there, asked of a journal
/// while its writer has it open: the answers must be right.
struct ReadmeTests {
  let scratch = Scratch()
  /// 2026-09-21T14:13:20 UTC.
  private static let start: Int64 = 1_790_000_000_000_000
  private static let png: [UInt8] = [0x89] + Array("PNG\r\n".utf8) + [0x1a, 0x0a] + Array(repeating: 0, count: 192)

  /// The answers, with `-list` in place of `-box`. One that is nil is looked at by itself.
  private static let answers: [String: String?] = [
    "What is stuck, and since when?": nil,
    "How far is the output behind the journal, and how far is the runtime behind the output?": "7|4|2",
    "Which messages are the biggest?": "6|logs|m-6|5000\n5|images||200\n4|orders.paid|o-4|23",
    "Which exchanges and routing keys is the backlog from?":
      "shop|orders.new|2|44\nshop|images|1|200\nshop|logs|1|5000\nshop|orders.paid|1|23\n|q|1|3",
    "Since when, minute by minute?": "2026-09-21T14:13|1\n2026-09-21T14:14|3\n2026-09-21T14:15|2",
    "What was captured once more, perhaps?": "7|2026-09-21T14:15:20.000000Z|q|",
    "Which bodies are not UTF-8 text, and how do they begin?": "5|image/png|200|89504E470D0A1A0A",
    "Which start of the connector took which messages?":
      "s-1|2|4|2026-09-21T14:13:40.000000Z\ns-2|1|3|2026-09-21T14:14:40.000000Z",
    "Where is the message with this id, and what does it look like?": nil,
    "Which messages have a header with some value?": "3|o-3|2",
    "Which JSON bodies have some content?": "4|o-4|250",
    "Replay a range to JSONL, without the connector …": nil,
    "… or as the very documents that a capture makes of them:": nil,
    "Get one body out, byte for byte:": "200",
  ]

  private func message(_ number: Int64, _ key: String, _ properties: String, _ body: [UInt8]) -> Message {
    Message(
      deliveryTag: UInt64(number), redelivered: number == 7, receivedAt: Self.start + (number - 1) * 20_000_000,
      exchange: Array((key == "q" ? "" : "shop").utf8), routingKey: Array(key.utf8), properties: properties, body: body)
  }

  @Test func `each question to the journal is answered as docs/journal.md says`() throws {
    let path = scratch.file("journal.db")
    let journal = try Journal.open(JournalSettings(path: path))
    func order(_ number: Int64, _ total: Int, _ headers: String = "") -> Message {
      message(
        number, number == 4 ? "orders.paid" : "orders.new", #"{"message_id":"o-\#(number)"\#(headers)}"#,
        Array(#"{"order":\#(number),"total":\#(total)}"#.utf8))
    }
    try journal.append(
      [order(1, 5), order(2, 99), order(3, 12, #","headers":{"attempt":2}"#), order(4, 250)], journal.start("s-1"))
    try journal.append(
      [
        message(5, "images", #"{"content_type":"image/png"}"#, Self.png),
        message(6, "logs", #"{"message_id":"m-6","headers":{"attempt":1}}"#, Array(repeating: 0x78, count: 5000)),
        message(7, "q", "{}", Array("101".utf8)),
      ], journal.start("s-2"))
    try journal.write { tx in
      try tx.setEmitted(through: Position(rawValue: 3))
      try tx.setCommitted(through: Position(rawValue: 1))
    }

    let shell = try DocumentedShell(in: scratch.path)
    let commands = try DocumentedCommand.all(in: "docs/journal.md").filter { $0.section == "Looking into it" }
    let asked = commands.filter { $0.question != nil }
    #expect(Set(asked.compactMap(\.question)) == Set(Self.answers.keys))
    #expect(asked.count >= 10)
    for command in asked {
      let question = try #require(command.question)
      let output = try shell(command.text.replacingOccurrences(of: " -box ", with: " -list "))
        .trimmingCharacters(in: .newlines)
      if let expected = Self.answers[question] ?? nil { #expect(output == expected, "\(question)") }
      switch question {
      case "What is stuck, and since when?":
        let columns = output.split(separator: "|")
        try #require(columns.count == 4, "\(output)")
        #expect(columns[0] == "6" && columns[1] == "5270" && columns[2] == "2026-09-21T14:13:40.000000Z", "\(output)")
        // Seconds since then on this machine's clock; a clock before that day gives 0.
        #expect((Double(columns[3]) ?? -1) >= 0)
      case "Where is the message with this id, and what does it look like?":
        for line in ["position = 3", "message_id = o-3", "state = emitted", #"body = {"order":3,"total":12}"#] {
          #expect(output.contains(line), "\(output)")
        }
      default: break
      }
    }

    // Each line by itself, with the same parser as the documents of the runtime.
    func lines(_ name: String) throws -> [JSON] {
      try scratch.bytes(scratch.file(name)).split(separator: 0x0A).map { try JSON(parsing: Array($0)) }
    }
    #expect(
      try lines("range.jsonl") == [
        [
          "sequence": 3, "routing_key": "orders.new", "properties": ["message_id": "o-3", "headers": ["attempt": 2]],
          "body": #"{"order":3,"total":12}"#,
        ],
        [
          "sequence": 4, "routing_key": "orders.paid", "properties": ["message_id": "o-4"],
          "body": #"{"order":4,"total":250}"#,
        ],
      ])
    let documents = try lines("documents.jsonl")
    #expect(documents.map { $0["sequence"]?.int } == [3, 4, 1])
    #expect(documents.map { $0["session_id"]?.string } == ["s-1", "s-1", "s-2"])
    #expect(documents[1][path: "body", "total"] == 250 && documents[2]["body_encoding"] == "base64")
    #expect(try Array(scratch.bytes(scratch.file("body.bin"))) == Self.png)
    try journal.close()

    // As good once no one writes.
    #expect(try shell(asked[0].text.replacingOccurrences(of: " -box ", with: " -list ")).hasPrefix("6|5270|"))
  }

  @Test func `the columns of pending are those of the page's table`() throws {
    let journal = try scratch.open()
    let columns = try scratch.shell("SELECT group_concat(name) FROM pragma_table_info('pending')").split(separator: ",")
    let text = try String(contentsOfFile: repository + "/docs/journal.md", encoding: .utf8)
    let table = text.components(separatedBy: "| column of `pending` | is |\n").last?.components(separatedBy: "\n\n")
      .first
    let named = (table ?? "").split(separator: "\n").dropFirst().flatMap { line in
      line.split(separator: "|").first.map { $0.matches(of: /`(\w+)`/).map { String($0.output.1) } } ?? []
    }
    #expect(Set(named) == Set(columns.map(String.init)) && named.count == columns.count, "\(named)")
    try journal.close()
  }
}
