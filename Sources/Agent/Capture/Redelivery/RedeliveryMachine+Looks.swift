import AMQP

/// Whether captured messages can be found by their looks: see ``RedeliveryMachine``.
extension RedeliveryMachine {
  /// How many of the newest captured messages can be found by their looks: those that may come again, or the fewest more of their
  /// line with which they can. Nil where an anchor's length more does not do.
  var tellingLength: Int? {
    (returning...max(returning, min(returning + anchor, Int(captured - lineStart)))).first(where: newestTellApart)
  }

  /// Whether the newest `count` captured messages can be told from all others.
  private func newestTellApart(_ count: Int) -> Bool {
    let sequence = DigestSequence(window.suffix(count))
    return tellsApart(sequence, of: count) && !sequence.isContained(in: window.dropLast())
  }

  /// Whether a sequence of `count` digests does not equal itself when it is shifted. By as many messages as the anchor has, or
  /// more, it may: to be misled then takes as many equal messages as the limit that remains anyway.
  func tellsApart(_ sequence: DigestSequence, of count: Int) -> Bool { sequence.period >= min(count, anchor) }

  /// Whether `length` deliveries that end like the captured ones are old, although fewer could have been all that comes again: those
  /// behind have to make up an anchor by themselves.
  func isTold(_ length: Int) -> Bool {
    guard length >= session.expected else { return false }
    guard let end = session.possibleEnd else { return true }
    return length - end >= anchor && newestTellApart(length - end)
  }
}
