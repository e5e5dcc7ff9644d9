import AMQP
import Journal
import Logging

/// How the connection thread does what `PrefetchGuard` says.
extension ConnectionLoop.Course {
  init(_ topology: Topology, beginsNarrow: Bool) {
    let configuration = topology.configuration
    standstill = StandstillMachine(
      binds: configuration.queue.declaration == .active && !configuration.bindings.isEmpty,
      isSingleActive: configuration.queue.arguments["x-single-active-consumer"] == .bool(true))
    configured = topology.prefetch ?? configuration.consumer.prefetchCount
    canNarrow = !configuration.queue.exclusive && !configuration.queue.autoDelete
    // What waits for an acknowledgement of a slow runtime may expire.
    if beginsNarrow, canNarrow, configuration.queue.arguments["x-message-ttl"] == nil {
      var guarded = prefetch
      guarded.beginNarrow()
      first = guarded
    }
  }

  /// The stream is another one.
  mutating func forgetStream() {
    offsets.forgetAll()
    passed = nil
  }

  /// The present channel's prefetch count; 0 is no limit.
  var limit: Int { width.count(configured) }

  /// The present channel consumes from a queue of this kind.
  mutating func began(_ kind: QueueNature.Kind, _ status: QueueStatus?) {
    self.kind = kind
    isDoubtful = false
    if let first = first.take() {
      if kind == .quorum, Topology.isBacklogOfOurs(status) {
        prefetch = first
        isDoubtful = true
      } else {
        width = .configured
      }
    }
    hasConsumed = true
  }
}

/// What has come to pass on a channel that is narrow.
///
/// A value without I/O.
struct NarrowChannel: Equatable, Sendable {
  let isNarrow: Bool
  /// The consumer is cancelled, and nothing more comes.
  var isCancelled = false
  /// A message was captured by which the narrow channels end.
  private(set) var hasSucceeded = false
  private var acknowledged: UInt64 = 0
  /// Tags above `acknowledged` that were rejected, which no acknowledgement covers if they are the last.
  private var rejected: [UInt64] = []

  init(isNarrow: Bool) { self.isNarrow = isNarrow }

  /// Whether the consumer is to be cancelled before these commands are obeyed.
  func mustCancel(_ commands: ConnectionCommands, _ generation: Int) -> Bool {
    isNarrow && !isCancelled && (commands.cleared == generation || commands.fresh == generation)
  }

  /// The commands were obeyed, and everything up to the tag is acknowledged.
  mutating func heard(_ commands: ConnectionCommands, _ generation: Int, acknowledged tag: UInt64) {
    guard isNarrow else { return }
    if commands.fresh == generation { hasSucceeded = true }
    acknowledged = tag
    rejected += commands.rejected.filter { $0.generation == generation }.map(\.tag)
    rejected.removeAll { $0 <= tag }
  }

  /// Whether all deliveries up to `newest` were acknowledged or rejected, and there were any.
  func isAllAcknowledged(upTo newest: UInt64) -> Bool {
    newest > 0 && acknowledged + UInt64(rejected.count { $0 <= newest }) >= newest
  }
}

extension ConnectionLoop {
  /// Attempts on a message that the broker cannot send that follow in a second: as many as RabbitMQ 4 counts by default, and some.
  private static let quickSteps = 30

  /// Sets the prefetch count of the next channel.
  func prepareWidth(_ topology: inout Topology, _ course: inout Course) {
    course.width = .configured
    course.hasConsumed = false
    course.hasAcknowledged = false
    course.isAllAcknowledged = false
    course.window.began()
    course.offsets.channelBegins(behind: topology.stream?.newest)
    if let width = course.offsets.width {
      course.width = .few(width)
      topology.prefetch = width
      return
    }
    guard !topology.configuration.consumer.noAck, course.prefetch.isNarrow || course.first != nil,
      let returning = returning(&course)
    else { return }
    if var first = course.first {
      // More than one that comes back would lose its order by another kill.
      guard returning == 0 else {
        course.first = nil
        return
      }
      course.width = first.next(returning: returning)
      course.first = first
      topology.doubtfulPrefetch = course.limit
    } else if course.isDoubtful, returning > 0 {
      // A message got through, and what ended its channel was no error of the broker's own. If its acknowledgement was lost it comes
      // again, and on a narrow channel it would not be recognised.
      course.prefetch.succeeded()
    } else {
      course.width = course.prefetch.next(returning: returning)
      topology.prefetch = course.limit
    }
  }

  /// How many messages may come again, once the journal thread has decided about all that was handed over: it may wait for space. Nil if the
  /// capture is to stop.
  func returning(_ course: inout Course) -> Int? {
    inbox.update { $0.asksForReturning = true }
    while !mailbox.isStopping {
      if let (returning, position) = mailbox.takeReturning() {
        course.position = position
        return returning
      }
      mailbox.wakeup.wait(until: SystemClock.now() + 1)
    }
    return nil
  }

  /// Ends a narrow channel on which everything is acknowledged.
  func end(_ narrow: NarrowChannel, _ generation: Int, _ connection: Connection, _ course: inout Course) -> End {
    // The broker's goodbye shows that it has handled all that was sent before, so none of it comes again.
    if (try? connection.close()) != nil { inbox.update { $0.settledGeneration = generation } }
    if narrow.hasSucceeded { course.prefetch.succeeded() } else { course.prefetch.cleared() }
    return .startOver(.widens)
  }

  /// Takes a failure into account, and says more of one that a message is to blame for.
  func narrow(after failure: CaptureFailure, _ generation: Int, _ course: inout Course) -> CaptureFailure {
    let isInternalError = Self.isInternalError(failure)
    if course.kind == .stream, let stream = topology.stream {
      return narrow(stream, after: failure, isInternalError: isInternalError && course.hasConsumed, &course)
    }
    guard course.hasConsumed, course.canNarrow else { return failure }
    if isInternalError { course.isDoubtful = false }
    if isInternalError, course.width == .stepping, course.isAllAcknowledged {
      // It has tried the next message because there was room, so it has handled what made it.
      inbox.update { $0.settledGeneration = generation }
    }
    let hasAcknowledged = course.hasAcknowledged
    course.prefetch.failed(isInternalError: isInternalError, hasAcknowledged: hasAcknowledged)
    guard isInternalError, course.prefetch.steps > 0 else { return failure }
    let queue = topology.configuration.queue.name
    let place = hasAcknowledged ? "" : ", behind position \(course.position) of the journal"
    let limit =
      switch course.kind {
      case .quorum:
        "A quorum queue drops or dead-letters it after its delivery limit (20 by default from RabbitMQ 4.0 on; else set the policy "
          + "delivery-limit)"
      case .unknown:
        "If the queue has a delivery limit it drops or dead-letters it then; else take it out with a client that speaks the protocol "
          + "it was published by"
      case .classic, .stream:
        "Queues of this type never give it up: take it out of the queue with a client that speaks the protocol it was published by"
      }
    return CaptureFailure(
      cause: CaptureFailure.undeliverable,
      description:
        "the broker cannot send the message at the front of queue \"\(queue)\"\(place) (attempt \(course.prefetch.steps) with this "
        + "message alone): \(failure). \(limit)", needsUser: false)
  }

  /// Where only one message is tried, the queue's delivery limit is come to soon; and what a stream cannot send is found at once.
  func hasten(_ action: ReconnectMachine.Action, _ course: Course) -> ReconnectMachine.Action {
    guard case .wait(let seconds) = action else { return action }
    if course.offsets.goesOnAtOnce(skips: topology.configuration.consumer.undeliverable == .skip) { return .connect }
    guard (1...Self.quickSteps).contains(course.prefetch.steps) else { return action }
    return .wait(seconds: min(seconds, 1))
  }
}
