import AMQP

/// Whether captured messages can be found by their looks: see ``RedeliveryMachine``.
extension RedeliveryMachine {
  /// How many of the newest captured messages can be found by their looks: those that may come again, or the fewest more of their
  /// line with which they can. Nil if an anchor's length more does not do.
  var tellingLength: Int? {
    (returning...max(returning, min(returning + anchor, Int(captured - lineStart)))).first(where: newestTellApart)
  }

  /// Whether the newest `count` captured messages can be told from all others.
  private func newestTellApart(_ count: Int) -> Bool {
    if Mutant.acceptsWhatIsAlike.isOn { return true }
    let sequence = DigestSequence(window.suffix(count))
    guard tellsApart(sequence, of: count) else { return false }
    guard unacknowledged > 0, !superseded.isEmpty else { return !sequence.isContained(in: window.dropLast()) }
    let first = captured - Int64(window.count) + 1
    // No message has this digest.
    let void = DeliveryDigest(high: 0, low: 0)
    return !sequence.isContained(
      in: window.dropLast().enumerated().lazy.map { superseded.contains(first + Int64($0.offset)) ? void : $0.element })
  }

  /// Whether a sequence of `count` digests does not equal itself when it is shifted. By as many messages as the anchor has, or
  /// more, it may: to be misled then takes as many equal messages as the limit that remains anyway.
  func tellsApart(_ sequence: DigestSequence, of count: Int) -> Bool { sequence.period >= min(count, anchor) }

  /// Whether `length` deliveries that end like the captured ones are old, although fewer could have been all that comes again: those
  /// after them have to make up an anchor by themselves.
  func isTold(_ length: Int) -> Bool {
    guard length >= shown.expected else { return Mutant.acceptsLessThanTheAnchor.isOn }
    guard let end = shown.possibleEnd else { return true }
    return length - end >= anchor && newestTellApart(length - end)
  }

  /// Notes which message of an earlier line `delivery`, which is about to be captured, may be: the newest that looks like it.
  mutating func supersede(_ delivery: Delivery) {
    let reach = max(prefetch, anchor)
    guard ledger == nil, shown.trust != .none, captured - lineStart < Int64(reach) else { return }
    let first = captured - Int64(window.count) + 1
    let earlier = window.dropLast(Int(captured - lineStart)).suffix(reach)
    let found = earlier.indices.last {
      delivery.matches(window[$0]) && !superseded.contains(first + Int64($0))
    }
    if let found { supersede(first + Int64(found)) }
  }

  /// True if the queue seems to deliver again what this channel holds. A message that has been delivered before comes
  /// before one that has not, and one that was taken back more often before those that were less often; so one
  /// that is out of this order was taken back since. It looks like one that may be unacknowledged, too.
  func isTakenBack(_ delivery: Delivery, _ returns: Int64) -> Bool {
    guard let last = shown.returns, shown.sawFresh || countsReturns && returns > last else { return false }
    return mayBeCaptured(delivery)
  }

  /// True if it was delivered before, and looks like what may be unacknowledged.
  func mayBeCaptured(_ delivery: Delivery) -> Bool {
    shown.trust != .none && delivery.redelivered && looksCaptured(delivery)
  }

  /// True if it looks like what may be unacknowledged.
  func looksCaptured(_ delivery: Delivery) -> Bool {
    window.suffix(max(prefetch, unacknowledged)).contains { delivery.matches($0) }
  }

  /// Whether the broker counts in the headers how often it has taken a message back.
  var countsReturns: Bool {
    switch shown.queue.kind {
    case .classic, .stream: false
    case .quorum, .unknown: true
    }
  }
}
