import ArgumentParser
import Glibc
import Journal
import Logging

/// `source-amqp run`: the standalone agent.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Captures a queue into a JSONL file, without Flow.",
    discussion: """
      CONFIG is an endpoint configuration in YAML or JSON, or a Flow catalog file with one capture. In it, ${env:NAME} \
      and ${file:PATH} stand for secrets.

      Documents go to DIR/STREAM-000001.jsonl, one a line, exactly once: after any crash the file holds every journaled \
      message once, in order. With --output - they go to stdout instead, where a crash may repeat the last ones. The \
      journal is DIR/journal.db, unless CONFIG names another file.

      Examples:
        source-amqp run capture.yaml --output ./captured
        AMQP_PASSWORD=… source-amqp run capture.yaml --output - | jq .body
      """)

  @Argument(help: "Configuration file (YAML or JSON), or a Flow catalog file.")
  var config: String

  @Option(help: "Directory for journal and documents, made where it is missing; - writes documents to stdout.")
  var output = "."

  @Option(help: "Which capture of a catalog file with several.")
  var capture: String?

  func run() throws {
    let log = Process.log
    let running = Monitor<Capture?>(nil)
    Process.onStopSignal {
      guard let capture = running.read({ $0 }) else { _exit(0) }
      capture.requestStop()
    }
    let file = try Self.load(config, capture: capture, log: log)
    let configuration = file.configuration
    let capture: Capture
    do {
      if output != "-" { try Self.makeDirectory(output) }
      let path = configuration.journal.path ?? (output == "-" ? nil : "\(output)/journal.db")
      let setup = try CaptureSetup(
        configuration, journalPath: path, checkpoints: false, state: nil, streamState: nil, log: log)
      let name = "\(Self.fileName(file.stream))-000001.jsonl"
      let plan = try setup.plan(
        start: setup.journal.positions.committedThrough, connectionName: "source-amqp run", outputName: name,
        idle: false)
      capture = Capture(plan, log: log)
      if output == "-" {
        try capture.start(into: StandardOutputSink())
      } else {
        let record = try setup.journal.output(name)
        let sink = try FileSink(path: "\(output)/\(name)", record: record)
        // Before the first byte: what a crash leaves in a file that the journal does not know would never be cut back.
        if record == nil {
          try setup.journal.write { tx in try tx.setOutput(name, file: 1, length: 0) }
        }
        try capture.start(into: sink)
      }
    } catch {
      throw Process.failed("\(error)", log: log)
    }
    running.update { $0 = capture }
    if let failure = capture.wait() { throw Process.failed(failure, log: log) }
    let counters = capture.status.counters
    log.info(
      "stopped",
      metadata: [
        "journaled": .stringConvertible(counters.journaled), "emitted": .stringConvertible(counters.emitted),
        "redelivered": .stringConvertible(counters.redelivered),
      ])
  }

  private static func load(_ path: String, capture: String?, log: Logger) throws -> ConfigurationFile {
    do throws(ConfigurationError) { return try ConfigurationFile.read(path: path, capture: capture) } catch {
      throw Process.failed(error, log: log, status: Process.configurationStatus)
    }
  }

  private static func makeDirectory(_ path: String) throws(CaptureFailure) {
    if unsafe mkdir(path, 0o750) == 0 || errno == EEXIST { return }
    throw CaptureFailure(cause: "output", description: "making directory \(path): \(errnoText(errno))", needsUser: true)
  }

  /// A stream's name as a file's: what a path gives a meaning to becomes `_`.
  static func fileName(_ stream: String) -> String {
    let name = String(stream.map { $0 == "/" || $0 == "\0" ? "_" : $0 })
    return name.hasPrefix(".") ? "_" + name.dropFirst() : name
  }
}
