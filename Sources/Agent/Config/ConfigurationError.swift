/// One thing that is wrong with a configuration, with where and why.
struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
  /// Path of the setting, as written: `tls.client_key`, `bindings[1].exchange`; empty if it is the whole.
  var path: String
  /// A clause without a final period, that fits after the path. Holds no secret.
  var message: String
  /// Where the file says so, if known.
  var location: TextLocation?
  /// Which file says so, if it is another than that of the whole.
  var file: String?

  init(path: String, message: String, location: TextLocation? = nil) {
    self.path = path
    self.message = message
    self.location = location
  }

  var description: String {
    path.isEmpty ? message : "\(ConfigurationWording.printable(path)): \(message)"
  }
}

/// A place in a text; both count from 1.
struct TextLocation: Sendable, Equatable, CustomStringConvertible {
  var line: Int
  var column: Int

  var description: String { "\(line):\(column)" }
}

/// Everything that is wrong with a configuration, not just the first thing.
struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// At least one; of a file in its order, else those of single settings in the table's, then those between settings.
  var problems: [ConfigurationProblem]
  /// Name of the file that the problems are in, if there is one.
  var file: String?

  init(_ problems: [ConfigurationProblem], file: String? = nil) {
    self.problems = problems
    self.file = file
  }

  /// One problem of a file.
  init(file: String, location: TextLocation? = nil, path: String = "", _ message: String) {
    self.init([ConfigurationProblem(path: path, message: message, location: location)], file: file)
  }

  /// A line a problem: `capture.yaml:3:5: port: …`.
  var lines: [String] {
    problems.map { problem in
      var prefix = Disclosure.text(problem.file ?? file ?? "")
      if let location = problem.location { prefix += prefix.isEmpty ? "\(location)" : ":\(location)" }
      return prefix.isEmpty ? problem.description : "\(prefix): \(problem)"
    }
  }

  /// One line, fit for the last line of a log.
  var description: String {
    "invalid configuration: " + lines.joined(separator: "; ")
  }
}
