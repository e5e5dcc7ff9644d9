import ArgumentParser
import Glibc
import Journal
import Logging
import Platform

/// `source-amqp run`: the standalone agent.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Captures queues into JSONL files, without Flow.",
    discussion: """
      CONFIG is an endpoint configuration in YAML or JSON, or a Flow catalog file with one capture. In it, ${env:NAME} \
      and ${file:PATH} stand for secrets.

      Documents go to DIR/STREAM-000001.jsonl, DIR/STREAM-000002.jsonl …, a series for each queue, one a line, exactly once: after any crash \
      the files hold every journaled message once, in order, with no torn line. A file that is followed by another one \
      is complete and never changes again. What was written is never taken back: where files hold what the journal does \
      not know (it was restored from an old copy), the start is refused, unless --continue-output says to go on in a new \
      file. A file that is moved, deleted or cut by somebody else is left for the next one. With --output - documents go to stdout instead, where a crash may repeat the \
      last ones. The journal is DIR/journal.db, unless CONFIG names another file.

      Examples:
        source-amqp run capture.yaml --output ./captured
        source-amqp run capture.yaml --output ./captured --rotate-size 64M --rotate-age 15m --listen 127.0.0.1:9090
        AMQP_PASSWORD=… source-amqp run capture.yaml --output - | jq .body
      """)

  @Argument(help: "Configuration file (YAML or JSON), or a Flow catalog file.")
  var config: String

  @Option(help: "Directory for journal and documents, made where it is missing; - writes documents to stdout.")
  var output = "."

  @Flag(
    help: """
      Where files hold what the journal does not know, or lack what it wrote, leave them and go on in a new file; \
      documents of messages that are still in the journal may then stand twice.
      """)
  var continueOutput = false

  @Option(help: "Which capture of a catalog file with several.")
  var capture: String?

  @Option(
    help: ArgumentHelp(
      "Begin the next file before one gets larger than this: bytes, or 64k, 128M, 2G (default: 128M).",
      valueName: "bytes"), transform: ByteCount.parsed)
  var rotateSize: ByteCount?

  @Option(
    help: ArgumentHelp(
      "Complete a file this long after its first document: seconds, or 15m, 1h, 1d (default: never).", valueName: "time"
    ), transform: Seconds.parsed)
  var rotateAge: Seconds?

  @Option(
    help: ArgumentHelp(
      "Serve /metrics (Prometheus), /healthz and /readyz here, for example 127.0.0.1:9090 or [::1]:9090.",
      valueName: "address:port"),
    transform: ListenAddress.parsed)
  var listen: ListenAddress?

  @Option(
    help: ArgumentHelp(
      "Also answer requests of --listen that ask for this host name; addresses, localhost and the machine's own name are answered anyway.",
      valueName: "name"))
  var allowHost: [String] = []

  private static let defaultFileBytes: Int64 = 128 << 20

  func validate() throws {
    if output == "" { throw ValidationError("--output needs the name of a directory, or - for stdout.") }
    if output == "-", rotateSize != nil || rotateAge != nil || continueOutput {
      throw ValidationError(
        "--rotate-size, --rotate-age and --continue-output are for files; with --output - there are none.")
    }
    if listen == nil, !allowHost.isEmpty { throw ValidationError("--allow-host is for --listen, which is not given.") }
  }

  func run() throws {
    let log = Process.log
    let running = Monitor<Capture?>(nil)
    let nextFile = Monitor<[NextFileRequest]>([])
    let hangup: @Sendable () -> Void = { for request in nextFile.read({ $0 }) { request.request() } }
    Process.onStopSignal(hangup: hangup) {
      guard let capture = running.read({ $0 }) else { Process.end(0) }
      capture.requestStop()
    }
    let file = try Self.load(config, capture: capture, log: log)
    let capture: Capture
    do { capture = try start(file, nextFile: nextFile, log: log) } catch let status as ExitCode {
      throw status
    } catch {
      throw Process.failed("\(error)", log: log)
    }
    running.update { $0 = capture }
    let failure = capture.wait()
    if Terminal.isTerminal { Terminal.show("") }
    if let failure { throw Process.failed(failure, log: log) }
    log.info("stopped", metadata: Progress.totals(capture.status.counters))
  }

  /// Opens journal and output, and starts everything.
  private func start(
    _ file: ConfigurationFile, nextFile: Monitor<[NextFileRequest]>, log: Logger
  ) throws -> Capture {
    let (endpoint, subscriptions) = (file.settings.endpoint, file.settings.subscriptions)
    if output != "-" { try Self.makeDirectory(output) }
    let path = endpoint.journal.path ?? (output == "-" ? nil : "\(output)/journal.db")
    let choice = AcknowledgementChoice(
      endpoint.journal, path: path, isContainer: false, disk: AcknowledgementChoice.disk(ofJournal: path))
    for warning in choice.warnings { log.warning("\(warning)") }
    if let problem = choice.problem { throw Process.failed(problem, log: log, status: Process.configurationStatus) }
    var series: [(series: OutputSeries, lock: FileLock?)] = []
    let setup = try CaptureSetup(endpoint, journalPath: path, choice: choice, checkpoints: false, log: log) {
      (journal) in
      if subscriptions.count == 1, let before = try journal.newestQueue(),
        let other = StartCheck.otherQueue(before, than: subscriptions[0].configuration)
      {
        log.warning("\(other)")
      }
      let known = journal.subscriptions.compactMap(\.stream)
      let stems = try OutputSeries.stems(subscriptions.map(\.stream), others: known) { (name) throws(JournalError) in
        try journal.output(name) != nil
      }
      // Before anything is written, the sessions included.
      for stem in stems {
        let own = OutputSeries(directory: output, stem: stem)
        series.append((own, output == "-" ? nil : try own.lock()))
      }
      return zip(subscriptions, stems).map { CaptureSetup.Wanted(subscription: $0, outputName: $1) }
    }
    let journal = setup.journal
    let known = journal.subscriptions
    var plan = try setup.plan(start: journal.positions.committedThrough, connectionName: "source-amqp run")
    plan.logins = file.logins
    let capture = Capture(plan, log: log)
    let source = try OperationsSource(capture, journal: journal.path)
    if let listen {
      let address = try StatusServer.start(listen, names: allowHost, source: source)
      log.info("metrics and health are served", metadata: ["url": .string("http://\(address)/metrics")])
    }
    if output == "-" {
      log.info("documents on stdout count as captured once they are written: what still sits in a pipe is acknowledged")
      let output = OutputDescriptor.standardOutput { [status = capture.status] in status.progressed(.reader) }
      try capture.start(into: StandardOutputSink(output: LineOutput(output)))
    } else {
      let reader = try JournalReader(path: journal.path)
      defer { try? reader.close() }
      // What was parked counts again by now.
      try closeRenamed(setup, reader, known, series, log)
      var sinks: [FileSink] = []
      let keys = plan.subscriptions.map { $0.session.subscription.key }
      for (index, own) in series.enumerated() {
        // What a salvage could not tell whose it is goes with the first.
        let sink = try open(own.series, own.lock, journal, reader, nextFile, log) { (consumer) in
          consumer.subscription == keys[index] || index == 0 && !keys.contains(consumer.subscription)
        }
        sinks.append(sink)
      }
      try capture.start(into: FileSinks(sinks))
    }
    Progress.start(log: log, redraws: true, source: source)
    return capture
  }

  /// Brings the series of streams that have other names now to their ends: what a crash left there that the journal does not count as
  /// written is written into the series of the new name.
  private func closeRenamed(
    _ setup: CaptureSetup, _ reader: JournalReader, _ known: [SubscriptionRecord],
    _ all: [(series: OutputSeries, lock: FileLock?)], _ log: Logger
  ) throws {
    for record in setup.records {
      guard let before = known.first(where: { $0.key == record.key })?.stream, let now = record.stream,
        !now.isSameName(as: before)
      else { continue }
      log.info("stream \"\(before)\" is called \"\(now)\" now: its documents go on in files of that name")
      for stem in [OutputSeries.stem(before), OutputSeries.plainStem(before)] {
        guard try setup.journal.output(stem) != nil else { continue }
        // Another stream may have the name by now.
        let taken = all.first { $0.series.stem.isSameName(as: stem) }
        let series = OutputSeries(directory: output, stem: stem)
        let lock = try taken?.lock ?? series.lock()
        do {
          _ = try open(series, lock, setup.journal, reader, Monitor([]), log) { $0.subscription == record.key }
        } catch let error as CaptureFailure {
          // Nothing will be written there.
          log.warning(
            "the files of \"\(before)\" are left as they are, with what a crash may have left in them: \(error)")
        }
        break
      }
    }
  }

  /// Opens the newest file of a series, and records what it is.
  private func open(
    _ series: OutputSeries, _ lock: FileLock?, _ journal: Journal, _ reader: JournalReader,
    _ nextFile: Monitor<[NextFileRequest]>, _ log: Logger, of isOurs: @escaping (ConsumerRecord) -> Bool
  ) throws -> FileSink {
    let record = try journal.output(series.stem)
    let pending = PendingDocuments(reader, after: journal.positions.committedThrough, of: isOurs)
    let request = NextFileRequest()
    let sink = try FileSink(
      series, lock: lock, journal: journal.identifier,
      rotation: FileRotation(
        maxBytes: rotateSize?.bytes ?? Self.defaultFileBytes, maxAge: rotateAge?.duration), record: record,
      pending: { () throws(CaptureFailure) in try pending.next() }, continues: continueOutput, nextFile: request,
      warn: { log.warning("\($0)") })
    // Before the first byte: what a crash leaves in a file that the journal does not know would never be cut back.
    if sink.record != record {
      try journal.write { tx in try tx.setOutput(series.stem, sink.record) }
    }
    nextFile.update { $0.append(request) }
    return sink
  }

  private static func load(_ path: String, capture: String?, log: Logger) throws -> ConfigurationFile {
    do throws(ConfigurationError) { return try ConfigurationFile.read(path: path, capture: capture) } catch {
      throw Process.failed(error, log: log, status: Process.configurationStatus)
    }
  }

  private static func makeDirectory(_ path: String) throws(CaptureFailure) {
    if unsafe mkdir(path, 0o750) == 0 { return }
    let number = errno
    let isTaken = number == EEXIST && !StartCheck.isDirectory(path)
    if number == EEXIST, !isTaken { return }
    throw CaptureFailure(
      cause: "output",
      description: isTaken
        ? "--output \(path) is a file: give it a directory"
        : "making directory \(path) (--output): \(errnoText(number))",
      needsUser: true)
  }
}
