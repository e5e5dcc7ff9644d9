import Glibc
import Support
import Testing

@testable import Agent

/// Lines in a pipe, as its reader sees them at any moment.
struct LineOutputTests {
  /// What a write puts into a pipe without a wait in between, a read of more takes out at once: both hold the pipe's lock. So where the
  /// process might have ended, each such read would have been the last.
  @Test(arguments: [1, 2, UInt64.random(in: 3...1_000_000)]) func `whatever a reader takes, it ends with a line`(
    seed: UInt64
  )
    throws
  {
    var random = Seeded(seed)
    let edges = [1, 2, 80, 4095, 4096, 4097, 8192, 65_535, 65_536, 65_537, 200_000]
    var lines: [UInt8] = []
    for number in 0..<600 {
      let size =
        number.isMultiple(of: 5) ? edges.randomElement(using: &random)! : Int.random(in: 1...3000, using: &random)
      lines += Array(repeating: UInt8(ascii: "a") + UInt8(number % 26), count: size - 1) + [0x0A]
    }
    var ends = [Int32](repeating: 0, count: 2)
    try #require(unsafe pipe(&ends) == 0)
    let (reading, writing) = (ends[0], ends[1])
    let text = lines
    let done = Background {
      defer { close(writing) }
      var output = LineOutput(OutputDescriptor(descriptor: writing, name: "a pipe"))
      // As checkpoints come: some lines at a time.
      try output.write(text)
    }
    var taken: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 2 << 20)
    while true {
      let count = unsafe read(reading, &buffer, buffer.count)
      guard count > 0 else { break }
      taken += buffer[..<count]
      #expect(taken.last == 0x0A, "seed \(seed): after \(taken.count) bytes")
    }
    close(reading)
    try done.join()
    #expect(taken == lines, "seed \(seed)")
  }

  @Test(arguments: [100, 100_000]) func `a reader that has gone is an error, also in front of a large line`(size: Int)
    throws
  {
    var ends = [Int32](repeating: 0, count: 2)
    try #require(unsafe pipe(&ends) == 0)
    defer { close(ends[1]) }
    var output = LineOutput(OutputDescriptor(descriptor: ends[1], name: "a pipe"))
    signal(SIGPIPE, SIG_IGN)
    try output.write([UInt8](repeating: 0x61, count: 3000) + [0x0A])
    close(ends[0])
    #expect(throws: CaptureFailure.self) { try output.write([UInt8](repeating: 0x61, count: size) + [0x0A]) }
  }
}
