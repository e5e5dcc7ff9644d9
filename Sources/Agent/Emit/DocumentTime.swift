/// Writes instants as RFC 3339 text in UTC, for example `2026-01-05T10:00:00.000123Z`.
///
/// Calendar arithmetic on whole days, proleptic Gregorian, no leap seconds: Unix time has none either.
enum DocumentTime {
  /// Seconds since 1970 that RFC 3339, whose year has four digits, can write, as far as they are not negative.
  static let seconds: ClosedRange<UInt64> = 0...253_402_300_799

  /// Appends an instant with `digits` fractional digits (0, 3 or 6), without quotes.
  ///
  /// - Parameters:
  ///   - value: Units of ten to the power of `-digits` seconds since 1970, may be negative. Years before 0 and after
  ///     9999 are written as 0000 and 9999, because there is no other form.
  static func append(_ value: Int64, fractionalDigits digits: Int, to out: inout [UInt8]) {
    // Three calls, so that each divides by a constant.
    let (seconds, fraction) =
      switch digits {
      case 0: (value, Int64(0))
      case 3: floorDivide(value, by: 1000)
      default: floorDivide(value, by: 1_000_000)
      }
    let (days, secondOfDay) = floorDivide(seconds, by: 86_400)
    let date = civil(days: Int(days))
    let second = Int(secondOfDay)
    out.append(addingCapacity: 27) { output in
      output.append(decimal: min(max(date.year, 0), 9999), width: 4)
      output.append(UInt8(ascii: "-"))
      output.append(decimal: date.month, width: 2)
      output.append(UInt8(ascii: "-"))
      output.append(decimal: date.day, width: 2)
      output.append(UInt8(ascii: "T"))
      output.append(decimal: second / 3600, width: 2)
      output.append(UInt8(ascii: ":"))
      output.append(decimal: second / 60 % 60, width: 2)
      output.append(UInt8(ascii: ":"))
      output.append(decimal: second % 60, width: 2)
      if digits > 0 {
        output.append(UInt8(ascii: "."))
        output.append(decimal: Int(fraction), width: digits)
      }
      output.append(UInt8(ascii: "Z"))
    }
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
