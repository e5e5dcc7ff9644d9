/// Finds the offsets of a stream that its broker cannot send over AMQP 0-9-1, and where the stream goes on after them.
///
/// Clients of the stream protocol may write entries as bytes that are no AMQP message, or compress several into one. RabbitMQ closes
/// the connection with 541 when a consumer comes to the former, and 3.10 also at the latter; RabbitMQ 4 leaves those out. What it had
/// sent in front is lost with the connection, though it could be delivered. (Tried on 3.10.8, 4.0.5 and 4.3.6. Release 3.10 looks at a
/// chunk as a whole: what was published in one go with such an entry, before it, cannot be sent either.)
///
/// So after a 541 the next channels let fewer deliveries through, down to one, until one of them brings nothing new: then what
/// stands after the newest captured offset cannot be sent. With `consumer.undeliverable: wait` it is tried again from time to time.
/// With `skip` a search looks for the next offset that can:
///
///   1. each offset is tried alone, on a channel that begins with it, until one sends something, or nothing, as the end does;
///   2. then each is tried once more. An error that has passed meanwhile, of whatever kind, ends the search before what can be
///      sent after all: nothing is gone past but what failed twice, before and after something that did not.
///
/// A value without I/O.
struct UndeliverableOffsets: Equatable, Sendable {
  /// What a channel that begins with an offset brings.
  enum Outcome: Equatable, Sendable {
    /// The broker ended it by an error of its own.
    case fails
    /// The first delivery has this offset.
    case sends(Int64)
    /// Nothing came for a while, as at the stream's end.
    case isQuiet
    /// Nothing came, and the stream ends before what is looked for.
    case isMissing
  }

  /// What follows from an outcome.
  enum Step: Equatable, Sendable {
    /// The next offset is to be tried.
    case probe
    /// What was looked at is sent after all: the capture goes on where it was.
    case goOn
    /// Nothing follows from what was seen: all of it is to be tried again, later.
    case tryLater
    /// These offsets cannot be sent, and what stands after them can.
    case pass(ClosedRange<Int64>)
  }

  private enum Search: Equatable, Sendable {
    /// Everything from the first offset to the one before `next` has failed.
    case seeking(next: Int64)
    /// Everything before `end` has failed, and everything before `next` twice. At `end` the broker sent `sent` first: what
    /// stands between them is no message, as the rest of a compressed entry.
    case confirming(next: Int64, end: Int64, sent: Int64)
  }

  /// How many deliveries the next channel lets through; nil for what the settings say.
  private(set) var width: Int?
  /// A channel with one delivery has brought nothing new.
  private(set) var isBlocked = false
  /// The first offset that cannot be sent, if it can be named.
  private(set) var blocked: Int64?
  private var search: Search?
  /// What was gone past last: after another connection it need not be tried anew.
  private var passed: ClosedRange<Int64>?
  /// How often a search was for nothing since something new was captured.
  private var doubts = 0
  /// The offset with which the next channel begins is known.
  private var isNamed = true
  /// The newest captured offset when the newest channel began; nil before the first.
  private var newest: Int64?
  /// Captured up to here, the channels are as wide as the settings say.
  private var target: Int64 = 0

  /// A channel begins after this offset.
  mutating func channelBegins(after newest: Int64?) { self.newest = newest }

  /// The broker has ended a channel by an error of its own.
  ///
  /// - Parameters:
  ///   - newest: The newest captured offset; nil before the first.
  ///   - next: The offset with which the next channel begins, or the one after `newest`; nil if none can be named.
  ///   - configured: The prefetch count of the settings; 0 is no limit.
  mutating func failed(newest: Int64?, next: Int64?, configured: Int) {
    let limit = configured == 0 ? 128 : configured
    if width == nil { target = Self.sum(newest ?? next ?? 0, Int64(limit)) }
    let current = width ?? limit
    if newest != self.newest {
      isBlocked = false
      doubts = 0
      width = width ?? max(1, limit / 4)
    } else if current > 1 {
      width = max(1, current / 4)
    } else {
      isBlocked = true
      blocked = next
      search = next.map { .seeking(next: untried(from: $0)) }
    }
    isNamed = next != nil
  }

  /// True after a failure that tells nothing yet, if another channel, with fewer deliveries, tells more at once; or a search does.
  ///
  /// - Parameter skips: What cannot be sent is gone past.
  func goesOnAtOnce(skips: Bool) -> Bool {
    // If the next channel cannot begin where this one was to, each of them may lose something: that is no matter of haste.
    guard width != nil, isNamed, doubts < Self.quickDoubts else { return false }
    return !isBlocked || skips
  }

  /// Searches for nothing that may follow on each other without a rest.
  private static let quickDoubts = 2

  /// Each offset is tried for the second time.
  var isConfirming: Bool {
    if case .confirming = search { true } else { false }
  }

  /// The next offset to be tried; nil if there is nothing to look for.
  var probed: Int64? {
    switch search {
    case nil: nil
    case .seeking(let next), .confirming(let next, _, _): next
    }
  }

  /// What ``probed`` has brought.
  mutating func looked(_ outcome: Outcome) -> Step {
    guard let first = blocked, let search else { return .goOn }
    switch (search, outcome) {
    case (.seeking(let next), .fails):
      self.search = .seeking(next: Self.sum(next, 1))
      return .probe
    case (.seeking(let next), .sends), (.seeking(let next), .isQuiet):
      guard next > first else { return end(.goOn) }
      let start = untried(from: first)
      let sent = if case .sends(let offset) = outcome { max(offset, next) } else { next }
      if start >= next { return end(.pass(first...sent - 1)) }
      self.search = .confirming(next: start, end: next, sent: sent)
      return .probe
    case (.confirming(let next, let end, let sent), .fails):
      if next + 1 == end { return self.end(.pass(first...sent - 1)) }
      self.search = .confirming(next: next + 1, end: end, sent: sent)
      return .probe
    case (.confirming(let next, _, _), .sends(let offset)):
      return end(next > first ? .pass(first...max(offset, next) - 1) : .goOn)
    case (_, .isMissing):
      // A channel shows whether it still is the same stream.
      return end(.goOn)
    case (.confirming, .isQuiet):
      self.search = .seeking(next: first)
      doubts += 1
      return .tryLater
    }
  }

  /// The first offset from `first` on that was not gone past before.
  private func untried(from first: Int64) -> Int64 {
    guard let passed, passed.lowerBound == first else { return first }
    return Self.sum(passed.upperBound, 1)
  }

  /// What was seen cannot be relied on: all of it is to be tried again.
  mutating func doubt() {
    search = blocked.map { .seeking(next: $0) }
    passed = nil
    doubts += 1
  }

  /// One channel at the blocked offset has told that it stays so, if nothing is gone past.
  mutating func lookedAgain(_ outcome: Outcome) {
    if outcome != .fails { _ = end(.goOn) }
  }

  private mutating func end(_ step: Step) -> Step {
    // The first message from there on shows that the channel may be wide.
    if let blocked { target = blocked }
    if case .pass(let range) = step {
      target = Self.sum(range.upperBound, 1)
      passed = range
    } else {
      doubts += 1
    }
    isBlocked = false
    blocked = nil
    search = nil
    return step
  }

  /// Captured up to this offset: whether the next channel may be as wide as the settings say.
  mutating func widenIfDue(at newest: Int64?) -> Bool {
    guard width != nil, let newest, newest >= target else { return false }
    self = UndeliverableOffsets()
    return true
  }

  /// A channel has ended otherwise, and what was known may no longer be so; but for what was gone past, if it still is there.
  mutating func forget() {
    let kept = passed
    self = UndeliverableOffsets()
    passed = kept
  }

  /// The stream is another one.
  mutating func forgetAll() { self = UndeliverableOffsets() }

  /// Offsets may be as large as numbers get.
  private static func sum(_ offset: Int64, _ count: Int64) -> Int64 {
    let (sum, isTooLarge) = offset.addingReportingOverflow(count)
    return isTooLarge ? .max : sum
  }
}
