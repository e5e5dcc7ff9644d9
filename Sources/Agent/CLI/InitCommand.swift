import ArgumentParser

/// `source-amqp init`: a configuration to begin with.
struct InitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Prints a configuration to begin with: every setting, with its meaning.",
    discussion: """
      Examples:
        source-amqp init > capture.yaml
        source-amqp init --flow > flow.yaml
      """)

  @Flag(help: "Print a Flow catalog with a capture and its collection instead.")
  var flow = false

  func run() throws {
    print(flow ? SettingsTable.catalogTemplate : SettingsTable.template, terminator: "")
  }
}
