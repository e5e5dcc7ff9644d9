/// Where an output stands.
public struct OutputRecord: Hashable, Sendable {
  /// Number of the file written to, from 1.
  public var file: Int64
  /// Bytes of it that hold whole, synced documents.
  public var length: Int64
  /// When its first document was written, microseconds since 1970, UTC; of no meaning while it is empty.
  public var startedAt: Int64
  /// The file's inode; nil if that is not known. It tells a file that has another name from one that is gone.
  public var inode: Int64?

  public init(file: Int64, length: Int64, startedAt: Int64, inode: Int64? = nil) {
    self.file = file
    self.length = length
    self.startedAt = startedAt
    self.inode = inode
  }

  /// Reads the record of the series whose name is bound.
  ///
  /// - Parameter version: The schema's.
  static func query(version: Int) -> String {
    "SELECT file, length, started_at, \(version < 5 ? "NULL" : "inode") FROM output WHERE name = ?1"
  }

  /// What a statement of ``query(version:)`` finds; nil if there is none.
  ///
  /// - Parameter name: Of the series.
  init?(named name: String, _ statement: Statement) throws(JournalError) {
    defer { statement.reset() }
    try statement.bind(1, copying: name)
    guard try statement.step() else { return nil }
    self.init(
      file: statement.integer(0), length: statement.integer(1), startedAt: statement.integer(2),
      inode: statement.isNull(3) ? nil : statement.integer(3))
  }
}
