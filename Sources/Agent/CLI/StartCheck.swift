import Glibc
import Journal

/// Whether `run` would start here: directory, journal, output files and the address to listen on. Nothing is made or changed, save that
/// a port is taken and given back.
struct StartCheck {
  let configuration: EndpointConfiguration
  let stream: String
  /// The directory of `run --output`; `-` is stdout.
  let output: String

  /// The journal that `run` would use; nil for a private temporary one.
  var journalPath: String? { configuration.journal.path ?? (output == "-" ? nil : "\(output)/journal.db") }

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
    if output != "-",
      let holder = FileLock.holder(
        path: OutputSeries(directory: output, stem: OutputSeries.stem(stream)).lockPath)
    {
      lines.append(.wrong("output files of \"\(stream)\": are written by \(holder)"))
    }
    return lines + (output == "-" ? [] : files(reader))
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
    guard state.verdict != .wrong, let before = try? reader?.newestQueue(),
      let other = Self.otherQueue(before, than: configuration)
    else { return [state] }
    return [state, .note(other)]
  }

  /// What to say of a journal that was written for another queue; nil if it was for the one that is configured.
  static func otherQueue(_ before: QueueName, than configuration: EndpointConfiguration) -> String? {
    let queue = configuration.queue.name
    guard before.name != queue || before.virtualHost != configuration.virtualHost else { return nil }
    return """
      the journal was written for queue "\(before.name)" of virtual host "\(before.virtualHost)": the documents of "\(queue)" follow upon \
      its. Give each queue an --output of its own
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
    } else if configuration.journal.path != nil {
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
        "\(subject): can be read, \(Progress.grouped(status.pendingRows)) messages wait in it\(kind) "
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
  private func files(_ reader: JournalReader?) -> [CheckLine] {
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
      let stem = try OutputSeries.stem(stream) { (name) throws(JournalError) in try reader.output(name) != nil }
      let series = OutputSeries(directory: output, stem: stem)
      let pending = PendingDocuments(reader, after: try reader.status().positions.committedThrough)
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
    let number = Self.bindError(address)
    switch number {
    case 0: return .ok("\(subject): is free")
    case EADDRINUSE:
      return .wrong(
        "\(subject): \(ListenAddress.taken); stop it, or give another port")
    default: return .wrong("\(subject): \(errnoText(number))")
    }
  }

  /// 0, or why the address cannot be listened on.
  private static func bindError(_ address: ListenAddress) -> Int32 {
    var (family, host) = (AF_INET, "0.0.0.0")
    switch address.host {
    case .any: break
    case .ip4(let ip): host = ip
    case .ip6(let ip): (family, host) = (AF_INET6, ip)
    }
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    var yes: Int32 = 1
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    if family == AF_INET {
      var place = sockaddr_in()
      place.sin_family = sa_family_t(AF_INET)
      place.sin_port = address.port.bigEndian
      guard unsafe inet_pton(AF_INET, host, &place.sin_addr) == 1 else { return EADDRNOTAVAIL }
      return listenError(descriptor, place)
    }
    var place = sockaddr_in6()
    place.sin6_family = sa_family_t(AF_INET6)
    place.sin6_port = address.port.bigEndian
    guard unsafe inet_pton(AF_INET6, host, &place.sin6_addr) == 1 else { return EADDRNOTAVAIL }
    return listenError(descriptor, place)
  }

  /// - Parameter place: A socket's address, of any family.
  private static func listenError<Address>(_ descriptor: Int32, _ place: Address) -> Int32 {
    unsafe withUnsafePointer(to: place) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(descriptor, $0, socklen_t(MemoryLayout<Address>.size)) == 0 && Glibc.listen(descriptor, 1) == 0
          ? 0 : errno
      }
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
