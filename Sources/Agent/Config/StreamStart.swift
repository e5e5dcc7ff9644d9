/// Where a stream that was never captured is read from (`consumer.stream_offset`).
///
/// https://www.rabbitmq.com/docs/streams#consuming
enum StreamStart: Equatable, Sendable {
  /// The oldest message that is left.
  case first
  /// The last chunk that was written.
  case last
  /// What is published from now on.
  case next
  /// This offset, 0 or more, or the oldest message if that is later.
  case offset(Int64)
  /// Messages from about this second since 1970 on.
  case instant(Int64)
  /// Messages from about so long ago on, for example `1h`; as the broker reads it.
  case interval(String)

  /// Nil if the text is none of them. Digits alone are an offset.
  init?(text: String) {
    switch text {
    case "first": self = .first
    case "last": self = .last
    case "next": self = .next
    default:
      let digits = text.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      if !digits.isEmpty, digits.count == text.utf8.count {
        guard let offset = Int64(text) else { return nil }
        self = .offset(offset)
      } else if Self.isInterval(text) {
        // Of none, or of more than a billion, the broker makes no time.
        guard let count = Int(text.dropLast()), (1...1_000_000_000).contains(count) else { return nil }
        self = .interval(text)
      } else if let seconds = Self.seconds(text) {
        self = .instant(seconds)
      } else {
        return nil
      }
    }
  }

  /// From the consume argument `x-stream-offset`, whose strings are the broker's business. Nil if it is neither a string nor
  /// an offset.
  init?(argument: JSONValue) {
    switch argument {
    case .string(let text):
      if let start = StreamStart(text: text) {
        self = start
      } else if Self.isInterval(text) {
        return nil
      } else {
        self = .interval(text)
      }
    case .number(let text):
      guard let offset = Int64(text), offset >= 0 else { return nil }
      self = .offset(offset)
    case .null, .bool, .array, .object: return nil
    }
  }

  /// Whether the text is a number and a unit of time.
  private static func isInterval(_ text: String) -> Bool {
    let digits = text.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    guard !digits.isEmpty, text.utf8.count == digits.count + 1, let unit = text.last else { return false }
    return "YMDhms".contains(unit)
  }

  /// As the value of the consume argument, in JSON.
  var json: JSONValue {
    switch self {
    case .first: .string("first")
    case .last: .string("last")
    case .next: .string("next")
    case .offset(let offset): .number(String(offset))
    case .instant(let seconds): .number(String(seconds))
    case .interval(let text): .string(text)
    }
  }

  /// Seconds since 1970 of an RFC 3339 date-time; fractions are left out.
  private static func seconds(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 20 else { return nil }
    func number(_ range: Range<Int>) -> Int? {
      guard bytes[range].allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
      return bytes[range].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
    let separators: [(Int, String)] = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")]
    guard separators.allSatisfy({ $0.1.utf8.contains(bytes[$0.0]) }), let year = number(0..<4),
      let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13), let minute = number(14..<16),
      let second = number(17..<19), year >= 1970, (1...12).contains(month), (1...31).contains(day), hour < 24,
      minute < 60,
      second <= 60
    else { return nil }
    var rest = bytes[19...]
    if rest.first == UInt8(ascii: ".") {
      rest = rest.dropFirst()
      let fraction = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      guard !fraction.isEmpty else { return nil }
      rest = rest.dropFirst(fraction.count)
    }
    var zone = 0
    switch rest.first {
    case UInt8(ascii: "Z"), UInt8(ascii: "z"):
      guard rest.count == 1 else { return nil }
    case UInt8(ascii: "+"), UInt8(ascii: "-"):
      let start = rest.startIndex
      guard rest.count == 6, bytes[start + 3] == UInt8(ascii: ":"), let hours = number(start + 1..<start + 3),
        let minutes = number(start + 4..<start + 6), hours < 24, minutes < 60
      else { return nil }
      zone = (hours * 60 + minutes) * (rest.first == UInt8(ascii: "-") ? -60 : 60)
    default: return nil
    }
    // Days since 1970-01-01, the year beginning in March: https://howardhinnant.github.io/date_algorithms.html
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let yearOfEra = shifted - era * 400
    let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    return Int64(days * 86_400 + hour * 3600 + minute * 60 + second - zone)
  }
}
