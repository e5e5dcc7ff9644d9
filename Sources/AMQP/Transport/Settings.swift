/// Where to connect to: a broker of one node, or a node of a cluster.
public struct BrokerNode: Sendable, Hashable {
  /// Host name, IPv4 address, or IPv6 address without brackets.
  public var host: String
  /// TCP port, 1–65535.
  public var port: Int

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// `host:port` for messages, with an IPv6 address in brackets.
  public var text: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// How to reach a broker and who to be there.
public struct ConnectionSettings: Sendable {
  /// The broker's nodes in the order to try; at least one.
  public var nodes: [BrokerNode]
  /// Virtual host, taken literally.
  public var virtualHost: String
  /// Who connects, and by which mechanism.
  public var credentials: Credentials
  /// Nil for plain TCP.
  public var tls: TLSSettings?
  /// Wished heartbeat interval in seconds; 0 asks for none. The lower of both sides' wishes counts.
  public var heartbeatSeconds: UInt16
  /// Limit of the whole of TCP, TLS and AMQP handshake with all nodes together, and of every later call to the broker.
  public var timeout: Duration
  /// Shown by the broker's management as the connection's name.
  public var connectionName: String
  /// How many channels are opened for consumers (``Connection/openChannel()``).
  public var channels: UInt16 = 1
  /// One read from the socket takes up to this many bytes, at least 4096; twice as many are kept for the connection.
  public var readSize = 256 << 10
  /// The broker is asked for a queue on another channel than the consumer's (``AMQPChannel/ask(for:)``); else, and if it does not allow
  /// twice as many, on the consumer's own.
  public var usesSecondChannel = true
  /// Which bodies are not kept whole.
  public var bodyLimit = BodyLimit.none
  /// Asked four times a second while the connection is made and set up, until ``AMQPChannel/consume(_:tag:)`` has returned: true
  /// ends that with `.abandoned`.
  public var isAbandoned: @Sendable () -> Bool = { false }

  /// - Precondition: `nodes` is not empty.
  public init(
    nodes: [BrokerNode], virtualHost: String = "/", credentials: Credentials, tls: TLSSettings? = nil,
    heartbeatSeconds: UInt16 = 60, timeout: Duration = .seconds(30), connectionName: String = "source-amqp"
  ) {
    precondition(!nodes.isEmpty, "a broker has at least one node")
    self.nodes = nodes
    self.virtualHost = virtualHost
    self.credentials = credentials
    self.tls = tls
    self.heartbeatSeconds = heartbeatSeconds
    self.timeout = timeout
    self.connectionName = connectionName
  }
}

/// Who we say we are. https://www.rabbitmq.com/docs/access-control#mechanisms
public enum Credentials: Sendable {
  case plain(username: String, password: String)
  case amqplain(username: String, password: String)
  /// The broker takes the identity from the TLS client certificate.
  case external

  /// The mechanism's name on the wire.
  public var mechanism: String {
    switch self {
    case .plain: "PLAIN"
    case .amqplain: "AMQPLAIN"
    case .external: "EXTERNAL"
    }
  }

  /// The user name for messages; empty for `external`, whose name is in the certificate. What stands after a colon is
  /// left out, since `user:password` is a common mistake.
  var shownUsername: String {
    switch self {
    case .plain(let username, _), .amqplain(let username, _):
      username.firstIndex(of: ":").map { username[..<$0] + ":…" } ?? username
    case .external: ""
    }
  }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// Mechanism and user, never the secret.
  public var description: String { shownUsername.isEmpty ? mechanism : "\(mechanism) as \"\(shownUsername)\"" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

/// What TLS is to verify and to present. Everything is PEM text, already read from its file.
public struct TLSSettings: Sendable {
  /// Verify chain and host name.
  public var verify: Bool
  /// The name to verify and to send as SNI; an IP address is verified as one, and not sent. Nil is the name of the node
  /// that is connected to.
  public var serverName: String?
  /// Certificates to trust; nil trusts the system's store.
  public var trustedCertificates: String?
  /// Our certificate, then the rest of its chain.
  public var certificateChain: String?
  /// The private key of our certificate.
  public var privateKey: String?

  public init(
    verify: Bool = true, serverName: String? = nil, trustedCertificates: String? = nil, certificateChain: String? = nil,
    privateKey: String? = nil
  ) {
    self.verify = verify
    self.serverName = serverName
    self.trustedCertificates = trustedCertificates
    self.certificateChain = certificateChain
    self.privateKey = privateKey
  }
}
