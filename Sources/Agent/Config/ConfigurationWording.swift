/// The wording of problems with single settings, in one place.
///
/// A value is shown only if it is a scalar, never if it is or may hold a secret; texts from outside are shown in
/// JSON's quotes, control characters escaped, and shortened. What looks like credentials in them is hidden (`Disclosure`).
enum ConfigurationWording {
  /// Longest text shown, in characters.
  private static let shown = 64

  /// - Parameter hidden: Whether the value must not be shown.
  static func wrongType(_ value: JSONValue, expected: String, hint: String? = nil, hidden: Bool) -> String {
    let base = "must be \(expected), not \(describe(value, hidden: hidden))"
    return hint.map { "\(base); \($0)" } ?? base
  }

  static func outOfRange(_ text: String, unit: String, from lower: String, to upper: String, hidden: Bool) -> String {
    "\(hidden ? "the value" : shorten(text)) is out of range: give \(unit) from \(lower) to \(upper)"
  }

  /// An amount with a unit.
  ///
  /// - Parameter unit: What the bounds count: `a whole number of seconds`.
  static func amountOutOfRange(
    _ text: String, unit: String, from lower: String, to upper: String, hidden: Bool
  ) -> String {
    "\(hidden ? "the value" : quote(text)) is out of range: give \(unit) from \(lower) to \(upper)"
  }

  /// - Parameter unit: `seconds`.
  static func amountNotWhole(_ text: String, unit: String, hidden: Bool) -> String {
    "\(hidden ? "the value" : quote(text)) is no whole number of \(unit)"
  }

  static func notWhole(_ text: String, from lower: String, to upper: String, hidden: Bool) -> String {
    "\(hidden ? "the value" : shorten(text)) is not a whole number: "
      + "give one from \(lower) to \(upper)"
  }

  static func notChoice(_ text: String, of choices: [String], hidden: Bool) -> String {
    let list = choices.map(quote).joined(separator: ", ")
    let nearest = hidden ? nil : EditDistance.nearest(to: text, among: choices)
    let hint = nearest.map { "; did you mean \(quote($0))?" } ?? ""
    return "\(hidden || !isWord(text) || nearest == nil ? "the value" : quote(text)) is not one of \(list)\(hint)"
  }

  /// - Parameter suggestion: The nearest known key, or the full path of a key that belongs elsewhere.
  static func unknownKey(_ key: String, suggestion: String?) -> String {
    let hint = suggestion.map { "; did you mean \(quote($0))?" } ?? ""
    return "unknown key \(quote(Disclosure.key(key)))\(hint)"
  }

  static let missing = "is required"
  static let nul = "contains a NUL character"
  static let lineBreak =
    "contains a line break, which the broker leaves out of names: write it in one line (YAML's | and > add one at the end)"
  static let credentials =
    "must not hold credentials (an address with a user and a password, a token, PEM text): they have settings of their own"

  /// Whether a string if a number or a boolean belongs may be shown: what looks like one. Anything else may have come there by
  /// mistake, such as `5672:password`.
  private static func isAmount(_ text: String) -> Bool {
    let number = text.drop { $0 == "-" || $0 == "+" }.prefix { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "_") }
    let rest = text[number.endIndex...].drop { $0 == " " }
    if !number.isEmpty, rest.count <= 4, rest.allSatisfy({ $0.isASCII && $0.isLetter }) { return true }
    return text.isEmpty || ["true", "false", "yes", "no", "on", "off", "null", "none"].contains(text.lowercased())
  }

  private static func isWord(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy { $0.isASCII && ($0.properties.isAlphabetic || $0 == "_" || $0 == "-") }
  }

  static func describe(_ value: JSONValue, hidden: Bool) -> String {
    switch value {
    case .null: "null (leave the key out instead)"
    case .bool(let flag): hidden ? "a boolean" : String(flag)
    case .number(let text): hidden ? "a number" : "the number \(shorten(text))"
    case .string(let text): hidden || !isAmount(text) ? "a string" : "the string \(quote(text))"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// A text from outside in quotes, escaped and shortened.
  static func quote(_ text: String) -> String {
    "\"" + escaped(shorten(Disclosure.value(text))) + "\""
  }

  /// A path, which may hold keys from outside, escaped and shortened.
  static func printable(_ path: String) -> String {
    escaped(shorten(Disclosure.text(path), to: 4 * shown))
  }

  /// Quotes and what would disturb a terminal or a log are written as escapes.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": result += "\\\(scalar)"
      default: PrintableText.append(scalar, to: &result)
      }
    }
    return result
  }

  private static func shorten(_ text: String, to limit: Int = shown) -> String {
    // By scalars: one character may have any number of combining marks.
    let head = text.unicodeScalars.prefix(limit)
    return head.endIndex == text.unicodeScalars.endIndex ? text : String(head) + "…"
  }
}
