/// A mistake that a test asks a machine of this module to make, so that it shows whether the test would notice.
///
/// Each names a line of the shipped code that keeps the promises, and what stands there instead. A release build knows of none:
/// ``isOn`` is false there, and the compiler leaves the mistakes out.
enum Mutant: String, CaseIterable, Sendable {
  // MARK: What may be acknowledged

  /// A batch is acknowledged before its commit.
  case acknowledgesBeforeCommit
  /// In `committed` mode the journal's commit is enough.
  case acknowledgesWithoutTheRuntime
  /// Everything captured is acknowledged at once: no anchor is kept.
  case keepsNoAnchor
  /// A delivery that was recognised is acknowledged as if it were the next one captured.
  case misplacesTheRecognised
  /// Tags of the channel before count as those of the new one.
  case keepsTagsOverChannels
  /// An acknowledgement goes out on whatever channel there is.
  case acknowledgesOnAnotherChannel

  // MARK: What is recognised

  /// A new process starts with an empty window.
  case forgetsTheWindow
  /// What the broker flags as redelivered is taken for old.
  case trustsTheFlag
  /// What looks like a captured message of the window in doubt is taken for old.
  case trustsTheDigest
  /// The end of the captured sequence is accepted although less than the anchor came.
  case acceptsLessThanTheAnchor
  /// As many fitting deliveries as the anchor is long are accepted, although the captured sequence goes on after them.
  case acceptsBeforeTheEnd
  /// Messages that do not tell themselves apart are an anchor all the same.
  case acceptsWhatIsAlike
  /// Deliveries that waited in vain are forgotten instead of captured.
  case dropsTheHeld
  /// Those that waited are captured after the one that made them new.
  case capturesTheHeldLast
  /// What waited on a channel that is gone still waits on the next one.
  case keepsTheHeldOverChannels

  // MARK: Channels that are given up

  /// Deliveries of a dead channel are captured because no more of them come.
  case capturesTheHeldOfADeadChannel
  /// What comes again within a channel is captured like anything that is new.
  case capturesWhatWasTakenBack
  /// What comes again within a channel, and looks like the anchor, is taken for it there and then.
  case recognisesWithinTheChannel
  /// A channel that is given up for another goes on being read.
  case readsOnAfterStartingOver

  // MARK: Settling

  /// The first step is left out: the acknowledgement goes out before it is durable that it may.
  case settlesBeforeItIsDurable
  /// The second: the broker is not asked, and what was acknowledged is settled.
  case settlesWithoutAnAnswer
  /// One answer is enough, although a queue may forget an acknowledgement after it.
  case settlesByTheFirstAnswer
  /// The third: that the broker has answered is never made durable.
  case neverSettles
  /// An answer of another channel settles.
  case settlesByAnyAnswer
  /// An answer settles although another consumer, whose end the broker has not noticed, may hold the messages.
  case overlooksOtherConsumers
  /// What the queue takes back after a settling is captured like anything that is new.
  case forgetsWhatWasSettled
  /// Everything is settled while deliveries wait for a verdict.
  case settlesWhileHolding
  /// An idle queue is settled although no channel is there to acknowledge on.
  case settlesWithoutAConnection
  /// Checkpoints without a settling allow the anchor, too.
  case carriesNoAnchor
  /// A checkpoint that carries a settling says that it is over.
  case carriesTheEndTooSoon

  // MARK: Health

  /// A consumer that is lost still counts as consuming.
  case keepsHealthAfterALoss
  /// A consumer that is back counts as lost.
  case tellsNothingOfAConsumer

  // MARK: The end of a capture

  /// A capture that fails ends like one that was asked to stop.
  case forgetsTheFailure
  /// A capture that fails settles like one that was asked to stop.
  case settlesAfterAFailure
  /// The anchor is released although no one will commit the checkpoint that says so.
  case settlesWithoutARuntime

  #if DEBUG
    /// The one that is asked for in this task.
    @TaskLocal static var current: Mutant?
    /// True while a test asks for this one.
    var isOn: Bool { Self.current == self }
  #else
    /// False in a release build.
    @inline(__always) var isOn: Bool { false }
  #endif
}
