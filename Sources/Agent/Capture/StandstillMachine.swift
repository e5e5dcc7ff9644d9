import AMQP
import Platform

/// Notices a consumer that stands still: it gets nothing, although the broker believes that it consumes.
///
/// A stream's consumer whose node lost the stream's leader for a moment gets nothing any more, for ever, and nothing says so:
/// no cancel, no close, and heartbeats go on. A new consumer goes on at once. So when nothing has come for a minute though
/// there is room for it, the queue is asked; if its answer does not fit the silence, it is consumed anew, at growing
/// intervals while that changes nothing. A queue that does not answer has no leader.
///
/// What an answer says differs by the queue:
///   - A classic or quorum queue tells its ready messages. There are some, and we get none: the consumer stands still, or
///     another one is preferred (a single active consumer, a higher priority).
///   - A quorum queue without a leader is answered for by its node, with no message and no consumer. But we are its consumer.
///   - A stream tells how many offsets it has, delivered or not. They grow with the offsets that we get; or else some of
///     them were not delivered to us. A node without a leader's numbers says 0, which tells nothing.
///
/// A queue that is fine may have lost its bindings: who deletes an exchange and makes it again takes them away without a word to
/// the queue's consumers. So it is bound again, which changes nothing if they are there.
///
/// Of the consumers of a queue with a single active one, all but that one get nothing, and nothing tells them. One that got nothing
/// since it began, on a queue with several, stands by, most likely. That is no fault, unless messages wait and do not get fewer.
///
/// A value without clock and I/O. It outlives its channels, so that a new one does not begin to hope anew.
struct StandstillMachine {
  enum Action: Equatable {
    case none
    /// Ask the queue, on a channel of its own.
    case ask
    /// The consumer is to be given up for another, for this reason.
    case consumeAnew(Finding)
    /// Nothing comes for this reason, and only time helps.
    case report(Finding)
    /// What was reported has passed.
    case recovered
    /// Bind the queue again, on a channel of its own.
    case bind
    /// That was done, and it may have been needed.
    case boundAgain
  }

  /// Why nothing comes.
  enum Finding: Equatable {
    /// The question has had no answer.
    case noAnswer
    /// The queue does not know our consumer.
    case noConsumer
    /// The queue has messages that are ready, and so many consumers.
    case holds(messages: UInt32, consumers: UInt32)
    /// The stream has another number of messages than what came explains.
    case undelivered
    /// The broker refused to tell.
    case refused(String)
    /// The broker refused to bind the queue again.
    case unbound(String)
    /// Another consumer is the single active one. `isStuck`: messages wait, and are no fewer than a while ago.
    case standsBy(messages: UInt32, isStuck: Bool)
  }

  /// What has come since the last turn.
  enum Arrival: Equatable {
    case nothing
    /// Only what had come before.
    case old
    case new
  }

  private enum State: Equatable {
    /// Nothing came since then. Leaves by `ask`.
    case watching(since: Instant)
    /// The queue was asked then. Leaves by its answer, or by an arrival.
    case asking(since: Instant, isReported: Bool)
    /// The queue is being bound since then. Leaves by the answer, or by an arrival.
    case binding(since: Instant, isReported: Bool)
  }

  /// How many offsets a stream had when its newest one that we had was this.
  private struct Count: Equatable {
    var messages: UInt32
    var offset: Int64?
  }

  /// After so long a silence the queue is asked.
  static let silence = Duration.seconds(60)
  /// How long an answer may take.
  static let patience = Duration.seconds(15)
  /// How soon a queue that did not know our consumer, or could not be bound, is asked again.
  static let retryDelay = Duration.seconds(10)
  /// After so many attempts that changed nothing the interval grows no more: half an hour.
  private static let growthLimit = 5
  /// How often a queue may say that it does not know us, before it is consumed anew.
  private static let unknownLimit = 3
  /// Between two times at which it is told that a queue was bound again: nothing shows whether it was needed.
  private static let boundAgainPause = Duration.seconds(3600)

  /// The settings name bindings that are made at each connection.
  let binds: Bool
  /// The queue is declared with a single active consumer.
  let isSingleActive: Bool
  private var state = State.watching(since: .distantPast)
  private var kind = QueueNature.Kind.unknown
  /// The stream's numbers at its last answer, or as the channel began; nil before.
  private var known: Count?
  /// How often the queue was consumed anew since something new came, the attempt that begins now included.
  private(set) var attempts = 0
  /// Answers in a row that do not know our consumer.
  private var unknownAnswers = 0
  /// Something came on this channel.
  private var isActive = false
  /// How many messages waited at the last look of one that stands by.
  private var waiting: UInt32?
  private var toldBound: Instant?
  /// At the last turn the broker might deliver.
  private var hadRoom = true
  /// What a user was told, and is still so.
  private(set) var finding: Finding?

  init(binds: Bool = false, isSingleActive: Bool = false) {
    self.binds = binds
    self.isSingleActive = isSingleActive
  }

  /// A consumer has begun.
  ///
  /// - Parameter messages: How many the queue said that it has; nil if it was not asked.
  mutating func channelBegan(_ kind: QueueNature.Kind, messages: UInt32?, offset: Int64?, at now: Instant) {
    self.kind = kind
    unknownAnswers = 0
    isActive = false
    hadRoom = true
    waiting = nil
    if case .standsBy = finding { finding = nil }
    state = .watching(since: now)
    // A stream from which nothing was captured yet begins where it ends, perhaps: what is there now needs no explanation.
    if known == nil, offset == nil, let messages { known = Count(messages: messages, offset: nil) }
  }

  /// The loop has turned.
  ///
  /// - Parameter hasRoom: The broker may deliver: less is unacknowledged than the prefetch count.
  mutating func turned(_ arrival: Arrival, hasRoom: Bool, at now: Instant) -> Action {
    let hadRoom = hadRoom
    self.hadRoom = hasRoom
    switch arrival {
    case .nothing: break
    case .old:
      isActive = true
      state = .watching(since: now)
      if case .standsBy = finding { return recover() }
    case .new:
      isActive = true
      state = .watching(since: now)
      attempts = 0
      unknownAnswers = 0
      return recover()
    }
    switch state {
    case .watching(let since):
      guard hasRoom, hadRoom else {
        state = .watching(since: now)
        return .none
      }
      guard now - since >= interval else { return .none }
      state = .asking(since: now, isReported: false)
      return .ask
    case .asking(let since, let isReported):
      guard !isReported, now - since >= Self.patience else { return .none }
      state = .asking(since: since, isReported: true)
      return report(.noAnswer)
    case .binding(let since, let isReported):
      guard !isReported, now - since >= Self.patience else { return .none }
      state = .binding(since: since, isReported: true)
      return report(.noAnswer)
    }
  }

  /// When the loop is to turn, even if nothing comes; nil for never.
  var deadline: Instant? {
    switch state {
    case .watching(let since): hadRoom ? since + interval : nil
    case .asking(let since, isReported: false), .binding(let since, isReported: false): since + Self.patience
    case .asking, .binding: nil
    }
  }

  /// The queue's answer, and the newest offset that we have of it.
  mutating func answered(_ answer: QueueAnswer, offset: Int64?, at now: Instant) -> Action {
    switch (state, answer) {
    case (.asking, .status), (.asking, .refused): break
    case (.binding, .bound): return bound(at: now)
    case (.binding, .refused(let code, let text)): return unbound("\(code) \(text)", at: now)
    // A late answer to the one before: nothing was asked yet.
    case (.asking, .bound):
      state = .watching(since: now - interval)
      return .none
    // What came meanwhile says more.
    case (.watching, _), (.binding, .status): return .none
    }
    state = .watching(since: now)
    switch answer {
    case .bound: return .none
    case .refused(let code, let text): return consumeAnew(.refused("\(code) \(text)"))
    case .status(let status):
      switch kind {
      case .stream: return judge(Count(messages: status.messages, offset: offset), at: now)
      case .classic, .quorum, .unknown:
        if isSingleActive, !isActive, status.consumers > 1 { return standsBy(status.messages) }
        if status.messages > 0 {
          return consumeAnew(.holds(messages: status.messages, consumers: status.consumers))
        }
        if status.consumers > 0 || kind == .unknown { return fine(at: now) }
        return unknownConsumer(at: now)
      }
    }
  }

  /// There is no channel on which the queue could be bound again. That it answers is known; that it is bound is not.
  mutating func cannotBind(at now: Instant) -> Action {
    guard case .binding = state else { return .none }
    state = .watching(since: now)
    if case .unbound = finding { return .none }
    return recover()
  }

  private mutating func unknownConsumer(at now: Instant) -> Action {
    unknownAnswers += 1
    guard unknownAnswers < Self.unknownLimit else { return consumeAnew(.noConsumer) }
    state = .watching(since: now - interval + Self.retryDelay)
    return report(.noConsumer)
  }

  private mutating func standsBy(_ messages: UInt32) -> Action {
    let isStuck = messages > 0 && waiting.map { messages >= $0 } ?? false
    waiting = messages
    let before = finding
    finding = .standsBy(messages: messages, isStuck: isStuck)
    // Numbers that only move are no news.
    if case .standsBy(_, isStuck) = before { return .none }
    return .report(.standsBy(messages: messages, isStuck: isStuck))
  }

  private mutating func bound(at now: Instant) -> Action {
    state = .watching(since: now)
    if finding != nil { return recover() }
    if let toldBound, now - toldBound < Self.boundAgainPause { return .none }
    toldBound = now
    return .boundAgain
  }

  private mutating func unbound(_ text: String, at now: Instant) -> Action {
    state = .watching(since: now - interval + Self.retryDelay)
    let isNews = finding != .unbound(text)
    return isNews ? report(.unbound(text)) : .none
  }

  private mutating func report(_ finding: Finding) -> Action {
    self.finding = finding
    return .report(finding)
  }

  private mutating func judge(_ count: Count, at now: Instant) -> Action {
    defer { known = count }
    guard let offset = count.offset else {
      return known == nil || known == count ? fine(at: now) : consumeAnew(.undelivered)
    }
    // A stream from which we have something is not empty, so this number is none.
    if count.messages == 0 { return consumeAnew(.undelivered) }
    // All that it ever had, up to the offset that we have.
    if Int64(count.messages) == offset.addingReportingOverflow(1).partialValue { return fine(at: now) }
    guard let known, let before = known.offset,
      Int64(count.messages) - Int64(known.messages) == offset.subtractingReportingOverflow(before).partialValue
    else { return consumeAnew(.undelivered) }
    return fine(at: now)
  }

  private mutating func consumeAnew(_ finding: Finding) -> Action {
    attempts += 1
    unknownAnswers = 0
    // The first time it may well help. A stream's numbers may just be unknown, which is no reason to worry.
    self.finding = attempts > 1 && kind != .stream ? finding : nil
    return .consumeAnew(finding)
  }

  private mutating func fine(at now: Instant) -> Action {
    attempts = 0
    unknownAnswers = 0
    guard binds else { return recover() }
    state = .binding(since: now, isReported: false)
    return .bind
  }

  private mutating func recover() -> Action { finding.take() == nil ? .none : .recovered }

  private var interval: Duration { Self.silence * (1 << min(attempts, Self.growthLimit)) }
}

extension StandstillMachine.Finding {
  /// A short name for logs and metrics.
  var cause: String {
    switch self {
    case .noAnswer, .noConsumer: "queue_silent"
    case .holds, .undelivered, .refused: "consumer_stands_still"
    case .unbound: "unbound"
    case .standsBy: "stands_by"
    }
  }

  /// What it means, in a sentence.
  ///
  /// - Parameter attempts: How often the queue was consumed anew since something new came, the attempt that begins now included.
  func text(queue: String, attempts: Int, isSingleActive: Bool) -> String {
    switch self {
    case .noAnswer: return "queue \"\(queue)\" does not answer: no leader?"
    case .noConsumer:
      return "queue \"\(queue)\" answers that it has no consumer, though this one was confirmed: no leader?"
    case .undelivered:
      return "stream \"\(queue)\" may have messages that it does not deliver"
    case .refused(let text): return "the broker refuses to answer about queue \"\(queue)\": \(text)"
    case .unbound(let text):
      return
        "queue \"\(queue)\" can't be bound again as bindings say, so it may get nothing: \(text). Once the exchange is there again, "
        + "the queue is bound to it"
    case .standsBy(let messages, let isStuck):
      var text =
        "another consumer of queue \"\(queue)\" is the single active one; this one stands by, and gets what comes after it"
      if isStuck {
        text +=
          ". \(messages) message\(messages == 1 ? " waits" : "s wait"), and they do not get fewer: does the other one stand still?"
      }
      return text
    case .holds(let messages, let consumers):
      var text =
        "queue \"\(queue)\" has \(messages) message\(messages == 1 ? "" : "s") and delivers none, though there is room"
      if attempts > 1 { text += "; consuming anew has changed nothing \(attempts - 1) time\(attempts == 2 ? "" : "s")" }
      if consumers > 1 || isSingleActive {
        text +=
          isSingleActive
          ? ". Another consumer is the single active one, most likely"
          : ". It has \(consumers) consumers: another one may be the single active one, or have a higher priority"
      }
      return text
    }
  }
}
