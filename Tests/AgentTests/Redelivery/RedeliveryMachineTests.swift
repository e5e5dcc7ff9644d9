import AMQP
import Testing

@testable import Agent

/// `RedeliveryMachine`, what carries it over a crash, and when it is used (ARCHITECTURE.md).
@Suite struct RedeliveryTests {
  /// A classic queue whose priorities count.
  private static let classic = QueueNature(kind: .classic, hasPriorities: true, countsAcquisitions: false)

  private static func digest(_ number: Int) -> DeliveryDigest { DeliveryDigest(high: UInt64(number), low: 7) }

  private static func delivery(
    _ number: Int, redelivered: Bool = true, priority: UInt8? = nil, returns: Int64? = nil
  ) -> RedeliveryMachine.Delivery {
    .init(
      digest: digest(number), redelivered: redelivered, marks: DeliveryMarks(priority: priority, deliveryCount: returns)
    )
  }

  /// A machine that has captured 1…n, as the journal would give it back.
  private static func machine(captured n: Int, anchor: Int = 3) -> RedeliveryMachine {
    RedeliveryMachine(
      anchor: anchor, windowLimit: 100, captured: Int64(n), releasable: Int64(max(n - anchor, 0)),
      window: (1...n).map(digest), priority: nil, prioritySince: 0)
  }

  /// Verdicts about deliveries in order.
  private static func verdicts(
    _ machine: inout RedeliveryMachine, _ deliveries: [RedeliveryMachine.Delivery],
    _ trust: RedeliveryMachine.Trust = .exclusive, on queue: QueueNature = RedeliveryTests.classic
  ) -> [RedeliveryMachine.Verdict] {
    machine.channelBegan(trust, on: queue)
    return deliveries.map { machine.delivered($0) }
  }

  @Test func `the anchor alone comes back, and is old`() {
    var machine = Self.machine(captured: 10)
    let verdicts = Self.verdicts(
      &machine, [8, 9, 10].map { Self.delivery($0) } + [Self.delivery(11, redelivered: false)])
    #expect(verdicts == [.hold, .hold, .recognised(count: 3), .capture])
    #expect(machine.captured == 11)
  }

  @Test func `more than the anchor comes back where acknowledgements were lost`() {
    var machine = Self.machine(captured: 10)
    let verdicts = Self.verdicts(&machine, (4...11).map { Self.delivery($0) })
    #expect(verdicts == Array(repeating: .hold, count: 6) + [.recognised(count: 7), .capture])
  }

  /// Windows whose newest three, the anchor, do not tell what comes back from what is published again.
  @Test(arguments: [
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    // The anchor equals itself when shifted by one, or by two.
    [1, 2, 3, 4, 5, 6, 7, 9, 9, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 8],
    // It stands in the window a second time, right in front or long ago.
    [1, 2, 3, 4, 7, 8, 9, 7, 8, 9], [7, 8, 9, 1, 2, 3, 4, 7, 8, 9],
  ])
  func `an anchor that does not tell its messages apart recognises nothing`(window: [Int]) {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 7, window: window.map(Self.digest), priority: nil,
      prioritySince: 0)
    // The old ones, and then once more what looks like them, which may be new.
    let comes = window.suffix(3) + window.suffix(3)
    _ = Self.verdicts(&machine, comes.map { Self.delivery($0) })
    _ = machine.silent()
    #expect(machine.isAmbiguous && machine.captured == 16 && machine.window.suffix(6) == comes.map(Self.digest)[...])
  }

  /// A rest has settled what was captured before the newest two, which were captured before as well.
  private static func ambiguous() -> RedeliveryMachine {
    RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 12, releasable: 10,
      window: [8, 9, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9].map(digest),
      priority: nil, prioritySince: 0)
  }

  @Test func `an anchor of alike messages is recognised behind others whose acknowledgements were lost`() {
    for count in 3...10 {
      var machine = Self.ambiguous()
      let comes = machine.window.suffix(count)
      let verdicts = Self.verdicts(&machine, [6, 7, 10, 8, 9].suffix(count).map { Self.delivery($0) })
      #expect(verdicts.last == .recognised(count: min(count, 5)) && machine.captured == 12, "\(comes)")
    }
  }

  @Test func `an anchor of alike messages that comes alone is captured again, and begins a line`() {
    var machine = Self.ambiguous()
    let comes = [8, 9].map { Self.delivery($0) } + [Self.delivery(11, redelivered: false)]
    #expect(Self.verdicts(&machine, comes) == [.hold, .hold, .captureHeld])
    #expect(machine.captured == 15 && machine.lineStart == 12)
  }

  /// What follows on all that could come may be new: it must make up an anchor by itself.
  @Test func `what may have ended before it could be told is old if the rest of it can be told by itself`() {
    var machine = Self.ambiguous()
    let all = [8, 9, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9].map { Self.delivery($0) }
    #expect(Self.verdicts(&machine, all).last == .recognised(count: 12))

    // Only two follow, and look like captured ones.
    machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 6, releasable: 5, window: [5, 9, 1, 9, 1, 9].map(Self.digest),
      priority: nil, prioritySince: 0)
    _ = Self.verdicts(&machine, [9, 1, 9].map { Self.delivery($0) })
    _ = machine.silent()
    #expect(machine.captured == 9)
  }

  @Test func `an anchor that stands once in a window of alike messages recognises`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 7,
      window: [1, 1, 1, 1, 1, 1, 1, 1, 8, 9].map(Self.digest),
      priority: nil, prioritySince: 0)
    let verdicts = Self.verdicts(&machine, [1, 8, 9, 10].map { Self.delivery($0) })
    #expect(verdicts == [.hold, .hold, .recognised(count: 3), .capture])
    #expect(!machine.isAmbiguous)
  }

  /// What was captured once more is in the capture twice and in the queue once: an anchor of both would wait for too much.
  @Test func `behind what was captured again only what follows on it is looked for`() {
    var machine = Self.machine(captured: 10)
    // 8 is not among what comes, so nothing fits.
    #expect(Self.verdicts(&machine, [9, 10].map { Self.delivery($0) }) == [.hold, .captureHeld])
    #expect(machine.lineStart == 10 && machine.unacknowledged == 2)
    for number in [11, 12] { #expect(machine.delivered(Self.delivery(number, redelivered: false)) == .capture) }
    #expect(machine.lineStart == 10 && machine.unacknowledged == 4)
    let old = (9...12).map { Self.delivery($0) }
    #expect(Self.verdicts(&machine, old) == [.hold, .hold, .hold, .recognised(count: 4)])
  }

  /// They are in the window twice; but the second time they had been delivered before, so that does not show that publishers
  /// repeat themselves.
  @Test func `what was captured again is recognised the next time`() {
    var machine = Self.machine(captured: 10)
    #expect(Self.verdicts(&machine, [9, 10].map { Self.delivery($0) }) == [.hold, .captureHeld])
    #expect(machine.lineStart == 10)
    #expect(Self.verdicts(&machine, [9, 10].map { Self.delivery($0) }) == [.hold, .recognised(count: 2)])
    #expect(!machine.isAmbiguous && machine.captured == 12)
  }

  /// All places of all short sequences of two digests, against the definition.
  @Test func `a sequence knows its period, and where it stands`() {
    for bits in 0..<1 << 7 {
      for length in 1...7 {
        let digits = (0..<length).map { Self.digest(bits >> $0 & 1) }
        let period = (1...length).first { shift in zip(digits.dropFirst(shift), digits).allSatisfy { $0 == $1 } }
        #expect(DigestSequence(digits).period == period)
        for count in 1...length {
          let pattern = Array(digits.suffix(count))
          let rest = Array(digits.dropLast())
          let isThere = (0...max(0, rest.count - count)).contains { Array(rest.dropFirst($0).prefix(count)) == pattern }
          #expect(DigestSequence(pattern).isContained(in: rest) == isThere)
        }
      }
    }
  }

  @Test func `a queue that was purged gives new messages, and they are captured`() {
    var machine = Self.machine(captured: 10)
    #expect(Self.verdicts(&machine, [Self.delivery(11, redelivered: false)]) == [.capture])
    #expect(machine.captured == 11)
  }

  @Test func `what begins like the captured and goes on otherwise is new, all of it`() {
    var machine = Self.machine(captured: 10)
    let verdicts = Self.verdicts(&machine, [8, 9, 42].map { Self.delivery($0) })
    #expect(verdicts == [.hold, .hold, .captureHeld])
    #expect(machine.captured == 13)
    #expect(machine.window.suffix(3) == [8, 9, 42].map(Self.digest))
  }

  @Test func `less than the anchor is not enough, and silence makes it new`() {
    var machine = Self.machine(captured: 10)
    #expect(Self.verdicts(&machine, [9, 10].map { Self.delivery($0) }) == [.hold, .captureHeld])
    var other = Self.machine(captured: 10)
    #expect(Self.verdicts(&other, [8, 9].map { Self.delivery($0) }) == [.hold, .hold])
    #expect(other.isHolding && !other.canSettle)
    let wereNew = other.silent()
    #expect(wereNew && other.captured == 12 && !other.isHolding)
  }

  @Test(arguments: [
    (RedeliveryMachine.Trust.exclusive, RedeliveryTests.delivery(8, priority: 5)),
    (.none, RedeliveryTests.delivery(8)),
  ])
  func `a delivery that does not fit ends the search`(
    trust: RedeliveryMachine.Trust, first: RedeliveryMachine.Delivery
  ) {
    var machine = Self.machine(captured: 10)
    #expect(
      Self.verdicts(&machine, [first, Self.delivery(9), Self.delivery(10)], trust) == [.capture, .capture, .capture])
  }

  @Test func `what was never delivered before ends the search, and begins a line`() {
    var machine = Self.machine(captured: 10)
    // A queue that gives 8 as new has lost the old ones; after it nothing that comes again is certain.
    #expect(
      Self.verdicts(&machine, [Self.delivery(8, redelivered: false), Self.delivery(9)]) == [.capture, .capture])
    #expect(machine.lineStart == 11)
  }

  @Test func `alike messages that come again in the middle of a session are captured at once, and begin a line`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 10, window: Array(repeating: Self.digest(1), count: 10),
      priority: nil, prioritySince: 0)
    let comes = [Self.delivery(1, redelivered: false), Self.delivery(1, redelivered: false), Self.delivery(1)]
    #expect(Self.verdicts(&machine, comes) == [.capture, .capture, .capture])
    #expect(machine.lineStart == 12)
  }

  private static func machine(prefetch: Int, captured n: Int = 10, since: Int64 = 0) -> RedeliveryMachine {
    RedeliveryMachine(
      anchor: 1, windowLimit: 100, captured: Int64(n), releasable: Int64(n) - 1, window: (1...n).map(digest),
      priority: nil, prioritySince: since, prefetch: prefetch)
  }

  @Test func `what comes back in front of an anchor out of reach is old, and makes room for it`() {
    var machine = Self.machine(prefetch: 4)
    #expect(
      Self.verdicts(&machine, (2...11).map { Self.delivery($0) }) == [
        .hold, .hold, .hold, .holdBehindOld(count: 4, newest: 5), .hold, .hold, .hold,
        .holdBehindOld(count: 4, newest: 9), .recognised(count: 1), .capture,
      ])
    // One that is just within reach is found.
    var other = Self.machine(prefetch: 4)
    #expect(Self.verdicts(&other, (7...10).map { Self.delivery($0) }).last == .recognised(count: 4))
  }

  @Test func `nothing that must not be acknowledged makes room`() {
    // The anchor is 8, 9 and 10: 7 to 9 wait, and 8 and 9 must not be acknowledged.
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 7, window: (1...10).map(Self.digest), priority: nil,
      prioritySince: 0, prefetch: 3)
    #expect(
      Self.verdicts(&machine, (7...11).map { Self.delivery($0) }) == [
        .hold, .hold, .holdBehindOld(count: 1, newest: 7), .recognised(count: 3), .capture,
      ])
  }

  @Test func `behind what made room a delivery that does not fit is new, with those that still wait`() {
    var machine = Self.machine(prefetch: 4)
    #expect(
      Self.verdicts(&machine, [2, 3, 4, 5, 6, 42].map { Self.delivery($0) }) == [
        .hold, .hold, .hold, .holdBehindOld(count: 4, newest: 5), .hold, .captureHeld,
      ])
    #expect(machine.captured == 12)
  }

  @Test(arguments: [
    // 1 2 1 may begin at the first or at the third; 1 1 1 stands once, and equals itself when shifted.
    ([1, 2, 1, 2, 1, 2, 3], [1, 2, 1]), ([4, 1, 1, 1, 5, 2, 3], [1, 1, 1]),
  ])
  func `what waits makes no room where it does not tell itself apart`(window: [Int], comes: [Int]) {
    var machine = RedeliveryMachine(
      anchor: 2, windowLimit: 100, captured: 7, releasable: 5, window: window.map(Self.digest), priority: nil,
      prioritySince: 0, prefetch: 3)
    #expect(Self.verdicts(&machine, comes.map { Self.delivery($0) }) == [.hold, .hold, .captureHeld])
  }

  @Test func `nothing makes room where priorities changed meanwhile`() {
    var machine = Self.machine(prefetch: 4, since: 5)
    #expect(
      Self.verdicts(&machine, (2...6).map { Self.delivery($0) }) == [.hold, .hold, .hold, .captureHeld, .capture])
  }

  @Test func `on a quorum queue returns that grow are out of order`() {
    var machine = Self.machine(captured: 10)
    let fitting = [Self.delivery(8, returns: 2), Self.delivery(9, returns: 2), Self.delivery(10, returns: 1)]
    #expect(Self.verdicts(&machine, fitting, .sole, on: .unknown) == [.hold, .hold, .recognised(count: 3)])
    var other = Self.machine(captured: 10)
    let rotated = [Self.delivery(8, returns: 1), Self.delivery(9, returns: 2), Self.delivery(10, returns: 2)]
    // Another channel may bring them in order; if it does not, again and again, they are captured.
    for _ in 0..<8 { #expect(Self.verdicts(&other, Array(rotated[..<2]), .sole, on: .unknown) == [.hold, .startOver]) }
    #expect(Self.verdicts(&other, rotated, .sole, on: .unknown) == [.hold, .captureHeld, .capture])
  }

  @Test func `priorities that changed within what comes back are not trusted`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 7, window: (1...10).map(Self.digest), priority: 5,
      prioritySince: 10)
    let verdicts = Self.verdicts(&machine, [8, 9, 10].map { Self.delivery($0, priority: 5) })
    #expect(verdicts == [.hold, .hold, .captureHeld])
  }

  @Test func `acknowledgements stop in front of the anchor until everything is settled`() {
    var machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0)
    machine.channelBegan(.exclusive, on: Self.classic)
    for number in 1...10 { _ = machine.delivered(Self.delivery(number, redelivered: false)) }
    #expect(machine.committing() == 7)
    #expect(machine.canSettle)
    machine.settling()
    #expect(machine.releasable == 10 && !machine.canSettle && machine.awaitsSettled)
    _ = machine.delivered(Self.delivery(11, redelivered: false))
    #expect(machine.committing() == 10)
  }

  @Test func `the window forgets the oldest`() {
    var machine = RedeliveryMachine(
      anchor: 1, windowLimit: 4, captured: 0, releasable: 0, window: [], priority: nil, prioritySince: 0)
    machine.channelBegan(.exclusive, on: Self.classic)
    for number in 1...100 { _ = machine.delivered(Self.delivery(number, redelivered: false)) }
    #expect(machine.window.count < 8 && machine.window.suffix(4) == (97...100).map(Self.digest)[...])
  }

  @Test func `a state without digests keeps nothing back`() {
    let machine = RedeliveryMachine(
      anchor: 3, windowLimit: 100, captured: 10, releasable: 7, window: [], priority: nil, prioritySince: 0)
    #expect(machine.unacknowledged == 0)
  }

  // MARK: What a checkpoint carries

  @Test func `a checkpoint's state reads back as it was written`() throws {
    let state = RedeliveryState(
      queue: "h:1//q", captured: 12, releasable: 4, prefetch: 500, priority: 3, prioritySince: 9,
      window: (0..<9).map { DeliveryDigest(high: UInt64.max - UInt64($0), low: UInt64($0) << 60 | 5) })
    #expect(RedeliveryState(json: try JSONValue.parse(state.json.text)) == state)
  }

  @Test(arguments: [
    "null", "{}", #"{"v":2}"#,
    #"{"v":1,"queue":"q","captured":5,"releasable":6,"prefetch":1,"priority":-1,"prioritySince":0,"window":""}"#,
    #"{"v":1,"queue":"q","captured":5,"releasable":1,"prefetch":1,"priority":-1,"prioritySince":0,"window":"AAA="}"#,
    #"{"v":1,"queue":"q","captured":5,"releasable":1,"prefetch":1,"priority":-1,"prioritySince":0,"window":"%%%%"}"#,
    #"{"v":1,"queue":"q","captured":5,"releasable":1,"prefetch":70000,"priority":-1,"prioritySince":0,"window":""}"#,
    #"{"v":1,"queue":"q","captured":5,"releasable":1,"prefetch":1,"priority":-1,"prioritySince":7,"window":""}"#,
  ])
  func `a state that does not hold together is not used`(text: String) throws {
    #expect(RedeliveryState(json: try JSONValue.parse(text)) == nil)
  }

  @Test(arguments: 0..<50)
  func `base64 reads what it wrote`(count: Int) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    var text: [UInt8] = []
    Base64.append(bytes.span, to: &text)
    #expect(Base64.decoded(String(decoding: text, as: UTF8.self)) == bytes)
  }

  // MARK: When it is used

  private static let exclusive = #""consumer":{"exclusive":true}"#

  @Test(arguments: [
    (#"{"queue":{"name":"q"},\#(exclusive)}"#, RedeliveryMachine.Trust.exclusive),
    (#"{"queue":{"name":"q"}}"#, .none),
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate":"assert"}}"#, .sole),
    (#"{"queue":{"name":"q"},"consumer":{"exclusive":true,"deduplicate":"off"}}"#, .none),
    (#"{"queue":{"name":"q","arguments":{"x-single-active-consumer":true}}}"#, .sole),
    (#"{"queue":{"name":"q","declare":"passive","arguments":{"x-single-active-consumer":true}}}"#, .none),
    (#"{"queue":{"name":"q"},"consumer":{"exclusive":true,"no_ack":true}}"#, .none),
    (#"{"queue":{"name":"q"},"consumer":{"exclusive":true,"prefetch_count":3}}"#, .none),
    (#"{"queue":{"name":"q"},"consumer":{"exclusive":true,"prefetch_count":0}}"#, .none),
    (#"{"queue":{"name":"q"},"max_priority":10,\#(exclusive)}"#, .none),
    (#"{"queue":{"name":"q","exclusive":true}}"#, .none),
    (#"{"queue":{"name":"q","arguments":{"x-queue-type":"stream"}},"consumer":{"deduplicate":"assert"}}"#, .none),
  ])
  func `redeliveries are recognised only where that is certain`(text: String, trust: RedeliveryMachine.Trust) throws {
    let configuration = try ConfigSupport.parse(text)
    #expect(DeduplicationPolicy(configuration, isCarried: false).trust == trust)
    #expect(DeduplicationPolicy(configuration, isCarried: nil).trust == .none)
  }

  /// Ids need neither order nor a sole consumer.
  @Test(arguments: [
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id"}}"#, true, true),
    (#"{"queue":{"name":"q"},"max_priority":9,"consumer":{"deduplicate_by":"message_id"}}"#, true, true),
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id","prefetch_count":0}}"#, true, false),
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id","prefetch_count":9000}}"#, true, false),
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id","deduplicate":"off"}}"#, false, false),
    (#"{"queue":{"name":"q"},"consumer":{"deduplicate_by":"message_id","no_ack":true}}"#, false, false),
    (
      #"{"queue":{"name":"q","arguments":{"x-queue-type":"stream"}},"consumer":{"deduplicate_by":"message_id"}}"#,
      false, false
    ),
  ])
  func `ids recognise redeliveries on any queue but a stream`(text: String, journal: Bool, carried: Bool) throws {
    let configuration = try ConfigSupport.parse(text)
    #expect(DeduplicationPolicy(configuration, isCarried: false).byMessageID == journal)
    #expect(DeduplicationPolicy(configuration, isCarried: true).byMessageID == carried)
    #expect(DeduplicationPolicy(configuration, isCarried: false).trust == .none)
    #expect(!DeduplicationPolicy(configuration, isCarried: nil).isOn)
  }

  /// By id: any order, also in the middle of a session, and no anchor.
  @Test func `a redelivery that is equal to a captured message, id included, is known`() {
    var machine = RedeliveryMachine(
      anchor: 0, windowLimit: 4, captured: 3, releasable: 3, window: (1...3).map(Self.digest), priority: nil,
      prioritySince: 0, byMessageID: true)
    func delivery(_ number: Int, redelivered: Bool = true, id: Bool = true) -> RedeliveryMachine.Delivery {
      .init(
        digest: Self.digest(number), redelivered: redelivered, marks: DeliveryMarks(hasMessageID: id))
    }
    let deliveries = [
      delivery(3), delivery(4, redelivered: false), delivery(1), delivery(4), delivery(5), delivery(5),
      // No id, or never delivered before: an id that a publisher used twice loses nothing.
      delivery(2, id: false), delivery(1, redelivered: false),
    ]
    machine.channelBegan(.none, on: .unknown)
    let verdicts = deliveries.map { machine.delivered($0) }
    #expect(verdicts == [.known, .capture, .known, .known, .capture, .known, .capture, .capture])
    #expect(machine.captured == 7 && machine.committing() == 7 && !machine.canSettle)
    // Eight captured, four kept at least: the ledger forgets with the window.
    #expect(machine.delivered(delivery(8, redelivered: false)) == .capture)
    #expect(machine.window == [5, 2, 1, 8].map(Self.digest))
    #expect(machine.delivered(delivery(3)) == .capture)
    #expect(machine.delivered(delivery(5)) == .known)
  }

  @Test func `a checkpoint carries no window for a very large prefetch count`() throws {
    let text = #"{"queue":{"name":"q"},"consumer":{"exclusive":true,"prefetch_count":9000}}"#
    #expect(DeduplicationPolicy(try ConfigSupport.parse(text), isCarried: true).trust == .none)
    #expect(DeduplicationPolicy(try ConfigSupport.parse(text), isCarried: false).trust == .exclusive)
  }

  @Test(arguments: [(0, 0), (3, 0), (4, 1), (31, 7), (32, 8), (65_535, 8)])
  func `the anchor is eight messages, at most a quarter of the prefetch count`(prefetch: Int, anchor: Int) {
    #expect(DeduplicationPolicy.anchor(prefetch: prefetch) == anchor)
  }
}
