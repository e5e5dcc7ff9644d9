import Testing

@testable import Agent

/// Secrets stay out of everything that is shown.
struct ConfigSecretTests {
  static let mark = "hunter2MARK"

  /// Shapes that a secret may be put into by mistake.
  static let shapes: [JSONValue] = [
    .string(mark), .string("\(mark)\0"), .string("-----BEGIN \(mark)"), .string("\(mark)\nline"),
    .string(String(repeating: mark, count: 2000)), .array([.string(mark)]), .array([.object(["value": .string(mark)])]),
    .object(["value": .string(mark)]), .number("77777777777777777777"), .bool(true), .null,
  ]

  /// Everything that could be shown about a configuration.
  private func shown(_ value: JSONValue, hidden: Set<String> = []) -> String {
    do throws(ConfigurationError) {
      let configuration = try EndpointConfiguration.parse(value, hidden: hidden)
      var dumped = ""
      dump(configuration.password, to: &dumped)
      dump(configuration.tls.clientKey, to: &dumped)
      return "\(configuration) \(configuration.warnings) \(dumped) " + String(reflecting: configuration)
    } catch {
      return "\(error) \(error.lines) " + String(reflecting: error)
    }
  }

  @Test(arguments: ["password", "tls.client_key", "tls"], shapes)
  func `a secret's value is in no problem and no description, whatever its shape`(path: String, shape: JSONValue) {
    // A path to a key is no secret, and is told where it cannot be read.
    let isPath = path == "tls.client_key" && shape == .string(Self.mark)
    var value = ConfigSupport.configuration(with: shape, at: path)
    if path == "tls.client_key", case .object(var root) = value, case .object(var tls) = root["tls"] {
      tls["client_cert"] = "c"
      root["tls"] = .object(tls)
      value = .object(root)
    }
    let text = shown(value)
    #expect(!text.contains("77777"))
    if !isPath { #expect(!text.contains("hunter2"), "\(text)") }
  }

  @Test(arguments: SettingsTable.rows.map(\.path), shapes)
  func `a value that came from outside is in no problem, wherever it was put`(path: String, shape: JSONValue) throws {
    guard case .string = shape else { return }
    let value = ConfigSupport.configuration(with: shape, at: path)
    let actual = path.split(separator: "[]").joined(separator: "[0]")
    let problems = ConfigSupport.problems(value, hidden: [actual])
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
  }

  @Test func `a whole configuration that is a string is not shown`() {
    #expect(!shown(.string(Self.mark)).contains("hunter2"))
  }

  @Test(
    arguments: [
      "password: [hunter2MARK", "password: 'hunter2MARK", "password: hunter2MARK: x\n", "\tpassword: hunter2MARK",
      "password: *hunter2MARK", "password: !hunter2MARK x", "queue: {name: q}\npassword: {hunter2MARK}x",
      "password: \"hunter2MARK\\q\"", #"{"password": "hunter2MARK" "x"}"#, "- hunter2MARK", "hunter2MARK",
      "password: hunter2MARK\u{1}",
    ], ["c.yaml", "c.json"])
  func `a file that cannot be read as JSON or YAML does not show its lines`(text: String, name: String) {
    let problems = ConfigSupport.problems(file: text, name: name)
    #expect(!problems.isEmpty)
    #expect(!problems.joined().contains("hunter2"), "\(problems)")
  }
}
