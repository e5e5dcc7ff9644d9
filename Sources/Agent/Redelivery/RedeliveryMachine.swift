import AMQP

/// Tells messages that were captured before from new ones after a crash or a lost connection, by their place in the queue.
///
/// A consumer cannot know which of its last acknowledgements arrived, and equal content does not mean the same message.
/// So the last `anchor` captured deliveries are never acknowledged while messages flow. After any crash they must come
/// back, in order, after everything older and before everything newer. At the start of a channel redeliveries are
/// held until the anchor's digests have been seen: what came up to there is old (it is acknowledged, and not captured
/// again), what comes after is new. If the sequence does not fit, all of it is new: at worst duplicates.
///
/// Why it cannot lose, given a queue that redelivers in order, discards nothing, and has no other consumer: the old
/// messages that come back are the last t captured, with t at least the anchor's length, since the anchor was never
/// acknowledged. The shortest sequence that ends like the captured ones is accepted, so never more than t.
///
/// A broker that was killed may have forgotten more acknowledgements than the prefetch count, and sends nothing more before
/// some of what waits is acknowledged. If t were no more than what waits, the t-th would have ended like the captured ones,
/// and been recognised. So all that waits is old, and its beginning makes room for what follows, if it stands in the window
/// once.
///
/// All of that takes the old messages to come back. They do not if they expire, or someone purges the queue; and then
/// new messages that look like the old ones, and that someone else has had and given back, must not be taken for them. So
/// an anchor must tell its messages apart: if its digests equal themselves when shifted, or stand in the window a second
/// time, publishers are known to repeat themselves, and it is looked for together with the few messages before it with
/// which it does tell. They come back too if their acknowledgements were lost. If they do not come, or there are none, nothing
/// is recognised, and what comes is captured. What no client can tell remains: a queue purged, and the very messages of the
/// anchor published again, byte for byte, and given back once.
///
/// After an anchor with messages before it, the sequence may have ended before it was long enough to tell, and what made
/// it longer may be new. So that has to make up an anchor by itself before all of it is taken for old.
///
/// A queue that rests is settled: the anchor is acknowledged too, in three steps (``SettlingMachine``). An acknowledgement has no
/// answer, so after the first step, which allows it, the messages may still come back: all that were acknowledged last, or
/// more, or none. They are looked for at the head of the queue, and nothing is waited for. Only once the broker has shown
/// that it has the acknowledgement, they are not looked for any more (`settled`).
///
/// Invariants
///   - `releasable` ≤ `captured` − anchor while messages flow; no acknowledgement goes beyond the *durable* `releasable`.
///   - The window holds the digests of the last `window.count` captured messages, the newest last. Those after `lineStart` are
///     of one *line*: they follow on one another in the queue, each once. If what may be old is captured, since it was not
///     recognised, a new line begins: the same message is in the capture twice then, and an anchor that reached back over that
///     point would wait for more than the queue can give back. What comes is looked for in the line; whether it tells itself
///     apart is asked of the whole window.
///   - What is captured again since it was not recognised, and looks like a message of an earlier line, may be that one, so the
///     newest such one does not show that publishers repeat themselves (`superseded`). Else the new line's anchor would tell nothing
///     apart, and a queue that takes back again and again would have it captured each time. That holds only while what is looked
///     for must come back: of what was acknowledged every look-alike counts. It is not kept over the process's end.
///   - A delivery is recognised only by position after the anchor, never by the broker's redelivered flag; the flag only
///     refuses.
///
/// A queue may also deliver again in the middle of a channel: a quorum queue takes back what its consumer holds when its
/// leader loses the consumer's node for a moment, and delivers it anew on the same channel, with new tags. What that looks
/// like can also be a message that someone else has had and given back, and then nothing of ours comes back with it. So
/// nothing is recognised there and then: the machine asks for a new channel (`startOver`), on whose deliveries the
/// argument above holds. What was delivered and not captured comes again on it.
///
/// If publishers give messages unique ids, a ledger does it without regard to place: a redelivery that is equal to one of
/// the last captured messages, its id included, is that message. It needs no anchor and no order, and bears other
/// consumers. A message without an id, or one that is not marked redelivered, is new.
///
/// A value without I/O: deliveries in, verdicts out. Counts are of captured messages over the life of the capture.
struct RedeliveryMachine: Hashable, Sendable {
  /// What is known of one delivery.
  struct Delivery: Hashable, Sendable {
    /// As it is stored if the delivery is captured.
    var digest: DeliveryDigest
    /// As which it may have been stored before, of one that is redelivered: under other settings, or by version 0.1.0.
    var otherDigests: [DeliveryDigest] = []
    var redelivered: Bool
    var marks = DeliveryMarks()

    /// Whether a captured message with the digest `stored` may be this one.
    func matches(_ stored: DeliveryDigest) -> Bool { stored == digest || otherDigests.contains(stored) }
  }

  enum Verdict: Equatable {
    /// New: it is captured now.
    case capture
    /// Undecided: it waits with those before it, neither journaled nor acknowledged.
    case hold
    /// It waits, and the first `count` of all that wait are old, the last of them at most the `newest`-th captured one.
    case holdBehindOld(count: Int, newest: Int64)
    /// Those that wait are new, in order, and this one after them.
    case captureHeld
    /// Those that wait and this one are the last `count` captured ones, in order.
    case recognised(count: Int)
    /// This one is among the captured ones, whichever it is.
    case known
    /// The queue delivers again what this channel holds: neither this delivery nor those that wait are decided about, nor
    /// anything that follows on this channel. They come again on a new one, which is asked for.
    case startOver
  }

  /// Captured messages that are not acknowledged before the queue rests.
  static let largestAnchor = 8

  /// Why deliveries of a channel can be recognised by position.
  enum Trust: Hashable, Sendable {
    /// The broker has granted exclusive consumption. Only a classic queue enforces it.
    case exclusive
    /// This is the only consumer, on a queue of any type (single active consumer, or the operator's word).
    case sole
    /// It may not be: everything is new.
    case none
  }

  private enum State: Hashable {
    /// Everything that comes is new. Leaves by `channelBegan`; `startOver` asks for that.
    case flowing
    /// The anchor is looked for; `held` came so far, and may be what is in the window from any of `candidates` on.
    /// Leaves by recognition, by a delivery that does not fit, by silence, or by starting over.
    case matching(Trust, held: [Delivery], candidates: [Int])
  }

  /// What the channel has shown so far.
  struct Shown: Hashable, Sendable {
    var trust = Trust.none
    var queue = QueueNature.unknown
    /// How often the queue had taken back the last delivery; nil before the first.
    var returns: Int64?
    /// A message came that was never delivered before. Without a return, all that follow are such, too.
    var sawFresh = false
    /// How many captured messages were unacknowledged when it began: so many come again, whatever was committed since. After a
    /// settling, how many come if any does.
    var least = 0
    /// How many of the newest captured messages are to come before they are recognised: more than those if they do not tell
    /// themselves apart.
    var expected = 0
    /// How many deliveries came when all that came could be all that comes again, but was too short to tell.
    var possibleEnd: Int?
    /// Whether they must come; else they were acknowledged, and the broker may not have heard of it.
    var isCertain = false
    /// How many deliveries can wait, if the channel is narrower than others.
    var prefetch: Int?
    /// What was unacknowledged when it began does not tell its messages apart.
    var isAmbiguous = false
  }

  /// How often a channel is given up for another before something new comes: then what comes again is captured again. Each
  /// costs a delivery of what is unacknowledged, of the 20 that a quorum queue of RabbitMQ 4 grants by default.
  private static let startOverLimit = 8

  /// The window's digests if messages are recognised by their ids; nil if by position.
  private(set) var ledger: Set<DeliveryDigest>?
  /// Length of the anchor: 8, at most a quarter of the prefetch count; 0 keeps none.
  let anchor: Int
  /// How many digests are kept at the most.
  let windowLimit: Int
  /// How many deliveries can wait: the broker sends no more before one is acknowledged.
  let prefetch: Int
  private var state = State.flowing
  private(set) var shown = Shown()
  /// How often it has started over since something new came.
  private var startedOver = 0
  /// How many messages were captured.
  private(set) var captured: Int64
  /// Acknowledgements up to this one are allowed once it is durable.
  private(set) var releasable: Int64
  /// What `releasable` was before the newest settling: what lies between was acknowledged by it, all at once.
  private var settledFrom: Int64
  /// The broker has shown that it has that acknowledgement.
  private var isSettled: Bool
  /// Digests of the newest captured messages, the newest last.
  private(set) var window: [DeliveryDigest]
  /// Which captured messages, counted from 1, the same as a later one may be; all of them in the window.
  private(set) var superseded: Set<Int64> = []
  /// How many messages were captured before the newest line began; its beginning may have left the window.
  private(set) var lineStart: Int64
  /// The newest message's priority, and the first message from which on all had it.
  private(set) var priority: UInt8?
  private(set) var prioritySince: Int64

  init(
    anchor: Int, windowLimit: Int, captured: Int64, releasable: Int64, window: [DeliveryDigest], priority: UInt8?,
    prioritySince: Int64, prefetch: Int = .max, byMessageID: Bool = false, lineStart: Int64 = 0, settled: Int64? = nil
  ) {
    self.anchor = Mutant.keepsNoAnchor.isOn ? 0 : anchor
    self.prefetch = prefetch
    self.windowLimit = windowLimit
    self.captured = captured
    let window = Mutant.forgetsTheWindow.isOn ? [] : window
    let known = captured - Int64(window.count)
    // Without digests nothing can be recognised, and nothing needs to be kept back.
    self.releasable = min(max(releasable, known), captured)
    settledFrom = min(max(settled ?? releasable, known), self.releasable)
    isSettled = settledFrom == self.releasable
    self.window = window
    self.lineStart = min(max(lineStart, known), captured)
    self.priority = priority
    self.prioritySince = prioritySince
    if byMessageID { ledger = Set(window) }
  }

  /// How many captured messages must come back before anything new: the anchor's length, less in a line that has just begun,
  /// 0 after a settling.
  var unacknowledged: Int { Int(captured - max(releasable, lineStart)) }

  /// Messages up to this one will not come again, if `releasable` is everything captured: else what is unacknowledged tells.
  var settled: Int64 { isSettled ? releasable : settledFrom }

  /// How many captured messages come again if any does: what is unacknowledged, or what the newest settling acknowledged.
  var returning: Int {
    unacknowledged > 0 ? unacknowledged : Int(captured - max(settled, lineStart))
  }

  /// How many messages may come again on the next channel, as far as their place can tell them.
  var comesBack: Int { ledger == nil ? returning : 0 }

  /// True if everything captured can be acknowledged: messages flow, and an anchor is kept.
  var canSettle: Bool {
    switch state {
    case .flowing: unacknowledged > 0 && anchor > 0
    case .matching: Mutant.settlesWhileHolding.isOn
    }
  }

  /// True if no more than the anchor is unacknowledged, as in a queue that rests: this one, or a longer one of a start with a
  /// larger prefetch count.
  var keepsAnchorOnly: Bool {
    unacknowledged <= max(anchor, min(shown.expected, Self.largestAnchor))
  }

  /// True if everything captured was acknowledged, and nothing has shown yet that the broker knows.
  var awaitsSettled: Bool { unacknowledged == 0 && returning > 0 && !isHolding && ledger == nil }

  /// True while deliveries wait for a verdict.
  var isHolding: Bool {
    switch state {
    case .flowing: false
    case .matching(_, let held, _): !held.isEmpty
    }
  }

  /// A new consumer on a new channel. What waited of the old one will come again.
  ///
  /// - Parameter prefetch: How many deliveries can wait, if it is another number than otherwise. If it is less than may come back,
  ///   nothing is recognised: one or two messages that look like captured ones prove nothing.
  mutating func channelBegan(_ trust: Trust, on queue: QueueNature, prefetch: Int? = nil) {
    // Only classic queues enforce exclusive consumption: else others may consume as well. A stream goes by offsets.
    let trust = queue.kind == .stream || trust == .exclusive && queue.kind != .classic ? Trust.none : trust
    shown = Shown(trust: trust, queue: queue, prefetch: prefetch)
    state = .flowing
    guard returning > 0, ledger == nil else { return }
    shown.isCertain = unacknowledged > 0
    guard trust != .none else { return beginLine() }
    let telling = tellingLength
    shown.isAmbiguous = shown.isCertain && telling != returning
    guard let telling, prefetch ?? .max >= max(telling, shown.isCertain ? 1 : 2) else { return beginLine() }
    (shown.least, shown.expected) = (returning, telling)
    state = .matching(trust, held: [], candidates: Array(window.indices.suffix(Int(captured - lineStart))))
  }

  /// True if this channel does not recognise the messages that were unacknowledged when it began by themselves, since they,
  /// or sequences of them, are all alike.
  var isAmbiguous: Bool { shown.isAmbiguous }

  /// True while redeliveries are looked at more closely: their ``Delivery/otherDigests`` matter.
  var comparesDigests: Bool {
    switch state {
    case .matching: true
    case .flowing: ledger != nil || shown.trust != .none
    }
  }

  /// The next delivery of the channel, in the broker's order.
  mutating func delivered(_ delivery: Delivery) -> Verdict {
    let returns = delivery.redelivered ? shown.queue.returns(of: delivery.marks) : 0
    defer {
      shown.returns = returns
      if !delivery.redelivered { shown.sawFresh = true }
    }
    if delivery.redelivered, Mutant.trustsTheFlag.isOn || Mutant.trustsTheDigest.isOn && looksCaptured(delivery) {
      return .known
    }
    switch state {
    case .flowing:
      if let ledger, delivery.redelivered, delivery.marks.hasMessageID,
        ([delivery.digest] + delivery.otherDigests).contains(where: ledger.contains)
      {
        return .known
      }
      if isTakenBack(delivery, returns), !Mutant.capturesWhatWasTakenBack.isOn {
        if Mutant.recognisesWithinTheChannel.isOn {
          channelBegan(shown.trust, on: shown.queue, prefetch: shown.prefetch)
          return delivered(delivery)
        }
        // What a settling has acknowledged is looked for too, until the broker has answered for it: after that, messages that look
        // like it are new. Another channel tells nothing more of messages that are alike.
        let mayReturn = Mutant.forgetsWhatWasSettled.isOn ? unacknowledged : returning
        if mayReturn > 0, tellingLength != nil, startsOver() { return .startOver }
        beginLine()
      } else if shown.returns == nil, mayBeCaptured(delivery) {
        // Nothing was to come again.
        beginLine()
      }
      // Only what is new ends: what is captured once more could go on for ever.
      if !delivery.redelivered { startedOver = 0 }
      capture(delivery)
      return .capture
    case .matching(let trust, let held, let candidates):
      if !held.isEmpty, isTakenBack(delivery, returns), startsOver() { return .startOver }
      if !shown.isCertain, held.isEmpty, !delivery.redelivered {
        // What was settled would have come first.
        state = .flowing
        startedOver = 0
        capture(delivery)
        return .capture
      }
      guard fits(delivery, returns, behind: held.last, trust) else { return fail(held, delivery) }
      let length = held.count + 1
      // A candidate is where in the window the first delivery may stand; each further one must continue it.
      let remaining = candidates.filter {
        $0 + length <= window.count && delivery.matches(window[$0 + length - 1])
      }
      let isEnd =
        remaining.last == window.count - length
        || Mutant.acceptsBeforeTheEnd.isOn && !remaining.isEmpty && length >= unacknowledged
      if length >= shown.least || Mutant.acceptsLessThanTheAnchor.isOn, isEnd, hasOnePriority(last: length) {
        if isTold(length) {
          state = .flowing
          return .recognised(count: length)
        }
        if length < shown.expected { shown.possibleEnd = length }
      }
      let open = remaining.filter { $0 + length < window.count }
      if open.isEmpty { return fail(held, delivery) }
      var old = (count: 0, newest: Int64(0))
      if length >= shown.prefetch ?? prefetch {
        old = beginning(of: length, remaining)
        // Nothing more would come, and nothing could be said.
        if old.count == 0 { return fail(held, delivery) }
      }
      var waiting = held
      // Lets go of the old state first, so that appending does not copy.
      state = .flowing
      waiting.append(delivery)
      waiting.removeFirst(old.count)
      state = .matching(trust, held: waiting, candidates: open.map { $0 + old.count })
      return old.count > 0 ? .holdBehindOld(count: old.count, newest: old.newest) : .hold
    }
  }

  /// Whether another channel is to be tried; not for ever.
  private mutating func startsOver() -> Bool {
    guard startedOver < Self.startOverLimit else { return false }
    startedOver += 1
    state = .flowing
    return true
  }

  /// How many of `length` deliveries that wait may be acknowledged although the anchor has not come yet, and which captured
  /// one the last of them is. They must tell themselves apart as an anchor must.
  ///
  /// - Parameter candidates: Where in the window they may stand.
  private func beginning(of length: Int, _ candidates: [Int]) -> (count: Int, newest: Int64) {
    guard candidates.count == 1, let place = candidates.first, shown.possibleEnd == nil else { return (0, 0) }
    let sequence = DigestSequence(window[place..<place + length])
    guard tellsApart(sequence, of: length), !sequence.isContained(in: window[..<(place + length - 1)]) else {
      return (0, 0)
    }
    let before = captured - Int64(window.count)
    guard !shown.queue.hasPriorities || prioritySince <= before + Int64(place) + 1 else { return (0, 0) }
    let count = max(0, min(length, window.count - shown.expected - place))
    return (count, before + Int64(place + count))
  }

  /// Nothing more comes while deliveries wait.
  ///
  /// - Returns: True if those that wait are new after all.
  mutating func silent() -> Bool {
    guard case .matching(_, let held, _) = state, !held.isEmpty else { return false }
    beginLine()
    for delivery in held { capture(delivery) }
    state = .flowing
    return true
  }

  /// A batch of captured messages is about to be made durable: how far acknowledgements are allowed with it.
  mutating func committing() -> Int64 {
    releasable = max(releasable, captured - Int64(anchor))
    return releasable
  }

  /// A state that allows acknowledgements up to `count` has become durable elsewhere: the runtime has committed it.
  mutating func released(through count: Int64) {
    if count >= captured && anchor > 0 { settling() } else { releasable = max(releasable, min(count, captured)) }
  }

  /// The queue is idle, or the capture ends: everything captured may be acknowledged. New messages bring a new anchor.
  mutating func settling() {
    guard releasable < captured else { return }
    settledFrom = releasable
    isSettled = false
    releasable = captured
  }

  /// The broker has shown that it has the acknowledgement of everything captured.
  mutating func confirmSettled() {
    guard awaitsSettled else { return }
    isSettled = true
    state = .flowing
  }

  /// Order of the queue, as far as the delivery itself can tell.
  private func fits(_ delivery: Delivery, _ returns: Int64, behind previous: Delivery?, _ trust: Trust) -> Bool {
    // What was never delivered before is not old.
    guard trust != .none, delivery.redelivered else { return false }
    guard !shown.queue.hasPriorities || delivery.marks.priority == priority else { return false }
    // A message that was returned more often than the one before it is out of its place.
    guard countsReturns, previous != nil, let last = shown.returns else { return true }
    return returns <= last
  }

  private func hasOnePriority(last count: Int) -> Bool {
    !shown.queue.hasPriorities || prioritySince <= captured - Int64(count) + 1
  }

  private mutating func fail(_ held: [Delivery], _ delivery: Delivery) -> Verdict {
    state = .flowing
    beginLine()
    for old in held { capture(old) }
    capture(delivery)
    return held.isEmpty ? .capture : .captureHeld
  }

  /// What is captured from here on may have been captured before.
  private mutating func beginLine() {
    // Ids recognise without regard to lines.
    guard ledger == nil else { return }
    lineStart = captured
  }

  /// The message may be one that is about to be captured.
  mutating func supersede(_ number: Int64) { superseded.insert(number) }

  private mutating func capture(_ delivery: Delivery) {
    if delivery.redelivered { supersede(delivery) }
    captured += 1
    if captured == lineStart + 1 || delivery.marks.priority != priority { prioritySince = captured }
    priority = delivery.marks.priority
    window.append(delivery.digest)
    ledger?.insert(delivery.digest)
    // Cut now and then, not at every message: removing from the front moves everything.
    if window.count >= windowLimit * 2 {
      window.removeFirst(window.count - windowLimit)
      let first = captured - Int64(window.count)
      superseded = superseded.filter { $0 > first }
      if ledger != nil { ledger = Set(window) }
    }
  }
}
