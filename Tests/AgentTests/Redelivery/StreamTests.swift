import AMQP
import Foundation
import Journal
import Testing

@testable import Agent

/// Where a capture of a stream goes on, and how it notices that the stream is another one.
struct CaptureStreamTests {
  private static func digest(_ number: Int) -> DeliveryDigest { DeliveryDigest(high: UInt64(number), low: 9) }

  private static func verdicts(_ place: inout StreamPlace, _ deliveries: [(Int64, Int)]) -> [StreamPlace.Verdict] {
    deliveries.map { place.delivered($0.0, digest($0.1)) }
  }

  @Test func `everything of a stream that was never captured is new`() {
    var place = StreamPlace()
    place.channelBegan()
    #expect(Self.verdicts(&place, [(7, 7), (8, 8)]) == [.capture, .capture])
    #expect(place.offset == 8)
  }

  @Test func `a session passes over what was captured, the newest included`() {
    var place = StreamPlace(offset: 8, digest: Self.digest(8))
    place.channelBegan()
    #expect(Self.verdicts(&place, [(6, 6), (7, 7), (8, 8), (9, 9)]) == [.pass, .pass, .pass, .capture])
    place.channelBegan()
    #expect(Self.verdicts(&place, [(9, 9), (10, 10)]) == [.pass, .capture])
  }

  @Test func `another message at the newest offset means another stream, and all of that is new`() {
    var place = StreamPlace(offset: 8, digest: Self.digest(8))
    place.channelBegan()
    #expect(Self.verdicts(&place, [(7, 107), (8, 108)]) == [.pass, .anotherStream])
    #expect(place.offset == nil)
    place.channelBegan()
    #expect(Self.verdicts(&place, [(0, 100), (1, 101)]) == [.capture, .capture])
  }

  @Test func `without a digest nothing is compared`() {
    var place = StreamPlace(offset: 8)
    place.channelBegan()
    #expect(Self.verdicts(&place, [(8, 108), (9, 9)]) == [.pass, .capture])
  }

  @Test func `what retention dropped meanwhile is a gap, and offsets in the middle are none`() {
    var place = StreamPlace(offset: 8, digest: Self.digest(8))
    place.channelBegan()
    let expected: [StreamPlace.Verdict] = [
      .captureAfterGap(missing: 9...11), .capture, .captureAfterJump(offsets: 2),
    ]
    #expect(Self.verdicts(&place, [(12, 12), (13, 13), (16, 16)]) == expected)
    var next = StreamPlace(offset: 8, digest: Self.digest(8))
    #expect(next.delivered(9, Self.digest(9)) == .capture)
  }

  private static let extremes: [Int64] = [.min, -1, 0, 1 << 62, .max - 1, .max]

  @Test(arguments: extremes, extremes)
  func `no two offsets trap`(last: Int64, offset: Int64) {
    for digest in [nil, Self.digest(1)] {
      var place = StreamPlace(offset: last, digest: digest)
      _ = place.delivered(offset, Self.digest(2))
      _ = place.delivered(last, Self.digest(2))
      _ = place.delivered(offset, Self.digest(2))
    }
  }

  private static func resumption(
    _ consumer: String, journal: Journal, isTemporary: Bool = true, state: StreamResumption.State? = nil
  ) throws -> StreamResumption {
    let configuration = try ConfigSupport.parse(#"{"queue":{"name":"orders"},"consumer":{\#(consumer)}}"#)
    return try #require(
      try StreamResumption(configuration, journal: journal, try journal.only, isCarried: isTemporary, state: state))
  }

  @Test(arguments: [
    ("", Argument.string("first")), (#""stream_offset":"next""#, .string("next")),
    (#""stream_offset":17"#, .integer(17)),
    (#""stream_offset":"17""#, .integer(17)), (#""stream_offset":"1h""#, .string("1h")),
    (#""stream_offset":"2026-01-31T12:00:00.5+01:00""#, .timestamp(1_769_857_200)),
    (#""arguments":{"x-stream-offset":"last"}"#, .string("last")), (#""arguments":{"x-stream-offset":3}"#, .integer(3)),
  ])
  func `it begins where the settings say, and goes on at the newest offset`(consumer: String, argument: Argument) throws
  {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    let stream = try Self.resumption(consumer, journal: journal)
    #expect(stream.argument == argument)
    stream.captured([41, 42], from: Position(rawValue: 1), digests: [41, 42].map(Self.digest))
    #expect(stream.argument == .integer(42))
    #expect(stream.place == StreamPlace(offset: 42, digest: Self.digest(42)))
    stream.forget()
    #expect(stream.argument == argument)
  }

  @Test(arguments: [
    #""stream_offset":"soon""#, #""stream_offset":-1"#, #""stream_offset":1.5"#, #""stream_offset":true"#,
    #""stream_offset":"""#, #""stream_offset":"99999999999999999999""#, #""stream_offset":"2026-13-01T00:00:00Z""#,
    #""stream_offset":"2026-01-01T00:00:00""#, #""stream_offset":"first","arguments":{"x-stream-offset":"next"}"#,
    #""arguments":{"x-stream-offset":{"a":1}}"#,
  ])
  func `what is no offset, or says two things, is a problem`(consumer: String) {
    #expect(throws: ConfigurationError.self) {
      try ConfigSupport.parse(#"{"queue":{"name":"orders"},"consumer":{\#(consumer)}}"#)
    }
  }

  @Test func `a setting and an argument that say the same are no problem, and types are sent as arguments`() throws {
    let configuration = try ConfigSupport.parse(
      """
      {"queue":{"name":"q","type":"quorum","single_active_consumer":true,"arguments":{"x-queue-type":"quorum"}},
       "consumer":{"stream_offset":"first","arguments":{"x-stream-offset":"first"}}}
      """)
    #expect(configuration.queue.arguments["x-queue-type"] == .string("quorum"))
    #expect(configuration.queue.arguments["x-single-active-consumer"] == .bool(true))
    #expect(configuration.consumer.arguments["x-stream-offset"] == nil)
    #expect(throws: ConfigurationError.self) {
      try ConfigSupport.parse(#"{"queue":{"name":"q","type":"quorum","arguments":{"x-queue-type":"stream"}}}"#)
    }
  }

  @Test func `a state reads back, one of 0_1_0 has no digest, and one of another queue is not used`() throws {
    let queue = QueueIdentity(virtualHost: "/", queue: "orders").text
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    for digest in [nil, Self.digest(5)] {
      let state = StreamResumption.State(queue: queue, offset: 7, digest: digest)
      #expect(StreamResumption.State(json: try JSONValue.parse(state.json.text)) == state)
      #expect(try Self.resumption("", journal: journal, state: state).place == StreamPlace(offset: 7, digest: digest))
    }
    let old = StreamResumption.State(json: try JSONValue.parse(#"{"queue":"h:5672///orders","offset":7}"#))
    #expect(try Self.resumption("", journal: journal, state: old).place == StreamPlace(offset: 7))
    let other = StreamResumption.State(queue: "h:5672///other", offset: 7)
    #expect(try Self.resumption("", journal: journal, state: other).offset == nil)
  }

  @Test func `a journal goes before the checkpoints over itself, and the larger offset before a journal that was away`()
    throws
  {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    let stream = try Self.resumption("", journal: journal)
    // The stream was made anew, and the runtime has not committed anything of the new one.
    try journal.beginSession(id: "s", queue: "orders", virtualHost: "/", startedAt: 0)
    try journal.write { tx in try tx.setRedelivery(stream.record(of: 3, last: tx.positions.last)) }
    var state = StreamResumption.State(queue: stream.queue.text, offset: 99)
    state.journal = journal.identifier
    #expect(try Self.resumption("", journal: journal, state: state).offset == 3)
    state.journal = "0f0e1b5e-0000-4000-8000-000000000000"
    #expect(try Self.resumption("", journal: journal, state: state).offset == 99)
    state.offset = 2
    #expect(try Self.resumption("", journal: journal, state: state).offset == 3)
  }

  @Test func `only what stands at a stream's end tells that it is another one`() {
    func message(_ offset: Int64, _ number: Int) -> StreamEnd.Message {
      .init(offset: offset, digest: Self.digest(number))
    }
    let known = (15...19).map(Self.digest)
    func isAnother(_ last: StreamEnd.Message?, known: [DeliveryDigest] = known) -> [Bool] {
      var end = StreamEnd()
      return (0..<4).map { _ in end.isAnother(last, captured: 19, known: known) }
    }
    let never = [false, false, false, false]
    #expect(isAnother(nil) == never, "a broker that sends nothing tells nothing")
    #expect(isAnother(message(19, 77)) == never, "the message there comes, and is compared")
    #expect(isAnother(message(400, 77)) == never)
    #expect(isAnother(message(17, 17)) == never, "a copy that is behind")
    var standing = StreamEnd()
    let looks = (0..<12).map { _ in standing.isAnother(message(17, 17), captured: 19, known: known) }
    #expect(looks.firstIndex(of: true) == 11, "but not for ever")
    #expect(
      isAnother(message(17, 77)) == [true, true, true, true], "all behind it are known, and this is none of them")
    #expect(isAnother(message(15, 77)) == [true, true, true, true])
    #expect(
      isAnother(message(14, 77)) == [false, false, true, true], "it may have been captured before those that are known")
    #expect(isAnother(message(17, 77), known: []) == [false, false, true, true])
    var growing = StreamEnd()
    #expect((3..<9).allSatisfy { !growing.isAnother(message($0, 77), captured: 19, known: []) }, "it catches up")
  }

  @Test func `a session is unconfirmed until the newest captured message has come again`() throws {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    let state = StreamResumption.State(queue: QueueIdentity(virtualHost: "/", queue: "orders").text, offset: 19)
    let stream = try Self.resumption("", journal: journal, state: state)
    stream.channelBegan()
    #expect(stream.isUnconfirmed)
    stream.confirmed()
    #expect(!stream.isUnconfirmed)
    stream.channelBegan()
    stream.forget()
    #expect(!stream.isUnconfirmed, "nothing was captured of it")
  }

  @Test func `a checkpoint carries the offset and the digest of its own last row`() throws {
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    let stream = try Self.resumption("", journal: journal)
    try journal.beginSession(id: "s", queue: "orders", virtualHost: "/", startedAt: 0)
    let consumer = try journal.beginConsumer(tag: "c").id
    func append(_ offsets: [Int64]) throws {
      let first = journal.positions.last + 1
      let digests = offsets.map { Self.digest(Int($0)) }
      try journal.write { tx in
        for offset in offsets {
          try tx.append(
            consumer: consumer, deliveryTag: UInt64(offset), redelivered: false, receivedAt: 0, exchange: Span(),
            routingKey: Span(), properties: Span(), rawProperties: Span(), body: Span())
        }
        var bytes: [UInt8] = []
        for digest in digests { digest.append(to: &bytes) }
        try tx.appendDigests(bytes, priority: nil, since: tx.positions.last, window: StreamResumption.window)
      }
      stream.captured(offsets, from: first, digests: Array(digests))
    }
    try append([10, 11, 12])
    try append([13, 20])
    try append([21])
    let reader = try JournalReader(path: journal.path)
    let queue = QueueIdentity(virtualHost: "/", queue: "orders").text
    for (position, offset) in zip([2, 2, 4, 5, 6], [11, 11, 13, 20, 21] as [Int64]) {
      let state = try stream.state(through: Position(rawValue: Int64(position)), reader: reader)
      #expect(state == .init(queue: queue, offset: offset, digest: Self.digest(Int(offset))))
    }
    #expect(try stream.state(through: Position(rawValue: 7), reader: reader) == nil)
  }
}
