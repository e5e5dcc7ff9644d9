import ArgumentParser

/// `source-amqp check`: Validate for people.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Checks a configuration and its broker, without changing anything.",
    discussion: """
      It answers two questions: how often a message will be captured, and why; and whether a capture would start here. \
      Every check is a line: ok, note (it works, and is probably not what was meant) or wrong; all problems are shown at \
      once. With --output and --listen it also looks at what `run` would use. The status is 0 if all is well, 78 if the \
      configuration is wrong, 1 if the broker or this machine disagrees with it.

      Examples:
        source-amqp check capture.yaml
        source-amqp check capture.yaml --output ./captured --listen 127.0.0.1:9090
        source-amqp check capture.yaml --offline --json
        source-amqp check capture.yaml --offline --print
      """)

  @Argument(help: "Configuration file (YAML or JSON), or a Flow catalog file.")
  var config: String

  @Option(help: "Which capture of a catalog file with several.")
  var capture: String?

  @Option(help: "Also check whether `run --output` with this directory would start.")
  var output: String?

  @Option(
    help: ArgumentHelp("Also check whether this address is free.", valueName: "address:port"),
    transform: ListenAddress.parsed)
  var listen: ListenAddress?

  @Flag(help: "Check the configuration alone, without connecting to the broker.")
  var offline = false

  @Flag(help: "Print a JSON object instead of lines.")
  var json = false

  @Flag(help: "Print the configuration in force, defaults included, with secrets masked, and nothing else.")
  var print = false

  func validate() throws {
    if output == "" { throw ValidationError("--output needs the name of a directory, or - for stdout.") }
    if print, json { throw ValidationError("--print and --json are two forms of output; give one of them.") }
  }

  func run() throws {
    let file: ConfigurationFile
    do throws(ConfigurationError) {
      file = try ConfigurationFile.read(path: config, capture: capture)
    } catch {
      show(error.lines.map { .wrong($0) }, [])
      throw Process.configurationStatus
    }
    if print { return Swift.print(SettingsTable.effective(file), terminator: "") }
    var lines: [CheckLine] = [.ok("configuration \(Disclosure.text(config))")]
    for warning in file.settings.warnings { lines.append(.note(warning)) }
    if file.capture != nil, output == nil, !file.hidden.isEmpty {
      lines.append(
        .note(
          "${env:…} and ${file:…} (\(file.hidden.sorted().joined(separator: ", "))) are replaced by `run` and `check` only: Flow refuses "
            + "them, and needs the values themselves"))
    }
    var natures: [(stream: String?, nature: QueueNature)] = []
    if !offline {
      for finding in BrokerCheck(file.settings, name: "check").run() {
        lines.append(
          finding.problem.map { .wrong("\(finding.name): \($0)") } ?? .ok("\(finding.name): \(finding.note)"))
        if let warning = finding.warning { lines.append(.note(warning)) }
        if let nature = finding.nature { natures.append((finding.stream, nature)) }
      }
    }
    let start = StartCheck(settings: file.settings, output: output ?? ".")
    let isReached = !lines.contains { $0.verdict == .wrong }
    if output != nil { lines += start.run() }
    if let listen { lines.append(start.port(listen)) }
    let promises = promise(file, start, natures, isReached: isReached, &lines)
    show(lines, promises)
    if lines.contains(where: { $0.verdict == .wrong }) { throw ExitCode.failure }
  }

  /// What is promised of one subscription.
  private struct Promise {
    var stream: String
    var guarantee: Guarantee
  }

  /// When the broker gets its acknowledgements, and what follows from that and from the queue.
  ///
  /// - Parameter isReached: The broker and the queue are as they should be, or were not asked.
  ///   - natures: With the streams; without a name if there is one.
  /// - Returns: What is promised of each subscription, in order; none if nothing can be said.
  private func promise(
    _ file: ConfigurationFile, _ start: StartCheck, _ natures: [(stream: String?, nature: QueueNature)],
    isReached: Bool,
    _ lines: inout [CheckLine]
  ) -> [Promise] {
    let (endpoint, subscriptions) = (file.settings.endpoint, file.settings.subscriptions)
    // Unless it is asked for `run`, a catalog is Flow's.
    let path = file.capture != nil && output == nil ? endpoint.journal.path : start.journalPath
    let choice = AcknowledgementChoice(
      endpoint.journal, path: path, isContainer: file.isContainer && output == nil,
      disk: AcknowledgementChoice.disk(ofJournal: path))
    if !subscriptions.contains(where: { $0.configuration.consumer.noAck }) {
      lines.append(
        .ok("acknowledgement mode \(choice.mode.rawValue): \(choice.mode.explanation), because \(choice.reason)"))
    }
    lines += choice.warnings.map { .note($0) }
    if let problem = choice.problem { lines.append(.wrong(problem)) }
    let isCarried: Bool? =
      path == nil || choice.mayLoseJournal ? (file.capture != nil && output == nil ? true : nil) : false
    guard isReached else {
      lines.append(.note("what will be guaranteed is not known: see what is wrong above"))
      return []
    }
    return subscriptions.map { (subscription) in
      let (configuration, isAlone) = (subscription.configuration, subscriptions.count == 1)
      let guarantee = Guarantee(
        configuration, DeduplicationPolicy(configuration, isCarried: isCarried),
        on: natures.first { $0.stream?.isSameName(as: subscription.stream) ?? isAlone }?.nature,
        isKept: isCarried != nil)
      let text = (isAlone ? "" : "stream \"\(subscription.stream)\": ") + guarantee.description
      lines.append(guarantee.level.isOnce ? .ok(text) : .note(text))
      return Promise(stream: subscription.stream, guarantee: guarantee)
    }
  }

  /// Shows the report. File and broker may have written some of it.
  private func show(_ lines: [CheckLine], _ promises: [Promise]) {
    guard json else {
      for line in lines {
        let verdict = line.verdict.rawValue
        Swift.print(
          verdict + String(repeating: " ", count: 7 - verdict.count) + PrintableText.escaped(Disclosure.text(line.text))
        )
      }
      return
    }
    var report = JSONObject()
    report["ok"] = .bool(!lines.contains { $0.verdict == .wrong })
    report["guarantee"] = promises.count == 1 ? .string(promises[0].guarantee.level.rawValue) : .null
    if promises.count > 1 {
      report["guarantees"] = .object(
        JSONObject(
          members: promises.map { .init(key: $0.stream, value: .string($0.guarantee.level.rawValue)) }))
    }
    report["checks"] = .array(
      lines.map { line in
        .object(
          JSONObject(members: [
            .init(key: "verdict", value: .string(line.verdict.rawValue)),
            .init(key: "text", value: .string(Disclosure.text(line.text))),
          ]))
      })
    Swift.print(JSONValue.object(report).text)
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
