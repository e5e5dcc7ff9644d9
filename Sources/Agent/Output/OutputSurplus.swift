import Glibc
import Journal
import Platform

/// Tells what a crash left in output files from what a journal that went back in time no longer knows.
///
/// Documents are written before the journal records that they are, and messages leave the journal after that. So what a
/// crash leaves after the recorded end is whole documents of messages that are still pending, in order, and at most one
/// piece of a document: these can be cut off, since they are written again. Anything else was written by someone else,
/// or its messages exist nowhere but in the file, and must stay. The same rule as ``ResumeDecision``'s: a journal that
/// knows less than its reader went back in time.
struct OutputSurplus {
  /// A line after the recorded end.
  enum Line: Equatable {
    case document(DocumentKey)
    /// A piece of a document, or a page that a power cut left empty.
    case torn
    /// Nothing that the agent writes.
    case foreign

    /// - Parameter isTerminated: A line feed followed.
    init(_ bytes: [UInt8], isTerminated: Bool) {
      if let value = try? JSONValue.parse(bytes), let session = value["session_id"]?.stringValue,
        let sequence = value["sequence"]?.int64Value
      {
        self = .document(DocumentKey(sessionID: session, sequence: sequence))
      } else if bytes.contains(0) {
        self = .torn
      } else {
        let begin = Array("{\"".utf8)
        self = !isTerminated && bytes.prefix(2).elementsEqual(begin.prefix(bytes.count)) ? .torn : .foreign
      }
    }
  }

  /// The first document in question, and the last one; nil if they cannot be read.
  private(set) var first: DocumentKey?
  private(set) var last: DocumentKey?
  /// Whole documents in question, and bytes.
  private(set) var documents = 0
  private(set) var bytes: Int64 = 0
  /// The file where they begin, and at which byte.
  private(set) var place: (path: String, offset: Int64)?

  private let pending: () throws(CaptureFailure) -> DocumentKey?
  private var next: DocumentKey?
  private var hasNext = false

  /// True if nothing but a crash is needed to explain everything so far.
  var isExplained: Bool { place == nil }

  /// - Parameter pending: The documents that the journal has yet to commit, in order; nil after the last one.
  init(pending: @escaping () throws(CaptureFailure) -> DocumentKey?) { self.pending = pending }

  /// Judges the next line, of `count` bytes with its line feed, at `offset` of the file `path`.
  mutating func take(_ line: Line, count: Int, path: String, offset: Int64) throws(CaptureFailure) {
    if isExplained, try !isPending(line) { place = (path, offset) }
    guard !isExplained else { return }
    bytes += Int64(count)
    if case .document(let key) = line {
      documents += 1
      if first == nil { first = key }
      last = key
    }
  }

  private mutating func isPending(_ line: Line) throws(CaptureFailure) -> Bool {
    if line == .foreign { return false }
    while true {
      if !hasNext {
        next = try pending()
        hasNext = true
      }
      guard let next else { return false }
      guard case .document(let key) = line else { return true }
      hasNext = false
      if key == next { return true }
    }
  }

  /// What is in question, for an error or a warning.
  var description: String {
    guard let place else { return "nothing" }
    func text(_ key: DocumentKey) -> String { "sequence \(key.sequence) of session \(key.sessionID)" }
    var range = "no document of an agent"
    if let first, let last {
      range = first == last ? text(first) : "\(documents) documents, \(text(first)) to \(text(last))"
    }
    return "\(place.path) holds, from byte \(place.offset) on, \(bytes) bytes that the journal does not know (\(range))"
  }
}

extension OutputSurplus {
  /// A line longer than this is no one's document.
  private static let maxLineBytes = 1 << 30

  /// Judges what the file holds from `offset` on.
  mutating func read(_ path: String, from offset: Int64) throws(CaptureFailure) {
    let file = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard file >= 0 else {
      if errno == ENOENT { return }
      throw CaptureFailure.output("opening \(path): \(errnoText(errno))", errno)
    }
    defer { close(file) }
    var block = [UInt8](repeating: 0, count: 1 << 18)
    var line: [UInt8] = []
    var (position, start) = (offset, offset)
    while true {
      let count = unsafe block.withUnsafeMutableBytes { unsafe pread(file, $0.baseAddress, $0.count, Int(position)) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw CaptureFailure.output("reading \(path): \(errnoText(errno))", errno) }
      if count == 0 { break }
      position += Int64(count)
      var rest = block[0..<count]
      while let end = rest.firstIndex(of: 0x0A) {
        line += rest[rest.startIndex..<end]
        try take(Line(line, isTerminated: true), count: line.count + 1, path: path, offset: start)
        start += Int64(line.count + 1)
        line.removeAll(keepingCapacity: true)
        rest = rest[(end + 1)...]
      }
      line += rest
      guard line.count <= Self.maxLineBytes else {
        return try take(.foreign, count: line.count, path: path, offset: start)
      }
    }
    if !line.isEmpty { try take(Line(line, isTerminated: false), count: line.count, path: path, offset: start) }
  }
}
