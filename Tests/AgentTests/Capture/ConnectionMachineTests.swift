import Journal
import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

/// What the connection's thread does, decided without a broker.
struct ConnectionMachineTests {
  typealias Machine = ConnectionMachine
  typealias Order = ConnectionMachine.Order

  private static let refused = CaptureFailure(cause: "not_connected", description: "refused", needsUser: false)
  private static let internalError = CaptureFailure(
    cause: "connection_closed_541", description: "541", needsUser: false, kind: .internalError)

  private static func settings(prefetch: Int = 100) -> Machine.Settings {
    Machine.Settings(queue: "orders", prefetch: prefetch, keepsConsumer: true, delay: 5)
  }

  private static func acknowledged(_ tag: UInt64, on generation: Int = 1) -> ConnectionCommands {
    var commands = ConnectionCommands()
    commands.acknowledgement = Acknowledgement(generation: generation, tag: tag)
    return commands
  }

  /// A machine with a channel on which nothing has come.
  private static func consuming(
    _ settings: Machine.Settings = settings(), _ kind: String = "classic", returning: Int? = nil, at now: Instant = 0
  ) -> Machine {
    var machine = Machine(settings)
    begin(&machine, kind, returning: returning, at: now)
    return machine
  }

  @discardableResult
  private static func begin(
    _ machine: inout Machine, _ kind: String = "classic", returning: Int? = nil, at now: Instant = 0
  ) -> Consuming {
    _ = machine.prepare(returning: returning.map { ($0, .origin) }, newest: nil)
    let nature = QueueNature(type: kind, hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    let status = QueueStatus(name: "orders", messages: 3, consumers: 0)
    return machine.began(consumerTag: "tag", nature, status, offset: nil, at: now).0
  }

  /// One read that gave the deliveries up to `tag`, of which `waiting` were not handed over.
  private static func reading(_ fresh: Int, upTo tag: UInt64, waiting: Int? = nil) -> Machine.Reading {
    Machine.Reading(
      fresh: fresh, hasNew: fresh > 0, waiting: waiting ?? fresh, bytes: 0, newestTag: tag > 0 ? tag : nil,
      takesBatch: true)
  }

  private static func said(_ orders: [Order]) -> [Order] {
    orders.filter { if case .notify = $0 { false } else { true } }
  }

  // MARK: - A channel

  @Test func `what is of another channel is not sent on this one`() {
    var machine = Self.consuming()
    _ = machine.ended(.failed(Self.refused), nil, at: 1, jitter: 0)
    Self.begin(&machine)
    _ = machine.read(Self.reading(5, upTo: 5), at: 1)
    var commands = Self.acknowledged(3, on: 1)
    commands.rejected = [Acknowledgement(generation: 1, tag: 2)]
    commands.question = 1
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 2) == [])
    #expect(
      Self.said(machine.received(Self.acknowledged(3, on: 2), isEmpty: true, takesBatch: true, offset: nil, at: 2))
        == [.command(.acknowledge(tag: 3, messages: 3))])
  }

  @Test func `a password goes out after everything else`() throws {
    var machine = Self.consuming()
    _ = machine.read(Self.reading(2, upTo: 2), at: 0)
    var commands = Self.acknowledged(2)
    let login = try ConfigSupport.parse(#"{"queue": {"name": "orders"}, "password": "new"}"#).login
    commands.login = login
    #expect(
      Self.said(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 1))
        == [.command(.acknowledge(tag: 2, messages: 2)), .login(login)])
  }

  @Test func `an answer counts only if nothing came before it that the journal has not`() {
    var machine = Self.consuming()
    var reading = Self.reading(1, upTo: 1)
    reading.orderedAnswer = QueueStatus(name: "orders", messages: 0, consumers: 1)
    #expect(machine.read(reading, at: 0) == [.handOver])
    reading = Self.reading(0, upTo: 0, waiting: 0)
    reading.orderedAnswer = QueueStatus(name: "orders", messages: 0, consumers: 1)
    #expect(machine.read(reading, at: 0) == [.answer(SettlingAnswer(generation: 1, consumers: 1, messages: 0))])
  }

  @Test func `a stop hands over what has arrived, then says that intake has ended, and waits for the last word`() {
    var machine = Self.consuming()
    _ = machine.read(Self.reading(20, upTo: 20), at: 0)
    var commands = ConnectionCommands()
    commands.stop = true
    #expect(machine.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 1) == [])
    #expect(!machine.reads && machine.rest(isEmpty: false) == .none)
    // The journal still has the batch before.
    #expect(machine.received(commands, isEmpty: false, takesBatch: false, offset: nil, at: 1) == [])
    #expect(machine.rest(isEmpty: false) == .wait(reading: false, until: .distantFuture))
    #expect(machine.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 2) == [.handOver])
    #expect(machine.rest(isEmpty: true) == .none)
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 2) == [.intakeEnded])
    #expect(machine.rest(isEmpty: true) == .wait(reading: false, until: .distantFuture))
    // Acknowledgements still go out.
    var last = Self.acknowledged(20)
    (last.stop, last.mayClose) = (true, true)
    #expect(
      Self.said(machine.received(last, isEmpty: true, takesBatch: true, offset: nil, at: 3))
        == [.command(.acknowledge(tag: 20, messages: 20)), .end(.stopped)])
  }

  @Test func `a journal that has failed takes no more, and does not keep a stop waiting`() {
    var machine = Self.consuming()
    _ = machine.read(Self.reading(20, upTo: 20), at: 0)
    var commands = ConnectionCommands()
    (commands.stop, commands.mayClose) = (true, true)
    _ = machine.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 1)
    #expect(
      machine.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 1) == [
        .intakeEnded, .end(.stopped),
      ])
  }

  @Test func `a batch waits while the journal has the one before`() {
    var machine = Self.consuming()
    var reading = Self.reading(100, upTo: 100)
    (reading.isFull, reading.takesBatch) = (true, false)
    #expect(machine.read(reading, at: 0) == [])
    #expect(machine.rest(isEmpty: false) == .wait(reading: false, until: .distantFuture))
    (reading.fresh, reading.takesBatch) = (0, true)
    #expect(machine.read(reading, at: 0) == [.handOver])
  }

  /// What the broker sends before its answer to the cancel arrives with that answer, and with `no_ack` no one else has it.
  @Test func `a consumer is cancelled at a stop, and what arrives meanwhile is handed over`() {
    var settings = Self.settings()
    settings.keepsConsumer = false
    var machine = Self.consuming(settings)
    var commands = ConnectionCommands()
    commands.stop = true
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 1) == [.cancel])
    #expect(machine.rest(isEmpty: false) == .none)
    #expect(machine.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 1) == [.handOver])
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 1) == [.intakeEnded])
  }

  /// Its place in the queue would be lost by that, and what it holds would come back after newer messages.
  @Test func `a consumer that is kept is not cancelled at a stop, whatever the journal says meanwhile`() {
    var machine = Self.consuming()
    _ = machine.ended(.failed(Self.internalError), nil, at: 1, jitter: 0)
    Self.begin(&machine, returning: 0)
    var commands = ConnectionCommands()
    commands.stop = true
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 1) == [])
    commands.fresh = 2
    #expect(!machine.cancelsFirst(commands))
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 1) == [.intakeEnded])
  }

  @Test func `a turn waits as what came says`() {
    var machine = Self.consuming()
    _ = machine.read(Self.reading(0, upTo: 0), at: 0)
    #expect(machine.rest(isEmpty: true) == .wait(reading: true, until: 60), "then the queue is asked why nothing comes")
    _ = machine.read(Self.reading(Gathering.busyDeliveries, upTo: 8), at: 0)
    #expect(machine.rest(isEmpty: false) == .moment)
    var full = Self.reading(20, upTo: 28)
    full.isFull = true
    #expect(machine.read(full, at: 0) == [.handOver])
    #expect(
      machine.rest(isEmpty: false) == .wait(reading: false, until: .distantFuture), "the journal has the batch before")
    #expect(machine.rest(isEmpty: true) == .none)
  }

  @Test func `what is due on a channel to which nothing comes ends its wait, once`() {
    var machine = Self.consuming()
    func turn(at now: Instant) -> (orders: [Order], rest: Machine.Rest) {
      let orders =
        machine.received(ConnectionCommands(), isEmpty: true, takesBatch: true, offset: nil, at: now)
        + machine.read(Self.reading(0, upTo: 0), at: now)
      return (orders, machine.rest(isEmpty: true))
    }
    #expect(turn(at: 10).rest == .wait(reading: true, until: 60), "silence")
    let asked = turn(at: 60)
    #expect(asked.orders == [.askAside] && asked.rest == .wait(reading: true, until: 75), "no answer")
    let told = turn(at: 75)
    #expect(!told.orders.isEmpty && told.rest == .wait(reading: true, until: .distantFuture))
  }

  @Test func `a channel that had no room is silent only from the moment at which it has some`() {
    var machine = Self.consuming(Self.settings(prefetch: 1))
    _ = machine.read(Self.reading(1, upTo: 1), at: 0)
    _ = machine.read(Self.reading(0, upTo: 0, waiting: 0), at: 1)
    _ = machine.received(Self.acknowledged(1), isEmpty: true, takesBatch: true, offset: nil, at: 200)
    #expect(machine.read(Self.reading(0, upTo: 0, waiting: 0), at: 200) == [])
    #expect(machine.read(Self.reading(0, upTo: 0, waiting: 0), at: 259) == [])
    #expect(machine.read(Self.reading(0, upTo: 0, waiting: 0), at: 260) == [.askAside])
  }

  @Test func `what could not be read yet is read before anything is waited for`() {
    var machine = Self.consuming()
    var reading = Self.reading(0, upTo: 0)
    reading.hasMore = true
    _ = machine.read(reading, at: 0)
    #expect(machine.rest(isEmpty: true) == .none)
  }

  @Test func `a quorum queue is looked at, and consumed again only once something was taken out of it`() {
    var settings = Self.settings()
    settings.isAlone = false
    let failure = CaptureFailure(cause: "oversize", description: "too large", needsUser: true)
    var machine = Self.consuming(settings, "quorum")
    let refused = Machine.End.startOver(.refused(failure, tag: 4))
    #expect(machine.ended(refused, nil, at: 1, jitter: 0).1 == .wait(10))
    // The first look tells how many there are.
    let look = machine.prepare(returning: nil, newest: nil).looksFirst
    #expect(look)
    #expect(machine.consumes(holding: 50) == false)
    #expect(machine.ended(.stillRefused, nil, at: 11, jitter: 0).1 == .wait(20))
    #expect(machine.consumes(holding: 60) == false, "more have come")
    #expect(machine.ended(.stillRefused, nil, at: 31, jitter: 0).1 == .wait(40))
    #expect(machine.consumes(holding: 59) == true, "one fewer than at the look before")
    // One delivery at a time: if it is another one, only that counts.
    let attempt = machine.prepare(returning: (0, .origin), newest: nil)
    #expect(!attempt.looksFirst && attempt.prefetch == 1)
    // A queue that does not count is consumed again.
    var classic = Self.consuming(settings)
    _ = classic.ended(refused, nil, at: 1, jitter: 0)
    let again = classic.prepare(returning: nil, newest: nil)
    #expect(!again.looksFirst)
  }

  @Test func `a refused message is not delivered more than a few times to find out that it is still there`() {
    let failure = CaptureFailure(cause: "oversize", description: "too large", needsUser: true)
    var message = RefusedMessage()
    var deliveries = 0
    var count: UInt32 = 1000
    for _ in 0..<100 {
      message.refused(failure, isCounted: true, hasAcknowledged: false)
      deliveries += 1
      var looks = 0
      while message.consumes(holding: count) == false, looks < 3 {
        count -= 1
        looks += 1
      }
      if message.failure != nil { break }
    }
    #expect(deliveries == 5)
    // An empty queue, or none, has no such message.
    let empty = message.consumes(holding: 0)
    #expect(empty)
    message.refused(failure, isCounted: true, hasAcknowledged: false)
    let gone = message.consumes(holding: nil)
    #expect(gone)
    // Without a pause in the settings there is one.
    #expect(message.pause(.zero) >= .milliseconds(100))
  }

  @Test func `a message that is not captured ends its channel once those before it are acknowledged`() {
    var settings = Self.settings()
    settings.keepsConsumer = false
    settings.isAlone = false
    let failure = CaptureFailure(cause: "oversize", description: "too large", needsUser: true)
    var machine = Self.consuming(settings)
    _ = machine.read(Self.reading(5, upTo: 5), at: 0)
    var commands = ConnectionCommands()
    commands.startOver = StartOver(generation: 1, reason: .refused(failure, tag: 4))
    func received(_ commands: ConnectionCommands, at now: Instant) -> [Order] {
      Self.said(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: now))
    }
    #expect(received(commands, at: 1) == [])
    _ = machine.read(Self.reading(0, upTo: 0, waiting: 0), at: 1)
    #expect(machine.rest(isEmpty: true) == .wait(reading: true, until: 31))
    let end = Machine.End.startOver(.refused(failure, tag: 4))
    #expect(received(Self.acknowledged(3), at: 2) == [.command(.acknowledge(tag: 3, messages: 3)), .end(end)])
    #expect(machine.ended(end, nil, at: 2, jitter: 0).1 == .wait(5))
    // One after the other brings nothing else: each costs the queue a delivery.
    for (generation, pause) in [(2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
      Self.begin(&machine)
      commands.startOver = StartOver(generation: generation, reason: .refused(failure, tag: 1))
      let now = Instant(sinceBoot: .seconds(100 * generation))
      #expect(received(commands, at: now).last == .end(.startOver(.refused(failure, tag: 1))))
      #expect(
        machine.ended(.startOver(.refused(failure, tag: 1)), nil, at: now, jitter: 0).1 == .wait(.seconds(pause)))
    }
  }

  @Test
  func `what is wrong with a queue beside others is tried again for ever, and what keeps from a connection is not`() {
    var settings = Self.settings()
    (settings.isAlone, settings.attempts) = (false, 2)
    let missing = CaptureFailure(cause: "channel_closed_404", description: "404", needsUser: true)
    var machine = Machine(settings)
    for _ in 0..<5 {
      machine.connected()
      #expect(machine.ended(.failed(missing), nil, at: 0, jitter: 0).1 == .wait(5))
    }
    // A login that is refused after one that was not is tried again, too, but counts.
    let login = CaptureFailure(cause: "not_connected", description: "refused", needsUser: true)
    #expect(machine.ended(.failed(login), nil, at: 0, jitter: 0).1 == .wait(5))
    #expect(machine.ended(.failed(login), nil, at: 0, jitter: 0).1 == .giveUp(.exhausted(2, last: login)))
    var first = Machine(settings)
    #expect(first.ended(.failed(login), nil, at: 0, jitter: 0).1 == .giveUp(login))
  }

  @Test func `the journal's word to begin anew ends the channel that it is of`() {
    var machine = Self.consuming()
    var commands = ConnectionCommands()
    commands.startOver = StartOver(generation: 7, reason: .takenBack)
    #expect(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 0) == [])
    commands.startOver = StartOver(generation: 1, reason: .takenBack)
    #expect(
      machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 0) == [.end(.startOver(.takenBack))])
  }

  @Test func `a cancelled consumer is a failure that is tried again`() {
    var machine = Self.consuming()
    var reading = Self.reading(0, upTo: 0)
    reading.events = [.blocked(reason: "memory"), .consumerCancelled(tag: "tag")]
    let orders = machine.read(reading, at: 0)
    #expect(orders == [.notify(.blocked(reason: "memory")), .end(.failed(.cancelled(by: "orders")))])
    let (_, step) = machine.ended(.failed(.cancelled(by: "orders")), nil, at: 0, jitter: 0)
    #expect(step == .wait(5))
  }

  /// While the journal has no room the socket is left unread, and an answer with it.
  @Test(arguments: [false, true]) func `a queue is not asked while nothing is read`(isFull: Bool) {
    var settings = Self.settings()
    settings.noAck = true
    var machine = Self.consuming(settings)
    var reading = Self.reading(0, upTo: 0, waiting: 9000)
    reading.isFull = isFull
    let orders = machine.read(reading, at: Instant(sinceBoot: StandstillMachine.silence))
    #expect(orders.contains(.askAside) != isFull)
  }

  // MARK: - Narrow channels

  @Test func `after an internal error one message at a time is tried, and what it takes is settled`() {
    var machine = Self.consuming()
    _ = machine.read(Self.reading(3, upTo: 3), at: 0)
    var (actions, step) = machine.ended(.failed(Self.internalError), nil, at: 1, jitter: 0)
    #expect(step == .wait(5))
    #expect(!actions.contains(.settled(1)))
    #expect(machine.asksWhatReturns)
    let attempt = machine.prepare(returning: (0, Position(rawValue: 9)), newest: nil)
    #expect(attempt == Machine.Attempt(generation: 2, prefetch: 1))
    let nature = QueueNature(type: "classic", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
    let (channel, _) = machine.began(consumerTag: "t", nature, nil, offset: nil, at: 2)
    #expect(channel.narrowPrefetch == 1)
    // It gets one, acknowledges it, and the next one ends the channel: the broker has handled that.
    _ = machine.read(Self.reading(1, upTo: 1), at: 2)
    _ = machine.received(Self.acknowledged(1, on: 2), isEmpty: true, takesBatch: true, offset: nil, at: 2)
    (actions, step) = machine.ended(.failed(Self.internalError), nil, at: 3, jitter: 0)
    #expect(actions.first == .settled(2))
    guard case .failed(let told, _, _)? = actions.dropFirst().first else {
      Issue.record("\(actions)")
      return
    }
    #expect(told.kind == .undeliverable && step == .wait(1))
  }

  @Test
  func `a narrow channel is cancelled before the acknowledgement that makes room, and ends with all acknowledged`() {
    var machine = Self.consuming()
    _ = machine.ended(.failed(Self.internalError), nil, at: 1, jitter: 0)
    let channel = Self.begin(&machine, returning: 0)
    #expect(channel.narrowPrefetch == 1)
    _ = machine.read(Self.reading(1, upTo: 1), at: 2)
    var commands = Self.acknowledged(1, on: 2)
    commands.fresh = 2
    #expect(machine.cancelsFirst(commands))
    machine.cancelled()
    #expect(!machine.cancelsFirst(commands))
    var other = machine
    #expect(
      Self.said(machine.received(commands, isEmpty: true, takesBatch: true, offset: nil, at: 2))
        == [.command(.acknowledge(tag: 1, messages: 1)), .endSettled])
    let (actions, step) = machine.ended(.settled(saidGoodbye: true), nil, at: 3, jitter: 0)
    #expect(actions == [.settled(2)] && step == .connect && !machine.asksWhatReturns)
    // Without a goodbye nothing is known, and what arrived with the broker's answer to the cancel is still to be decided about.
    #expect(
      Self.said(other.received(commands, isEmpty: false, takesBatch: true, offset: nil, at: 2))
        == [.command(.acknowledge(tag: 1, messages: 1))])
    #expect(other.ended(.settled(saidGoodbye: false), nil, at: 3, jitter: 0).0 == [])
  }

  @Test func `an acknowledgement that was not sent since the cancel before it failed settles nothing`() {
    var machine = Self.consuming()
    _ = machine.ended(.failed(Self.internalError), nil, at: 1, jitter: 0)
    Self.begin(&machine, returning: 0)
    _ = machine.read(Self.reading(1, upTo: 1), at: 2)
    var commands = Self.acknowledged(1, on: 2)
    commands.fresh = 2
    #expect(machine.cancelsFirst(commands))
    let (actions, _) = machine.ended(.failed(Self.internalError), nil, at: 3, jitter: 0)
    #expect(!actions.contains(.settled(2)))
    #expect(machine.asksWhatReturns, "still narrow")
  }

  // MARK: - Between channels

  @Test func `what a user must fix ends the capture at its first start only`() {
    let failure = CaptureFailure(cause: "tls", description: "no", needsUser: true)
    var machine = Machine(Self.settings())
    #expect(machine.ended(.failed(failure), nil, at: 0, jitter: 0).1 == .giveUp(failure))
    machine = Self.consuming()
    #expect(machine.ended(.failed(failure), nil, at: 0, jitter: 0).1 == .wait(5))
  }

  @Test func `as many attempts as the settings allow are made`() {
    var settings = Self.settings()
    settings.attempts = 2
    var machine = Machine(settings)
    for _ in 0..<1 { #expect(machine.ended(.failed(Self.refused), nil, at: 0, jitter: 0).1 == .wait(5)) }
    #expect(machine.ended(.failed(Self.refused), nil, at: 0, jitter: 0).1 == .giveUp(.exhausted(2, last: Self.refused)))
  }

  @Test func `a stop while it waits is the end, and a new login is tried at once`() {
    var machine = Machine(Self.settings())
    _ = machine.ended(.failed(Self.refused), nil, at: 0, jitter: 0)
    #expect(machine.waits(isStopping: false, hasLogin: false, isOver: false) == nil)
    #expect(machine.waits(isStopping: false, hasLogin: true, isOver: false) == .connect)
    #expect(machine.waits(isStopping: false, hasLogin: false, isOver: true) == .connect)
    #expect(machine.waits(isStopping: true, hasLogin: true, isOver: true) == .stop)
    #expect(machine.ended(.failed(Self.refused), nil, at: 0, jitter: 0).1 == .stop)
  }

  @Test
  func `a stream's failed channel asks what was captured, and the next ones are narrower until nothing new comes`() {
    var machine = Self.consuming(Self.settings(prefetch: 8), "stream")
    let end = Machine.End.failed(Self.internalError)
    #expect(machine.asksWhatReturns(after: end, isPassing: false))
    #expect(!machine.asksWhatReturns(after: .failed(Self.refused), isPassing: false))
    func progress(_ offset: Int64) -> Machine.StreamProgress {
      Machine.StreamProgress(offset: offset, newest: offset, next: offset + 1, isUnconfirmed: false, isDecided: true)
    }
    var (actions, step) = machine.ended(end, progress(4), at: 0, jitter: 0)
    #expect(actions == [.narrows(Self.internalError, prefetch: 2)] && step == .connect)
    #expect(machine.prepare(returning: nil, newest: 4).prefetch == 2)
    for _ in 0..<2 {
      let nature = QueueNature(type: "stream", hasLevels: false, deliveryLimit: nil, brokerVersion: "4.0.5")
      _ = machine.began(consumerTag: "t", nature, nil, offset: 4, at: 0)
      (actions, step) = machine.ended(end, progress(4), at: 0, jitter: 0)
      _ = machine.prepare(returning: nil, newest: 4)
    }
    guard case .failed(let told, .cause, _)? = actions.first else {
      Issue.record("\(actions)")
      return
    }
    #expect(told.kind == .undeliverable && told.description.contains("at offset 5"))
    #expect(machine.undeliverableOffsets.blocked == 5)
  }

  // MARK: - Before a channel of a stream

  /// Blocked at offset 5; offset 4 is captured.
  private static func blocked(skips: Bool) -> Machine {
    var settings = Machine.Settings(queue: "orders", prefetch: 1, delay: 5)
    settings.skipsUndeliverable = skips
    var machine = Machine(settings)
    for _ in 0..<3 {
      machine.undeliverableOffsets.channelBegins(after: 4)
      machine.undeliverableOffsets.failed(newest: 4, next: 5, configured: 1)
    }
    return machine
  }

  private static let captured = OffsetSearch.Captured(offset: 4, digest: nil)

  private static func message(_ offset: Int64) -> OffsetSearch.Found {
    .message(StreamEnd.Message(offset: offset, digest: DeliveryDigest(high: 1, low: 0)))
  }

  @Test func `an offset that cannot be sent is looked at before a channel begins`() {
    var machine = Self.blocked(skips: false)
    var (actions, step) = machine.begins(Self.captured, nodes: 1, at: 0)
    #expect(actions == [] && step == .look(.offset(5, node: nil)), "nothing is looked for, so nothing is told")
    (actions, step) = machine.looked(.fails, at: 0, jitter: 0)
    guard case .wait = step, case .failed? = actions.first else {
      Issue.record("\(actions) \(step)")
      return
    }
    (_, step) = machine.begins(Self.captured, nodes: 1, at: 9)
    #expect(step == .look(.offset(5, node: nil)))
    #expect(machine.looked(Self.message(5), at: 9, jitter: 0).1 == .open)
    #expect(machine.begins(Self.captured, nodes: 1, at: 9).1 == .open, "it is sent by now")
  }

  @Test func `what is gone past is counted once, also if it is gone past again`() {
    for fresh in [1, nil] as [Int64?] {
      var machine = Self.blocked(skips: true)
      if fresh == nil { machine.newestPassed = 5 }
      let (told, _) = machine.begins(Self.captured, nodes: 1, at: 0)
      guard case .searches? = told.first, case .status(.reconnecting)? = told.last else {
        Issue.record("\(told)")
        return
      }
      for found in [.fails, Self.message(6), .fails] { _ = machine.looked(found, at: 0, jitter: 0) }
      let (actions, step) = machine.looked(Self.message(4), at: 0, jitter: 0)
      #expect(actions == [.pass(5...5, fresh: fresh)] && step == .open)
    }
  }

  @Test func `a search that takes long says so now and then`() {
    var machine = Self.blocked(skips: true)
    _ = machine.begins(Self.captured, nodes: 1, at: 0)
    #expect(machine.looked(.fails, at: 9, jitter: 0).0 == [])
    #expect(machine.looked(.fails, at: 11, jitter: 0).0 == [.stillSearches(first: 5, now: 7)])
    #expect(machine.looked(.fails, at: 12, jitter: 0).0 == [])
  }

  @Test func `another stream is forgotten, whatever shows that it is one`() {
    var machine = Self.blocked(skips: true)
    machine.newestPassed = 3
    _ = machine.begins(Self.captured, nodes: 1, at: 0)
    for found in [.fails, Self.message(6), .fails] { _ = machine.looked(found, at: 0, jitter: 0) }
    var (actions, step) = machine.looked(Self.message(2), at: 0, jitter: 0)
    #expect(actions == [.forgetStream(.otherMessage), .status(Machine.anotherStream)] && step == .open)
    #expect(machine.newestPassed == nil && !machine.undeliverableOffsets.isBlocked)
    machine.newestPassed = 3
    let last = StreamEnd.Message(offset: 2, digest: DeliveryDigest(high: 2, low: 0))
    let known = [DeliveryDigest(high: 3, low: 0), DeliveryDigest(high: 4, low: 0), DeliveryDigest(high: 5, low: 0)]
    let newest = StreamResumption.Newest(offset: 4, known: known)
    (actions, step) = machine.sawEnd(.message(last), newest, at: 0, jitter: 0)
    #expect(actions == [.forgetStream(.endsAt(2)), .status(Machine.anotherStream)] && step == .connect)
    #expect(machine.newestPassed == nil)
  }

  @Test func `only an end that the broker cannot send stands in the way`() {
    var machine = Self.consuming(Self.settings(), "stream")
    let newest = StreamResumption.Newest(offset: 4, known: [])
    for found in [
      .notSent(Self.refused), .message(nil), .notConnected(Self.refused), .notConnected(Self.internalError),
    ] as [Machine.EndFound] {
      #expect(machine.sawEnd(found, newest, at: 0, jitter: 0).1 == .connect)
    }
    let (actions, step) = machine.sawEnd(.notSent(Self.internalError), newest, at: 0, jitter: 0)
    guard case .wait = step, case .failed? = actions.first else {
      Issue.record("\(actions) \(step)")
      return
    }
  }

  @Test func `a stop ends a look, and nothing follows from what it did not see`() {
    var machine = Self.blocked(skips: true)
    _ = machine.begins(Self.captured, nodes: 1, at: 0)
    let abandoned = CaptureFailure(cause: "abandoned", description: "", needsUser: false, kind: .abandoned)
    let (actions, step) = machine.stuck(abandoned, at: 0, jitter: 0)
    #expect(actions == [] && step == .stop)
    for found in [.notSent(abandoned), .notConnected(abandoned)] as [Machine.EndFound] {
      #expect(machine.sawEnd(found, nil, at: 0, jitter: 0).1 == .stop)
    }
  }
}
