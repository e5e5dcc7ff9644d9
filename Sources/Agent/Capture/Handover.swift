import AMQP
import Journal

/// One batch on its way from the connection to the journal, with what its tags belong to.
struct Handover: Sendable {
  var channel: Consuming
  var batch: DeliveryBatch
}

/// What the journal's thread is told of one subscription.
///
/// At most one batch waits: the connection fills the next one meanwhile, which is what makes commits grow under load.
struct SubscriptionInbox: Sendable {
  var handover: Handover?
  /// By what is committed, the broker may forget messages up to this number; less than is committed if an anchor is kept.
  var releasable: Position?
  /// The channel that consumes now; nil while there is none. Nothing can be acknowledged on another, and silence means something
  /// only on it.
  var consuming: Consuming?
  /// A delivery has begun to arrive on it, and is not whole yet.
  var isArriving = false
  /// What a question after an acknowledgement led to.
  var answer: SettlingAnswer?
  /// The connection asks what may come again, once all that it has handed over is decided about.
  var asksForReturning = false
  /// No further batch will come.
  var intakeEnded = false
  /// The newest channel of which the broker has shown that it has all acknowledgements.
  var settledGeneration: Int?
}

/// What the journal's thread is asked to do, by the connection, the emitter and the reader of acknowledgements.
struct JournalInbox: Sendable {
  var subscriptions: [SubscriptionInbox]
  /// The emitter has written documents up to here.
  var emitted = Position.origin
  /// The runtime, or the output file, has committed documents up to here.
  var committed = Position.origin
  /// The output files as they are when `committed` is durable, of each subscription that has one.
  var outputs: [Int: OutputRecord] = [:]
  /// The capture is to end: a thread that waits for better times stops waiting.
  var stopping = false
  /// The capture ends by a failure, and may be killed any moment: the anchor stays, as in a crash.
  var failed = false
  /// The runtime will commit nothing any more.
  var acknowledgementsEnded = false
  /// Nothing at all will come; finish and close.
  var closing = false

  /// - Parameter count: How many subscriptions there are.
  init(subscriptions count: Int = 1) {
    subscriptions = Array(repeating: SubscriptionInbox(), count: count)
  }

  /// The runtime, or the output's file, has committed a checkpoint.
  mutating func committed(_ checkpoint: Checkpoint) {
    committed = max(committed, checkpoint.through)
    for part in checkpoint.parts {
      let known = subscriptions[part.index].releasable
      subscriptions[part.index].releasable = max(known ?? part.releasable, part.releasable)
    }
  }
}

/// A channel on which a queue is consumed.
struct Consuming: Hashable, Sendable {
  /// Of the channel: 1 for the first of the process, growing with every connection.
  var generation: Int
  /// The consumer tag in use on it.
  var consumerTag: String
  /// What kind of queue it is of.
  var queue: QueueNature
  /// The prefetch count, if it is smaller than usual (``PrefetchGuard``).
  var narrowPrefetch: Int?
  /// It is narrow only since earlier processes may have failed: any message that gets through ends that.
  var isDoubtful = false
}

/// What the broker says of the queue, on the channel of this generation and after all acknowledgements before.
struct SettlingAnswer: Hashable, Sendable {
  var generation: Int
  /// How many consumers the queue has, ours among them; 0 if a node answers for a queue without a leader.
  var consumers: UInt32
  /// How many messages wait in it.
  var messages: UInt32
}

/// Why a channel is given up for another at once.
struct StartOver: Hashable, Sendable {
  enum Reason: Hashable, Sendable {
    /// Its queue delivers again what it holds.
    case takenBack
    /// It was narrow, and everything on it is acknowledged (``PrefetchGuard``).
    case widens
    /// It took back what it had delivered, and nothing comes again on the new channel (``TakenBack``).
    case silent
    /// The stream is not the one that was captured before: it is read from its beginning.
    case anotherStream
    /// The delivery with this tag is not to be captured (`document.oversize: fail`), nor what follows it; the other subscriptions go on.
    case refused(CaptureFailure, tag: UInt64)
  }

  var generation: Int
  var reason: Reason
}

/// What the connection thread is asked to do.
struct ConnectionCommands: Sendable {
  var acknowledgement: Acknowledgement?
  /// On the narrow channel of this generation a message was captured that shows that nothing more comes back.
  var fresh: Int?
  /// All that comes back on the narrow channel of this generation has come, or something else has.
  var cleared: Int?
  /// The answer to ``SubscriptionInbox/asksForReturning``, and the number of the subscription's newest message.
  var returning: (Int, Position)?
  /// The channel of this generation is to be asked for the queue, after all acknowledgements.
  var question: Int?
  var rejected: [Acknowledgement] = []
  /// A batch whose memory can be used again.
  var spare: DeliveryBatch?
  /// The channel of this generation is to be given up for another.
  var startOver: StartOver?
  /// The login has changed, and may have to be handed to the broker.
  var login: Login?
  /// Stop consuming, hand over what has arrived, end.
  var stop = false
  /// Everything that may be acknowledged was; the connection can be closed.
  var mayClose = false
}
