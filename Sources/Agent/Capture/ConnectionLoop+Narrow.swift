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
    // What waits for an acknowledgement of a slow runtime may expire.
    if beginsNarrow, configuration.queue.arguments["x-message-ttl"] == nil {
      var guarded = prefetch
      guarded.beginNarrow()
      first = guarded
    }
  }

  /// The present channel's prefetch count; 0 is no limit.
  var limit: Int { width.count(configured) }

  /// The present channel consumes from a queue of this kind.
  mutating func began(_ kind: QueueNature.Kind) {
    self.kind = kind
    if let first = first.take() {
      if kind == .quorum { prefetch = first } else { width = .configured }
    }
    hasConsumed = true
  }

  /// So far everything was acknowledged; `fresh` is the first delivery of the channel that was captured and never delivered before.
  ///
  /// - Returns: True where a wide channel is to follow.
  mutating func acknowledged(_ tag: UInt64, fresh: UInt64?) -> Bool {
    hasAcknowledged = hasAcknowledged || tag > 0
    guard let fresh, tag >= fresh, prefetch.isNarrow, kind != .stream else { return false }
    return prefetch.succeeded()
  }
}

extension ConnectionLoop {
  /// Seconds that the journal thread may take to decide about what it has.
  private static let decisionPatience = 10.0
  /// Attempts on a message that the broker cannot send that follow in a second: as many as RabbitMQ 4 counts by default, and some.
  private static let quickSteps = 30

  /// Sets the prefetch count of the next channel.
  func prepareWidth(_ topology: inout Topology, _ course: inout Course) {
    course.width = .configured
    course.hasConsumed = false
    course.hasAcknowledged = false
    guard !topology.configuration.consumer.noAck, course.prefetch.isNarrow || course.first != nil,
      let returning = returning(&course)
    else {
      course.first = nil
      return
    }
    if var first = course.first {
      // More than one that comes back would lose its order by another kill.
      guard returning.count == 0 else {
        course.first = nil
        return
      }
      course.width = first.next(returning)
      course.first = first
      topology.quorumPrefetch = course.limit
    } else {
      course.width = course.prefetch.next(returning)
      topology.prefetch = course.limit
    }
  }

  /// What may come again, once the journal thread has decided about all that was handed over; nil where it does not get to it.
  private func returning(_ course: inout Course) -> PrefetchGuard.Returning? {
    inbox.update { $0.asksForReturning = true }
    let deadline = SystemClock.now() + Self.decisionPatience
    while SystemClock.now() < deadline, !mailbox.isStopping {
      if let (returning, position) = mailbox.takeReturning() {
        course.position = position
        return returning
      }
      mailbox.wakeup.wait(until: deadline)
    }
    return nil
  }

  /// Takes a failure into account, and says more of one that a message is to blame for.
  func narrow(after failure: CaptureFailure, _ course: inout Course) -> CaptureFailure {
    guard course.hasConsumed, course.kind != .stream else { return failure }
    let isInternalError = failure.cause == "connection_closed_541" || failure.cause == "channel_closed_541"
    course.prefetch.failed(isInternalError: isInternalError, hasAcknowledged: course.hasAcknowledged)
    guard isInternalError, course.prefetch.steps > 0 else { return failure }
    let queue = topology.configuration.queue.name
    let limit =
      course.kind == .quorum
      ? "A quorum queue drops or dead-letters it after its delivery limit (20 by default from RabbitMQ 4.0 on; else set the policy "
        + "delivery-limit)"
      : "Queues of this type never give it up: take it out of the queue with a client that speaks the protocol it was published by"
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send the message at the front of queue \"\(queue)\", behind position \(course.position) of the journal "
        + "(attempt \(course.prefetch.steps) with this message alone): \(failure). \(limit)", needsUser: false)
  }

  /// Where only one message is tried, the queue's delivery limit is come to soon.
  func hasten(_ action: ReconnectMachine.Action, _ course: Course) -> ReconnectMachine.Action {
    guard case .wait(let seconds) = action, (1...Self.quickSteps).contains(course.prefetch.steps) else { return action }
    return .wait(seconds: min(seconds, 1))
  }
}
