import Platform
import Support
import Testing

@testable import Agent

/// Logging never waits for a reader.
struct LogQueueTests {
  private static func line(_ number: Int) -> [UInt8] {
    Array("line \(number) \(String(repeating: "x", count: 1_000))\n".utf8)
  }

  @Test func `what does not fit goes, the oldest first, is counted, and the newest is kept`() {
    let written = Monitor<[String]>([])
    let gate = Monitor(false)
    let queue = LogQueue(
      write: { line in
        _ = gate.wait { $0 ? true : nil }
        written.update { $0.append(String(decoding: line, as: UTF8.self)) }
      }, tell: { Array("left out \($0)\n".utf8) })
    for number in 1...2_000 { queue.put(Self.line(number)) }
    // No one reads, and no one has waited.
    #expect(written.read { $0.isEmpty })
    queue.flush(atMost: 0.01)
    gate.update { $0 = true }
    queue.flush(atMost: 60)
    let lines = written.read { $0 }
    let told = lines.compactMap { $0.hasPrefix("left out ") ? Int($0.dropFirst(9).dropLast()) : nil }
    #expect(told.count == 1 || told.count == 2, "once, or once more if the first was on its way by then")
    #expect(lines.count - told.count + told.reduce(0, +) == 2_000)
    #expect(lines.last == String(decoding: Self.line(2_000), as: UTF8.self))
    let kept = lines.filter { $0.hasPrefix("line") }.map(\.utf8.count).reduce(0, +)
    #expect(kept <= LogQueue.limit + 2_048)
  }

  @Test func `a line that is larger than everything that may wait is kept alone`() {
    var state = LogQueue.State()
    state.append(Self.line(1))
    state.append([UInt8](repeating: 65, count: LogQueue.limit * 2))
    #expect(state.lines.count == 1 && state.dropped == 1 && state.bytes == LogQueue.limit * 2)
    state.append(Self.line(2))
    #expect(state.lines == [Self.line(2)] && state.dropped == 2 && state.bytes == Self.line(2).count)
  }
}
