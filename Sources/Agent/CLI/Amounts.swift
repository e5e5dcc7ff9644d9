import ArgumentParser

/// A number of bytes on the command line: `1000000`, `64k`, `128M`, `2G` (powers of 1024).
struct ByteCount: Equatable, Sendable, ExpressibleByArgument {
  var bytes: Int64

  init?(argument: String) {
    guard let bytes = Amount.bytes(argument), bytes > 0 else { return nil }
    self.bytes = Int64(bytes)
  }
}

/// A time on the command line: `90`, `90s`, `15m`, `1h`, `1d`.
struct Seconds: Equatable, Sendable, ExpressibleByArgument {
  var seconds: Double

  init?(argument: String) {
    guard let seconds = Amount.seconds(argument), (1...1_000_000_000).contains(seconds) else { return nil }
    self.seconds = seconds
  }
}
