/// A failure of one AMQP operation. The connection it happened on is over, unless ``Kind/channelClosed(code:text:)``.
public struct AMQPError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What went wrong, one case for each thing that a caller can do something about.
  public enum Kind: Equatable, Sendable {
    /// The host name has no address; `text` is the resolver's.
    case nameNotResolved(text: String)
    /// No address answered; one `text` for each address tried, with its errno in words.
    case notConnected(text: String)
    /// Nothing came before the deadline.
    case timedOut
    /// TLS could not be set up: a certificate, a key, or the handshake. `text` has the cause and the setting.
    case tls(text: String)
    /// The peer does not speak AMQP 0-9-1; `hint` says what it seems to be.
    case notAMQP(hint: String)
    /// The broker does not offer the authentication mechanism that was asked for.
    case mechanismNotOffered(wanted: String, offered: String)
    /// `connection.close` as the broker sent it, for example 403 or 530 during the handshake, 320 at a shutdown.
    case connectionClosed(code: UInt16, text: String)
    /// `channel.close` as the broker sent it, for example 404 for an exchange that does not exist.
    case channelClosed(code: UInt16, text: String)
    /// Nothing was heard for two heartbeat intervals.
    case heartbeatsMissed(intervalSeconds: UInt16)
    /// The operating system refused to read or write; `code` is the errno.
    case socket(code: Int32, text: String)
    /// The broker closed the TCP connection without a word.
    case endOfStream(hint: String)
    /// Bytes that are no AMQP 0-9-1, or a method that does not belong here.
    case malformed(text: String)
    /// No node of a cluster could be used; one failure for each that was tried, which names it.
    case everyNode([AMQPError])
    /// An argument of ours that cannot be encoded.
    case unencodable(text: String)
    /// ``ConnectionSettings/isAbandoned`` has said that no one waits for this any more.
    case abandoned
  }

  /// What went wrong; decides between reconnecting, retrying and stopping.
  public let kind: Kind
  /// What was being done, for example `declaring queue "orders"`.
  public let operation: String

  public init(_ kind: Kind, during operation: String) {
    self.kind = kind
    self.operation = operation
  }

  /// One line for a log: the operation first, then the cause. Never holds credentials or message bodies.
  public var description: String { "\(operation): \(cause)" }

  /// The cause alone, in words.
  public var cause: String {
    switch kind {
    case .nameNotResolved(let text): "the host name could not be resolved: \(text)"
    case .notConnected(let text): "no connection: \(text)"
    case .timedOut: "no answer in time"
    case .abandoned: "given up before an answer came"
    case .tls(let text): "TLS: \(text)"
    case .notAMQP(let hint): "the peer does not speak AMQP 0-9-1: \(hint)"
    case .mechanismNotOffered(let wanted, let offered):
      "the broker does not offer the authentication mechanism \(wanted); it offers \(offered)"
    case .connectionClosed(let code, let text): "the broker closed the connection: \(code) \(text)"
    case .channelClosed(let code, let text): "the broker closed the channel: \(code) \(text)"
    case .heartbeatsMissed(let interval):
      "nothing was heard from the broker for two heartbeat intervals (2 × \(interval) s)"
    case .socket(let code, let text): "the socket failed: \(text) (errno \(code))"
    case .endOfStream(let hint): "the broker closed the TCP connection\(hint.isEmpty ? "" : ": \(hint)")"
    case .malformed(let text): "the broker sent what is no AMQP 0-9-1: \(text)"
    case .everyNode(let failures): failures.map(\.description).joined(separator: "; ")
    case .unencodable(let text): "cannot be sent: \(text)"
    }
  }
}
