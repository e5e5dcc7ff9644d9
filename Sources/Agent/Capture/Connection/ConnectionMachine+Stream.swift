import AMQP
import Platform

/// What is peculiar to streams: what their broker cannot send, and whether a stream still is the one that was captured.
extension ConnectionMachine {
  /// A stream's capture, as it stands when its channel has failed.
  struct StreamProgress: Equatable, Sendable {
    /// The newest captured offset; nil if there is none, as of the next two.
    var offset: Int64?
    /// The newest offset that was captured or gone past.
    var newest: Int64?
    /// The first offset that is not captured yet.
    var next: Int64?
    /// The newest captured message has not come on the channel.
    var isUnconfirmed: Bool
    /// The journal's thread has decided about all that was delivered.
    var isDecided: Bool
  }

  /// Takes the failure of a stream's channel into account, and says more of one that an offset is to blame for.
  mutating func accounted(for failure: CaptureFailure, _ progress: StreamProgress) -> (CaptureFailure, [Action]) {
    guard failure.kind == .internalError, hasConsumed else {
      undeliverableOffsets.forget()
      return (failure, [.forgetPassed])
    }
    guard progress.isDecided else { return (failure, []) }
    // If the newest captured message itself does not come, nothing shows that the stream is the one that was captured.
    undeliverableOffsets.failed(
      newest: progress.newest, next: progress.isUnconfirmed ? nil : progress.next, configured: settings.prefetch)
    guard undeliverableOffsets.isBlocked else {
      return (failure, [.narrows(failure, prefetch: undeliverableOffsets.width ?? settings.prefetch)])
    }
    return (
      .undeliverable(undeliverableOffsets.blocked, ofStream: settings.queue, captured: progress.offset, "\(failure)"),
      []
    )
  }

  /// Counts the offsets that were not gone past before, and remembers that they were.
  ///
  /// - Returns: Nil for none.
  private mutating func countFirstPassed(in range: ClosedRange<Int64>) -> Int64? {
    let from = max(range.lowerBound, newestPassed.map { $0 < .max ? $0 + 1 : $0 } ?? 0)
    guard from <= range.upperBound else { return nil }
    newestPassed = range.upperBound
    return range.upperBound - from + 1
  }

  // MARK: - Another stream

  /// By what it shows that a stream is another one.
  enum Evidence: Equatable, Sendable {
    /// It ends there, before what was captured.
    case endsAt(Int64)
    /// Another message stands where the newest captured one was.
    case otherMessage
  }

  static let anotherStream = StatusBoard.State.reconnecting(
    cause: "another_stream", reason: "the stream was made anew")

  /// The stream is another one, which is read from where the settings say.
  private mutating func streamWasReplaced(_ evidence: Evidence) -> [Action] {
    forgetStream()
    return [.forgetStream(evidence), .status(Self.anotherStream)]
  }

  mutating func forgetStream() {
    undeliverableOffsets.forgetAll()
    newestPassed = nil
  }

  /// What a look at a stream's end has brought.
  enum EndFound {
    /// The last message; nil if none came.
    case message(StreamEnd.Message?)
    /// The connection failed while it was read.
    case notSent(CaptureFailure)
    case notConnected(CaptureFailure)
  }

  /// What stands at the stream's end was looked at. That the broker cannot send it stands in the way; all else that fails here fails again
  /// at the next attempt, which reports it.
  ///
  /// - Parameter newest: What was captured last; nil if nothing was.
  mutating func sawEnd(
    _ found: EndFound, _ newest: StreamResumption.Newest?, at now: Instant, jitter: Double
  ) -> ([Action], Step) {
    switch found {
    case .notSent(let failure) where failure.kind == .internalError:
      return stuck(
        .unknownEnd(ofStream: settings.queue, captured: newest?.offset ?? 0, failure), at: now, jitter: jitter)
    case .notSent(let failure), .notConnected(let failure):
      return ([], failure.kind == .abandoned ? .stop : .connect)
    case .message(let last):
      guard let newest, streamEnd.isAnother(last, captured: newest.offset, known: newest.known) else {
        return ([], .connect)
      }
      return (streamWasReplaced(.endsAt(last?.offset ?? 0)), .connect)
    }
  }

  // MARK: - What has to be known before a channel begins

  /// How often it is told that a search goes on.
  private static let searchInterval = Duration.seconds(10)

  /// A channel is to begin: an offset of a stream that could not be sent is looked for first.
  ///
  /// - Parameters:
  ///   - captured: The newest captured message of a stream; nil before the first.
  ///   - nodes: How many nodes the settings name.
  mutating func begins(_ captured: OffsetSearch.Captured?, nodes: Int, at now: Instant) -> ([Action], Step) {
    guard let first = undeliverableOffsets.blocked else { return ([], .open) }
    let search = OffsetSearch(
      first: first, skips: settings.skipsUndeliverable, captured: captured, nodes: nodes)
    self.search = search
    searchToldAt = now
    var actions: [Action] = []
    if search.skips {
      let failure = failure(of: search)
      actions = [
        .searches(failure), .status(.reconnecting(cause: failure.cause, reason: failure.description)),
      ]
    }
    let (more, step) = follow(search.begin(undeliverableOffsets), search, at: now, jitter: 0)
    return (actions + more, step)
  }

  /// What was looked at has brought this.
  mutating func looked(_ found: OffsetSearch.Found, at now: Instant, jitter: Double) -> ([Action], Step) {
    guard var search else { return ([], .connect) }
    let step = search.looked(found, &undeliverableOffsets)
    self.search = search
    return follow(step, search, at: now, jitter: jitter)
  }

  private mutating func follow(
    _ step: OffsetSearch.Step, _ search: OffsetSearch, at now: Instant, jitter: Double
  ) -> ([Action], Step) {
    switch step {
    case .look(let look):
      guard search.skips, now - searchToldAt > Self.searchInterval else { return ([], .look(look)) }
      searchToldAt = now
      return ([.stillSearches(first: search.first, now: undeliverableOffsets.probed ?? search.first)], .look(look))
    case .begin: return ([], .open)
    case .report: return stuck(failure(of: search), at: now, jitter: jitter)
    case .pass(let range): return ([.pass(range, fresh: countFirstPassed(in: range))], .open)
    case .anotherStream: return (streamWasReplaced(.otherMessage), .open)
    }
  }

  private func failure(of search: OffsetSearch) -> CaptureFailure {
    .undeliverable(
      search.first, ofStream: settings.queue, captured: search.captured?.offset,
      "it ends the channel by an internal error (541)")
  }
}
