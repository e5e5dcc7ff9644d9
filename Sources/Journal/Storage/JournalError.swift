internal import CSQLite
internal import Glibc
internal import Platform

/// A failure of one operation on a journal.
public struct JournalError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Why nothing more can be written for now.
  public enum Shortage: Sendable, Equatable {
    /// The file system's own (ENOSPC), or a limit of the database.
    case disk
    /// The quota of a user, group, project or data set (EDQUOT).
    case quota
    /// The process's limit for the size of one file (EFBIG; `ulimit -f`, systemd's `LimitFSIZE=`), or the file system's.
    case fileSize
    /// The file system has become read-only (EROFS), as systems do it after an error of the disk.
    case readOnly

    /// The shortage that an errno tells of; nil for all others.
    init?(errno number: Int32) {
      switch number {
      case ENOSPC: self = .disk
      case EDQUOT: self = .quota
      case EFBIG: self = .fileSize
      default: return nil
      }
    }
  }

  /// What went wrong, one case per thing that a caller treats differently.
  public enum Kind: Sendable, Equatable {
    /// No space (`SQLITE_FULL`, ENOSPC, EDQUOT, EFBIG), or none that may be written (EROFS). Nothing was changed; may be retried.
    case full(Shortage)
    /// An outside connection held the write lock for too long. Nothing was changed; may be retried.
    case busy
    /// Reading, writing or syncing failed: the file's state is unknown, the process must stop acknowledging.
    case io(String)
    /// The file contradicts SQLite's format or the journal's invariants. It was not changed.
    case corrupt(String)
    /// The file is something else. It was not touched.
    case notAJournal(String)
    /// The file was written by a newer version. It was not changed.
    case newerSchema(found: Int, supported: Int)
    /// Another process (or another part of this one) has the journal open.
    case locked(holder: String)
    /// Another writer opened the journal in spite of the lock; this one must stop.
    case fenced
    /// A file of the open journal was moved, deleted or replaced. What that means for what it held is in the text.
    case moved(String)
    /// The directory is on a file system on which SQLite's shared memory or locks cannot be relied on.
    case unsupportedFileSystem(String)
    case permission(String)
    /// The caller asked for something that makes no sense. Nothing was changed.
    case invalid(String)
    /// Any other result of SQLite.
    case library(code: Int32, text: String)
  }

  /// What went wrong; decides between retry and stop.
  public let kind: Kind
  /// What was being done, for example `append`.
  public let operation: String
  /// What it was done to: the path of a file.
  public let object: String

  /// Of a salvage: it is about the new journal, and not about the damaged one.
  var isOfSalvaged = false

  public init(kind: Kind, operation: String, object: String) {
    self.kind = kind
    self.operation = operation
    self.object = object
  }

  /// True if nothing was changed and the same call may succeed later.
  public var isRetryable: Bool { isFull || kind == .busy }

  /// True if there was no space that could be written.
  public var isFull: Bool {
    if case .full = kind { return true }
    return false
  }

  /// True if the open journal must not be used any more: neither retryable nor the caller's mistake.
  var isFatal: Bool {
    switch kind {
    case .full, .busy, .invalid: false
    case .io, .corrupt, .notAJournal, .newerSchema, .locked, .fenced, .moved, .unsupportedFileSystem, .permission,
      .library:
      true
    }
  }

  /// One line for a log: operation and object first, then the cause.
  public var description: String { "journal \(object): \(operation): \(cause)" }

  private var cause: String {
    switch kind {
    case .full(.disk): "no space left"
    case .full(.quota): "no space left: the disk quota is used up"
    case .full(.readOnly): "the file system is read-only; the system's log (dmesg) says why"
    case .full(.fileSize): "no space left: the limit for the size of a file is reached (ulimit -f, LimitFSIZE=)"
    case .busy: "another program holds the write lock"
    case .io(let text): "input/output error: \(text)"
    case .corrupt(let text): "damaged: \(text)"
    case .notAJournal(let text): "not a journal of source-amqp: \(text)"
    case .newerSchema(let found, let supported):
      "written by a newer version (schema \(found), this version knows up to \(supported))"
    case .locked(let holder): "in use by \(holder)"
    case .fenced: "another writer has taken over"
    case .moved(let text): text
    case .unsupportedFileSystem(let name): "file system \(name) is not supported, use a local disk"
    case .permission(let text): "not permitted: \(text)"
    case .invalid(let text): text
    case .library(let code, let text): "SQLite error \(code): \(text)"
    }
  }
}

extension JournalError {
  /// The error for a failed system call.
  static func system(_ number: Int32, _ operation: String, _ object: String) -> JournalError {
    let text = systemText(number)
    if let shortage = Shortage(errno: number) {
      return JournalError(kind: .full(shortage), operation: operation, object: object)
    }
    let kind: Kind =
      switch number {
      case EACCES, EPERM, EROFS: .permission(text)
      case ENOENT, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG: .invalid(text)
      default: .io(text)
      }
    return JournalError(kind: kind, operation: operation, object: object)
  }

  /// The error for a result code of SQLite.
  ///
  /// - Parameters:
  ///   - code: An extended result code, https://www.sqlite.org/rescode.html.
  ///   - number: `errno` of the system call after it, 0 if there was none.
  static func library(
    code: Int32, text: String, errno number: Int32, operation: String, object: String
  ) -> JournalError {
    // SQLite reports ENOSPC of a write as SQLITE_FULL, but a full quota, a file that may not grow, or a WAL index that
    // cannot, as an I/O error. A failed sync is never a lack of space that one could wait for: the kernel marks the pages clean, and
    // the next sync succeeds without having written them.
    let isSync = code == SQLITE_IOERR | (4 << 8) || code == SQLITE_IOERR | (5 << 8)
    let shortage = number == EROFS ? Shortage.readOnly : Shortage(errno: number)
    if code & 0xff == SQLITE_IOERR, !isSync, let shortage {
      return JournalError(kind: .full(shortage), operation: operation, object: object)
    }
    let kind: Kind =
      switch code & 0xff {
      case SQLITE_FULL: .full(.disk)
      case SQLITE_BUSY, SQLITE_LOCKED: .busy
      case SQLITE_IOERR: .io(number == 0 ? "\(text) (\(code))" : "\(text) (\(code), errno \(number))")
      case SQLITE_CORRUPT: .corrupt("\(text) (\(code))")
      case SQLITE_NOTADB: .notAJournal("no SQLite database")
      case SQLITE_PERM, SQLITE_READONLY, SQLITE_AUTH: .permission(text)
      case SQLITE_CANTOPEN where number == EACCES || number == EPERM || number == EROFS: .permission(text)
      case SQLITE_TOOBIG: .invalid("longer than SQLite can store")
      default: .library(code: code, text: text)
      }
    return JournalError(kind: kind, operation: operation, object: object)
  }
}
