/// How far a journal had come, remembered beside it: what a WAL that was cut, damage in its newest transaction, or an older copy of
/// the file cannot hide.
///
/// Whatever is missing at a database's end leaves a database that is sound, only older; SQLite cannot know better. So after each commit,
/// before anything is acknowledged on the strength of it, the counters are written to the lock file too. They are not synced: after a
/// `kill -9` they are those of the last commit, after a power cut those of some earlier one, or unreadable, which then tells nothing.
/// They are never newer than what was durable. So a database that is behind them has lost something.
struct HighWaterMark: Equatable {
  /// Where its line begins in the lock file, after who holds the lock.
  static let offset = 512
  /// Of the journal; that of another one means nothing.
  var identifier: String
  var last: Int64
  var emitted: Int64
  var committed: Int64
  /// Body bytes ever appended.
  var bytes: Int64

  init(identifier: String, _ counters: Counters) {
    self.identifier = identifier
    (last, emitted, committed, bytes) = (counters.last, counters.emitted, counters.committed, counters.bytes)
  }

  /// Bytes of its line, which are always the same, so that nothing of an older one is left behind it.
  static let lineBytes = 256

  /// One line, readable, with a checksum at its end.
  var line: [UInt8] {
    var line = Array(text.utf8)
    line += Array(" check \(Self.check(line))".utf8)
    line += [UInt8](repeating: UInt8(ascii: " "), count: max(0, Self.lineBytes - 1 - line.count))
    return line + [UInt8(ascii: "\n")]
  }

  private var text: String {
    "journal \(identifier) last \(last) emitted \(emitted) committed \(committed) bytes \(bytes)"
  }

  private static func check(_ bytes: [UInt8]) -> UInt64 {
    var digest = RowDigest()
    digest.add(bytes.span, isText: true)
    return digest.value
  }

  /// Reads ``line``; nil for anything else.
  init?(line: [UInt8]) {
    let words = String(decoding: line, as: UTF8.self).split(separator: " ").map(String.init)
    guard words.count >= 12, words[0] == "journal" else { return nil }
    let numbers = [3, 5, 7, 9].compactMap { Int64(words[$0]) }
    guard numbers.count == 4 else { return nil }
    (identifier, last, emitted, committed, bytes) = (words[1], numbers[0], numbers[1], numbers[2], numbers[3])
    guard self.line.elementsEqual(line), 0 <= committed, committed <= emitted, emitted <= last,
      last < Statement.numbers.upperBound / 2, (0..<Statement.numbers.upperBound / 2).contains(bytes)
    else { return nil }
  }

  /// What stands in a lock file, held or not; nil if nothing does.
  init?(lockFile path: String) {
    let bytes = (try? File.head(path, count: Self.offset + Self.lineBytes)) ?? []
    self.init(line: Array(bytes.dropFirst(Self.offset)))
  }

  /// Throws `.corrupt` if a journal that was opened is behind it.
  func refuse(_ counters: Counters, of identifier: String, at path: String) throws(JournalError) {
    guard identifier == self.identifier, counters.last < last else { return }
    throw JournalError(
      kind: .corrupt(
        "it ends with message \(counters.last), but had come to \(last): the end of its -wal file is damaged or missing, or an older "
          + "copy was put in its place"), operation: "check the journal", object: path)
  }
}
