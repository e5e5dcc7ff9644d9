internal import Glibc

/// `PATH.damaged`, a small file that says: this journal must be salvaged before anybody writes to it again.
///
/// Damage in the middle of a backlog is only found when it is read, and opening does not read the backlog. So the one who
/// finds it leaves this mark, and the next opening does not begin where the last one failed. While a salvage puts the
/// files in their new places the mark also says where the damaged ones stand, so that a crash in between is mended
/// by salvaging again.
struct DamageMark: Equatable {
  /// What was found, one line.
  var reason: String
  /// The path under which the damaged database stands with its WAL, once both do.
  var setAside: String?

  static func path(_ file: String) -> String { "\(file).damaged" }

  /// The mark beside `file`; nil if there is none.
  init?(readingFor file: String) throws(JournalError) {
    guard try File.find(Self.path(file)) != .nothing else { return nil }
    let bytes = try File.head(Self.path(file), count: 16_384) ?? []
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
    reason = lines.first.map(String.init) ?? ""
    setAside = lines.count > 1 && !lines[1].isEmpty ? String(lines[1]) : nil
  }

  init(reason: String) {
    self.reason = String(reason.prefix(1_000)).split(separator: "\n").joined(separator: " ")
  }

  /// Puts the mark beside `file`, whole and durable.
  func write(for file: String, in directory: String) throws(JournalError) {
    let path = Self.path(file)
    try File.remove("\(path).new")
    try File.create("\(path).new", content: Array("\(reason)\n\(setAside ?? "")\n".utf8))
    try File.rename("\(path).new", to: path)
    try File.sync(directory)
  }

  /// Takes the mark away, durably.
  static func remove(for file: String, in directory: String) throws(JournalError) {
    try File.remove(path(file))
    try File.sync(directory)
  }
}

extension Journal {
  /// Remembers beside the file that `error` is damage in it: until ``salvage(_:acceptLoss:)`` has dealt with it,
  /// opening throws `.corrupt`. Does nothing for other errors.
  ///
  /// - Throws: if the mark cannot be written; the damage is then found again when it is read again.
  public static func markDamaged(by error: JournalError) throws(JournalError) {
    guard case .corrupt(let text) = error.kind else { return }
    let (directory, file) = try File.resolve(error.object)
    guard try DamageMark(readingFor: file) == nil else { return }
    try DamageMark(reason: "\(error.operation): \(text)").write(for: file, in: directory)
  }
}
