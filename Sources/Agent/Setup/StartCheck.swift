import Glibc
import Journal
import Platform

/// Whether `run` would start here: directory, journal, output files and the address to listen on. Nothing is made or changed, save that
/// a port is taken and given back.
struct StartCheck {
  let settings: CaptureConfiguration
  /// The directory of `run --output`; `-` is stdout.
  let output: String

  /// The journal that `run` would use; nil for a private temporary one.
  var journalPath: String? { settings.endpoint.journal.path ?? (output == "-" ? nil : "\(output)/journal.db") }

  func run() -> [CheckLine] {
    var lines: [CheckLine] = []
    if output != "-" {
      lines.append(directory(output, "output directory"))
      // What is in it cannot be said then.
      if lines[0].verdict == .wrong { return lines }
    }
    // Opened once: that reads all of the WAL.
    var reader: JournalReader?
    defer { try? reader?.close() }
    if let path = journalPath {
      lines += journal(path, &reader)
      if lines.last?.verdict == .wrong { return lines }
    }
    if output == "-" { return lines }
    for subscription in settings.subscriptions {
      let stream = subscription.stream
      if let holder = FileLock.holder(
        path: OutputSeries(directory: output, stem: OutputSeries.stem(stream)).lockPath)
      {
        lines.append(.wrong("output files of \"\(stream)\": are written by \(holder)"))
      }
      lines += files(subscription, reader)
    }
    return lines
  }

  private func directory(_ path: String, _ name: String) -> CheckLine {
    if unsafe access(path, F_OK) == 0 {
      guard Self.isDirectory(path) else { return .wrong("\(name) \(path): is a file; give --output a directory") }
      return unsafe access(path, W_OK | X_OK) == 0
        ? .ok("\(name) \(path): exists, and can be written to")
        : .wrong("\(name) \(path): cannot be written to: \(errnoText(errno))")
    }
    // `run` makes the last part of the path alone.
    let above = path.split(separator: "/", omittingEmptySubsequences: true).dropLast().joined(separator: "/")
    let parent = path.hasPrefix("/") ? "/" + above : above.isEmpty ? "." : above
    guard unsafe access(parent, W_OK | X_OK) == 0 else {
      return .wrong("\(name) \(path): does not exist, and cannot be made in \(parent): \(errnoText(errno))")
    }
    return .ok("\(name) \(path): does not exist yet, and will be made")
  }

  static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// - Parameter reader: Is opened if there is a journal that can be read.
  private func journal(_ path: String, _ reader: inout JournalReader?) -> [CheckLine] {
    let state = state(ofJournal: path, &reader)
    guard state.verdict != .wrong, settings.subscriptions.count == 1, let before = try? reader?.newestQueue(),
      let other = Self.otherQueue(before, than: settings.subscriptions[0].configuration)
    else { return [state] }
    return [state, .note(other)]
  }

  /// What to say of a journal that was written for another queue; nil if it was for the one that is configured.
  static func otherQueue(_ before: QueueName, than configuration: EndpointConfiguration) -> String? {
    let queue = configuration.queue.name
    guard before.name != queue || before.virtualHost != configuration.virtualHost else { return nil }
    return """
      the journal was written for queue "\(before.name)" of virtual host "\(before.virtualHost)": what it has of that and was not committed \
      is parked until the queue is captured into it again. Give each queue an --output of its own
      """
  }

  private func state(ofJournal path: String, _ reader: inout JournalReader?) -> CheckLine {
    let subject = "journal \(path)"
    if let holder = FileLock.holder(path: path + ".lock") {
      return .wrong("\(subject): is in use by \(holder); one agent at a time may write it")
    }
    if Self.isDirectory(path) { return .wrong("\(subject): is a directory; journal.path is the name of a file") }
    let place = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    if unsafe access(place, F_OK) == 0 {
      do throws(JournalError) { try Journal.refuseRescued(at: path) } catch { return .wrong("\(error)") }
    } else if settings.endpoint.journal.path != nil {
      return .wrong("\(subject): its directory \(place) does not exist")
    }
    guard unsafe access(path, F_OK) == 0 else {
      return .ok("\(subject): does not exist yet, and will be made\(kind)")
    }
    do throws(JournalError) {
      let opened = try JournalReader(path: path)
      reader = opened
      try opened.checkStart()
      let status = try opened.status()
      return .ok(
        "\(subject): can be read, \(Quantity.grouped(status.pendingRows)) messages wait in it\(kind) "
          + "(source-amqp journal verify reads all of it)")
    } catch {
      return .wrong("\(error)")
    }
  }

  /// What kind of disk it is on, if that is worth a word.
  private var kind: String {
    switch AcknowledgementChoice.disk(ofJournal: journalPath) {
    case .memory(let name): ", on \(name), which is memory"
    case .overlay: ", on overlayfs, as a container's own disk is"
    case .other: ""
    }
  }

  /// The newest file, against what the journal knows of it: what a start would refuse.
  private func files(_ subscription: Subscription, _ reader: JournalReader?) -> [CheckLine] {
    let (stream, queue) = (subscription.stream, subscription.configuration.queue.name)
    guard unsafe access(output, F_OK) == 0 else { return [] }
    do {
      guard let reader else {
        let series = OutputSeries(directory: output, stem: OutputSeries.stem(stream))
        guard let newest = try series.numbers(after: 0).last else { return [] }
        return [
          .wrong(
            "\(series.path(newest)): this file is there, and there is no journal that has written it; put the journal that belongs to it "
              + "back, or see --continue-output of `run`")
        ]
      }
      let streams = settings.subscriptions.map(\.stream)
      let known = try reader.streams()
      let stems = try OutputSeries.stems(streams, others: known.compactMap(\.stream)) { (name) throws(JournalError) in
        try reader.output(name) != nil
      }
      let stem = zip(streams, stems).first { $0.0.isSameName(as: stream) }?.1 ?? OutputSeries.stem(stream)
      let series = OutputSeries(directory: output, stem: stem)
      let pending = PendingDocuments(reader, after: try reader.status().positions.committedThrough) { (consumer) in
        let own = known.first { $0.stream?.isSameName(as: stream) ?? false }?.key
        return streams.count == 1 || own.map { $0 == consumer.subscription } ?? consumer.queue.isSameName(as: queue)
      }
      let record = try reader.output(stem)
      let isKnown = record.map {
        FileSink.isKnown(FileLock.series(path: series.lockPath), reader.identifier, $0)
      }
      let refusal = try FileSink.refusal(series, record, isKnownDirectory: isKnown ?? false) {
        () throws(CaptureFailure) in try pending.next()
      }
      if let refusal { return [.wrong("output files of \"\(stream)\": \(refusal)")] }
      guard let newest = try series.numbers(after: 0).last else { return [] }
      return [.ok("output files of \"\(stream)\": the newest is \(series.path(newest))")]
    } catch {
      return [.wrong("output files of \"\(stream)\": \(error)")]
    }
  }

  func port(_ address: ListenAddress) -> CheckLine {
    let subject = "listen \(address)"
    guard address.port != 0 else { return .ok("\(subject): the system chooses a port") }
    let number = address.bindError()
    switch number {
    case 0: return .ok("\(subject): is free")
    case EADDRINUSE:
      return .wrong(
        "\(subject): \(ListenAddress.taken); stop it, or give another port")
    default: return .wrong("\(subject): \(errnoText(number))")
    }
  }
}

/// A line of `check`'s report.
struct CheckLine: Equatable, Sendable {
  enum Verdict: String, Sendable { case ok, note, wrong }

  let verdict: Verdict
  let text: String

  static func ok(_ text: String) -> CheckLine { CheckLine(verdict: .ok, text: text) }
  /// It works, and is probably not what was meant.
  static func note(_ text: String) -> CheckLine { CheckLine(verdict: .note, text: text) }
  static func wrong(_ text: String) -> CheckLine { CheckLine(verdict: .wrong, text: text) }
}
