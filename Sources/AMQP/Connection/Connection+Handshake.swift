internal import Glibc
internal import Platform

extension Connection {
  /// Bytes of a frame that every broker takes before `connection.tune`.
  private static let smallestFirstFrame = 4096

  /// Header, start, tune, open. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §2.2.4
  func handshake(deadline: Instant) throws(AMQPError) {
    output.append(contentsOf: [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1])  // "AMQP", 0, version 0-9-1.
    let start = try step("connecting to \(node.text)", deadline) {
      if case .start(let mechanisms, let server) = $0 { (mechanisms: mechanisms, server: server) } else { nil }
    }
    server = start.server
    hasStarted = true
    let offered = start.mechanisms.split(separator: " ")
    let mechanism = settings.credentials.mechanism
    let user = settings.credentials.shownUsername
    let operation = "authenticating\(user.isEmpty ? "" : " as \"\(user)\"") with \(mechanism)"
    // RabbitMQ drops the connection without a word when it does not know the mechanism, so look first.
    guard offered.contains(Substring(mechanism)) else {
      throw AMQPError(
        .mechanismNotOffered(wanted: mechanism, offered: offered.joined(separator: ", ")), during: operation)
    }
    try send(
      .startOk(properties: clientProperties, mechanism: mechanism, response: settings.credentials.response), channel: 0)
    loginBytes = output.count
    let tune: (channels: UInt16, frame: UInt32, heartbeat: UInt16) = try step(operation, deadline) {
      if case .tune(let channels, let frame, let heartbeat) = $0 { (channels, frame, heartbeat) } else { nil }
    }
    guard tune.frame == 0 || tune.frame >= FrameBuffer.smallestFrame else {
      throw AMQPError(
        .malformed(text: "connection.tune with frame_max \(tune.frame); the least is \(FrameBuffer.smallestFrame)"),
        during: operation)
    }
    // 0 from the broker is no limit.
    let frameMax = tune.frame == 0 ? FrameBuffer.negotiatedFrame : min(tune.frame, FrameBuffer.negotiatedFrame)
    self.frameMax = frameMax
    largestPayload = min(largestPayload, Int(frameMax) - 8)
    // 0 from the broker is no wish of its own; 0 of ours is off.
    heartbeatSeconds = tune.heartbeat == 0 ? settings.heartbeatSeconds : min(settings.heartbeatSeconds, tune.heartbeat)
    // One for each consumer, and one to ask for its queue; 0 from the broker is no limit.
    let allowed = tune.channels == 0 ? .max : tune.channels
    allowsProbe = settings.usesSecondChannel && allowed >= 2 * Int(settings.channels)
    let wanted = min(allowsProbe ? 2 * Int(settings.channels) : Int(settings.channels), Int(allowed))
    try send(
      .tuneOk(channelMax: UInt16(wanted), frameMax: frameMax, heartbeatSeconds: heartbeatSeconds), channel: 0)
    try send(.open(virtualHost: settings.virtualHost), channel: 0)
    try step("opening virtual host \"\(settings.virtualHost)\"", deadline) { $0 == .openOk ? true : nil }
    heartbeat = Heartbeat(intervalSeconds: heartbeatSeconds, at: Instant.now)
  }

  /// Waits for one answer of the handshake and explains its failures.
  @discardableResult
  private func step<Answer>(
    _ operation: String, _ deadline: Instant, accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer {
    do throws(AMQPError) {
      return try answer(on: nil, until: deadline, accept: accept)
    } catch {
      throw AMQPError(explained(error.kind), during: operation)
    }
  }

  /// A peer of another kind shows in its first bytes, or in its silence.
  private func explained(_ kind: AMQPError.Kind) -> AMQPError.Kind {
    let first = Array(input.unread.prefix(8))
    if first.starts(with: Array("AMQP".utf8)) {
      let version = first.dropFirst(4).map(String.init).joined(separator: ".")
      if first.count == 8, first[5] == 1 {
        return .notAMQP(
          hint:
            "it speaks AMQP 1.0, as Azure Service Bus, Event Hubs, ActiveMQ and Artemis do, and source-amqp speaks AMQP 0-9-1"
        )
      }
      return .notAMQP(hint: "it answered with protocol header \(version); AMQP 0-9-1 is 0.0.9.1")
    }
    if first.starts(with: Array("HTTP".utf8)) {
      return .notAMQP(hint: "it answered with HTTP; is this the management port?")
    }
    if first.first == 0x15 { return .notAMQP(hint: "it answered with a TLS alert; set tls.enabled") }
    if case .malformed(let text) = kind, !hasStarted { return .notAMQP(hint: text) }
    let lost: Bool
    switch kind {
    case .endOfStream: lost = true
    case .socket(let code, _): lost = code == ECONNRESET || code == EPIPE
    default: lost = false
    }
    if case .tls = kind { return kind }
    if lost && !hasStarted && settings.tls != nil {
      return .endOfStream(hint: "after the TLS handshake, before it said anything; the broker's log tells why")
    }
    if lost && !hasStarted {
      return .endOfStream(hint: "before it said anything; is this a TLS port, or is a proxy in between?")
    }
    if lost, loginBytes > Self.smallestFirstFrame {
      return .endOfStream(
        hint:
          "during the handshake. The login takes \(loginBytes) bytes with its token or password, and a broker takes only so many before frame "
          + "sizes are agreed on: 4096 before RabbitMQ 4.1, 8192 from there on, unless its initial_frame_max says otherwise. Use a "
          + "token with fewer scopes, or raise initial_frame_max")
    }
    if lost { return .endOfStream(hint: "during the handshake; the broker's log tells why") }
    return kind
  }

  private var clientProperties: ArgumentTable {
    [
      "product": .string("source-amqp"), "platform": .string("Swift"),
      "connection_name": .string(settings.connectionName),
      // Without consumer_cancel_notify the deletion of a queue is silent; without authentication_failure_close a wrong
      // password is a connection that closes without a word. https://www.rabbitmq.com/docs/consumer-cancel
      "capabilities": .table([
        "consumer_cancel_notify": .bool(true), "authentication_failure_close": .bool(true),
        "connection.blocked": .bool(true), "basic.nack": .bool(true),
      ]),
    ]
  }
}

extension Credentials {
  var secret: String? {
    switch self {
    case .plain(_, let password), .amqplain(_, let password): password
    case .external: nil
    }
  }

  /// The answer to `connection.start`. https://www.rabbitmq.com/docs/access-control#mechanisms
  var response: [UInt8] {
    switch self {
    case .plain(let username, let password): return [0] + Array(username.utf8) + [0] + Array(password.utf8)
    case .amqplain(let username, let password):
      // An AMQP table without its length in front.
      return Self.entry("LOGIN", username) + Self.entry("PASSWORD", password)
    case .external: return []
    }
  }

  private static func entry(_ key: String, _ text: String) -> [UInt8] {
    let value = Array(text.utf8)
    let size = unsafe withUnsafeBytes(of: UInt32(value.count).bigEndian) { unsafe Array($0) }
    return [UInt8(key.utf8.count)] + Array(key.utf8) + [UInt8(ascii: "S")] + size + value
  }
}
