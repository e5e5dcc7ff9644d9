import AMQP

extension CaptureFailure {
  /// The one place where an error of the broker's side is judged.
  init(_ error: AMQPError) {
    description = Disclosure.text(error.description)
    switch error.kind {
    case .nameNotResolved: (cause, needsUser) = ("name_not_resolved", false)
    case .notConnected: (cause, needsUser) = ("not_connected", false)
    case .timedOut: (cause, needsUser) = ("timed_out", false)
    case .abandoned: (cause, needsUser) = (Self.abandoned, false)
    case .tls: (cause, needsUser) = ("tls", true)
    case .notAMQP: (cause, needsUser) = ("not_amqp", true)
    case .mechanismNotOffered: (cause, needsUser) = ("mechanism_not_offered", true)
    case .heartbeatsMissed: (cause, needsUser) = ("heartbeats_missed", false)
    case .socket, .endOfStream: (cause, needsUser) = ("connection_lost", false)
    case .malformed: (cause, needsUser) = ("protocol_error", false)
    case .unencodable: (cause, needsUser) = ("unencodable", true)
    case .everyNode(let failures):
      // One node that may come good makes it worth trying again, unless another one refused the login for them all.
      let judged = failures.map { CaptureFailure($0) }
      let decisive = judged.first { $0.cause == Self.loginRefused } ?? judged.first { !$0.needsUser } ?? judged[0]
      (cause, needsUser) = (decisive.cause, decisive.needsUser)
    case .connectionClosed(530, let text) where BrokerLimit(text) != nil:
      (cause, needsUser) = (BrokerLimit(text)?.isOfChannels == true ? Self.channelLimit : "connection_limit", false)
    case .connectionClosed(let code, _):
      cause = "connection_closed_\(code)"
      // 403 ACCESS_REFUSED (credentials), 530 NOT_ALLOWED (virtual host), 540 NOT_IMPLEMENTED (no_ack on a stream); 320
      // and 541 pass by themselves.
      needsUser = [403, 530, 540].contains(code)
    case .channelClosed(let code, let text):
      cause = "channel_closed_\(code)"
      // 403 permissions, 404 missing, 406 other properties, 540 not implemented by this queue type. What is held
      // exclusively may be held by the connection that we have just lost, and is free again soon; a broker that has
      // just started may still be looking for the node that has the queue.
      let passes =
        code == 405 || code == 406 && Topology.hasNoReplica(text) || code == 403 && Topology.isHeldByConsumer(text)
        || code == 404 && Topology.isUnavailable(text)
      needsUser = [403, 404, 406, 540].contains(code) && !passes
    }
  }
}
