import Testing

@testable import AMQP
@testable import Agent

/// What is asked of a broker until a queue is consumed, and what its answers lead to: no network, every order.
struct ConsumerSetupTests {
  private typealias Answer = ConsumerSetup.Answer

  /// A setup with what it has asked so far, in short.
  private struct Talk {
    var setup: ConsumerSetup
    var step: ConsumerSetup.Step
    var asked: [String] = []

    init(
      _ text: String, _ goal: ConsumerSetup.Goal = .consuming(tag: "t"), version: String = "3.10.8",
      doubtful: Int? = nil
    ) throws {
      var topology = Topology(try ConfigSupport.parse(text), name: "test")
      topology.brokerVersion = version
      topology.doubtfulPrefetch = doubtful
      setup = ConsumerSetup(topology, goal)
      step = try setup.begin()
      note()
    }

    private static func value(_ key: String, _ table: ArgumentTable) -> Argument? {
      table.entries.first { $0.key == key }?.value
    }

    private mutating func note() {
      guard case .ask(let question) = step else { return }
      switch question {
      case .declare(let queue, let passive):
        let type = Self.value("x-queue-type", queue.arguments).map { " \($0)" } ?? ""
        asked.append("\(passive ? "look" : "declare")\(type)")
      case .bind(let binding): asked.append("bind \(binding.exchange)")
      case .prefetch(let count): asked.append("prefetch \(count)")
      case .consume(let consumption, let tag):
        let names = ["x-stream-offset", "x-cancel-on-ha-failover", "x-priority"].filter {
          Self.value($0, consumption.arguments) != nil
        }
        asked.append("consume \(tag) \(names.joined(separator: " "))")
      case .reopen: asked.append("reopen")
      }
    }

    mutating func answer(_ answers: Answer...) throws {
      for answer in answers {
        step = try setup.answered(answer)
        note()
      }
    }

    /// How it ended; nil if it has not.
    var end: (status: QueueStatus?, nature: QueueNature?)? {
      if case .end(let status, let nature) = step { (status, nature) } else { nil }
    }
  }

  private static let ok = Answer.queue(QueueStatus(name: "q", messages: 5, consumers: 0))

  private static func refused(_ code: UInt16, _ text: String) -> Answer {
    .refused(AMQPError(.channelClosed(code: code, text: text), during: "declaring queue \"q\""))
  }

  private static func type(_ found: String) -> Answer {
    refused(
      406,
      "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' but current is '\(found)'"
    )
  }

  @Test func `a queue without a type is declared once more, and then it is known`() throws {
    var talk = try Talk(
      #"{"queue":{"name":"q"},"bindings":[{"exchange":"a"},{"exchange":"b"}],"consumer":{"prefetch_count":7}}"#)
    try talk.answer(Self.ok, .done, .done, Self.ok, .done, .done)
    #expect(
      talk.asked == [
        "declare", "bind a", "bind b", "declare \(Argument.string("classic"))", "prefetch 7",
        "consume t x-cancel-on-ha-failover",
      ])
    #expect(talk.end?.status?.messages == 5)
    #expect(talk.end?.nature?.kind == .classic)
    #expect(talk.end?.nature?.hasPriorities == false)
  }

  @Test(arguments: [
    ("quorum", QueueNature.Kind.quorum, "consume t "), ("stream", .stream, "consume t x-stream-offset"),
  ])
  func `one that turns out to be another is consumed as that`(found: String, kind: QueueNature.Kind, consumed: String)
    throws
  {
    var talk = try Talk(#"{"queue":{"name":"q"}}"#)
    try talk.answer(Self.ok, Self.type(found), .done, .done, .done)
    #expect(talk.asked.suffix(3) == ["reopen", "prefetch 100", consumed])
    #expect(talk.end?.nature?.kind == kind)
  }

  @Test func `a queue that is only looked for may be a stream, and says so if it is none`() throws {
    var talk = try Talk(#"{"queue":{"name":"q","declare":"passive"}}"#)
    try talk.answer(
      Self.ok, .done,
      Self.refused(
        406,
        "PRECONDITION_FAILED - x-stream-offset: not supported by queue of queue type rabbit_classic_queue, x-stream-offset"
      ), .done,
      .done, .done)
    #expect(
      talk.asked == [
        "look", "prefetch 100", "consume t x-stream-offset", "reopen", "prefetch 100",
        "consume t x-cancel-on-ha-failover",
      ])
    #expect(talk.end?.nature?.kind == .classic)
    // No one has compared the number of its priorities.
    #expect(talk.end?.nature?.hasPriorities == true)
  }

  @Test func `one that takes an offset is a stream`() throws {
    var talk = try Talk(#"{"queue":{"name":"q","declare":"none"}}"#)
    try talk.answer(.done, .done)
    #expect(talk.asked == ["prefetch 100", "consume t x-stream-offset"])
    #expect(talk.end?.status == nil)
    #expect(talk.end?.nature?.kind == .stream)
  }

  @Test func `a type that the settings say is not asked for`() throws {
    var talk = try Talk(#"{"queue":{"name":"q","type":"quorum"},"consumer":{"priority":3}}"#, version: "4.3.6")
    try talk.answer(Self.ok, .done, .done)
    #expect(talk.asked == ["declare \(Argument.string("quorum"))", "prefetch 100", "consume t x-priority"])
    #expect(talk.end?.nature?.countsAcquisitions == true)
  }

  /// What is promised of a queue that is consumed exclusively rests on its type.
  @Test(arguments: [(true, ["look", "prefetch 100"]), (false, ["look", "prefetch 100"])])
  func `a classic type is not believed where nobody has compared it`(exclusive: Bool, asked: [String]) throws {
    var talk = try Talk(
      #"{"queue":{"name":"q","declare":"passive","type":"classic"},"consumer":{"exclusive":\#(exclusive)}}"#)
    try talk.answer(Self.ok, .done)
    #expect(talk.asked.last == (exclusive ? "consume t x-stream-offset" : "consume t x-cancel-on-ha-failover"))
  }

  @Test func `a quorum queue with a backlog of ours begins with few deliveries`() throws {
    var talk = try Talk(#"{"queue":{"name":"q","type":"quorum"}}"#, doubtful: 1)
    try talk.answer(Self.ok)
    #expect(talk.asked.last == "prefetch 1")
    var classic = try Talk(#"{"queue":{"name":"q","type":"classic"}}"#, doubtful: 1)
    try classic.answer(Self.ok)
    #expect(classic.asked.last == "prefetch 100")
    var others = try Talk(#"{"queue":{"name":"q","type":"quorum"}}"#, doubtful: 1)
    try others.answer(.queue(QueueStatus(name: "q", messages: 5, consumers: 1)))
    #expect(others.asked.last == "prefetch 100")
  }

  @Test func `an exclusive queue that another connection holds is told from one that is not exclusive`() throws {
    let text = #"{"queue":{"name":"q","exclusive":true}}"#
    let locked = Self.refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'")
    var held = try Talk(text)
    try held.answer(locked, .done)
    #expect(held.asked == ["declare", "reopen", "look"])
    let first = #expect(throws: AMQPError.self) { try held.answer(locked) }
    if case .channelClosed(405, _)? = first?.kind {} else { Issue.record("\(String(describing: first))") }
    var shared = try Talk(text)
    try shared.answer(locked, .done)
    let second = #expect(throws: AMQPError.self) { try shared.answer(Self.ok) }
    #expect(
      second?.kind
        == .channelClosed(
          code: 406,
          text:
            "PRECONDITION_FAILED - inequivalent arg 'exclusive' for queue 'q': received 'true' but current is 'false'"))
  }

  @Test(arguments: [403, 404, 406] as [UInt16])
  func `what is refused ends it, at each question`(code: UInt16) throws {
    let text = #"{"queue":{"name":"q"},"bindings":[{"exchange":"a"}]}"#
    let answers: [Answer] = [Self.ok, .done, Self.ok, .done, .done]
    // At the third, the type, only a channel that cannot be opened again would end it.
    for place in answers.indices where place != 2 {
      var talk = try Talk(text)
      for answer in answers[..<place] { try talk.answer(answer) }
      let error = #expect(throws: AMQPError.self) { try talk.answer(Self.refused(code, "NO - \(place)")) }
      #expect(error?.kind == .channelClosed(code: code, text: "NO - \(place)"))
    }
  }

  @Test func `a type that is refused for another reason is not known`() throws {
    var talk = try Talk(#"{"queue":{"name":"q"}}"#)
    try talk.answer(Self.ok, Self.refused(403, "ACCESS_REFUSED"), .done, .done)
    #expect(talk.asked.last == "consume t x-stream-offset")
  }

  @Test func `what is declared ahead ends with the bindings`() throws {
    var talk = try Talk(#"{"queue":{"name":"q"},"bindings":[{"exchange":"a"}]}"#, .declared)
    try talk.answer(Self.ok, .done)
    #expect(talk.asked == ["declare", "bind a"])
    #expect(talk.end?.nature == .some(nil))
  }

  @Test func `a look at the type binds nothing`() throws {
    var talk = try Talk(#"{"queue":{"name":"q"},"bindings":[{"exchange":"a"}]}"#, .nature)
    try talk.answer(Self.ok, Self.type("quorum"), .done)
    #expect(talk.asked == ["declare", "declare \(Argument.string("classic"))", "reopen"])
    #expect(talk.end?.nature?.kind == .quorum)
    let passive = try Talk(#"{"queue":{"name":"q","declare":"passive"}}"#, .nature)
    #expect(passive.asked.isEmpty)
    #expect(passive.end?.nature == .some(nil))
  }

  @Test func `an answer that nothing asked for is an error`() throws {
    var talk = try Talk(#"{"queue":{"name":"q"}}"#)
    #expect(throws: AMQPError.self) { try talk.answer(.done) }
    var ended = try Talk(#"{"queue":{"name":"q","declare":"none"}}"#, .declared)
    #expect(ended.end != nil)
    #expect(throws: AMQPError.self) { try ended.answer(Self.ok) }
  }
}
