/// Typed access to values that passed every check.
///
/// A missing or mistyped value here is a row that the table and `EndpointConfiguration` disagree on, a broken invariant
/// that every single parse would meet; it traps.
struct CheckedValues {
  private let values: [String: SettingValue]

  init(_ values: [String: SettingValue]) {
    self.values = values
  }

  func optionalText(_ path: String) -> String? {
    guard case .text(let text) = values[path] else { return nil }
    return text
  }

  func optionalInteger(_ path: String) -> Int? {
    guard case .integer(let number) = values[path] else { return nil }
    return number
  }

  func text(_ path: String) -> String {
    guard let text = optionalText(path) else { preconditionFailure("\(path) is no text row with a value") }
    return text
  }

  func texts(_ path: String) -> [String] {
    guard case .texts(let texts) = values[path] else { return [] }
    return texts
  }

  func integer(_ path: String) -> Int {
    guard let number = optionalInteger(path) else { preconditionFailure("\(path) is no integer row with a value") }
    return number
  }

  func flag(_ path: String) -> Bool {
    guard case .flag(let flag) = values[path] else { preconditionFailure("\(path) is no boolean row with a value") }
    return flag
  }

  func seconds(_ path: String) -> Duration {
    guard case .number(let number) = values[path] else { preconditionFailure("\(path) is no number row with a value") }
    return .seconds(number)
  }

  func table(_ path: String) -> JSONObject {
    guard case .table(let table) = values[path] else { return JSONObject() }
    return table
  }

  func optionalPEM(_ path: String) -> PEMSource? {
    optionalText(path).map { PEMSource($0) }
  }

  func optionalChoice<Value: RawRepresentable<String>>(_ path: String) -> Value? {
    guard let text = optionalText(path) else { return nil }
    guard let value = Value(rawValue: text) else {
      preconditionFailure("\(path) has a choice that \(Value.self) lacks")
    }
    return value
  }

  func choice<Value: RawRepresentable<String>>(_ path: String) -> Value {
    guard let value: Value = optionalChoice(path) else { preconditionFailure("\(path) is no choice row with a value") }
    return value
  }
}
