import AMQP

/// What becomes of each delivery of a batch.
extension SubscriptionMachine {
  /// What becomes of the bytes of a delivery. `Intake` does it.
  enum Verdict: Equatable, Sendable {
    /// They go to the journal.
    case capture
    /// They go to the journal, after those of all that wait.
    case captureHeld
    /// They are kept until more has come.
    case hold
    /// They are kept, and those of the oldest `forgotten` that waited are not needed any more.
    case holdForgetting(Int)
    /// They are not needed: the message was captured before, or is not to be.
    case pass
    /// Neither they nor those of all that wait are needed.
    case forgetHeld
    /// They are not needed, nor anything that follows in the batch: it comes again on another channel.
    case startOver
  }

  /// What was decided about the deliveries of one batch, by their tags.
  struct Decision: Equatable, Hashable, Sendable {
    /// A delivery that is acknowledged with what is captured before it.
    struct Known: Equatable, Hashable, Sendable {
      var tag: UInt64
      /// How many of ``Decision/captured`` come before it.
      var after: Int
    }

    /// A delivery that was captured before, as which of all captured messages.
    struct Recognised: Equatable, Hashable, Sendable {
      var tag: UInt64
      var count: Int64
    }

    /// To be appended to the journal, in order; tags of those that waited come first.
    fileprivate(set) var captured: [UInt64] = []
    /// Which of them begin a line (``RedeliveryMachine/lineStart``), in order.
    fileprivate(set) var lines: [Int] = []
    /// One of them was never delivered before.
    fileprivate(set) var hasFresh = false
    /// Captured before, by their ids or as what comes first of a stream, or gone past since they are too large; tags grow.
    fileprivate(set) var known: [Known] = []
    /// How many of them their ids tell.
    fileprivate(set) var knownByID = 0
    fileprivate(set) var recognised: [Recognised] = []
    /// Tags of messages that `document.oversize: reject` sends to the dead-letter exchange.
    fileprivate(set) var rejected: [UInt64] = []
    /// What follows in the batch, and on the channel, is not decided about and not acknowledged: a new channel is to bring
    /// it again.
    fileprivate(set) var startsOver: StartOver.Reason?
    /// Offsets of a stream that its retention has dropped before they were captured.
    fileprivate(set) var gap: ClosedRange<Int64>?
    /// How many offsets in the middle of a stream were none of a message, and the newest that stand beside each other.
    fileprivate(set) var jumped: Int64 = 0
    fileprivate(set) var jump: ClosedRange<Int64>?
    /// How often the queue has taken back the message of which it has most often; 0 for none.
    fileprivate(set) var returns: Int64 = 0

    /// Each tag of a message that is, or was, captured, with how many messages of the batch are captured when it is: its own
    /// number, from 1, or that of the newest one before a message that is known. Tags and numbers grow.
    func forEachTag(_ body: (_ tag: UInt64, _ number: Int) -> Void) {
      var rest = known[...]
      for (index, tag) in captured.enumerated() {
        while let next = rest.first, next.after <= index {
          body(next.tag, next.after)
          rest.removeFirst()
        }
        body(tag, index + 1)
      }
      for next in rest { body(next.tag, next.after) }
    }

    /// Deliveries with these tags are the last captured ones up to the `newest`-th, in order.
    fileprivate mutating func recognise(_ tags: some Collection<UInt64>, upTo newest: Int64) {
      for (index, tag) in tags.enumerated() {
        recognised.append(Recognised(tag: tag, count: newest - Int64(tags.count - 1 - index)))
      }
    }
  }

  /// A delivery is captured, as each is if nothing recognises redeliveries.
  func capture(_ tag: UInt64, redelivered: Bool, _ decision: inout Decision) {
    if !redelivered { decision.hasFresh = true }
    decision.captured.append(tag)
  }

  /// The next delivery of the channel.
  mutating func delivered(
    _ tag: UInt64, _ delivery: RedeliveryMachine.Delivery, _ decision: inout Decision
  ) -> Verdict {
    if delivery.redelivered, let count = delivery.marks.deliveryCount {
      decision.returns = max(decision.returns, count)
    }
    switch redelivery!.delivered(delivery) {
    case .capture:
      noteLine(&decision)
      capture(tag, redelivered: delivery.redelivered, &decision)
      return .capture
    case .captureHeld:
      noteLine(&decision)
      if !Mutant.dropsTheHeld.isOn { decision.captured += held }
      capture(tag, redelivered: delivery.redelivered, &decision)
      if Mutant.capturesTheHeldLast.isOn {
        decision.captured = decision.captured.dropLast(held.count + 1) + [tag] + held
      }
      held = []
      return .captureHeld
    case .hold:
      held.append(tag)
      return .hold
    case .holdBehindOld(let count, let newest):
      held.append(tag)
      decision.recognise(held.prefix(count), upTo: newest)
      held.removeFirst(count)
      return .holdForgetting(count)
    case .recognised:
      decision.recognise(held + [tag], upTo: redelivery!.captured)
      held = []
      return .forgetHeld
    case .known:
      decision.known.append(Decision.Known(tag: tag, after: decision.captured.count))
      decision.knownByID += 1
      return .pass
    case .startOver:
      held = []
      decision.startsOver = .takenBack
      return .startOver
    }
  }

  /// The next delivery of a stream's channel, before it is looked at otherwise.
  ///
  /// - Returns: Nil if it is new.
  mutating func delivered(
    _ tag: UInt64, offset: Int64, _ digest: DeliveryDigest, _ decision: inout Decision
  ) -> Verdict? {
    switch place?.delivered(offset, digest) {
    case nil, .capture: return nil
    case .captureAfterGap(let missing): decision.gap = missing
    case .captureAfterJump(let offsets):
      decision.jumped += offsets
      decision.jump = offset - offsets...offset - 1
    case .pass:
      decision.known.append(Decision.Known(tag: tag, after: decision.captured.count))
      return .pass
    case .anotherStream:
      decision.startsOver = .anotherStream
      return .startOver
    }
    return nil
  }

  /// A delivery that is not to be captured since it is too large: it is rejected, or, of a stream, gone past.
  mutating func refused(_ tag: UInt64, _ decision: inout Decision) {
    if place == nil {
      decision.rejected.append(tag)
    } else {
      decision.known.append(Decision.Known(tag: tag, after: decision.captured.count))
    }
  }

  /// A delivery that ends its channel, since it is too large: neither it nor what follows is captured.
  mutating func refused(_ tag: UInt64, for failure: CaptureFailure, _ decision: inout Decision) {
    held = []
    decision.startsOver = .refused(failure, tag: tag)
  }

  /// The deliveries that wait, since no other came after them; nil if none do.
  mutating func silent() -> Decision? {
    guard redelivery?.silent() == true else { return nil }
    var decision = Decision()
    noteLine(&decision)
    if !Mutant.dropsTheHeld.isOn { decision.captured = held }
    held = []
    return decision
  }

  /// What is captured next may begin a line.
  private mutating func noteLine(_ decision: inout Decision) {
    guard let redelivery, redelivery.lineStart != plannedLine else { return }
    plannedLine = redelivery.lineStart
    decision.lines.append(decision.captured.count)
  }
}
