/// A number with a unit of size or time, as people write it: `1GiB`, `64k`, `5s`, `1h30m` is not one.
enum Amount {
  /// How many bytes a text means: a whole number and `B`, `k`, `M`, `G`, `T` or `P`, each also with `B` or `iB` and in either case.
  /// All are powers of 1024, as RabbitMQ has them. https://www.rabbitmq.com/docs/disk-alarms
  ///
  /// - Returns: Nil if it is none, or does not fit.
  static func bytes(_ text: String) -> Int? {
    let powers: [String: Int] = [
      "": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30, "t": 40,
      "tb": 40, "tib": 40, "p": 50, "pb": 50, "pib": 50,
    ]
    guard let (number, unit) = parts(text), let power = powers[unit.lowercased()], let count = Int(number) else {
      return nil
    }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << power)
    return overflow ? nil : bytes
  }

  /// How many seconds a text means: a number and `ms`, `s`, `m` or `min`, `h` or `d`; seconds if there is no unit.
  ///
  /// - Returns: Nil if it is none.
  static func seconds(_ text: String) -> Double? {
    let seconds: [String: Double] = ["": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400]
    guard let (number, unit) = parts(text), let factor = seconds[unit.lowercased()], let count = Double(number),
      count.isFinite
    else { return nil }
    return count * factor
  }

  /// The digits in front, with a point or none, and the letters that follow, with a blank between or none.
  private static func parts(_ text: String) -> (number: Substring, unit: Substring)? {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = text[number.endIndex...].drop { $0 == " " }
    guard number.first?.isNumber == true, unit.allSatisfy({ $0.isASCII && $0.isLetter }) else { return nil }
    return (number, unit)
  }
}
