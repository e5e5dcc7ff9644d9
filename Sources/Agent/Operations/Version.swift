import CVersion

/// The version of this connector.
enum Version {
  static let text = "0.2.0-dev"

  /// The same with the commit that it was built from, as far as that is known.
  static var full: String {
    // A text of the program, which lives for ever.
    let commit = unsafe String(cString: source_amqp_commit())
    return commit.isEmpty ? text : "\(text) (\(commit.prefix(12)))"
  }
}
