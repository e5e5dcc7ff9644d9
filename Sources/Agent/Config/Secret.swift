/// A string that must not be shown: its description, its reflection and its debug output hide it.
struct Secret: Sendable, Equatable {
  /// The secret itself, for the one place that needs it (the handshake).
  let value: String

  init(_ value: String) {
    self.value = value
  }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// What stands in the secret's place.
  static let hidden = "(secret)"

  var description: String { Secret.hidden }
  var debugDescription: String { Secret.hidden }
  var customMirror: Mirror { Mirror(self, children: []) }
}

/// A certificate, a chain or a key, given by file path or as PEM text.
enum PEMSource: Sendable, Equatable {
  /// A path, read when the connection is made, so that renewed certificates take effect with the next one.
  case file(String)
  /// The PEM text itself.
  case text(Secret)

  /// What tells PEM text from a path.
  static let marker = "-----BEGIN"

  /// - Parameter setting: The setting's value; PEM text exactly if it contains `-----BEGIN`.
  init(_ setting: String) {
    self = setting.contains(PEMSource.marker) ? .text(Secret(setting)) : .file(setting)
  }
}
