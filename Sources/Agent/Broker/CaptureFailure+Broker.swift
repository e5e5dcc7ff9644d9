import AMQP

extension CaptureFailure {
  /// The one place where an error of the broker's side is judged.
  init(_ error: AMQPError) {
    let (cause, needsUser, kind) = Self.judge(error)
    self.init(cause: cause, description: error.description, needsUser: needsUser, kind: kind)
  }

  private static func judge(_ error: AMQPError) -> (cause: String, needsUser: Bool, kind: Kind) {
    switch error.kind {
    case .nameNotResolved: return ("name_not_resolved", false, .other)
    case .notConnected: return ("not_connected", false, .other)
    case .timedOut: return ("timed_out", false, .other)
    case .abandoned: return ("abandoned", false, .abandoned)
    case .tls: return ("tls", true, .other)
    case .notAMQP: return ("not_amqp", true, .other)
    case .mechanismNotOffered: return ("mechanism_not_offered", true, .other)
    case .heartbeatsMissed: return ("heartbeats_missed", false, .other)
    case .socket, .endOfStream: return ("connection_lost", false, .other)
    case .malformed: return ("protocol_error", false, .other)
    case .unencodable: return ("unencodable", true, .other)
    case .everyNode(let failures):
      // One node that may come good makes it worth trying again, unless another one refused the login for them all.
      let judged = failures.map { CaptureFailure($0) }
      let decisive = judged.first { $0.kind == .loginRefused } ?? judged.first { !$0.needsUser } ?? judged[0]
      return (decisive.cause, decisive.needsUser, decisive.kind)
    case .connectionClosed(530, let text) where BrokerLimit(text)?.isOfChannels == true:
      return ("channel_limit", false, .channelLimit)
    case .connectionClosed(530, let text) where BrokerLimit(text) != nil: return ("connection_limit", false, .other)
    case .connectionClosed(let code, _):
      // 403 ACCESS_REFUSED (credentials), 530 NOT_ALLOWED (virtual host), 540 NOT_IMPLEMENTED (no_ack on a stream); 320
      // and 541 pass by themselves.
      let kind: Kind = code == 403 ? .loginRefused : code == 541 ? .internalError : .other
      return ("connection_closed_\(code)", [403, 530, 540].contains(code), kind)
    case .channelClosed(let code, let text):
      // 403 permissions, 404 missing, 406 other properties, 540 not implemented by this queue type. What is held
      // exclusively may be held by the connection that we have just lost, and is free again soon; a broker that has
      // just started may still be looking for the node that has the queue.
      let passes =
        code == 405 || code == 406 && Topology.hasNoReplica(text) || code == 403 && Topology.isHeldByConsumer(text)
        || code == 404 && Topology.isUnavailable(text)
      let needsUser = [403, 404, 406, 540].contains(code) && !passes
      return ("channel_closed_\(code)", needsUser, code == 541 ? .internalError : .other)
    }
  }
}
