/// The README's table of settings.
extension SettingsTable {
  /// One line a row: path, type with its range, default, meaning. Ends with a newline.
  static var markdown: String {
    var text = "| setting | type | default | meaning |\n|---|---|---|---|\n"
    for row in rows {
      let cells = ["`\(row.path)`", type(of: row.setting), standard(of: row.setting), meaning(of: row.setting)]
      text += "| " + cells.map(escaped).joined(separator: " | ") + " |\n"
    }
    return text
  }

  private static func type(of setting: Setting) -> String {
    switch setting.kind {
    case .text: setting.secret ? "string, secret" : "string"
    case .texts: "array of strings"
    case .integer(let range): "integer, \(whole(range.lowerBound)) to \(whole(range.upperBound))"
    case .number(let range): "number, \(plain(range.lowerBound)) to \(plain(range.upperBound))"
    case .boolean: "boolean"
    case .choice(let choices): choices.map { "`\($0.value)`" }.joined(separator: ", ")
    case .streamOffset: "`first`, `last`, `next`, an offset, a date-time, an interval"
    case .table: "object"
    }
  }

  private static func standard(of setting: Setting) -> String {
    switch setting.presence {
    case .required: "required"
    case .value(.string(let text)): "`\(text)`"
    case .value(.number(let text)): Int(text).map(whole) ?? text
    case .value(.bool(let flag)): String(flag)
    // No row has a default of another type.
    case .value: ""
    case .derived(let text): text
    case .absent: "–"
    }
  }

  /// An integer, with its size in binary units where it is a round one: `16777216 (16 MiB)`.
  private static func whole(_ number: Int) -> String {
    let units = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB")]
    guard number > 0, let unit = units.first(where: { number % (1 << $0.0) == 0 }) else { return String(number) }
    return "\(number) (\(number >> unit.0) \(unit.1))"
  }

  private static func meaning(of setting: Setting) -> String {
    guard case .choice(let choices) = setting.kind else { return setting.description }
    return ([setting.description] + choices.map { "`\($0.value)`: \($0.description)" }).joined(separator: " ")
  }

  /// A vertical bar would end the cell.
  private static func escaped(_ text: String) -> String {
    text.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
  }
}
