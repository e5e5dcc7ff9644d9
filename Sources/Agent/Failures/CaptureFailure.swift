/// Why there is no consumer: an error of the connection, or an end that the broker announced.
struct CaptureFailure: Error, Equatable, CustomStringConvertible {
  /// A short name for logs and metrics, for example `connection_lost`.
  var cause: String
  /// What happened and what to do, in a sentence. What has the shape of credentials is hidden in it.
  var description: String
  /// Trying again cannot help before a user changes something.
  var needsUser: Bool
  /// A disk, a quota or a limit of size is used up: the same may work later, and nothing was changed.
  var isShortage = false

  /// The cause of a failure that the capture itself has asked for.
  static let abandoned = "abandoned"
  /// As many channels as a user or a node may have.
  static let channelLimit = "channel_limit"
  /// The cause of a message that the broker cannot send.
  static let undeliverable = "undeliverable"
  /// The cause of a login that was refused.
  static let loginRefused = "connection_closed_403"

  init(cause: String, description: String, needsUser: Bool) {
    self.cause = cause
    self.description = Disclosure.text(description)
    self.needsUser = needsUser
  }
}
