import Platform

/// When the anchor of a queue that rests is acknowledged, so that it shows nothing unacknowledged, and what is captured neither
/// expires into a dead-letter exchange nor counts as a failed delivery because of a later stop.
///
/// An acknowledgement has no answer. One that is lost, by a kill or a network that loses one direction, would bring back
/// messages that no one looks for any more. So a queue is settled in three steps:
///
///   1. *Settling* is made durable, in the journal or in a checkpoint that the runtime has committed: everything captured may
///      be acknowledged, and how many messages that releases. Then the acknowledgement goes out (`release`).
///   2. The broker is asked for the queue on the same channel (`ask`), and a second after its answer once more. The queue's
///      process gets the question after the acknowledgement. A classic queue that is killed forgets the acknowledgements of
///      its last quarter of a second (tried on 3.10.8), a quorum queue needs a moment to replicate them, and a channel may pass
///      an answer on before what the queue had sent earlier: hence the second question.
///   3. After its answer, on that channel, *settled* is made durable (`conclude`), and the messages are not looked for any more.
///
/// A start in between looks for them (``RedeliveryMachine``). If nothing comes on its channel, an answer tells as much only if
/// no one else can hold them, as on a classic queue that is consumed exclusively. A single active consumer may be one that
/// waits: ours of before, whose end the broker has not noticed, is the active one, and the broker's counts do not tell (3.10.8).
///
/// A queue rests if the broker could deliver and does not. While more than the anchor is unacknowledged, the runtime has yet to
/// commit something, and a full window looks like silence: that is no rest.
///
/// Each settling costs two commits, of the runtime if checkpoints carry it. So if messages trickle, each settling that
/// new ones follow soon doubles the rest that the next one takes. But a broker closes a channel on which a message waits longer than
/// its `consumer_timeout`, which may be set to a minute: so what has waited for ten seconds is settled after the least rest.
///
/// A value without clock and I/O.
struct SettlingMachine: Hashable, Sendable {
  enum Action: Equatable, Sendable {
    /// Make durable that everything captured may be acknowledged, and acknowledge it.
    case release
    /// Ask for the queue on the channel of the acknowledgement.
    case ask
    /// Make durable that the broker has the acknowledgement.
    case conclude
  }

  private enum State: Hashable, Sendable {
    /// Nothing came and nothing was acknowledged since then. Leaves by an action.
    case resting(since: Instant)
    /// The first question was answered then, or what was answered told nothing: it is asked again. Leaves by an action.
    case answered(at: Instant, times: Int)
    /// `.release` was asked for. Leaves by an acknowledgement, or by whatever else moves.
    case releasing
    /// `.ask` was asked for, once or twice. Leaves by the answer, or by whatever else moves.
    case asking(times: Int)
  }

  /// The rest before a settling: at first, and at the most.
  static let rest = (least: Duration.milliseconds(500), most: Duration.seconds(10))
  /// The same if nothing has come on the channel but what was captured before: each delivery more of it may count as failed.
  static let restOfRecovered = Duration.milliseconds(100)
  /// From an answer to the next question.
  static let pause = Duration.seconds(1)
  /// Messages that come within so many seconds after a settling make it a trickle.
  private static let trickle = Duration.seconds(60)

  private var state: State
  /// No one else can hold what may come again: something came on the channel, or else no one else could consume.
  private var isActive = false
  /// Something new came on the channel.
  private var hasCaptured = false
  /// The channel is narrow (``PrefetchGuard``): the broker sends nothing more before everything is acknowledged.
  private var isNarrow = false
  /// The rest that the next settling takes.
  private var rest = SettlingMachine.rest.least
  /// When the oldest message came that no settling has released.
  private var heldSince: Instant?
  /// When the newest settling began, if nothing new came since.
  private var settledAt: Instant?

  init(at now: Instant) { state = .resting(since: now) }

  /// A new channel: an answer on the old one means nothing.
  ///
  /// - Parameter isAlone: The broker lets no one else consume, and so no one else hold a message.
  mutating func channelOpened(isAlone: Bool, isNarrow: Bool = false, at now: Instant) {
    isActive = isAlone
    self.isNarrow = isNarrow
    hasCaptured = false
    heldSince = nil
    state = .resting(since: now)
  }

  /// Deliveries came, of which `captured` were new, or something was acknowledged, which may have made room for more.
  mutating func moved(captured: Int, at now: Instant) {
    state = .resting(since: now)
    isActive = true
    guard captured > 0 else { return }
    hasCaptured = true
    heldSince = heldSince ?? now
    if let at = settledAt.take(), !isNarrow {
      rest = now - at < Self.trickle ? min(rest * 2, Self.rest.most) : Self.rest.least
    }
  }

  /// When ``due(_:at:)`` has something to do although nothing moves; nil if it has not.
  func deadline(_ redelivery: RedeliveryMachine) -> Instant? {
    let since: Instant
    switch state {
    case .resting(let then): since = then
    case .answered(let at, _): return redelivery.awaitsSettled && isActive ? at + Self.pause : nil
    case .releasing, .asking: return nil
    }
    if redelivery.canSettle, redelivery.keepsAnchorOnly {
      guard hasCaptured, !isNarrow else { return since + Self.restOfRecovered }
      let held = heldSince.map { $0 + Self.rest.most } ?? .distantFuture
      return min(since + rest, max(since + Self.rest.least, held))
    }
    return redelivery.awaitsSettled && isActive ? since : nil
  }

  /// What is to be done, once.
  mutating func due(_ redelivery: RedeliveryMachine, at now: Instant) -> Action? {
    guard let deadline = deadline(redelivery), now >= deadline else { return nil }
    if redelivery.awaitsSettled {
      let answered = if case .answered(_, let times) = state { times } else { 0 }
      state = .asking(times: answered + 1)
      return .ask
    }
    state = .releasing
    heldSince = nil
    settledAt = now
    return .release
  }

  /// The broker has answered on the channel of the question.
  ///
  /// - Parameters:
  ///   - consumers: How many consumers the queue has; 0 if the node that answers cannot speak for it: one without a leader.
  ///   - messages: How many messages wait in it.
  mutating func answered(consumers: UInt32, messages: UInt32, at now: Instant) -> Action? {
    guard case .asking(let times) = state else { return nil }
    guard messages == 0, consumers > 0 else {
      state = .answered(at: now, times: 0)
      return nil
    }
    guard times > 1 || Mutant.settlesByTheFirstAnswer.isOn else {
      state = .answered(at: now, times: 1)
      return nil
    }
    state = .resting(since: now)
    return .conclude
  }
}
