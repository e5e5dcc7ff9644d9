import Platform

/// The wish that documents go on in the next file; see ``FileSink``.
final class NextFileRequest: Sendable {
  private let wanted = Locked(false)

  /// Documents go on in the next file: from the next batch on, or within a second if none comes. A file without
  /// documents stays. May be called on any thread.
  func request() { wanted.withLock { $0 = true } }

  var isPending: Bool { wanted.withLock { $0 } }
  func honoured() { wanted.withLock { $0 = false } }
}
