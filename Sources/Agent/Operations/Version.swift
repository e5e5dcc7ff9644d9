/// The version of this connector.
enum Version {
  static let text = "0.2.0-dev"
}
