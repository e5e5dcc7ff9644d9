import ArgumentParser

/// `source-amqp check`: Validate for people.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Checks a configuration and the broker behind it, without changing anything.",
    discussion: """
      Every check is a line; all problems are shown at once. The status is 0 where all is well, 78 where the \
      configuration is wrong, 1 where the broker disagrees with it.

      Example:
        source-amqp check capture.yaml
      """)

  @Argument(help: "Configuration file (YAML or JSON), or a Flow catalog file.")
  var config: String

  @Option(help: "Which capture of a catalog file with several.")
  var capture: String?

  func run() throws {
    let file: ConfigurationFile
    do throws(ConfigurationError) {
      file = try ConfigurationFile.read(path: config, capture: capture)
    } catch {
      for line in error.lines { Self.say("wrong", line) }
      throw Process.configurationStatus
    }
    Self.say("ok", "configuration \(Disclosure.text(config))")
    for warning in file.configuration.warnings { Self.say("note", warning) }
    let findings = BrokerCheck(topology: Topology(file.configuration, name: "check")).run(lookingAtQueue: true)
    for finding in findings {
      if let problem = finding.problem {
        Self.say("wrong", "\(finding.subject): \(problem)")
      } else {
        Self.say("ok", "\(finding.subject): \(finding.note)")
      }
      if let warning = finding.warning { Self.say("note", warning) }
    }
    if findings.contains(where: { $0.problem != nil }) { throw ExitCode.failure }
  }

  /// A line of the report. File and broker may have written some of it.
  private static func say(_ verdict: String, _ text: String) {
    print(verdict + String(repeating: " ", count: 7 - verdict.count) + PrintableText.escaped(text))
  }
}

/// `source-amqp spec`: the schemas, as the Flow runtime gets them.
struct SpecCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "spec",
    abstract: "Prints the JSON schemas of the endpoint and resource configuration, and of documents.",
    discussion: """
      Example:
        source-amqp spec | jq .configSchema.properties.queue
        source-amqp spec --markdown
      """)

  @Flag(help: "Print the settings as a Markdown table instead.")
  var markdown = false

  func run() throws {
    if markdown { return print(SettingsTable.markdown, terminator: "") }
    print(
      JSONValue.object([
        "configSchema": SettingsTable.endpointSchema, "resourceConfigSchema": SettingsTable.resourceSchema,
        "documentSchema": DocumentSchema.value,
      ]).text)
  }
}
