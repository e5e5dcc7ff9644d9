/// What stands in a write-ahead log, looked at without SQLite.
///
/// SQLite reads a WAL up to the first frame whose checksum does not fit, and takes that for the end: it is what a power cut in the
/// middle of a commit leaves (https://www.sqlite.org/walformat.html#recovery). One changed bit has the same effect, and then whatever was
/// committed after it is forgotten without a word. The two can be told apart. Every commit of ours is synced before the next one is
/// written, so a power cut can tear the newest transaction and no other: a transaction that follows upon one that is torn proves damage.
/// A frame carries the checksum over all frames before it, so each frame after the bad one can be checked against its
/// neighbour, and be used.
///
/// Not found by this: a WAL that was cut, and damage in the newest transaction. See ``HighWaterMark``.
///
/// A value that was read once; the file may have changed since. Numbers in it are of SQLite's file format,
/// https://www.sqlite.org/fileformat.html#walformat.
struct WriteAheadLog: Equatable {
  struct Frame: Equatable {
    /// Number of the page, from 1; of no meaning unless the frame is sound.
    var page: Int
    /// Pages of the database after the commit that ends with this frame; 0 if none does.
    var commit: Int
    /// It has the salts of this generation of the log.
    var belongs: Bool
    /// It belongs, and its checksum follows on the one before it.
    var isSound: Bool
  }

  static let headerBytes = 32
  static let frameHeaderBytes = 24
  private static let magic: UInt32 = 0x377f_0682
  /// Bytes read at once.
  private static let chunkBytes = 1 << 20

  /// The path of the log.
  let path: String
  let pageSize: Int
  /// Its first 32 bytes are what SQLite wrote.
  let hasSoundHeader: Bool
  let frames: [Frame]

  /// Reads the log at `path`.
  ///
  /// - Parameter pageSize: Of the database, for a log whose own header cannot be read.
  /// - Returns: Nil if there is none, or nothing is in it, or SQLite has it open in this process.
  /// - Throws: What the system says if it cannot be read.
  init?(reading path: String, pageSize: Int) throws(JournalError) {
    guard try File.find(path) == .regular,
      let content = try File.reading(path, { (read) throws(JournalError) in try Self.parse(read, pageSize: pageSize) }),
      let content
    else { return nil }
    self.path = path
    self.pageSize = content.pageSize
    (hasSoundHeader, frames) = (content.isSound, content.frames)
  }

  private struct Content {
    var pageSize: Int
    var isSound: Bool
    var frames: [Frame]
  }

  private static func parse(
    _ read: File.Read, pageSize: Int
  ) throws(JournalError) -> Content? {
    let header = try read(0, headerBytes)
    guard header.count == headerBytes else { return nil }
    func number(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
      bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }
    func pair(_ bytes: [UInt8], _ offset: Int) -> Sum { Sum(number(bytes, offset), number(bytes, offset + 4)) }

    let isBigEndian = number(header, 0) == magic | 1
    var computed = Sum(0, 0)
    computed.add(header.span.extracting(0..<24), isBigEndian: isBigEndian)
    let found = Int(number(header, 8))
    let isSound =
      number(header, 0) | 1 == magic | 1 && computed == pair(header, 24) && (512...65_536).contains(found)
      && found & (found - 1) == 0
    let size = isSound ? found : pageSize
    let frameBytes = frameHeaderBytes + size
    let frameCount = max(1, chunkBytes / frameBytes)
    // Without a sound header the first frame says which generation this is, and either sum of the header may be the right one.
    var salts = pair(header, 16)
    var before = [pair(header, 24), computed]
    var frames: [Frame] = []
    var offset = headerBytes
    while case let chunk = try read(offset, frameCount * frameBytes), chunk.count >= frameBytes {
      for start in stride(from: 0, through: chunk.count - frameBytes, by: frameBytes) {
        if frames.isEmpty && !isSound { salts = pair(chunk, start + 8) }
        let stored = pair(chunk, start + 16)
        let belongs = pair(chunk, start + 8) == salts
        let follows = before.contains { sum in
          var sum = sum
          sum.add(chunk.span.extracting(start..<start + 8), isBigEndian: isBigEndian)
          sum.add(
            chunk.span.extracting(start + frameHeaderBytes..<start + frameBytes), isBigEndian: isBigEndian)
          return sum == stored
        }
        let page = Int(number(chunk, start))
        frames.append(
          Frame(
            page: page, commit: Int(number(chunk, start + 4)), belongs: belongs,
            isSound: belongs && follows && page > 0))
        before = [stored]
      }
      offset += chunk.count / frameBytes * frameBytes
    }
    return Content(pageSize: size, isSound: isSound, frames: frames)
  }

  // MARK: Damage

  /// What is wrong with it that no power cut explains, in words; nil if nothing is.
  var damage: String? {
    guard hasSoundHeader else {
      let commits = frames.count { $0.isSound && $0.commit > 0 }
      return commits == 0
        ? nil : "the header of \(path) does not fit its checksum, but \(Self.commits(commits)) after it"
    }
    guard let bad = frames.firstIndex(where: { !$0.isSound }),
      // The end of the transaction that it belongs to: a power cut may have torn that one.
      let end = frames[bad...].firstIndex(where: { $0.belongs && $0.commit > 0 })
    else { return nil }
    // Only commits prove anything: a transaction that was given up may have left frames behind, which the newest one overwrote in part.
    let commits = frames[(end + 1)...].count { $0.isSound && $0.commit > 0 }
    guard commits > 0 else { return nil }
    let offset = Self.headerBytes + bad * (Self.frameHeaderBytes + pageSize)
    return """
      frame \(bad + 1) of \(path) (at byte \(offset)) does not fit its checksum, but \(Self.commits(commits)) after it
      """
  }

  private static func commits(_ count: Int) -> String { count == 1 ? "1 commit stands" : "\(count) commits stand" }

  /// Throws `.corrupt` if the WAL of the journal at `file` is damaged: SQLite would forget what stands after the damage, and copy the
  /// rest into the file.
  static func refuseDamage(of file: String) throws(JournalError) {
    guard let found = try damage(of: file) else { return }
    // Someone else may have begun it anew while it was read.
    guard try damage(of: file) == found else { return try refuseDamage(of: file) }
    throw JournalError(kind: .corrupt(found), operation: "read the write-ahead log", object: file)
  }

  private static func damage(of file: String) throws(JournalError) -> String? {
    try WriteAheadLog(of: file)?.damage
  }

  /// The log of the database at `file`.
  init?(of file: String) throws(JournalError) {
    guard let head = try File.head(file, count: 18), head.count == 18 else { return nil }
    // 1 stands for 65,536.
    let size = Int(head[16]) << 8 | Int(head[17])
    try self.init(reading: "\(file)-wal", pageSize: size == 1 ? 65_536 : max(512, size))
  }

  // MARK: Mending

  /// Makes a database of the one at `file` and of everything that is sound in this log, up to the last commit, at `new`. Pages whose
  /// newest version is damaged have an older one there, or none.
  func mend(_ file: String, into new: String) throws(JournalError) {
    try File.copy(file, to: new)
    guard let last = mendable, let size = frames[...last].last(where: { $0.isSound && $0.commit > 0 })?.commit else {
      return
    }
    try File.patch(new, from: path, size: size * pageSize) { (move) throws(JournalError) in
      for (index, frame) in frames[...last].enumerated() where frame.isSound {
        let start = Self.headerBytes + index * (Self.frameHeaderBytes + pageSize) + Self.frameHeaderBytes
        _ = try move(start, (frame.page - 1) * pageSize, pageSize)
      }
    }
  }

  /// The last frame of the last transaction that is known to be committed: the newest one may be torn.
  private var mendable: Int? {
    guard let last = frames.lastIndex(where: { $0.isSound && $0.commit > 0 }) else { return nil }
    let start = frames[..<last].lastIndex { $0.belongs && $0.commit > 0 }.map { $0 + 1 } ?? 0
    return frames[start...last].allSatisfy(\.isSound) ? last : start > 0 ? start - 1 : nil
  }

  /// SQLite's checksum: two sums of 32 bits over pairs of words.
  struct Sum: Equatable {
    private var first: UInt32
    private var second: UInt32

    init(_ first: UInt32, _ second: UInt32) { (self.first, self.second) = (first, second) }

    /// - Parameter bytes: Multiples of 8.
    mutating func add(_ bytes: Span<UInt8>, isBigEndian: Bool) {
      var (first, second) = (first, second)
      unsafe bytes.withUnsafeBytes { bytes in
        for offset in stride(from: 0, to: bytes.count, by: 8) {
          let one = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
          let two = unsafe bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
          first &+= (isBigEndian ? UInt32(bigEndian: one) : UInt32(littleEndian: one)) &+ second
          second &+= (isBigEndian ? UInt32(bigEndian: two) : UInt32(littleEndian: two)) &+ first
        }
      }
      (self.first, self.second) = (first, second)
    }
  }
}
