import AMQP
import ArgumentParser
import Glibc
import Platform

/// The command line. Without a subcommand the process speaks the Flow capture protocol on stdin and stdout, which is how
/// the runtime starts it.
@main struct SourceAMQP: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "source-amqp",
    abstract: "Captures messages from RabbitMQ (AMQP 0-9-1) into Estuary Flow, or into JSONL files.",
    discussion: """
      Without a subcommand it speaks the Flow capture protocol: requests as JSON lines on stdin, responses on stdout, \
      logs on stderr. This is how the Flow runtime runs it.

      Examples:
        source-amqp init > capture.yaml
        source-amqp run capture.yaml --output ./captured
        source-amqp check capture.yaml
        source-amqp spec
        source-amqp journal status captured/journal.db

      Environment:
        LOG_LEVEL    trace, debug, info (default), warn or error
        LOG_FORMAT   json for JSON lines also on a terminal

      Exit statuses: 0 ended as asked; 1 failed (the last line on stderr is the cause); 64 wrong usage; \
      78 wrong configuration.
      """,
    version: Version.full,
    subcommands: [InitCommand.self, RunCommand.self, CheckCommand.self, SpecCommand.self, JournalCommand.self])

  static func main() {
    SystemLimit.fillStandardDescriptors()
    // Beyond the limit for a file's size (`ulimit -f`) a write fails with EFBIG, which is reported, instead of ending the
    // process without a word. https://man7.org/linux/man-pages/man2/getrlimit.2.html
    signal(SIGXFSZ, SIG_IGN)
    TLSLibrary.outliveThreads()
    let arguments = Array(CommandLine.arguments.dropFirst())
    // The agent's own; the commands end by signals as any program does.
    if arguments.isEmpty || arguments[0] == "run" {
      Process.holdSignals()
      Process.explainBusErrors()
      SystemLimit.raiseDescriptors()
    }
    if let level = environmentVariable("LOG_LEVEL"), FlowLogHandler.level(named: level) == nil {
      exit(
        withError: ValidationError(
          "LOG_LEVEL is \(ConfigurationWording.quote(level)); it must be trace, debug, info, warn or error."))
    }
    if let mistake = misspeltCommand(arguments) { exit(withError: ValidationError(mistake)) }
    main(arguments)
  }

  func run() throws {
    // Someone looks for what there is; a runtime has a pipe here.
    if isatty(STDIN_FILENO) == 1 { throw CleanExit.helpRequest() }
    try FlowDriver(log: Process.log).run()
  }

  /// What to say of a word that is no subcommand if one is needed; nil if there is no such word.
  ///
  /// - Parameter arguments: Of the command line, without the program's name.
  static func misspeltCommand(_ arguments: [String]) -> String? {
    var commands = Self.configuration.subcommands
    for word in arguments {
      // After an option anything may stand, and ArgumentParser has its own words for a wrong one.
      guard !commands.isEmpty, !word.hasPrefix("-"), word != "help" else { return nil }
      let names = commands.compactMap { $0.configuration.commandName }
      guard let found = commands.first(where: { $0.configuration.commandName == word }) else {
        let hint = EditDistance.nearest(to: word, among: names).map { "did you mean '\($0)'?" }
        return "There is no command '\(word)'; \(hint ?? "there are: \(names.joined(separator: ", ")).")"
      }
      commands = found.configuration.subcommands
    }
    return nil
  }
}
