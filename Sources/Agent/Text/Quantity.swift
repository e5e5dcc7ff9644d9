import Platform

/// Numbers and times as people read them.
enum Quantity {
  /// 1,234 of at least ten a second, 0.3 of fewer.
  static func rate(_ value: Double) -> String {
    value == 0 || value >= 10 ? grouped(Int(value.rounded())) : "\((value * 10).rounded() / 10)"
  }

  /// 1234567 as `1,234,567`.
  static func grouped(_ number: Int) -> String {
    let digits = String(number.magnitude)
    var text = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return text
  }

  /// Bytes in the largest unit that leaves a number of 1 or more, with one digit after the point.
  static func size(_ bytes: Int64) -> String {
    var value = Double(bytes)
    var unit = "B"
    for larger in ["KiB", "MiB", "GiB", "TiB"] where value >= 1024 {
      value /= 1024
      unit = larger
    }
    return unit == "B" ? "\(bytes) B" : "\((value * 10).rounded() / 10) \(unit)"
  }

  /// A time as `0.4 s`, `3 min 5 s`, `2 h 0 min`, `5 d 3 h`.
  static func age(_ time: Duration) -> String {
    let seconds = time.inSeconds
    let whole = Int(seconds)
    switch whole {
    case ..<60: return "\((seconds * 10).rounded() / 10) s"
    case ..<3600: return "\(whole / 60) min \(whole % 60) s"
    case ..<86400: return "\(whole / 3600) h \(whole % 3600 / 60) min"
    default: return "\(whole / 86400) d \(whole % 86400 / 3600) h"
    }
  }
}
