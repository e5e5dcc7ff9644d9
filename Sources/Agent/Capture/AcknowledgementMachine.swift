import Journal

/// When the broker may forget a message (docs/guarantees.md).
enum AcknowledgementMode: String, Sendable {
  /// Once the journal's commit is on stable storage.
  case journaled
  /// Once the runtime has acknowledged the checkpoint that covers it.
  case committed
}

/// One `basic.ack` with `multiple`: everything of this channel up to this tag.
struct Acknowledgement: Hashable, Sendable {
  /// The channel that the tag belongs to. Tags start at 1 on every channel, so a tag without it means nothing.
  var generation: Int
  var tag: UInt64
}

/// Knows which tags of a channel wait for which positions, and which tag is the newest whose messages are safe; how far they are,
/// ``SubscriptionMachine`` says.
///
/// Invariants: a tag is acknowledged only after its message is safe in the sense of the mode, only on its own channel,
/// and tags only grow. Positions and tags grow together within a channel, so the unacknowledged ones are a few runs of
/// neighbours, whatever their number.
struct AcknowledgementMachine: Hashable, Sendable {
  /// Neighbouring tags with neighbouring positions.
  private struct Run: Hashable {
    var tag: UInt64
    var position: Position
    var count: Int
  }

  let mode: AcknowledgementMode
  private var generation = 0
  private var runs: [Run] = []
  /// Everything up to here is safe in the sense of the mode.
  private var safe: Position

  /// How many deliveries of the channel are neither acknowledged nor left out.
  var waiting: Int { runs.reduce(0) { $0 + $1.count } }

  /// - Parameter safe: Up to here everything was safe before; below 1 for messages of before the journal.
  init(mode: AcknowledgementMode, safe: Position = .origin) {
    self.mode = mode
    self.safe = safe
  }

  /// A new channel: what the old one left unacknowledged will come again, and its tags mean nothing any more.
  mutating func channelOpened(generation: Int) {
    self.generation = generation
    if !Mutant.keepsTagsOverChannels.isOn { runs.removeAll() }
  }

  /// A delivery got a position in the journal, or was recognised as the message that has it. It is not safe before
  /// ``journalCommitted(through:)`` or ``runtimeCommitted(through:)`` says so. Positions grow with the tags.
  mutating func appended(tag: UInt64, at position: Position) {
    if let last = runs.last, tag == last.tag + UInt64(last.count), position == last.position + last.count {
      runs[runs.count - 1].count += 1
    } else {
      runs.append(Run(tag: tag, position: position, count: 1))
    }
  }

  /// The rows up to `position` are on stable storage, and may be acknowledged.
  mutating func journalCommitted(through position: Position) -> Acknowledgement? {
    switch mode {
    case .journaled: advance(to: position)
    case .committed: Mutant.acknowledgesWithoutTheRuntime.isOn ? advance(to: position) : nil
    }
  }

  /// The runtime has committed a checkpoint by which everything up to `position` may be acknowledged.
  mutating func runtimeCommitted(through position: Position) -> Acknowledgement? {
    switch mode {
    case .journaled: nil
    case .committed: advance(to: position)
    }
  }

  private mutating func advance(to position: Position) -> Acknowledgement? {
    safe = max(safe, position)
    var tag: UInt64?
    var done = 0
    for run in runs {
      guard run.position <= safe else { break }
      let count = min(run.count, safe - run.position + 1)
      tag = run.tag + UInt64(count - 1)
      if count < run.count {
        runs[done] = Run(
          tag: run.tag + UInt64(count), position: run.position + count, count: run.count - count)
        break
      }
      done += 1
    }
    runs.removeFirst(done)
    return tag.map { Acknowledgement(generation: generation, tag: $0) }
  }
}
