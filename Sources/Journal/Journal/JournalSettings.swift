/// Where a journal lives and how much it may be trusted with.
public struct JournalSettings: Sendable {
  /// What a successful commit promises.
  public enum Durability: Sendable, Equatable {
    /// `synchronous=FULL`: on stable storage when `write` returns. Needed wherever an acknowledgement rests on it.
    case full
    /// `synchronous=OFF`: survives the process, not a power cut. Only for temporary journals.
    case relaxed
  }

  /// The file's path; for a temporary journal the directory under which a private one is made.
  public var path: String
  /// Whether commits are synced.
  public var durability: Durability
  /// True for a journal in a directory of its own that is removed at close.
  public var temporary: Bool
  /// Bytes of a page of a new file: a power of two from 512 to 65536; an existing file keeps its own.
  ///
  /// CPU a message for append and prune in a steady state, batches of 500, two cores, SQLite 3.40.1: bodies of
  /// 200 bytes 2.3 µs at 4 KiB, 2.1 µs at 16 KiB, 2.2 µs at 32 KiB; of 2,000 bytes 13.3, 6.3 and 5.6 µs. Each commit
  /// writes two pages at least, which speaks for the smaller of the two good ones: with batches of 10 messages
  /// 16 KiB needs half the time of 32 KiB.
  public var pageSize: Int
  /// Milliseconds to wait for an outside connection that holds the write lock.
  package var busyMilliseconds: Int32 = 2_000

  /// A journal that outlives the process.
  public init(path: String, pageSize: Int = 16_384) {
    self.path = path
    durability = .full
    temporary = false
    self.pageSize = pageSize
  }

  /// A journal for this process alone, in a new private directory (mode 0700) under `directory`.
  public static func temporary(under directory: String, durability: Durability = .relaxed) -> JournalSettings {
    var settings = JournalSettings(path: directory)
    settings.temporary = true
    settings.durability = durability
    return settings
  }
}
