import AMQP
import Glibc
import Journal
import Logging
import Platform

/// The connection thread: connects, consumes, hands batches to the journal, acknowledges what it is told to, and comes
/// back after every failure, as ``ConnectionMachine`` says.
///
/// It never waits for the disk or the runtime, so heartbeats go out whatever they do. While the journal is busy it goes
/// on reading into the next batch, up to a bound, and then leaves the socket unread: the broker feels that by TCP, and
/// by the prefetch count before.
struct ConnectionLoop {
  /// Microseconds for the broker to fill the socket after a read that gave many deliveries.
  private static let momentMicroseconds: UInt32 = 1000

  /// Which of the capture's subscriptions it consumes.
  let index: Int
  /// A batch this large is handed over before more is read.
  let batchBytes: Int
  let topology: Topology
  let mailbox: ConnectionMailbox
  let capture: Monitor<CaptureMachine>
  let status: StatusBoard
  let log: Logger
  /// What is promised about redeliveries, which may depend on the queue's type.
  let policy: DeduplicationPolicy
  let settings: ConnectionMachine.Settings
  /// 0…1, a new one at each call.
  let random: @Sendable () -> Double

  private var jitter: Double { random() * 2 - 1 }

  /// Runs until it is told to stop (nil) or has to give up.
  func run() -> CaptureFailure? {
    var machine = ConnectionMachine(settings)
    var step = ConnectionMachine.Step.connect
    while true {
      switch step {
      case .stop: return nil
      case .giveUp(let failure): return failure
      case .wait(let time): step = wait(time, &machine)
      case .connect:
        step = perform(machine.begins(topology.stream?.captured, nodes: topology.nodes.count, at: Instant.now))
      case .open:
        let ended = attempt(&machine)
        let progress = progress(after: ended, machine)
        step = perform(machine.ended(ended, progress, at: Instant.now, jitter: jitter))
      case .look(let look):
        do throws(CaptureFailure) {
          step = perform(machine.looked(try found(look), at: Instant.now, jitter: jitter))
        } catch {
          step = perform(machine.stuck(error, at: Instant.now, jitter: jitter))
        }
      case .lookAtEnd:
        let found = foundAtEnd()
        step = perform(machine.sawEnd(found, topology.stream?.newestCaptured, at: Instant.now, jitter: jitter))
      }
    }
  }

  private func perform(_ decided: ([ConnectionMachine.Action], ConnectionMachine.Step)) -> ConnectionMachine.Step {
    for action in decided.0 {
      switch action {
      case .status(let state): status.changed(to: state, of: index)
      case .settled(let generation): capture.report { $0.settled(generation, of: index) }
      case .forgetPassed: topology.stream?.pass(through: nil)
      case .pass(let range, let fresh):
        topology.stream?.pass(through: range.upperBound)
        status.count(of: index) { $0.undeliverable += Int(fresh ?? 0) }
        notify(action)
      case .forgetStream:
        // Told first: the text names the captured offset.
        notify(action)
        topology.stream?.forget()
      case .failed(let failure, let report, let pause): notify(failure, report, pause: pause)
      case .takenBack, .silent, .narrows, .searches, .stillSearches: notify(action)
      }
    }
    return decided.1
  }

  /// Waits between two attempts.
  private func wait(_ time: Duration, _ machine: inout ConnectionMachine) -> ConnectionMachine.Step {
    let deadline = Instant.now + time
    while true {
      let hasLogin = mailbox.takeLogin() != nil
      let step = machine.waits(
        isStopping: mailbox.isStopping, hasLogin: hasLogin, isOver: Instant.now >= deadline)
      if let step { return step }
      mailbox.wakeup.wait(until: deadline)
    }
  }

  /// How many messages may come again, and the position of the subscription's newest, once the journal thread has decided about all that
  /// was handed over: it may wait for space. Nil if the capture is to stop.
  private func returning() -> (count: Int, position: Position)? {
    capture.report { $0.asksForReturning(of: index) }
    while !mailbox.isStopping {
      if let (count, position) = mailbox.takeReturning() { return (count, position) }
      mailbox.wakeup.wait(until: .distantFuture)
    }
    return nil
  }

  /// A stream's capture as it stands after its channel; nil if the queue is none.
  private func progress(after end: ConnectionMachine.End, _ machine: ConnectionMachine) -> ConnectionMachine
    .StreamProgress?
  {
    guard let stream = topology.stream else { return nil }
    let asks = machine.asksWhatReturns(after: end, isPassing: stream.isPassing)
    let isDecided = !asks || returning() != nil
    return ConnectionMachine.StreamProgress(
      offset: stream.offset, newest: stream.newest, next: stream.next, isUnconfirmed: stream.isUnconfirmed,
      isDecided: isDecided)
  }

  /// One connection from open to end.
  private func attempt(_ machine: inout ConnectionMachine) -> ConnectionMachine.End {
    do throws(CaptureFailure) {
      if let state = machine.statusOfAttempt { status.changed(to: state, of: index) }
      let returning = machine.asksWhatReturns ? returning() : nil
      let plan = machine.prepare(returning: returning, newest: topology.stream?.newest)
      var topology = topology
      topology.usesSecondChannel = plan.usesSecondChannel
      topology.prefetch = plan.prefetch ?? topology.prefetch
      topology.doubtfulPrefetch = plan.doubtfulPrefetch
      let (opened, name) = (Monitor<Instant?>(nil), topology.configuration.queue.name)
      topology.isAbandoned = { [mailbox, status, index] in
        let began = opened.read { $0 }
        if let state = ConnectionMachine.statusOfOpening(name, since: began, at: Instant.now) {
          status.changed(to: state, of: index)
        }
        return mailbox.isStopping
      }
      let connection = try topology.connect()
      machine.connected()
      notify(of: connection)
      let tag = topology.consumerTag(plan.generation)
      let channel = try topology.openChannel(on: connection)
      opened.update { $0 = Instant.now }
      if plan.looksFirst, !machine.consumes(holding: try topology.messages(on: channel)) {
        try? connection.close()
        return .stillRefused
      }
      let (queue, nature) = try topology.consume(on: channel, tag: tag)
      let (consuming, orders) = machine.began(
        consumerTag: tag, nature, queue, offset: topology.stream?.offset, at: Instant.now)
      topology.stream?.channelBegan()
      capture.report { $0.consumes(consuming, of: index) }
      defer {
        status.found(inQueue: nil, of: index)
        capture.report { $0.consumes(nil, of: index) }
      }
      do throws(AMQPError) {
        let consumer = Consumer(connection: connection, channel: channel, consuming: consuming, queue: queue)
        return try consume(consumer, orders, &machine)
      } catch {
        throw topology.explained(error)
      }
    } catch {
      return .failed(error)
    }
  }

  /// A consumer that runs, and what the broker said of its queue when it began.
  struct Consumer {
    let connection: Connection
    let channel: AMQPChannel
    let consuming: Consuming
    let queue: QueueStatus?
    /// The memory for the next batch.
    var spare = DeliveryBatch()
  }

  private func consume(
    _ consumer: Consumer, _ orders: [ConnectionMachine.Order], _ machine: inout ConnectionMachine
  ) throws(AMQPError) -> ConnectionMachine.End {
    var consumer = consumer
    let (connection, channel) = (consumer.connection, consumer.channel)
    if let end = try perform(orders, &consumer, &machine) { return end }
    while true {
      var commands = mailbox.take()
      if let returned = commands.spare.take() { consumer.spare = returned }
      if machine.cancelsFirst(commands) {
        try channel.cancel(tag: consumer.consuming.consumerTag)
        machine.cancelled()
      }
      let wanted = machine.received(
        commands, isEmpty: channel.batch.isEmpty, takesBatch: takesBatch, offset: topology.stream?.offset,
        at: Instant.now)
      if let end = try perform(wanted, &consumer, &machine) { return end }
      if machine.reads {
        let found = machine.read(try read(consumer), at: Instant.now)
        if let end = try perform(found, &consumer, &machine) { return end }
      }
      switch machine.rest(isEmpty: channel.batch.isEmpty) {
      case .none: break
      case .moment: usleep(Self.momentMicroseconds)
      case .wait(let reading, let deadline):
        try connection.wait(until: deadline, wakeup: mailbox.wakeup, reading: reading)
      }
    }
  }

  /// Reads what the socket has.
  private func read(_ consumer: Consumer) throws(AMQPError) -> ConnectionMachine.Reading {
    let (connection, channel) = (consumer.connection, consumer.channel)
    let before = channel.batch.deliveries.count
    let received = try connection.receive(deliveries: Gathering.mostDeliveries, bytes: batchBytes)
    try channel.check()
    if let answer = channel.takeDepth() { status.found(inQueue: Int(answer.messages), of: index) }
    let batch = channel.batch
    let fresh = batch.deliveries.count - before
    if fresh > 0 { status.count(of: index) { $0.received += fresh } }
    return ConnectionMachine.Reading(
      isFull: received == .full, hasMore: received == .more, fresh: fresh,
      hasNew: fresh > 0 && batch.deliveries.suffix(fresh).contains { !$0.redelivered },
      waiting: batch.deliveries.count, bytes: batch.byteCount,
      newestTag: batch.deliveries.last?.tag, takesBatch: takesBatch,
      isArriving: channel.isArriving, offset: topology.stream?.offset,
      isUnconfirmed: topology.stream?.isUnconfirmed ?? false, orderedAnswer: channel.takeOrderedAnswer(),
      answerAside: channel.takeAnswer(), events: connection.takeEvents() + channel.takeEvents())
  }

  /// Does what the machine says, in its order.
  ///
  /// - Returns: How the channel ends; nil if it goes on.
  private func perform(
    _ orders: [ConnectionMachine.Order], _ consumer: inout Consumer, _ machine: inout ConnectionMachine
  ) throws(AMQPError) -> ConnectionMachine.End? {
    let (connection, channel) = (consumer.connection, consumer.channel)
    let queue = topology.configuration.queue.name
    for order in orders {
      switch order {
      case .cancel: try channel.cancel(tag: consumer.consuming.consumerTag)
      case .command(.reject(let tag)): try channel.reject(tag)
      case .command(.acknowledge(let tag, let messages)):
        try channel.acknowledge(tag, multiple: true)
        status.count(of: index) { $0.acknowledged += messages }
        log.debug("acknowledged \(messages) messages")
      case .command(.ask): try channel.askInOrder(for: queue)
      case .login(let login):
        if try connection.updateSecret(login.password.value) {
          log.info("the password has changed, and was handed to the broker")
        }
      case .askDepth: try channel.askInOrder(for: queue, isForDepth: true)
      case .askAside: try channel.ask(for: queue)
      case .bindAside:
        if try !channel.bindAside(queue: queue, try topology.bindings()) {
          // Never an end: it answers nothing, or that all is well again.
          _ = try perform(machine.cannotBindAside(at: Instant.now), &consumer, &machine)
        }
      case .handOver: handOver(&consumer)
      case .arriving(let isArriving): capture.report { $0.arriving(isArriving, of: index) }
      case .answer(let answer): capture.report { $0.answered(answer, of: index) }
      case .intakeEnded: capture.report { $0.intakeEnded(of: index) }
      case .status(let state): status.changed(to: state, of: index)
      case .notify(let notice): notify(notice, consumer)
      case .end(.failed(let failure)): return .failed(failure)
      case .end(.stopped):
        try connection.close()
        return .stopped
      case .end(let end):
        try? connection.close()
        return end
      case .endSettled: return .settled(saidGoodbye: (try? connection.close()) != nil)
      }
    }
    return nil
  }

  /// The journal's thread has no batch waiting.
  private var takesBatch: Bool { capture.read { $0.takesBatch(of: index) } }

  /// Hands the batch to the journal's thread.
  private func handOver(_ consumer: inout Consumer) {
    let batch = consumer.channel.takeBatch(refilling: consumer.spare)
    consumer.spare = DeliveryBatch()
    capture.report { $0.handedOver(Handover(channel: consumer.consuming, batch: batch), of: index) }
  }
}
