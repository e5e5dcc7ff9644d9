import Glibc
import Journal
import Platform

/// The files `STEM-000001.jsonl`, `STEM-000002.jsonl` … of one directory, which one process writes at a time.
struct OutputSeries: Equatable, Sendable {
  let directory: String
  let stem: String

  /// Longest stem: a file name has at most 255 bytes, and `-000001.jsonl` needs 13.
  static let maxStemBytes = 255 - 13

  func path(_ number: Int64) -> String {
    let digits = String(number)
    let zeros = String(repeating: "0", count: max(0, 6 - digits.count))
    return "\(directory)/\(stem)-\(zeros)\(digits).jsonl"
  }

  /// The numbers above `number` that have a file, in order; there may be gaps.
  func numbers(after number: Int64) throws(CaptureFailure) -> [Int64] {
    try names().compactMap(self.number).filter { $0 > number }.sorted()
  }

  /// The paths of everything in the directory, in no order.
  func files() throws(CaptureFailure) -> [String] {
    try names().map { "\(directory)/\(String(decoding: $0, as: UTF8.self))" }
  }

  private func names() throws(CaptureFailure) -> [[UInt8]] {
    guard let stream = unsafe opendir(directory) else {
      throw CaptureFailure.output("reading directory \(directory): \(errnoText(errno))", errno)
    }
    defer { unsafe closedir(stream) }
    var found: [[UInt8]] = []
    errno = 0
    while let entry = unsafe readdir(stream) {
      found.append(
        unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
          unsafe pointer.withMemoryRebound(to: UInt8.self, capacity: 256) { unsafe Self.bytes($0) }
        })
      errno = 0
    }
    guard errno == 0 else {
      throw CaptureFailure.output("reading directory \(directory): \(errnoText(errno))", errno)
    }
    return found
  }

  /// The number of a file of that name in this series; nil if it is no such file.
  func number(of name: [UInt8]) -> Int64? {
    let (begin, end) = (Array("\(stem)-".utf8), Array(".jsonl".utf8))
    guard name.starts(with: begin), name.count >= begin.count + 6 + end.count, name.suffix(end.count).elementsEqual(end)
    else { return nil }
    let digits = name[begin.count..<name.count - end.count]
    guard digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
      digits.count == 6 || digits.first != 48
    else { return nil }
    // Files are counted on from the newest.
    return Int64(String(decoding: digits, as: UTF8.self)).flatMap { $0 < 1 << 61 ? $0 : nil }
  }

  /// The path of the series' lock file.
  var lockPath: String { "\(directory)/.\(stem).lock" }

  /// Locks the series for this process until the result is released, or the process ends, however it does.
  func lock() throws(CaptureFailure) -> FileLock {
    do throws(JournalError) { return try FileLock(path: lockPath) } catch {
      guard case .locked(let holder) = error.kind else {
        throw CaptureFailure(cause: "output", description: "\(error)", needsUser: true)
      }
      throw CaptureFailure(
        cause: "output",
        description:
          "the files \(directory)/\(stem)-*.jsonl are written by \(holder); stop it, or give --output another directory",
        needsUser: true)
    }
  }

  private static func bytes(_ name: UnsafePointer<UInt8>) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < 256, unsafe name[bytes.count] != 0 { unsafe bytes.append(name[bytes.count]) }
    return bytes
  }
}

extension OutputSeries {
  /// A stream's name as a file's. What a path gives a meaning to becomes `_`, and what is too long is cut; then a digest
  /// of the name follows, so that two names do not have one stem by accident.
  static func stem(_ stream: String) -> String {
    let plain = plainStem(stream)
    if plain.utf8.elementsEqual(stream.utf8), plain.utf8.count <= maxStemBytes { return plain }
    let digest = "-" + digest(stream)
    var kept = ""
    var room = maxStemBytes - digest.utf8.count
    for scalar in plain.unicodeScalars {
      room -= UTF8.width(scalar)
      if room < 0 { break }
      kept.unicodeScalars.append(scalar)
    }
    return kept + digest
  }

  /// What the files of the streams begin with; no two have one stem. A journal that has written under the first version's name of a stream
  /// goes on there, unless that is another stream's own name.
  ///
  /// - Parameters:
  ///   - others: Streams that the journal knows beside these.
  ///   - isKnown: Whether the journal has written a series of that stem.
  static func stems(
    _ streams: [String], others: [String] = [], isKnown: (String) throws(JournalError) -> Bool
  ) throws(JournalError) -> [String] {
    var stems: [String] = []
    for stream in streams {
      let (own, plain) = (stem(stream), plainStem(stream))
      let isOthers = (streams + others).contains { $0.isSameName(as: plain) && !$0.isSameName(as: stream) }
      let isTaken = isOthers || stems.contains { $0.isSameName(as: plain) }
      if isTaken {
        stems.append(own)
      } else if try isKnown(own) {
        stems.append(own)
      } else {
        stems.append(try isKnown(plain) ? plain : own)
      }
    }
    return stems
  }

  /// Version 0.1.0's stem, under which `a/b` and `a_b` are one. A journal that knows it goes on with it.
  static func plainStem(_ stream: String) -> String {
    let name = String(stream.map { $0 == "/" || $0 == "\0" ? "_" : $0 })
    return name.hasPrefix(".") ? "_" + name.dropFirst() : name
  }

  /// FNV-1a, 64 bits: tells names apart that no one chose to be alike. http://www.isthe.com/chongo/tech/comp/fnv/
  private static func digest(_ text: String) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
