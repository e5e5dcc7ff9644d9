import ArgumentParser
import Journal

extension JournalCommand {
  /// What an operator does about a damaged journal.
  struct Salvage: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "salvage",
      abstract: "Makes a sound journal of what can be read of a damaged one; the damaged file is kept beside it.",
      discussion: """
        A capture does this by itself where nothing is lost. Where messages that may have been acknowledged cannot be read \
        it refuses to start and names them: then put an intact copy of the file back, or give them up with \
        --accept-loss. Without it this command changes nothing in that case, and says what is missing.

        The journal must not be in use. Its identifier and positions stay; the damaged file becomes \
        JOURNAL.corrupt-TIME. The status is 0 where the journal is sound afterwards, 1 where it is not.

        Examples:
          source-amqp journal salvage captured/journal.db
          source-amqp journal salvage --accept-loss captured/journal.db
        """)

    @OptionGroup var arguments: JournalArguments

    @Flag(help: "Go on without the messages that cannot be read.")
    var acceptLoss = false

    @Flag(help: "One JSON object instead of a line.")
    var json = false

    func run() throws {
      let settings = JournalSettings(path: arguments.journal)
      do {
        guard try needsSalvage() else {
          print(json ? #"{"damaged":false}"# : "sound: \(arguments.journal), nothing was done")
          return
        }
        let report = try Journal.salvage(settings, acceptLoss: acceptLoss)
        let isDone = report.setAside != nil
        if json {
          print(JournalReport.json(report).text)
        } else {
          print(PrintableText.escaped(isDone ? report.description : report.refusal))
        }
        if !isDone { throw ExitCode.failure }
      } catch let status as ExitCode {
        throw status
      } catch {
        throw Process.failed("\(error)", log: Process.log)
      }
    }

    /// Whether reading the whole file or opening it finds damage.
    private func needsSalvage() throws(JournalError) -> Bool {
      do throws(JournalError) {
        // Reading comes first: opening to write would make a journal of a name that is misspelt.
        let reader = try JournalReader(path: arguments.journal)
        let problems = try reader.verify()
        try reader.close()
        guard problems.isEmpty else { return true }
        try Journal.open(JournalSettings(path: arguments.journal)).close()
        return false
      } catch {
        guard case .corrupt = error.kind else { throw error }
        return true
      }
    }
  }
}

extension JournalReport {
  static func json(_ report: SalvageReport) -> JSONValue {
    func list(_ missing: [SalvageReport.Missing]) -> JSONValue {
      .array(
        missing.map { part in
          var object = JSONObject()
          object["first_position"] = .number("\(part.first)")
          object["last_position"] = .number("\(part.last)")
          object["session_id"] = .string(part.sessionID)
          object["first_sequence"] = .number("\(part.firstSequence)")
          return .object(object)
        })
    }
    var object = JSONObject()
    object["damaged"] = .bool(true)
    object["set_aside"] = report.setAside.map { .string($0) } ?? .null
    object["recovered"] = .number("\(report.recovered)")
    object["lost"] = list(report.lost)
    object["delivered_again"] = list(report.returning)
    object["knows_positions"] = .bool(report.knowsPositions)
    object["keeps_anchor"] = .bool(report.keepsAnchor)
    return .object(object)
  }
}
