/// Why a value is no value of a setting.
struct SettingRefusal: Error, Equatable {
  /// What follows the setting's path, if the trouble lies inside of a table: `.x-queue-type`.
  var within = ""
  var message: String
}

/// The checks of single values, by kind.
enum SettingCheck {
  static func text(_ value: JSONValue, _ rule: TextRule, hidden: Bool) -> Result<SettingValue, SettingRefusal> {
    guard case .string(let text) = value else {
      // YAML reads `password: 1234` as a number.
      let hint: String? =
        switch value {
        case .number, .bool: "put it in quotes"
        case .null, .string, .array, .object: nil
        }
      return refuse(ConfigurationWording.wrongType(value, expected: "a string", hint: hint, hidden: hidden))
    }
    if text.unicodeScalars.contains("\0") { return refuse(ConfigurationWording.nul) }
    let count = text.utf8.count
    if count < rule.bytes.lowerBound { return refuse("must not be empty") }
    let limit = longest(of: text, rule)
    if count > limit { return refuse("has \(count) bytes, which is more than \(limit)") }
    switch rule.form {
    case .free:
      break
    case .any:
      if Disclosure.holdsCredentials(text) { return refuse(ConfigurationWording.credentials) }
    case .host(let role):
      do throws(HostAddress.Problem) {
        let address = try HostAddress(text)
        if role != .node, address.port != nil { return refuse(HostAddress.Problem.port.advice(for: role)) }
        if Disclosure.holdsCredentials(text) { return refuse(ConfigurationWording.credentials) }
        // Brackets are for people and for what follows them.
        return .success(.text(role == .node ? text : address.name))
      } catch {
        return refuse(error.advice(for: role))
      }
    case .pem:
      if !text.contains(PEMSource.marker), text.contains(where: \.isNewline) {
        return refuse("has line breaks, so it is no file path, but no line with \(PEMSource.marker) either")
      }
    }
    if rule.isOneLine, text.utf8.contains(where: { $0 == 0x0A || $0 == 0x0D }) {
      return refuse(ConfigurationWording.lineBreak)
    }
    return .success(.text(text))
  }

  /// - Parameter hidden: Whether the value of this index must not be shown.
  static func texts(
    _ value: JSONValue, _ rule: TextRule, hidden: (Int) -> Bool
  ) -> Result<SettingValue, SettingRefusal> {
    guard case .array(let elements) = value else {
      return refuse(ConfigurationWording.wrongType(value, expected: "an array of strings", hidden: hidden(0)))
    }
    var texts: [String] = []
    for (index, element) in elements.enumerated() {
      switch text(element, rule, hidden: hidden(index)) {
      case .success(.text(let text)): texts.append(text)
      case .success: break
      case .failure(let refusal): return .failure(SettingRefusal(within: "[\(index)]", message: refusal.message))
      }
    }
    return .success(.texts(texts))
  }

  /// A path is bounded by the system, PEM text by the rule.
  private static func longest(of text: String, _ rule: TextRule) -> Int {
    rule.form == .pem && !text.contains(PEMSource.marker) ? TextRule.path.bytes.upperBound : rule.bytes.upperBound
  }

  /// - Parameter unit: What it counts, if a text with a unit is taken, too.
  static func integer(
    _ value: JSONValue, _ range: ClosedRange<Int>, _ unit: Setting.Unit?, hidden: Bool
  ) -> Result<SettingValue, SettingRefusal> {
    let (lower, upper) = (String(range.lowerBound), String(range.upperBound))
    if let amount = amount(value, unit) {
      let text = value.stringValue ?? ""
      guard let number = Int(exactly: amount) else {
        return refuse(ConfigurationWording.amountNotWhole(text, unit: name(of: unit), hidden: hidden))
      }
      guard range.contains(number) else {
        let (least, most) =
          unit == .bytes
          ? (Quantity.size(Int64(range.lowerBound)), Quantity.size(Int64(range.upperBound))) : (lower, upper)
        return refuse(
          ConfigurationWording.amountOutOfRange(
            text, unit: "a whole number of \(name(of: unit))", from: least, to: most, hidden: hidden))
      }
      return .success(.integer(number))
    }
    guard case .number(let text) = value else {
      let expected = "a whole number from \(lower) to \(upper)\(SettingsTable.taken(unit))"
      return refuse(
        ConfigurationWording.wrongType(value, expected: expected, hint: unquote(value), hidden: hidden))
    }
    let whole = wholeNumber(text)
    guard isInteger(text) || whole != nil else {
      return refuse(ConfigurationWording.notWhole(text, from: lower, to: upper, hidden: hidden))
    }
    guard let number = whole, range.contains(number) else {
      return refuse(
        ConfigurationWording.outOfRange(text, unit: "a whole number", from: lower, to: upper, hidden: hidden))
    }
    return .success(.integer(number))
  }

  /// - Parameter unit: What it counts, if a text with a unit is taken, too.
  static func number(
    _ value: JSONValue, _ range: ClosedRange<Double>, _ unit: Setting.Unit?, hidden: Bool
  ) -> Result<SettingValue, SettingRefusal> {
    let (lower, upper) = (SettingsTable.plain(range.lowerBound), SettingsTable.plain(range.upperBound))
    if let amount = amount(value, unit) {
      guard range.contains(amount) else {
        return refuse(
          ConfigurationWording.amountOutOfRange(
            value.stringValue ?? "", unit: "a number of \(name(of: unit))", from: lower, to: upper, hidden: hidden))
      }
      return .success(.number(amount))
    }
    guard case .number(let text) = value else {
      let expected = "a number from \(lower) to \(upper)\(SettingsTable.taken(unit))"
      return refuse(
        ConfigurationWording.wrongType(value, expected: expected, hint: unquote(value), hidden: hidden))
    }
    guard let number = Double(text), range.contains(number) else {
      return refuse(ConfigurationWording.outOfRange(text, unit: "a number", from: lower, to: upper, hidden: hidden))
    }
    return .success(.number(number))
  }

  /// What a text with a unit means in the setting's own; nil if it is none, or if the setting has no unit.
  private static func amount(_ value: JSONValue, _ unit: Setting.Unit?) -> Double? {
    // Of digits alone no one knows which unit was meant.
    guard case .string(let text) = value, text.last?.isLetter == true else { return nil }
    switch unit {
    case .bytes: return Amount.bytes(text).map(Double.init)
    case .seconds: return Amount.seconds(text)
    case .milliseconds:
      // 1.1 s are 1100.0000000000002 ms.
      return Amount.seconds(text).map { $0 * 1000 }.map { abs($0 - $0.rounded()) < 1e-6 ? $0.rounded() : $0 }
    case nil: return nil
    }
  }

  private static func name(of unit: Setting.Unit?) -> String {
    switch unit {
    case .bytes: "bytes"
    case .seconds: "seconds"
    case .milliseconds: "milliseconds"
    case nil: ""
    }
  }

  static func boolean(_ value: JSONValue, hidden: Bool) -> Result<SettingValue, SettingRefusal> {
    guard case .bool(let flag) = value else {
      var hint: String?
      // YAML 1.1 read these as booleans, 1.2 does not.
      if case .string(let text) = value, !hidden {
        switch text.lowercased() {
        case "yes", "on", "true": hint = "write true"
        case "no", "off", "false": hint = "write false"
        default: break
        }
      }
      return refuse(ConfigurationWording.wrongType(value, expected: "true or false", hint: hint, hidden: hidden))
    }
    return .success(.flag(flag))
  }

  static func choice(_ value: JSONValue, _ choices: [String], hidden: Bool) -> Result<SettingValue, SettingRefusal> {
    guard case .string(let text) = value else {
      let list = choices.map(ConfigurationWording.quote).joined(separator: ", ")
      return refuse(ConfigurationWording.wrongType(value, expected: "one of \(list)", hidden: hidden))
    }
    guard choices.contains(text) else {
      return refuse(ConfigurationWording.notChoice(text, of: choices, hidden: hidden))
    }
    return .success(.text(text))
  }

  static func streamOffset(_ value: JSONValue, hidden: Bool) -> Result<SettingValue, SettingRefusal> {
    let expected =
      "first, last, next, an offset of 0 or more, a date-time such as 2026-01-31T12:00:00Z, or an interval such as 1h"
    switch value {
    case .string(let text) where StreamStart(text: text) != nil: return .success(.text(text))
    case .number(let text):
      if let offset = wholeNumber(text), offset >= 0 { return .success(.text(String(offset))) }
      return refuse(ConfigurationWording.wrongType(value, expected: expected, hidden: hidden))
    case .string, .null, .bool, .array, .object:
      return refuse(ConfigurationWording.wrongType(value, expected: expected, hidden: hidden))
    }
  }

  // MARK: Tables

  /// Deepest nesting of tables and arrays in arguments: the encoder recurses, and no broker argument needs more.
  static let deepest = 16
  /// Most bytes of a table: a method and all its arguments go in one frame, of 128 KiB as brokers are set up.
  static let largest = 64 << 10

  static func table(_ value: JSONValue, hidden: Bool) -> Result<SettingValue, SettingRefusal> {
    guard case .object(let object) = value else {
      return refuse(ConfigurationWording.wrongType(value, expected: "an object", hidden: hidden))
    }
    if let refusal = refusal(of: value, at: "", depth: 0, hidden: hidden) { return .failure(refusal) }
    let bytes = encodedSize(of: value)
    guard bytes <= largest else {
      return refuse("takes \(bytes) bytes, which is more than \(largest): it has to fit a frame")
    }
    return .success(.table(object))
  }

  /// Bytes of a field value (AMQP 0-9-1, 4.2.5.1, with RabbitMQ's types), its type included.
  private static func encodedSize(of value: JSONValue) -> Int {
    switch value {
    case .null: 1
    case .bool: 2
    case .number: 9
    case .string(let text): 5 + text.utf8.count
    case .array(let elements): elements.reduce(5) { $0 + encodedSize(of: $1) }
    case .object(let object): object.members.reduce(5) { $0 + 1 + $1.key.utf8.count + encodedSize(of: $1.value) }
    }
  }

  /// The first thing in an AMQP argument that cannot be sent.
  private static func refusal(of value: JSONValue, at within: String, depth: Int, hidden: Bool) -> SettingRefusal? {
    guard depth <= deepest else {
      return SettingRefusal(within: within, message: "is nested more than \(deepest) levels deep")
    }
    switch value {
    case .null, .bool, .string:
      return nil
    case .number(let text):
      if isInteger(text) ? Int64(text) != nil : Double(text)?.isFinite == true { return nil }
      let shown = hidden ? "the value" : ConfigurationWording.describe(value, hidden: false)
      return SettingRefusal(
        within: within, message: "\(shown) fits neither a signed 64-bit integer nor a double; use a string")
    case .array(let elements):
      for (index, element) in elements.enumerated() {
        let found = refusal(of: element, at: "\(within)[\(index)]", depth: depth + 1, hidden: hidden)
        if let found { return found }
      }
      return nil
    case .object(let object):
      for member in object.members {
        let count = member.key.utf8.count
        // Field names are short strings; an empty one breaks other clients' decoders.
        if count == 0 { return SettingRefusal(within: within, message: "has an empty key") }
        if count > 255 {
          return SettingRefusal(within: within, message: "has a key of \(count) bytes, which is more than 255")
        }
        if member.key.unicodeScalars.contains("\0") {
          return SettingRefusal(within: within, message: "has a key that \(ConfigurationWording.nul)")
        }
        let found = refusal(of: member.value, at: "\(within).\(member.key)", depth: depth + 1, hidden: hidden)
        if let found { return found }
      }
      return nil
    }
  }

  /// Whether a JSON number's text has neither point nor exponent.
  static func isInteger(_ text: String) -> Bool {
    var digits = text.utf8[...]
    if digits.first == UInt8(ascii: "-") { digits = digits.dropFirst() }
    return !digits.isEmpty && digits.allSatisfy { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
  }

  /// The whole number that a JSON number's text stands for: templates and protobuf's JSON write `5672.0` as well. Beyond
  /// 2^53, where doubles are no longer exact, only digits alone are one.
  private static func wholeNumber(_ text: String) -> Int? {
    Int(text) ?? Double(text).flatMap { $0.magnitude <= 0x1p53 ? Int(exactly: $0) : nil }
  }

  private static func unquote(_ value: JSONValue) -> String? {
    guard case .string(let text) = value, Double(text) != nil else { return nil }
    return "leave out the quotes"
  }

  private static func refuse(_ message: String) -> Result<SettingValue, SettingRefusal> {
    .failure(SettingRefusal(message: message))
  }
}
