/// What a salvage found in a damaged journal, and what became of it.
public struct SalvageReport: Equatable, Sendable {
  /// Neighbouring messages of one session that cannot be read.
  public struct Missing: Equatable, Sendable {
    /// The first missing position.
    public var first: Position
    /// The last missing position; not before ``first``.
    public var last: Position
    /// The session that they belong to; empty if not even that can be read.
    public var sessionID: String
    /// The `sequence` of the first one; with `count` that says which documents never come.
    public var firstSequence: Int
    /// How many messages are missing.
    public var count: Int { last - first + 1 }
  }

  /// The journal's file.
  public var path: String
  /// Where the damaged file stands now, its WAL beside it; nil if nothing was changed, because too much is missing.
  public var setAside: String?
  /// Messages that were read, not yet committed downstream.
  public var recovered = 0
  /// Messages that cannot be read, were not committed downstream, and may have been acknowledged: only this file had
  /// them. In order.
  public var lost: [Missing] = []
  /// Messages that cannot be read but were never acknowledged: the broker still has them and delivers them again.
  public var returning: [Missing] = []
  /// False if the journal's own counters cannot be read or contradict each other: then no one knows what may be
  /// missing before the first and after the last message that was read.
  public var knowsPositions = true
  /// True if the digests that recognise redeliveries went into the new file. They do not if a message is missing:
  /// what comes again is then captured again.
  public var keepsAnchor = true
  /// First and last position that were read; nil if none was.
  public var range: ClosedRange<Position>?

  /// True if the broker still has everything that is missing.
  public var losesNothing: Bool { lost.isEmpty && knowsPositions }

  /// What happened, one line for a log.
  public var description: String {
    var parts: [String] = []
    if let setAside {
      parts.append("the damaged journal was set aside as \(setAside) and salvaged: \(recovered) pending messages read")
    } else {
      parts.append("the journal is damaged: \(recovered) pending messages can be read")
    }
    if let range, !knowsPositions { parts.append("they are positions \(range.lowerBound) to \(range.upperBound)") }
    if !lost.isEmpty {
      parts.append("\(Self.count(lost)) that may have been acknowledged cannot: \(Self.list(lost))")
    }
    if !returning.isEmpty {
      parts.append("\(Self.count(returning)) that the broker will deliver again cannot: \(Self.list(returning))")
    }
    if !knowsPositions {
      parts.append("its counters cannot be read, so nothing is known of messages before these and after them")
    } else if lost.isEmpty {
      parts.append("nothing is lost")
    }
    if setAside != nil, !keepsAnchor {
      parts.append("what the broker sends once more is captured again, since nothing is left that recognises it")
    }
    return parts.joined(separator: "; ")
  }

  /// ``description``, and what a person can do if the program does not go on by itself.
  public var refusal: String {
    "\(description). Nothing was changed. Put an intact copy back, or go on without them: "
      + "source-amqp journal salvage --accept-loss \(path)"
  }

  private static func count(_ missing: [Missing]) -> String {
    let count = missing.reduce(0) { $0 + $1.count }
    return "\(count) \(count == 1 ? "message" : "messages")"
  }

  /// The first twenty ranges; a line has to end somewhere, and programs get all of them.
  private static func list(_ missing: [Missing]) -> String {
    var texts = missing.prefix(20).map { part in
      let (from, to) = (part.firstSequence, part.firstSequence + part.count - 1)
      let sequence = from == to ? "sequence \(from)" : "sequence \(from) to \(to)"
      let position = from == to ? "position \(part.first)" : "positions \(part.first) to \(part.last)"
      return part.sessionID.isEmpty ? position : "\(sequence) of session \(part.sessionID) (\(position))"
    }
    if missing.count > 20 { texts.append("and \(missing.count - 20) more ranges") }
    return texts.joined(separator: ", ")
  }
}
