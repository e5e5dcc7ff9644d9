import ArgumentParser

/// A number of bytes on the command line: `1000000`, `64k`, `128M`, `2G` (powers of 1024).
struct ByteCount: Equatable, Sendable, ExpressibleByArgument {
  var bytes: Int64

  init?(argument: String) {
    let units: [Character: Int64] = [
      "k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20, "g": 1 << 30, "G": 1 << 30,
    ]
    let unit = argument.last.flatMap { units[$0] }
    guard let number = Int64(unit == nil ? argument[...] : argument.dropLast()), number > 0 else { return nil }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
    guard !overflow else { return nil }
    self.bytes = bytes
  }
}

/// A time on the command line: `90`, `90s`, `15m`, `1h`, `1d`.
struct Seconds: Equatable, Sendable, ExpressibleByArgument {
  var seconds: Double

  init?(argument: String) {
    let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
    let unit = argument.last.flatMap { units[$0] }
    guard let number = Int(unit == nil ? argument[...] : argument.dropLast()), (1...10_000_000).contains(number) else {
      return nil
    }
    seconds = Double(number * (unit ?? 1))
  }
}
