/// Text that someone else wrote (publishers, brokers, files), as a terminal may show it.
enum PrintableText {
  /// `text` in one line, with all that a terminal obeys or that hides or reorders characters as escapes: control characters (C0,
  /// DEL, C1), format characters such as direction marks, line and paragraph separators. They are written as in Swift: `\n`, `\r`,
  /// `\t`, `\u{202e}`. A backslash stays as it is, since nothing reads this back.
  static func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: mustBeEscaped) else { return text }
    var result = ""
    for scalar in text.unicodeScalars { append(scalar, to: &result) }
    return result
  }

  /// Appends the character, or its escape.
  static func append(_ scalar: Unicode.Scalar, to result: inout String) {
    switch scalar {
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    case _ where mustBeEscaped(scalar): result += "\\u{" + String(scalar.value, radix: 16) + "}"
    default: result.unicodeScalars.append(scalar)
    }
  }

  private static func mustBeEscaped(_ scalar: Unicode.Scalar) -> Bool {
    // Most texts are ASCII, and the tables need not be asked about it.
    if (0x20..<0x7F).contains(scalar.value) { return false }
    return switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }
}
