import AMQP
import Support
import Testing

@testable import Agent

/// What a stream's broker cannot send is found, and nothing else is gone past (`UndeliverableOffsets`).
@Suite struct UndeliverableOffsetsTests {
  /// A stream as the three releases were seen to send it.
  private struct Stream {
    enum Entry { case message, raw, compressed }

    var chunks: [[Entry]]
    /// 3.10 decodes a chunk as a whole, and cannot send what is compressed.
    let isOld: Bool

    var entries: [Entry] { chunks.flatMap { $0 } }

    /// What a channel brings that begins with `offset` and lets `width` deliveries through, each acknowledged at once.
    func channel(from offset: Int64, width: Int) -> (sent: [Int64], fails: Bool) {
      var sent: [Int64] = []
      var start: Int64 = 0
      var fails = false
      chunks: for chunk in chunks {
        defer { start += Int64(chunk.count) }
        let places = chunk.indices.filter { start + Int64($0) >= offset }
        func isFatal(_ place: Int) -> Bool {
          // A compressed entry is looked at by its first offset.
          chunk[place] == .raw
            || isOld && chunk[place] == .compressed && (place == 0 || chunk[place - 1] != .compressed)
        }
        if isOld, places.contains(where: isFatal) {
          fails = true
          break
        }
        for place in places {
          if isFatal(place) {
            fails = true
            break chunks
          }
          if chunk[place] == .message { sent.append(start + Int64(place)) }
        }
      }
      // What was on its way when the connection broke is lost; there was room for `width`.
      if fails { sent.removeLast(min(sent.count, width - 1)) }
      return (sent, fails)
    }

    /// Every message that some channel can bring.
    var sendable: [Int64] {
      entries.indices.map(Int64.init).filter { channel(from: $0, width: 1).sent.first == $0 }
    }
  }

  private static func message(_ offset: Int64) -> OffsetSearch.Found {
    .message(StreamEnd.Message(offset: offset, digest: DeliveryDigest(high: 1, low: 0)))
  }

  /// Captures with `skip`; the broker answers here, and ``OffsetSearch`` decides.
  ///
  /// - Parameter error: True if a channel fails though nothing is wrong with what it reads.
  private func capture(_ stream: Stream, prefetch: Int, _ error: () -> Bool) -> (
    captured: [Int64], passed: [ClosedRange<Int64>]
  ) {
    var (offsets, captured, passed) = (UndeliverableOffsets(), [Int64](), [ClosedRange<Int64>]())
    var isPassed = false
    func next() -> Int64 { max(captured.last.map { $0 + 1 } ?? 0, isPassed ? passed.last!.upperBound + 1 : 0) }
    sessions: for _ in 0..<10_000 {
      var search = OffsetSearch(
        first: offsets.blocked ?? 0, skips: true, captured: captured.last.map { .init(offset: $0, digest: nil) })
      var step = search.begin(offsets)
      func look(from offset: Int64) -> OffsetSearch.Found {
        let channel = error() ? (sent: [], fails: true) : stream.channel(from: offset, width: 1)
        return channel.sent.first.map(Self.message) ?? (channel.fails ? .fails : .nothing)
      }
      searching: while true {
        switch step {
        case .look(.offset(let offset, _)): step = search.looked(look(from: offset), &offsets)
        case .look(.next): step = search.looked(error() ? .fails : .nothing, &offsets)
        // As long as it ends with what cannot be sent. Shorter streams have tests of their own.
        case .look(.last): step = search.looked(.nothing, &offsets)
        case .look(.captured(let offset)): step = search.looked(Self.message(offset), &offsets)
        case .begin: break searching
        case .pass(let range):
          passed.append(range)
          isPassed = true
          break searching
        case .anotherStream, .report: continue sessions
        }
      }
      offsets.channelBegins(after: captured.last)
      // A session begins at the newest captured message, or after what was gone past.
      let start = isPassed ? next() : captured.last ?? 0
      var channel = stream.channel(from: start, width: offsets.width ?? prefetch)
      if error() { channel = (Array(channel.sent.prefix(1)), true) }
      for offset in channel.sent where offset >= next() {
        captured.append(offset)
        isPassed = false
        if offsets.widenIfDue(at: offset) { continue sessions }
      }
      guard channel.fails else { return (captured, passed) }
      offsets.failed(newest: captured.last, next: next(), configured: prefetch)
    }
    Issue.record("it comes to no end: \(stream)")
    return (captured, passed)
  }

  /// An error that passes may come at any time: for a while everything fails.
  @Test(arguments: [true, false], [false, true])
  func `everything that can be sent is captured once and in order, and the rest is gone past`(isOld: Bool, errs: Bool) {
    for seed in 0..<400 {
      var random = Seeded(UInt64(seed))
      let chunks = (0..<Int.random(in: 1...12, using: &random)).map { _ in
        let kind = Int.random(in: 0..<4, using: &random)
        return (0..<Int.random(in: 1...6, using: &random)).map { _ -> Stream.Entry in
          switch kind {
          case 0: .raw
          case 1: .compressed
          case 2: Bool.random(using: &random) ? .raw : .message
          default: .message
          }
        }
      }
      let stream = Stream(chunks: chunks, isOld: isOld)
      let start = Int.random(in: 0..<60, using: &random)
      let trouble = errs ? start..<start + Int.random(in: 1...20, using: &random) : 0..<0
      var channels = 0
      let (captured, passed) = capture(stream, prefetch: [1, 3, 10, 100].randomElement(using: &random)!) {
        channels += 1
        return trouble.contains(channels)
      }
      #expect(captured == stream.sendable, "seed \(seed), \(chunks)")
      for range in passed { #expect(!captured.contains(where: range.contains), "seed \(seed), \(chunks)") }
    }
  }

  @Test func `channels narrow down by four, and go on at once until one message alone fails`() {
    var offsets = UndeliverableOffsets()
    var widths: [Int?] = []
    repeat {
      offsets.channelBegins(after: 7)
      offsets.failed(newest: 7, next: 8, configured: 100)
      widths.append(offsets.width)
    } while offsets.goesOnAtOnce(skips: false)
    #expect(widths == [25, 6, 1, 1])
    #expect(offsets.blocked == 8 && offsets.probed == 8)
  }

  @Test func `an offset that cannot be named is not looked for`() {
    var offsets = UndeliverableOffsets()
    for _ in 0..<4 {
      offsets.channelBegins(after: nil)
      offsets.failed(newest: nil, next: nil, configured: 2)
    }
    #expect(offsets.isBlocked && offsets.probed == nil && !offsets.goesOnAtOnce(skips: true) && offsets.width == 1)
    // One that is captured ends it.
    offsets.failed(newest: 0, next: 1, configured: 2)
    #expect(!offsets.isBlocked)
  }

  /// If a probe brings what no session brings, that is noticed.
  @Test func `searches for nothing are not repeated without a rest`() {
    var offsets = UndeliverableOffsets()
    for round in 0..<4 {
      for _ in 0..<(round == 0 ? 4 : 1) {
        offsets.channelBegins(after: 7)
        offsets.failed(newest: 7, next: 8, configured: 100)
      }
      #expect(offsets.probed == 8 && offsets.goesOnAtOnce(skips: true) == (round < 2))
      #expect(offsets.looked(.sends(8)) == .goOn)
    }
    // Something new was captured.
    offsets.failed(newest: 8, next: 9, configured: 100)
    #expect(offsets.goesOnAtOnce(skips: true))
    #expect(offsets.widenIfDue(at: 8) && offsets.width == nil)
  }

  @Test func `what was gone past is not tried anew on another connection, and what is missing is not gone past`() {
    var offsets = UndeliverableOffsets()
    func block() {
      for _ in 0..<4 {
        offsets.channelBegins(after: 7)
        offsets.failed(newest: 7, next: 8, configured: 100)
      }
    }
    block()
    #expect(offsets.looked(.fails) == .probe && offsets.looked(.isMissing) == .goOn && offsets.probed == nil)
    block()
    #expect([.fails, .fails, .isQuiet, .fails].map { offsets.looked($0) } == [.probe, .probe, .probe, .probe])
    #expect(offsets.looked(.fails) == .pass(8...9))
    offsets.forget()
    block()
    #expect(offsets.probed == 10 && offsets.looked(.sends(11)) == .pass(8...10))
    offsets.forgetAll()
    block()
    #expect(offsets.probed == 8)
  }

  @Test func `what cannot be sent is tried again at growing distances, and other failures begin anew`() {
    var pacing = UndeliverablePacing()
    let failure = CaptureFailure(cause: "u", description: "", needsUser: false, kind: .undeliverable)
    let waits = (0..<8).map { _ in pacing.next(failure) }
    #expect(waits == [1, 2, 4, 8, 16, 32, 60, 60].map { .wait($0) })
    #expect(pacing.next(CaptureFailure(cause: "timed_out", description: "", needsUser: false)) == nil)
    #expect(pacing.next(failure) == .wait(1))
  }

  @Test func `offsets may be as large as numbers get`() {
    var offsets = UndeliverableOffsets()
    for _ in 0..<3 {
      offsets.channelBegins(after: .max - 1)
      offsets.failed(newest: .max - 1, next: .max, configured: 1)
    }
    #expect(offsets.looked(.fails) == .probe && offsets.probed == .max)
  }
}
