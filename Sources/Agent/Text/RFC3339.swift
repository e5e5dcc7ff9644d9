/// Writes instants as RFC 3339 text in UTC, for example `2026-01-05T10:00:00.000123Z`.
///
/// Calendar arithmetic on whole days, proleptic Gregorian, no leap seconds: Unix time has none either.
enum RFC3339 {
  /// Seconds since 1970 that RFC 3339, whose year has four digits, can write, as far as they are not negative.
  static let seconds: ClosedRange<UInt64> = 0...253_402_300_799

  /// Most bytes that an instant takes.
  static let mostBytes = 27

  /// Appends an instant with `digits` fractional digits (0, 3 or 6), without quotes.
  ///
  /// - Parameters:
  ///   - value: Units of ten to the power of `-digits` seconds since 1970, may be negative. Years before 0 and after
  ///     9999 are written as 0000 and 9999, because there is no other form.
  static func append<Output: TextOutput & ~Copyable>(
    _ value: Int64, fractionalDigits digits: Int, to out: inout Output
  ) {
    out.append(addingCapacity: mostBytes + 5) { append(value, fractionalDigits: digits, to: &$0) }
  }

  /// The same, to where there is room for ``mostBytes`` and five more, which are written to and given back.
  static func append(_ value: Int64, fractionalDigits digits: Int, to output: inout OutputSpan<UInt8>) {
    // Three calls, so that each divides by a constant.
    let (seconds, fraction) =
      switch digits {
      case 0: (value, Int64(0))
      case 3: floorDivide(value, by: 1000)
      default: floorDivide(value, by: 1_000_000)
      }
    let (days, secondOfDay) = floorDivide(seconds, by: 86_400)
    let date = civil(days: Int(days))
    let year = min(max(date.year, 0), 9999)
    let (minutes, second) = Int(secondOfDay).quotientAndRemainder(dividingBy: 60)
    let (hour, minute) = minutes.quotientAndRemainder(dividingBy: 60)
    // Eight characters at a time, the first in the lowest byte: 2026-01- 05T10:00 :00.0001 23Z
    let first =
      pair(year / 100) | pair(year % 100) << 16 | character("-", 4) | pair(date.month) << 40 | character("-", 7)
    let middle = pair(date.day) | character("T", 2) | pair(hour) << 24 | character(":", 5) | pair(minute) << 48
    var last = character(":", 0) | pair(second) << 8
    var rest: UInt64 = 0
    let count: Int
    switch digits {
    case 0:
      last |= character("Z", 3)
      count = 20
    case 3:
      let milliseconds = Int(fraction)
      // One digit, in the place of a pair's second, then two.
      last |= (pair(milliseconds / 100) >> 8) << 32 | character(".", 3) | pair(milliseconds % 100) << 40
      last |= character("Z", 7)
      count = 24
    default:
      let microseconds = Int(fraction)
      last |= character(".", 3) | pair(microseconds / 10_000) << 32 | pair(microseconds / 100 % 100) << 48
      rest = pair(microseconds % 100) | character("Z", 2)
      count = 27
    }
    unsafe output.withUnsafeMutableBufferPointer { buffer, used in
      precondition(buffer.count - used >= 32, "no room")
      // Inside the buffer, as just checked.
      let target = unsafe UnsafeMutableRawPointer(buffer.baseAddress! + used)
      unsafe target.storeBytes(of: first.littleEndian, as: UInt64.self)
      unsafe target.storeBytes(of: middle.littleEndian, toByteOffset: 8, as: UInt64.self)
      unsafe target.storeBytes(of: last.littleEndian, toByteOffset: 16, as: UInt64.self)
      unsafe target.storeBytes(of: rest.littleEndian, toByteOffset: 24, as: UInt64.self)
      used += count
    }
  }

  /// The two digits of a number below 100, the tens in the lowest byte.
  @inline(__always) private static func pair(_ number: Int) -> UInt64 {
    let (tens, units) = UInt32(truncatingIfNeeded: number).quotientAndRemainder(dividingBy: 10)
    return UInt64(tens | units << 8) + 0x3030
  }

  /// A character in the `index`-th byte.
  @inline(__always) private static func character(_ scalar: Unicode.Scalar, _ index: UInt64) -> UInt64 {
    UInt64(UInt8(ascii: scalar)) << (8 * index)
  }

  /// The date `days` after 1970-01-01; Howard Hinnant's `civil_from_days`, https://howardhinnant.github.io/date_algorithms.html
  private static func civil(days: Int) -> (year: Int, month: Int, day: Int) {
    // Years begin in March, so that the leap day is the last one; 719468 days lie between 0000-03-01 and 1970-01-01.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
  }

  @inline(__always) private static func floorDivide(_ value: Int64, by divisor: Int64) -> (
    quotient: Int64, remainder: Int64
  ) {
    let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
