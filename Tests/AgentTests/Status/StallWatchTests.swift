import AMQP
import Logging
import Platform
import Support
import Synchronization
import Testing

@testable import Agent

/// What takes too long turns health red, and green again.
struct StallWatchTests {
  @Test(arguments: Stall.allCases) func `a wait is a stall from its limit on, and for its calm after it`(stall: Stall) {
    var watch = StallWatch()
    watch.began(stall, at: 100)
    #expect(watch.stall(at: 100 + stall.limit - 0.1) == nil)
    #expect(watch.stall(at: 100 + stall.limit) == stall)
    watch.ended(stall, at: 101 + stall.limit)
    #expect(watch.stall(at: 101 + stall.limit + stall.calm) == nil)
    if stall.calm > 0 { #expect(watch.stall(at: 100.9 + stall.limit + stall.calm) == stall) }
    // Quick ones are none, however many.
    watch = StallWatch()
    for second in 0..<1000 {
      watch.began(stall, at: Instant(second))
      watch.ended(stall, at: Instant(second) + 0.9)
      #expect(watch.stall(at: Instant(second) + 1) == nil)
    }
  }

  @Test func `each sync of a slow disk keeps it red`() {
    var watch = StallWatch()
    for sync in 0..<8 {
      let begin = Instant(sync * 5)
      watch.began(.journal, at: begin)
      if sync > 0 { #expect(watch.stall(at: begin + 0.1) == .journal) }
      watch.ended(.journal, at: begin + 5)
    }
    // A quick one does not make the next one likely.
    watch.began(.journal, at: 40)
    watch.ended(.journal, at: 40.1)
    #expect(watch.stall(at: 49.9) == .journal && watch.stall(at: 50) == nil)
  }

  @Test func `who takes a piece in time does not stand still`() {
    var watch = StallWatch()
    watch.began(.reader, at: 0)
    for second in stride(from: 14, through: 140, by: 14).map({ Instant($0) }) {
      #expect(watch.stall(at: second) == nil)
      watch.progressed(.reader, at: second)
    }
    #expect(watch.stall(at: 155) == .reader)
    watch.progressed(.reader, at: 156)
    // Who takes a pipeful each sixteen seconds is slow all the time.
    for second in stride(from: 156, through: 316, by: 16).map({ Instant($0) }) {
      #expect(watch.stall(at: second) == .reader && watch.stall(at: second + 8) == .reader)
      watch.progressed(.reader, at: second)
    }
    watch.ended(.reader, at: 317)
    #expect(watch.stall(at: 346) == nil)
    watch.progressed(.reader, at: 350)
    #expect(watch.stall(at: 1000) == nil)
  }

  @Test func `a stall is told once, as a warning, and so is its end`() {
    let lines = Mutex<[String]>([])
    let time = Mutex(Instant(0))
    let board = StatusBoard(
      log: Logger(label: "test") { _ in
        FlowLogHandler(
          logLevel: .info, style: .json,
          write: { line in lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) } })
      }, clock: { time.withLock { $0 } })
    board.changed(to: .consuming)
    board.began(.runtime)
    for second in 1...400 {
      time.withLock { $0 = Instant(second) }
      board.look()
      #expect(board.state == (second < 300 ? .consuming : .stalled(.runtime)))
    }
    let told = lines.withLock { $0 }
    #expect(
      told.count == 2 && told[1].contains("\"warn\"") && told[1].contains("acknowledged no checkpoint"), "\(told)")
    // What is worse comes first.
    board.changed(to: .reconnecting(cause: "c", reason: "lost"))
    #expect(board.state == .reconnecting(cause: "c", reason: "lost"))
    board.changed(to: .consuming)
    board.ended(.runtime)
    board.look()
    #expect(lines.withLock { $0.last }?.contains("Capture started") == true)
    #expect(board.state == .consuming)
  }
}
