import ArgumentParser

/// A number of bytes on the command line: `1000000`, `64k`, `128M`, `2G` (powers of 1024).
struct ByteCount: Equatable, Sendable, ExpressibleByArgument {
  var bytes: Int64

  init?(argument: String) {
    guard let bytes = Amount.bytes(argument), bytes > 0 else { return nil }
    self.bytes = Int64(bytes)
  }

  /// For an option, with what it needs if it is none.
  static func parsed(_ text: String) throws -> ByteCount {
    guard let count = ByteCount(argument: text) else {
      throw ValidationError("it needs a number of bytes, such as 1000000, 64k, 128M or 2G")
    }
    return count
  }
}

/// A time on the command line: `90`, `90s`, `15m`, `1h`, `1d`.
struct Seconds: Equatable, Sendable, ExpressibleByArgument {
  var duration: Duration

  init?(argument: String) {
    guard let seconds = Amount.seconds(argument), (1...1_000_000_000).contains(seconds) else { return nil }
    duration = .seconds(seconds)
  }

  /// For an option, with what it needs if it is none.
  static func parsed(_ text: String) throws -> Seconds {
    guard let time = Seconds(argument: text) else {
      throw ValidationError("it needs a time of a second or more, such as 90, 90s, 15m, 1h or 1d")
    }
    return time
  }
}
