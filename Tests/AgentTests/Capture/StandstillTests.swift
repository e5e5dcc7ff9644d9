import Platform
import Support
import Testing

@testable import AMQP
@testable import Agent

/// When a silent consumer is asked about, consumed anew, or told to a user.
struct StandstillTests {
  private static func answer(_ messages: UInt32, consumers: UInt32 = 1) -> QueueAnswer {
    .status(QueueStatus(name: "q", messages: messages, consumers: consumers))
  }

  private static func machine(
    _ kind: QueueNature.Kind, messages: UInt32? = 0, offset: Int64? = nil
  ) -> StandstillMachine {
    var machine = StandstillMachine()
    machine.channelBegan(kind, messages: messages, offset: offset, at: 0)
    return machine
  }

  @Test func `a minute of silence with room is a question, and any arrival begins it anew`() {
    var machine = Self.machine(.quorum)
    #expect(machine.turned(.nothing, hasRoom: true, at: 59) == .none)
    #expect(machine.turned(.new, hasRoom: true, at: 59.5) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 119) == .none)
    #expect(machine.turned(.old, hasRoom: true, at: 119.2) == .none)
    #expect(machine.turned(.nothing, hasRoom: false, at: 179.2) == .none)
    // An acknowledgement made room: only now could something come.
    #expect(machine.turned(.nothing, hasRoom: true, at: 179.3) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 239.2) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 239.3) == .ask)
    #expect(machine.turned(.nothing, hasRoom: true, at: 240) == .none)
    // An idle queue is asked once a minute.
    #expect(machine.answered(Self.answer(0), offset: nil, at: 241) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 300.9) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 301) == .ask)
  }

  @Test func `an answer that comes after a message says nothing`() {
    var machine = Self.machine(.quorum)
    #expect(machine.turned(.nothing, hasRoom: true, at: 60) == .ask)
    #expect(machine.turned(.new, hasRoom: true, at: 61) == .none)
    #expect(machine.answered(Self.answer(9), offset: nil, at: 62) == .none)
  }

  @Test(arguments: [.classic, .quorum, .unknown] as [QueueNature.Kind])
  func `ready messages that do not come are consumed anew, at growing intervals, and then told`(
    kind: QueueNature.Kind
  ) {
    var machine = Self.machine(kind)
    let holds = StandstillMachine.Finding.holds(messages: 3, consumers: 2)
    var now = Instant(0)
    for (number, silence) in ([60, 120, 240, 480, 960, 1920, 1920] as [Duration]).enumerated() {
      #expect(machine.turned(.nothing, hasRoom: true, at: now + silence - 1) == .none)
      #expect(machine.turned(.nothing, hasRoom: true, at: now + silence) == .ask)
      now += silence
      #expect(machine.answered(Self.answer(3, consumers: 2), offset: nil, at: now) == .consumeAnew(holds))
      // The first time it may well help.
      #expect(machine.finding == (number == 0 ? nil : holds))
      machine.channelBegan(kind, messages: 3, offset: nil, at: now)
      // What was unacknowledged comes again, and is no success.
      #expect(machine.turned(.old, hasRoom: true, at: now) == .none)
    }
    #expect(machine.turned(.new, hasRoom: true, at: now) == .recovered)
    #expect(machine.finding == nil)
    #expect(machine.turned(.nothing, hasRoom: true, at: now + 60) == .ask)
  }

  /// Asks a queue that is fine, which is to be bound again.
  private static func askAndBind(_ machine: inout StandstillMachine, at now: Instant) {
    #expect(machine.turned(.nothing, hasRoom: true, at: now) == .ask)
    #expect(machine.answered(Self.answer(0), offset: nil, at: now) == .bind)
  }

  @Test func `without a channel for it nothing says that the queue is bound`() {
    var machine = StandstillMachine(binds: true)
    machine.channelBegan(.quorum, messages: 0, offset: nil, at: 0)
    func ask(at now: Instant) { Self.askAndBind(&machine, at: now) }
    ask(at: 60)
    #expect(machine.cannotBind(at: 60) == .none)
    ask(at: 120)
    let missing = StandstillMachine.Finding.unbound("404 NOT_FOUND")
    #expect(machine.answered(.refused(code: 404, text: "NOT_FOUND"), offset: nil, at: 120) == .report(missing))
    ask(at: 130)
    #expect(machine.cannotBind(at: 130) == .none)
    #expect(machine.finding == missing)
    #expect(machine.cannotBind(at: 131) == .none, "it was not being bound")
  }

  @Test func `a queue that is fine is bound again, and an exchange that is missing is told until it is there`() {
    var machine = StandstillMachine(binds: true)
    machine.channelBegan(.quorum, messages: 0, offset: nil, at: 0)
    func ask(at now: Instant) { Self.askAndBind(&machine, at: now) }
    ask(at: 60)
    #expect(machine.answered(.bound, offset: nil, at: 61) == .boundAgain)
    // Whether it was needed is not known, so it is not told each minute.
    ask(at: 121)
    #expect(machine.answered(.bound, offset: nil, at: 122) == .none)
    ask(at: 182)
    let missing = StandstillMachine.Finding.unbound("404 NOT_FOUND")
    #expect(machine.answered(.refused(code: 404, text: "NOT_FOUND"), offset: nil, at: 183) == .report(missing))
    ask(at: 193)
    #expect(machine.answered(.refused(code: 404, text: "NOT_FOUND"), offset: nil, at: 193) == .none)
    ask(at: 203)
    #expect(machine.answered(.bound, offset: nil, at: 203) == .recovered)
    // An answer that does not come is told, and one that comes after a message is none.
    ask(at: 263)
    #expect(machine.turned(.nothing, hasRoom: true, at: 278) == .report(.noAnswer))
    #expect(machine.turned(.new, hasRoom: true, at: 279) == .recovered)
    #expect(machine.answered(.refused(code: 404, text: "NOT_FOUND"), offset: nil, at: 280) == .none)
  }

  @Test func `one that stands by is no fault unless messages wait and do not get fewer`() {
    var machine = StandstillMachine(isSingleActive: true)
    machine.channelBegan(.quorum, messages: 0, offset: nil, at: 0)
    func look(_ messages: UInt32, at now: Instant) -> StandstillMachine.Action {
      #expect(machine.turned(.nothing, hasRoom: true, at: now) == .ask)
      return machine.answered(Self.answer(messages, consumers: 2), offset: nil, at: now)
    }
    #expect(look(0, at: 60) == .report(.standsBy(messages: 0, isStuck: false)))
    #expect(look(9, at: 120) == .report(.standsBy(messages: 9, isStuck: true)))
    #expect(look(9, at: 180) == .none)
    #expect(look(8, at: 240) == .report(.standsBy(messages: 8, isStuck: false)))
    #expect(look(0, at: 300) == .none)
    // The other one is gone: what it held comes first, as redelivered.
    #expect(machine.turned(.old, hasRoom: true, at: 310) == .recovered)
    // Now it is the active one, and another stands by.
    #expect(look(3, at: 370) == .consumeAnew(.holds(messages: 3, consumers: 2)))
  }

  @Test func `a queue that others have emptied is fine again`() {
    var machine = Self.machine(.quorum)
    for now in [60, 180] as [Instant] {
      #expect(machine.turned(.nothing, hasRoom: true, at: now) == .ask)
      _ = machine.answered(Self.answer(3), offset: nil, at: now)
      machine.channelBegan(.quorum, messages: 3, offset: nil, at: now)
    }
    #expect(machine.turned(.nothing, hasRoom: true, at: 420) == .ask)
    #expect(machine.answered(Self.answer(0), offset: nil, at: 420) == .recovered)
    #expect(machine.turned(.nothing, hasRoom: true, at: 480) == .ask)
  }

  @Test func `a queue that does not answer is told once, until it answers`() {
    var machine = Self.machine(.quorum)
    #expect(machine.turned(.nothing, hasRoom: true, at: 60) == .ask)
    #expect(machine.turned(.nothing, hasRoom: true, at: 74) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 75) == .report(.noAnswer))
    #expect(machine.turned(.nothing, hasRoom: true, at: 9999) == .none)
    #expect(machine.answered(Self.answer(0), offset: nil, at: 10_000) == .recovered)
  }

  @Test func `a quorum queue that does not know us has no leader, or needs another consumer`() {
    var machine = Self.machine(.quorum)
    #expect(machine.turned(.nothing, hasRoom: true, at: 60) == .ask)
    #expect(machine.answered(Self.answer(0, consumers: 0), offset: nil, at: 60) == .report(.noConsumer))
    #expect(machine.turned(.nothing, hasRoom: true, at: 69) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 70) == .ask)
    #expect(machine.answered(Self.answer(0, consumers: 0), offset: nil, at: 70) == .report(.noConsumer))
    #expect(machine.turned(.nothing, hasRoom: true, at: 80) == .ask)
    #expect(machine.answered(Self.answer(0, consumers: 0), offset: nil, at: 80) == .consumeAnew(.noConsumer))
    // One that is back is fine.
    machine.channelBegan(.quorum, messages: 0, offset: nil, at: 80)
    #expect(machine.turned(.nothing, hasRoom: true, at: 200) == .ask)
    #expect(machine.answered(Self.answer(0), offset: nil, at: 200) == .none)
  }

  @Test func `a refusal is a reason to consume anew, which tells more`() {
    var machine = Self.machine(.classic)
    #expect(machine.turned(.nothing, hasRoom: true, at: 60) == .ask)
    #expect(
      machine.answered(.refused(code: 404, text: "NOT_FOUND"), offset: nil, at: 60)
        == .consumeAnew(.refused("404 NOT_FOUND")))
  }

  /// Silences of a stream: how many offsets it has then, the newest that we have, and whether it is consumed anew.
  @Test(
    arguments: [
      // All that it ever had; then more that came, and then more that did not.
      ([(10, 9, false), (10, 9, false), (15, 14, false), (17, 14, true), (17, 14, false)], 0),
      // Retention has dropped some: once it is not certain, and then it is.
      ([(10, 29, true), (10, 29, false), (12, 31, false), (13, 31, true), (13, 31, false)], 10),
      // It has dropped some since.
      ([(10, 9, false), (8, 12, true), (8, 12, false)], 0),
      // The node does not know.
      ([(0, 9, true), (0, 9, true)], 0),
    ] as [([(UInt32, Int64, Bool)], UInt32)])
  func `a stream's offsets have to explain its silence`(silences: [(UInt32, Int64, Bool)], messages: UInt32) {
    var machine = Self.machine(.stream, messages: messages, offset: 3)
    var now = Instant(0)
    for (count, offset, anew) in silences {
      now += StandstillMachine.silence * (1 << machine.attempts)
      #expect(machine.turned(.nothing, hasRoom: true, at: now) == .ask)
      #expect(
        machine.answered(Self.answer(count, consumers: 0), offset: offset, at: now)
          == (anew ? .consumeAnew(.undelivered) : .none), "\(count) \(offset)")
      if anew { machine.channelBegan(.stream, messages: count, offset: offset, at: now) }
    }
    // It may be the numbers that are not known: no reason to alarm anybody.
    #expect(machine.finding == nil)
  }

  @Test func `a stream that is read from its end needs no explanation for what it had`() {
    var machine = Self.machine(.stream, messages: 500)
    #expect(machine.turned(.nothing, hasRoom: true, at: 60) == .ask)
    #expect(machine.answered(Self.answer(500), offset: nil, at: 60) == .none)
    #expect(machine.turned(.nothing, hasRoom: true, at: 120) == .ask)
    #expect(machine.answered(Self.answer(501), offset: nil, at: 120) == .consumeAnew(.undelivered))
  }

  @Test(arguments: [Int64.max, .min, -1])
  func `offsets that a broker makes up do no harm`(offset: Int64) {
    var machine = Self.machine(.stream, messages: .max, offset: offset)
    for now in stride(from: 2000, to: 20_000, by: 2000).map({ Instant($0) }) {
      #expect(machine.turned(.nothing, hasRoom: true, at: now) == .ask)
      _ = machine.answered(Self.answer(.max), offset: now < 9000 ? offset : 0, at: now)
    }
  }

  @Test func `what is told says which queue, what, and who else`() {
    typealias Finding = StandstillMachine.Finding
    #expect(
      Finding.noAnswer.text(queue: "q", attempts: 0, isSingleActive: false)
        == #"queue "q" does not answer: no leader?"#)
    #expect(
      Finding.holds(messages: 1, consumers: 1).text(queue: "q", attempts: 1, isSingleActive: false)
        == #"queue "q" has 1 message and delivers none, though there is room"#)
    #expect(
      Finding.holds(messages: 5, consumers: 1).text(queue: "q", attempts: 3, isSingleActive: true)
        == #"queue "q" has 5 messages and delivers none, though there is room; consuming anew has changed nothing 2 times. Another consumer is the single active one, most likely"#
    )
    #expect(
      Finding.holds(messages: 5, consumers: 3).text(queue: "q", attempts: 2, isSingleActive: false)
        == #"queue "q" has 5 messages and delivers none, though there is room; consuming anew has changed nothing 1 time. It has 3 consumers: another one may be the single active one, or have a higher priority"#
    )
  }
}
