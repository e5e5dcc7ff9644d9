@testable import Agent

/// What a configuration's text becomes: its value, or its problems a line each.
enum ConfigSupport {
  static func parse(_ text: String) throws -> EndpointConfiguration {
    try EndpointConfiguration.parse(JSONValue.parse(text))
  }

  /// The problems of a configuration, none if it is valid.
  static func problems(_ value: JSONValue, hidden: Set<String> = []) -> [String] {
    do {
      _ = try EndpointConfiguration.parse(value, hidden: hidden)
      return []
    } catch {
      return error.lines
    }
  }

  static func problems(_ text: String) throws -> [String] {
    problems(try JSONValue.parse(text))
  }

  /// The smallest valid configuration with `value` at `path`; `[]` becomes the only item of its list.
  static func configuration(with value: JSONValue, at path: String) -> JSONValue {
    var root = JSONObject()
    root["queue"] = .object(JSONObject(members: [.init(key: "name", value: .string("orders"))]))
    set(value, at: path.split(separator: ".").map(String.init)[...], in: &root)
    return .object(root)
  }

  private static func set(_ value: JSONValue, at path: ArraySlice<String>, in object: inout JSONObject) {
    guard let first = path.first else { return }
    let rest = path.dropFirst()
    if first.hasSuffix("[]") {
      var item = JSONObject(members: [.init(key: "exchange", value: .string("events"))])
      set(value, at: rest, in: &item)
      object[String(first.dropLast(2))] = .array([.object(item)])
    } else if rest.isEmpty {
      object[first] = value
    } else {
      var inner = JSONObject()
      if case .object(let existing) = object[first] { inner = existing }
      set(value, at: rest, in: &inner)
      object[first] = .object(inner)
    }
  }

  /// A valid value of the setting other than its default, where it has another.
  static func other(_ setting: Setting) -> JSONValue {
    switch setting.kind {
    case .text: .string("other")
    case .texts: .array([.string("other"), .string("third:5673")])
    case .integer(let range): .number(String(range.lowerBound + 7))
    case .number(let range): .number(String(range.lowerBound + 0.5))
    case .boolean: setting.presence == .value(.bool(true)) ? .bool(false) : .bool(true)
    case .choice(let choices): .string(choices.last?.value ?? "")
    case .streamOffset: .string("next")
    case .table: .object(JSONObject(members: [.init(key: "x-other", value: .number("12345678901234567"))]))
    }
  }

  /// Inputs of a made-up process.
  static func inputs(
    environment: [String: String] = [:], files: [String: String] = [:]
  ) -> ConfigurationInputs {
    ConfigurationInputs(
      environment: { environment[$0] },
      contents: { path in
        files[path].map { .success($0) } ?? .failure(.init(reason: "No such file or directory"))
      })
  }

  /// Lines of the problems of a file, none if it is valid.
  static func problems(
    file text: String, name: String = "c.yaml", capture: String? = nil,
    inputs: ConfigurationInputs = ConfigSupport.inputs()
  ) -> [String] {
    do {
      _ = try ConfigurationFile.load(text: text, name: name, capture: capture, inputs: inputs)
      return []
    } catch {
      return error.lines
    }
  }
}

/// The one subscription of most tests.
extension ConfigurationFile {
  var configuration: EndpointConfiguration { settings.subscriptions[0].configuration }
  var stream: String { settings.subscriptions[0].stream }
}

extension EndpointConfiguration {
  /// Of a configuration with one queue.
  static func parse(_ value: JSONValue, hidden: Set<String> = []) throws(ConfigurationError) -> EndpointConfiguration {
    try CaptureConfiguration.parse(value, resources: .own, hidden: hidden).subscriptions[0].configuration
  }
}
