/// Decides when a file of documents is complete, and the next one begins.
///
/// A file without documents is never complete. Time is in microseconds since 1970, because a file outlives the process, but counted by a
/// clock that no one sets while the process runs (``SystemClock/steadyMicroseconds()``). One that was set between two starts can make a
/// file of which it is the age younger or older once.
struct FileRotation: Equatable, Sendable {
  /// A file is complete before it would get larger than this; one batch of documents may go beyond. Nil for no bound.
  var maxBytes: Int64?
  /// So long after its first document a file is complete; nil for no bound.
  var maxAge: Duration?

  /// True if the file is complete, and `adding` bytes belong into the next one; with 0, only its age counts.
  func isDue(_ length: Int64, startedAt: Int64, now: Int64, adding: Int) -> Bool {
    guard length > 0 else { return false }
    if adding > 0, let maxBytes, length + Int64(adding) > maxBytes { return true }
    return timeLeft(length, startedAt: startedAt, now: now).map { $0 <= .zero } ?? false
  }

  /// How long it takes until age completes the file; nil if it never does.
  func timeLeft(_ length: Int64, startedAt: Int64, now: Int64) -> Duration? {
    guard length > 0, let maxAge else { return nil }
    return maxAge - .microseconds(now - startedAt)
  }
}
