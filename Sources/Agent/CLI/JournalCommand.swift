import ArgumentParser
import Journal
import Logging

/// `source-amqp journal …`: looks into a journal, also while an agent writes it, and mends a damaged one.
struct JournalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "journal",
    abstract: "Looks into a journal, also while an agent runs; mends a damaged one.",
    discussion: """
      The journal is a SQLite file, and these commands are not needed to read it: SELECT * FROM summary and \
      SELECT * FROM pending work with plain sqlite3. All but salvage only read.

      Examples:
        source-amqp journal status captured/journal.db
        source-amqp journal pending captured/journal.db --limit 5
        source-amqp journal export captured/journal.db --from 1000 --to 1999 > replayed.jsonl
        source-amqp journal verify captured/journal.db
        source-amqp journal backup captured/journal.db /backup/journal.db
        source-amqp journal salvage captured/journal.db
      """,
    subcommands: [Status.self, Pending.self, Export.self, Verify.self, Backup.self, Salvage.self])

  /// Opens the journal for reading, and turns every failure into a message and status 1.
  fileprivate static func reading(_ path: String, _ body: (JournalReader) throws -> Void) throws {
    do {
      let reader = try JournalReader(path: path)
      try body(reader)
      try reader.close()
    } catch let status as ExitCode {
      throw status
    } catch {
      throw Process.failed("\(error)", log: Process.log)
    }
  }
}

/// What all of them have.
struct JournalArguments: ParsableArguments {
  @Argument(help: "The journal's file.")
  var journal: String
}

/// Which messages are meant.
struct StreamFilter: ParsableArguments {
  @Option(help: ArgumentHelp("Only messages of this stream.", valueName: "name"))
  var stream: String?

  /// What the journal holds of the stream, or of each.
  ///
  /// - Throws: If there is no such stream; the error names those that there are.
  func streams(of reader: JournalReader) throws -> [StreamStatus] {
    let all = try reader.streams()
    guard let stream else { return all }
    let found = all.filter { $0.stream?.isSameName(as: stream) ?? false }
    guard !found.isEmpty else {
      let names = all.compactMap(\.stream).map { "\"\($0)\"" }.joined(separator: ", ")
      throw Process.failed(
        "the journal has no stream \"\(stream)\"; it has \(names.isEmpty ? "none with a name" : names)",
        log: Process.log)
    }
    return found
  }

  /// Whether messages of a consumer are meant.
  func takes(_ consumer: ConsumerRecord, among streams: [StreamStatus]) -> Bool {
    stream == nil || streams.contains { $0.key == consumer.subscription }
  }
}

extension JournalCommand {
  /// The journal's numbers.
  struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "status",
      abstract: "Shows how much is pending, since when, and how far the output is.",
      discussion: """
        Of a journal with several streams it shows what is pending of each, and what is parked since it is not captured.

        Example:
          source-amqp journal status captured/journal.db --json | jq .pending_messages
        """)

    @OptionGroup var arguments: JournalArguments

    @Flag(help: "One JSON object instead of a table.")
    var json = false

    func run() throws {
      try JournalCommand.reading(arguments.journal) { reader in
        let status = try reader.status()
        let streams = try reader.streams()
        let text =
          json
          ? JournalReport.json(status, streams).text + "\n"
          : JournalReport.table(status, streams, path: reader.path)
        try OutputDescriptor.standardOutput().write(Array(text.utf8))
      }
    }
  }

  /// The messages that are not committed downstream.
  struct Pending: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "pending",
      abstract: "Lists messages that are journaled and not yet committed downstream, oldest first.",
      discussion: """
        Example:
          source-amqp journal pending captured/journal.db --limit 5
          source-amqp journal pending captured/journal.db --stream orders
        """)

    @OptionGroup var arguments: JournalArguments

    @Option(help: ArgumentHelp("Most messages to list.", valueName: "count"))
    var limit = 20

    @OptionGroup var filter: StreamFilter

    @Flag(help: "A JSON object a line instead of a table.")
    var json = false

    func validate() throws {
      guard limit >= 0 else { throw ValidationError("--limit must not be negative.") }
    }

    func run() throws {
      try JournalCommand.reading(arguments.journal) { reader in
        let status = try reader.status()
        let streams = try filter.streams(of: reader)
        let names = Dictionary(uniqueKeysWithValues: streams.map { ($0.key, $0.stream) })
        var rows: [JournalReport.Line] = []
        var consumers: [Int64: ConsumerRecord] = [:]
        _ = try reader.read(after: status.positions.committedThrough, limit: limit == 0 ? 0 : .max) { row in
          let consumer = try consumers[row.consumer] ?? reader.consumer(row.consumer)
          consumers[row.consumer] = consumer
          guard filter.takes(consumer, among: streams) else { return true }
          var line = JournalReport.Line(row, emitted: status.positions.emittedThrough)
          line.stream = names[consumer.subscription] ?? nil
          line.sessionID = consumer.sessionID
          line.sequence = line.number - consumer.sessionBase
          rows.append(line)
          return rows.count < limit
        }
        let total = filter.stream == nil ? status.pendingRows : streams.reduce(0) { $0 + $1.pendingRows }
        let text =
          json
          ? rows.map { $0.json.text + "\n" }.joined()
          : JournalReport.table(rows, of: total)
        try OutputDescriptor.standardOutput().write(Array(text.utf8))
      }
    }
  }

  /// The documents of what the journal still holds.
  struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "export",
      abstract: "Writes journaled messages to stdout as the documents that a capture makes of them, one a line.",
      discussion: """
        Without options everything that the journal still holds is written; what was committed and pruned is gone. \
        Documents are the same bytes as the capture's, if --body-raw is what document.body_raw was; none is refused for \
        its size.

        Examples:
          source-amqp journal export captured/journal.db --pending > pending.jsonl
          source-amqp journal export captured/journal.db --from 1000 --to 1999 | jq .body
          source-amqp journal export captured/journal.db --stream orders > orders.jsonl
          source-amqp journal export captured/journal.db --session 6f0e1b5e-… > session.jsonl
        """)

    @OptionGroup var arguments: JournalArguments

    @Flag(help: "Only what is not committed downstream.")
    var pending = false

    @Option(help: ArgumentHelp("First position.", valueName: "position"))
    var from: Int64?

    @Option(help: ArgumentHelp("Last position.", valueName: "position"))
    var to: Int64?

    @OptionGroup var filter: StreamFilter

    @Option(help: ArgumentHelp("Only messages of this session_id.", valueName: "uuid"))
    var session: String?

    @Option(help: ArgumentHelp("As document.body_raw: always, unparsed or never.", valueName: "policy"))
    var bodyRaw = BodyRawPolicy.always

    func run() throws {
      try JournalCommand.reading(arguments.journal) { reader in
        let positions = try reader.status().positions
        let streams = filter.stream == nil ? [] : try filter.streams(of: reader)
        var after = max(max(from ?? 1, 1) - 1, pending ? positions.committedThrough.rawValue : 0)
        let last = to ?? .max
        var renderer = DocumentRenderer(
          options: DocumentOptions(bodyRaw: bodyRaw, maxBytes: .max / 4, oversize: .fail))
        var consumers: [Int64: ConsumerRecord] = [:]
        var lines: [UInt8] = []
        var isDone = false
        while !isDone {
          lines.removeAll(keepingCapacity: true)
          let count = try reader.read(
            after: Position(rawValue: after), limit: EmissionMachine.checkpointDocuments
          ) { row in
            guard row.position.rawValue <= last else {
              isDone = true
              return false
            }
            after = row.position.rawValue
            let consumer = try consumers[row.consumer] ?? reader.consumer(row.consumer)
            consumers[row.consumer] = consumer
            if let session, consumer.sessionID != session { return true }
            guard filter.takes(consumer, among: streams) else { return true }
            if renderer.append(row, consumer: consumer, to: &lines) == .damaged {
              throw EmitterLoop.damage(row, reader.path)
            }
            lines.append(0x0A)
            return lines.count < EmissionMachine.checkpointBytes
          }
          if count == 0 { isDone = true }
          // No snapshot is held while a reader of stdout takes its time.
          try OutputDescriptor.standardOutput().write(lines)
        }
      }
    }
  }

  /// Whether the file is sound.
  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "verify",
      abstract: "Reads the whole journal and checks it: SQLite's format, the counters, no message missing.",
      discussion: """
        The status is 0 where the journal is sound, 1 where it is not. It takes time with the file's size.

        Example:
          source-amqp journal verify captured/journal.db
        """)

    @OptionGroup var arguments: JournalArguments

    @Flag(help: "One JSON object instead of lines.")
    var json = false

    func run() throws {
      try JournalCommand.reading(arguments.journal) { reader in
        let problems = try reader.verify()
        if json {
          var object = JSONObject()
          object["sound"] = .bool(problems.isEmpty)
          object["problems"] = .array(problems.map { .string($0) })
          print(JSONValue.object(object).text)
        } else if problems.isEmpty {
          let status = try reader.status()
          let path = PrintableText.escaped(reader.path)
          print("sound: \(path), messages to position \(status.positions.last), \(status.pendingRows) pending")
        } else {
          for problem in problems { print("wrong: \(PrintableText.escaped(problem))") }
        }
        if !problems.isEmpty { throw ExitCode.failure }
      }
    }
  }
}

extension BodyRawPolicy: ExpressibleByArgument {}

extension JournalCommand {
  /// A copy of a journal in use.
  struct Backup: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "backup",
      abstract: "Copies a journal while it is written; the copy is of one moment, and whole without a -wal file.",
      discussion: """
        FILE must not exist. It gets the mode 0600, since it holds what the journal holds. A copy is out of date a moment \
        later: what is captured after it is in the original alone, so never start an agent on it beside the original. To \
        look into, or to keep beside the output files of the same time.

        Example:
          source-amqp journal backup captured/journal.db /backup/journal.db
        """)

    @OptionGroup var arguments: JournalArguments

    @Argument(help: "The file to make.")
    var file: String

    func run() throws {
      try JournalCommand.reading(arguments.journal) { reader in
        let copy = try reader.backup(to: file)
        let text = "copied to \(file): up to position \(copy.last), \(Quantity.grouped(copy.pending)) pending"
        try OutputDescriptor.standardOutput().write(Array(PrintableText.escaped(text).utf8) + [0x0A])
      }
    }
  }
}
