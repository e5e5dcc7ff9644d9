import Glibc
import Platform

/// What is on its way to stderr, so that logging never waits for a reader.
///
/// A pipe that no one reads is full after 64 KiB, and a write to it then lasts for ever: intake, output and the answer to a signal would
/// stand still for a line of the log. So lines wait here, up to a bound; beyond it the oldest go, and are counted. The newest is kept
/// whatever comes: the last line before an exit is its cause.
final class LogQueue: Sendable {
  /// Bytes of lines that wait.
  static let limit = 256 << 10

  struct State {
    var lines: [[UInt8]] = []
    var bytes = 0
    /// Lines that were left out and not told of yet.
    var dropped = 0
    /// The thread holds a line that is not written to its end.
    var isWriting = false
    /// The thread is there; nil before the first line, false if the system has none.
    var isRunning: Bool?

    /// Adds a line, and lets the oldest go for it.
    mutating func append(_ line: [UInt8]) {
      lines.append(line)
      bytes += line.count
      var gone = 0
      while bytes > LogQueue.limit, gone < lines.count - 1 {
        bytes -= lines[gone].count
        gone += 1
      }
      lines.removeFirst(gone)
      dropped += gone
    }
  }

  private let state = Monitor(State())
  private let write: @Sendable ([UInt8]) -> Void

  private let tell: @Sendable (Int) -> [UInt8]

  /// - Parameters:
  ///   - write: Writes a line, for as long as that takes.
  ///   - tell: Makes the line that says how many were left out.
  init(write: @escaping @Sendable ([UInt8]) -> Void, tell: @escaping @Sendable (Int) -> [UInt8]) {
    self.write = write
    self.tell = tell
  }

  /// Hands a line over; does not wait.
  func put(_ line: [UInt8]) {
    let isRunning = state.update { state -> Bool in
      if state.isRunning == nil {
        state.isRunning = OSThread.tryToStart("log") { [self] in run() } == 0
      }
      guard state.isRunning == true else { return false }
      state.append(line)
      return true
    }
    if !isRunning { write(line) }
  }

  /// Waits until everything is written, but not for long: no one may read.
  func flush(atMost time: Duration) {
    _ = state.wait(atMost: time) { $0.lines.isEmpty && !$0.isWriting ? true : nil }
  }

  private func run() {
    // Signals are for the thread that waits for them.
    var all = sigset_t()
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_BLOCK, &all, nil)
    while true {
      let next = state.wait { state -> (line: [UInt8], dropped: Int)? in
        guard !state.lines.isEmpty else { return nil }
        state.isWriting = true
        defer { state.dropped = 0 }
        let line = state.lines.removeFirst()
        state.bytes -= line.count
        return (line, state.dropped)
      }
      guard let next else { continue }
      if next.dropped > 0 { write(tell(next.dropped)) }
      write(next.line)
      state.update { $0.isWriting = false }
    }
  }
}
