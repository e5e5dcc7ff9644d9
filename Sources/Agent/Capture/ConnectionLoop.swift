import AMQP
import Glibc
import Journal
import Logging

/// The connection thread: connects, consumes, hands batches to the journal, acknowledges what it is told to, and comes
/// back after every failure as `ReconnectMachine` says.
///
/// It never waits for the disk or the runtime, so heartbeats go out whatever they do. While the journal is busy it goes
/// on reading into the next batch, up to a bound, and then leaves the socket unread: the broker feels that by TCP, and
/// by the prefetch count before.
struct ConnectionLoop {
  /// A batch this large is handed over before more is read. One message may go beyond.
  static let batchBytes = 4 << 20
  static let batchDeliveries = 8192
  /// After a read that gave many deliveries, more are about to come: a short rest lets the broker fill the socket, so
  /// that reads are large.
  private static let lingerSeconds = 0.001

  let topology: Topology
  let mailbox: ConnectionMailbox
  let inbox: Monitor<JournalInbox>
  let status: StatusBoard
  let log: Logger
  /// What is promised about redeliveries, which may depend on the queue's type.
  let policy: DeduplicationPolicy
  /// The consumer is not cancelled before the connection closes, but for narrow channels (``PrefetchGuard``). A queue goes on
  /// delivering once a consumer is cancelled, to the next one, while what the old one has not acknowledged stays with its
  /// channel until that closes: it would come back behind newer messages, where redeliveries are not recognised.
  let keepsConsumer: Bool
  /// The first channel is narrow if the queue is a quorum queue: nothing shows that earlier processes got anything through.
  let beginsNarrow: Bool
  /// Acknowledgements wait for the runtime's commits.
  let waitsForRuntime: Bool
  /// 0…1, a new one at each call.
  let random: @Sendable () -> Double

  /// What outlives a connection.
  struct Course {
    var standstill: StandstillMachine
    var takenBack = TakenBack()
    /// The type of queue that was told about.
    var told: QueueNature.Kind?
    /// A user who may have one channel is cut off at a second one.
    var usesSecondChannel = true
    /// How many deliveries the channels are allowed.
    var prefetch = PrefetchGuard()
    /// The same for the first channel, if its queue turns out to be a quorum queue.
    var first: PrefetchGuard?
    /// What the settings allow, 0 for all; and how wide the present channel is.
    let configured: Int
    var width = PrefetchGuard.Width.configured
    var kind = QueueNature.Kind.unknown
    /// The present channel has a consumer, something was acknowledged on it, and all of it.
    var hasConsumed = false
    var hasAcknowledged = false
    var isAllAcknowledged = false
    /// It is narrow only since earlier processes may have failed: any message that gets through ends that.
    var isDoubtful = false
    /// What a channel that is closed would delete is not to be lost for a message that cannot be sent.
    let canNarrow: Bool
    /// What a stream's broker cannot send.
    var offsets = UndeliverableOffsets()
    var pacing = UndeliverablePacing()
    /// The largest offset of a stream that was gone past, and counted.
    var passed: Int64?
    /// The journal's newest position when the present channel began.
    var position = Position.origin
    /// What was told of the present outage, and of a window that is too small.
    var outage = OutageLog()
    var window = WindowHint()
  }

  /// Seconds that a queue may take to be consumed before that is told.
  private static let queuePatience = 5.0

  enum End: Equatable {
    case stopped
    /// A new channel is to begin at once.
    case startOver(StartOver.Reason)
    /// The newest captured message of a stream has not come: what stands at its end is to be looked at.
    case looksAtEnd
    /// The consumer gets nothing, though there may be something.
    case standsStill(StandstillMachine.Finding)
    case failed(CaptureFailure)
  }

  /// Runs until it is told to stop (nil) or has to give up.
  func run() -> CaptureFailure? {
    let configuration = topology.configuration
    var machine = ReconnectMachine(
      delay: configuration.reconnectDelay.inSeconds, limit: configuration.maxReconnectAttempts)
    var course = Course(topology, beginsNarrow: beginsNarrow)
    var action = machine.started()
    var generation = 0
    var end = StreamEnd()
    var lastFailure: CaptureFailure?
    /// What follows from what stands in the way of consuming, or shows at a stream's end.
    func waits(_ failure: CaptureFailure) -> ReconnectMachine.Action {
      lastFailure = failure
      let action = course.pacing.next(failure) ?? machine.failed(failure, jitter: random() * 2 - 1)
      report(failure, action, &course)
      return action
    }
    while true {
      switch action {
      case .stop: return nil
      case .giveUp(.needsUser): return lastFailure
      case .giveUp(.attemptsExhausted(let attempts)):
        let last = lastFailure.map { ": \($0)" } ?? ""
        return CaptureFailure(
          cause: "attempts_exhausted",
          description:
            "gave up after \(attempts) failed attempt\(attempts == 1 ? "" : "s") in a row (max_reconnect_attempts)\(last)",
          needsUser: true)
      case .wait(let seconds):
        if rest(seconds) { machine.stopRequested() }
        action = mailbox.isStopping ? .stop : .connect
      case .connect:
        if let failure = seek(&course) {
          action = waits(failure)
          continue
        }
        generation += 1
        switch attempt(generation, &course, consuming: { machine.consuming() }) {
        case .stopped: return nil
        case .startOver(.anotherStream):
          course.forgetStream()
          status.changed(to: .reconnecting(cause: "another_stream", reason: "the stream was made anew"))
          action = .connect
        case .startOver(.takenBack):
          log.warning(
            """
            the queue took back what was not acknowledged and delivers it again on the same channel, as quorum queues do when \
            the nodes of a cluster lose each other for a moment; consuming anew, so that it is recognised
            """)
          status.changed(
            to: .reconnecting(cause: "taken_back", reason: "the queue delivers again what it had delivered"))
          action = .wait(seconds: course.takenBack.pause(at: SystemClock.now()))
        case .startOver(.widens): action = .connect
        case .startOver(.silent):
          log.warning(
            """
            nothing of what the queue took back has come again within \(Int(TakenBack.patience)) s, as happens when what its \
            leader sends is lost between nodes of a cluster; trying another channel
            """)
          status.changed(
            to: .reconnecting(cause: "taken_back", reason: "nothing of what the queue took back comes again"))
          action = .wait(seconds: course.takenBack.pause(at: SystemClock.now()))
        case .looksAtEnd:
          if let failure = look(at: &end, &course) {
            action = waits(failure)
          } else {
            action = mailbox.isStopping ? .stop : .connect
          }
        case .standsStill(let finding):
          forgetOffsets(&course)
          if finding != .undelivered {
            status.changed(to: .reconnecting(cause: finding.cause, reason: text(of: finding, course.standstill)))
          }
          action = .connect
        case .failed(let failure) where failure.cause == CaptureFailure.abandoned: return nil
        case .failed(let failure):
          if failure.cause == CaptureFailure.channelLimit, course.hasConsumed { course.usesSecondChannel = false }
          let told = narrow(after: failure, generation, &course)
          lastFailure = told
          action = hasten(machine.failed(told, jitter: random() * 2 - 1), course)
          report(told, action, &course)
        }
      }
    }
  }

  /// Sleeps, unless told to stop; true where it was. A new login is worth trying at once.
  private func rest(_ seconds: Double) -> Bool {
    let deadline = SystemClock.now() + seconds
    while SystemClock.now() < deadline {
      if mailbox.isStopping { return true }
      if mailbox.takeLogin() != nil { return false }
      mailbox.wakeup.wait(until: deadline)
    }
    return mailbox.isStopping
  }

  /// One connection from open to end.
  private func attempt(
    _ generation: Int, _ course: inout Course, consuming: () -> Void
  ) -> End {
    do throws(CaptureFailure) {
      // In an outage what stands in the way says more than that it is tried again.
      if !course.outage.isOpen { status.changed(to: .connecting) }
      var topology = topology
      topology.usesSecondChannel = course.usesSecondChannel
      prepareWidth(&topology, &course)
      let (connected, name) = (Monitor<Double?>(nil), topology.configuration.queue.name)
      topology.isAbandoned = { [mailbox, status] in
        if let began = connected.read({ $0 }), SystemClock.now() - began > Self.queuePatience {
          status.changed(to: .awaitingQueue(name))
        }
        return mailbox.isStopping
      }
      let connection = try topology.connect()
      connected.update { $0 = SystemClock.now() }
      tell(of: connection)
      let tag = topology.consumerTag(generation)
      let (queue, nature) = try topology.consume(on: connection, tag: tag)
      consuming()
      tell(of: nature, &course.told)
      course.began(nature.kind, queue)
      let channel = Consuming(
        generation: generation, consumerTag: tag, queue: nature,
        narrowPrefetch: course.width == .configured || nature.kind == .stream ? nil : course.limit,
        isDoubtful: course.isDoubtful)
      inbox.update { $0.consuming = channel }
      defer {
        status.found(inQueue: nil)
        inbox.update { inbox in
          inbox.consuming = nil
          inbox.isArriving = false
        }
      }
      tell(of: channel, queue, connection, &course)
      course.standstill.channelBegan(
        nature.kind, messages: queue?.messages, offset: topology.stream?.offset, at: SystemClock.now())
      if let finding = course.standstill.finding {
        status.changed(to: .reconnecting(cause: finding.cause, reason: text(of: finding, course.standstill)))
      } else {
        status.changed(to: .consuming)
      }
      do throws(AMQPError) {
        return try consume(on: connection, channel, &course)
      } catch {
        throw topology.explained(error)
      }
    } catch {
      return .failed(error)
    }
  }

  private func consume(
    on connection: Connection, _ channel: Consuming, _ course: inout Course
  ) throws(AMQPError) -> End {
    let (generation, queue) = (channel.generation, channel.queue)
    topology.stream?.channelBegan()
    let began = SystemClock.now()
    var spare = DeliveryBatch()
    var machine = ChannelMachine(generation: generation)
    var newestTag: UInt64 = 0
    // A large message takes its time, in which nothing else can come: that is no silence.
    var isArriving = false
    var turn = Turn(
      fresh: 0, unacknowledged: 0, queue: queue, offset: topology.stream?.offset, prefetch: course.limit)
    var gathering = Gathering(prefetch: topology.configuration.consumer.noAck ? 0 : course.limit)
    var narrow = NarrowChannel(isNarrow: channel.narrowPrefetch != nil)
    var backlog = Backlog(at: SystemClock.now())
    defer { course.isAllAcknowledged = narrow.isAllAcknowledged(upTo: newestTag) }
    while true {
      var commands = mailbox.take()
      if let returned = commands.spare.take() { spare = returned }
      if narrow.mustCancel(commands, generation) {
        // Before the acknowledgements that make room: nothing more is to come. What a standby gets now is behind it.
        try connection.cancel(tag: channel.consumerTag)
        narrow.isCancelled = true
      }
      let before = machine.acknowledged
      try obey(commands, on: connection, &machine)
      let acknowledgedTag = machine.acknowledged
      look(at: newestTag, since: before, acknowledgedTag, &course)
      let isFull = course.limit > 0 && newestTag - min(newestTag, acknowledgedTag) >= UInt64(course.limit)
      try look(for: &backlog, of: channel, newest: newestTag, isFull: isFull, on: connection)
      narrow.heard(commands, generation, acknowledged: acknowledgedTag)
      if acknowledgedTag > 0 { course.hasAcknowledged = true }
      if narrow.isCancelled, connection.batch.isEmpty, narrow.isAllAcknowledged(upTo: newestTag) {
        return end(narrow, generation, connection, &course)
      }
      if commands.stop { return try stop(connection, channel, &spare, &machine) }
      if course.offsets.width != nil, course.offsets.widens(at: topology.stream?.offset) {
        try? connection.close()
        return .startOver(.widens)
      }
      if let reason = machine.startsOver(commands) {
        // What is lost by a close that fails comes again all the same.
        try? connection.close()
        return .startOver(reason)
      }

      let waiting = connection.batch.deliveries.count
      let received = try connection.receive(deliveries: Self.batchDeliveries, bytes: Self.batchBytes)
      let fresh = connection.batch.deliveries.count - waiting
      if fresh > 0 { status.count { $0.received += fresh } }
      if connection.isArriving != isArriving {
        isArriving = connection.isArriving
        inbox.update { [isArriving] in $0.isArriving = isArriving }
      }
      if let stream = topology.stream, queue.kind == .stream, newestTag == 0, fresh == 0, !isArriving,
        stream.isUnconfirmed,
        SystemClock.now() - began >= StreamEnd.patience
      {
        try? connection.close()
        return .looksAtEnd
      }
      if newestTag > 0 || fresh > 0 || isArriving { course.takenBack.cameAgain() }
      if course.takenBack.isMissing(since: began, at: SystemClock.now()) {
        try? connection.close()
        return .startOver(.silent)
      }
      if let answer = connection.takeAnswerBehind(),
        let settling = machine.answered(
          consumers: answer.consumers, messages: answer.messages, hasUnread: !connection.batch.isEmpty)
      {
        inbox.update { $0.answer = settling }
      }
      newestTag = connection.batch.deliveries.last?.tag ?? newestTag
      (turn.fresh, turn.unacknowledged) = (fresh, newestTag - min(newestTag, acknowledgedTag))
      if !narrow.isCancelled, let finding = try watch(&course.standstill, &turn, on: connection) {
        try? connection.close()
        return .standsStill(finding)
      }
      for event in connection.takeEvents() {
        switch event {
        case .consumerCancelled:
          return .failed(
            CaptureFailure(
              cause: "consumer_cancelled",
              description:
                "the broker cancelled the consumer of queue \"\(topology.configuration.queue.name)\": the queue was "
                + "deleted, or its node went away", needsUser: false))
        case .blocked(let reason):
          log.warning("the broker blocks publishers on this connection: \(reason)")
        case .unblocked: log.info("the broker no longer blocks publishers")
        }
      }
      let newest = connection.batch.deliveries.last?.tag ?? acknowledgedTag
      let isEnough = gathering.read(
        fresh: fresh, waiting: connection.batch.deliveries.count, bytes: connection.batch.byteCount,
        unacknowledged: newest - acknowledgedTag, at: SystemClock.now())
      if !connection.batch.isEmpty && (received == .full || isEnough) {
        handOver(connection, channel, &spare)
        if connection.batch.isEmpty { gathering.handedOver() }
      }
      switch received {
      case .full where !connection.batch.isEmpty:
        // The journal still has the batch before: only its end, an acknowledgement or a heartbeat can do anything.
        try connection.wait(until: SystemClock.now() + 1, wakeup: mailbox.wakeup, reading: false)
      case .full: break
      case .drained where fresh >= Gathering.busyDeliveries: linger()
      case .drained: try connection.wait(until: SystemClock.now() + 1, wakeup: mailbox.wakeup, reading: true)
      }
    }
  }

  private func obey(
    _ commands: ConnectionCommands, on connection: Connection, _ machine: inout ChannelMachine
  ) throws(AMQPError) {
    for order in machine.obey(commands) {
      switch order {
      case .reject(let tag): try connection.reject(tag)
      case .acknowledge(let tag, let messages):
        try connection.acknowledge(tag, multiple: true)
        status.count { $0.acknowledged += messages }
      case .ask: try connection.askBehind(for: topology.configuration.queue.name)
      }
    }
    // Last: a broker that refuses it closes the connection, and what comes after it is lost.
    if let login = commands.login, try connection.updateSecret(login.password.value) {
      log.info("the password has changed, and was handed to the broker")
    }
  }

  /// Hands the batch to the journal if it has none waiting.
  private func handOver(_ connection: Connection, _ channel: Consuming, _ spare: inout DeliveryBatch) {
    guard inbox.read({ $0.handover == nil }) else { return }
    let batch = connection.takeBatch(refilling: spare)
    spare = DeliveryBatch()
    inbox.update { $0.handover = Handover(channel: channel, batch: batch) }
  }

  private func linger() {
    var time = timespec(tv_sec: 0, tv_nsec: Int(Self.lingerSeconds * 1e9))
    unsafe nanosleep(&time, nil)
  }

  /// Stops consuming, journals what has arrived, waits for the acknowledgements that are due, says goodbye.
  private func stop(
    _ connection: Connection, _ channel: Consuming, _ spare: inout DeliveryBatch, _ machine: inout ChannelMachine
  ) throws(AMQPError) -> End {
    if !keepsConsumer { try connection.cancel(tag: channel.consumerTag) }
    while !connection.batch.isEmpty {
      handOver(connection, channel, &spare)
      if connection.batch.isEmpty { break }
      try connection.wait(until: SystemClock.now() + 1, wakeup: mailbox.wakeup, reading: false)
      let commands = mailbox.take()
      try obey(commands, on: connection, &machine)
      // A journal that has failed takes no more; what it did not take comes again.
      if commands.settled { break }
    }
    inbox.update { $0.intakeEnded = true }
    while true {
      let commands = mailbox.take()
      try obey(commands, on: connection, &machine)
      if commands.settled { break }
      try connection.wait(until: SystemClock.now() + 1, wakeup: mailbox.wakeup, reading: false)
    }
    try connection.close()
    return .stopped
  }
}
