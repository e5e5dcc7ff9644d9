import Support
import Testing

/// What a stream's broker cannot send over AMQP 0-9-1 is waited at, or gone past, and nothing else (docs/settings.md `consumer.undeliverable`).
@Suite(.serialized, .timeLimit(.minutes(10))) struct UndeliverableStreamTests {
  /// Chunks of a stream as its own clients publish them, and the bodies that a broker of this release can send.
  private static func chunks(_ release: BrokerRelease) -> (chunks: [Publisher.Chunk], sent: [String]) {
    let isOld = release < .v40
    let chunks: [Publisher.Chunk] = [
      .batch(["a0", "a1", "a2"]), .batch(["raw 3", "raw 4"]), .batch(["b5", "raw 6", "b7", "b8"]),
      .packed(["c9", "c10"]),
      .compressed(["z11", "z12", "z13"]), .batch(["d14"]), .batch(["raw 15"]), .batch(["d16", "d17"]),
    ]
    // Release 3.10 decodes a chunk as a whole, so what stands before bytes that are no message cannot be sent either.
    let sent = ["a0", "a1", "a2"] + (isOld ? [] : ["b5"]) + ["b7", "b8", "c9", "c10", "d14", "d16", "d17"]
    return (chunks, sent)
  }

  /// One that speaks the stream protocol; it goes with the run's own broker.
  private static let broker = Result { try TestBroker.own(streams: true) }

  private struct Setup {
    let broker: TestBroker
    let publisher: Publisher
    let stream = TestBroker.uniqueName("undeliverable")
    let runtime: FlowRuntime

    init(_ policy: String, journaled: Bool, _ options: JSON = [:]) throws {
      broker = try UndeliverableStreamTests.broker.get()
      publisher = try Publisher(broker)
      try publisher.declare(stream, arguments: ["x-queue-type": "stream"])
      let journal: JSON = journaled ? ["journal": ["path": .string("\(try temporaryDirectory())/journal.db")]] : [:]
      runtime = try FlowRuntime(
        config: broker.configuration(
          queue: stream,
          [
            "reconnect_delay": .number("0.1"), "queue": ["declare": "passive"],
            "consumer": ["undeliverable": .string(policy)],
          ]
        ).merged(with: journal).merged(with: options))
    }

    var messages: [String] { runtime.log.compactMap(\.message) }
  }

  @Test(arguments: [true, false])
  func `skip captures every message that the broker can send, in order, across kills`(journaled: Bool) throws {
    let setup = try Setup("skip", journaled: journaled)
    let (chunks, sent) = Self.chunks(setup.broker.release)
    try setup.publisher.publish(chunks, to: setup.stream)
    for count in [2, 5, sent.count] {
      try setup.runtime.start()
      try setup.runtime.waitUntil(committedCount: count)
      try setup.runtime.kill()
    }
    #expect(setup.runtime.bodies == sent)
    // Entries at the very end: nothing comes after them yet.
    try setup.publisher.publish([.batch(["raw", "raw"])], to: setup.stream)
    try setup.runtime.start()
    try setup.runtime.waitForLog("that they are gone past") { $0.message?.contains("offsets 18 to 19") == true }
    try setup.publisher.publish([.batch(["e20"])], to: setup.stream)
    try setup.runtime.waitUntil(committedCount: sent.count + 1)
    #expect(setup.runtime.bodies == sent + ["e20"])
    #expect(try setup.runtime.terminate() == .exited(0))
    #expect(setup.messages.contains { $0.contains("offset 15") && $0.contains("consumer.undeliverable: skip") })
    #expect(!setup.messages.contains { $0.contains("retention") })
    if setup.broker.release >= .v40 {
      #expect(setup.messages.contains { $0.contains("offsets 11 to 13") && $0.contains("compressed") })
    }
    try setup.publisher.delete(setup.stream)
  }

  @Test func `wait captures what stands in front, names the offset, and goes on when it may`() throws {
    let setup = try Setup("wait", journaled: false)
    try setup.publisher.publish([.batch(["a0", "a1"]), .batch(["raw 2"]), .batch(["a3"])], to: setup.stream)
    try setup.runtime.start()
    for _ in 0..<2 {
      try setup.runtime.waitForLog("which offset it is") {
        $0.message?.contains("cannot send what stands at offset 2 of stream \"\(setup.stream)\"") == true
      }
    }
    #expect(setup.runtime.bodies == ["a0", "a1"])
    #expect(try setup.runtime.terminate() == .exited(0))
    #expect(setup.runtime.bodies == ["a0", "a1"])
    setup.runtime.configuration = setup.runtime.configuration.merged(with: ["consumer": ["undeliverable": "skip"]])
    try setup.runtime.start()
    try setup.runtime.waitUntil(committedCount: 3)
    #expect(setup.runtime.bodies == ["a0", "a1", "a3"])
    #expect(try setup.runtime.terminate() == .exited(0))
    try setup.publisher.delete(setup.stream)
  }

  /// What a search is told is what a session is told: else each would send the other back to where it was.
  @Test func `skip goes past what cannot be sent behind a message that is too large`() throws {
    let setup = try Setup("skip", journaled: false, ["document": ["max_bytes": 2_097_152, "oversize": "reject"]])
    try setup.publisher.publish("a0", routingKey: setup.stream)
    try setup.publisher.publish([UInt8](repeating: 0x78, count: 3 << 20), routingKey: setup.stream)
    try setup.publisher.publish([.batch(["raw 2"]), .batch(["a3"]), .batch(["raw 4"])], to: setup.stream)
    // And between two that cannot be sent.
    try setup.publisher.publish([UInt8](repeating: 0x78, count: 3 << 20), routingKey: setup.stream)
    try setup.publisher.publish([.batch(["raw 6"]), .batch(["a7"])], to: setup.stream)
    try setup.runtime.start()
    try setup.runtime.waitUntil(committedCount: 3)
    #expect(setup.runtime.bodies == ["a0", "a3", "a7"])
    #expect(try setup.runtime.terminate() == .exited(0))
    #expect(setup.messages.contains { $0.contains("skip): offset 2") })
    #expect(setup.messages.count { $0.contains("gone past in stream") && $0.contains("larger") } < 10)
    try setup.publisher.delete(setup.stream)
  }

  /// Another stream of the same name has other messages where this one has what cannot be sent.
  @Test func `a stream that is made anew while an offset is waited at is captured from its beginning`() throws {
    let setup = try Setup("wait", journaled: true)
    try setup.publisher.publish([.batch(["a0", "a1"]), .batch(["raw 2"])], to: setup.stream)
    try setup.runtime.start()
    try setup.runtime.waitForLog("the offset") { $0.message?.contains("stands at offset 2") == true }
    try setup.publisher.delete(setup.stream)
    try setup.publisher.declare(setup.stream, arguments: ["x-queue-type": "stream"])
    for body in ["b0", "b1", "b2", "b3"] { try setup.publisher.publish(body, routingKey: setup.stream) }
    try setup.runtime.waitUntil(committedCount: 6)
    #expect(setup.runtime.bodies == ["a0", "a1", "b0", "b1", "b2", "b3"])
    #expect(try setup.runtime.terminate() == .exited(0))
    try setup.publisher.delete(setup.stream)
  }
}
