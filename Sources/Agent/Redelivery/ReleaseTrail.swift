import Journal

/// How far checkpoints allow acknowledgements: up to the anchor, and over it by the steps of a settling (``SettlingMachine``).
///
/// A value without I/O; the emitter's thread has it.
struct ReleaseTrail: Hashable, Sendable {
  /// How many of the newest messages are kept back.
  let anchor: Int
  /// Acknowledgements up to here are allowed once the checkpoint is committed. It never goes back.
  private(set) var releasable: Position
  /// What ``RedeliveryState/settled`` says.
  private(set) var settled: Position

  init(anchor: Int, releasable: Position, settled: Position) {
    (self.anchor, self.releasable, self.settled) = (anchor, releasable, settled)
  }

  /// A checkpoint is made of everything up to the number `position`.
  ///
  /// - Parameter step: Of a settling; from the first on nothing is kept back any more.
  mutating func checkpoint(through position: Position, step: Settlement.Step?) {
    switch step {
    // Acknowledgements once allowed stay allowed, also if a settling was followed by a few messages.
    case nil:
      let kept = Mutant.carriesNoAnchor.isOn ? 0 : anchor
      releasable = max(releasable, Position(rawValue: position.rawValue - Int64(kept)))
    case .settling:
      if releasable < position { settled = Mutant.carriesTheEndTooSoon.isOn ? position : releasable }
      releasable = max(releasable, position)
    case .settled:
      releasable = max(releasable, position)
      settled = releasable
    }
  }
}
