import AMQP
import Journal

// What the broker says or does, judged and put into words for the person who must act. The rest of the wording is in `Failures`.

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

extension Topology {
  /// The failure in words that say which setting to change.
  func explained(_ error: AMQPError) -> CaptureFailure {
    var failure = CaptureFailure(error)
    if let advice = advice(for: error) {
      // Some of the broker's texts end in a period.
      failure.description += failure.description.hasSuffix(".") ? " \(advice)" : ". \(advice)"
    }
    // The broker's texts are its own, and may quote anything.
    failure.description = Disclosure.text(failure.description, hiding: logins.newest.password)
    return failure
  }

  private func advice(for error: AMQPError) -> String? {
    switch error.kind {
    case .connectionClosed(403, _) where configuration.authType == .external:
      "The broker takes the user name from the certificate in tls.client_cert, and must have such a user"
    case .mechanismNotOffered where configuration.authType == .external:
      "Enable the broker's plugin rabbitmq_auth_mechanism_ssl and its auth_mechanisms EXTERNAL, or change auth_type"
    case .connectionClosed(403, _) where configuration.username == "guest" && !isLocal:
      "Check username, password and auth_type: RabbitMQ lets the user guest in from its own machine only, so make a user for the capture"
    case .connectionClosed(403, _): "Check username, password and auth_type"
    case .connectionClosed(530, let text) where BrokerLimit(text) != nil: BrokerLimit(text)?.advice
    case .connectionClosed(530, let text) where text.contains("New secret was refused"):
      "The broker does not take the password or token that was written into its file meanwhile"
    case .connectionClosed(530, _) where configuration.virtualHostIsEncoded:
      "Set virtual_host: / for the default virtual host: the setting is taken literally, and %2F stands for / only in an "
        + "amqp:// address"
    case .connectionClosed(530, _): "Check virtual_host, and that the user may use it"
    case .mechanismNotOffered: "Change auth_type, or the broker's auth_mechanisms"
    case .connectionClosed(540, _), .channelClosed(540, _):
      "Queues of this type cannot do that: check consumer.no_ack, consumer.exclusive and queue.arguments"
    case .channelClosed(403, let text) where Self.isHeldByConsumer(text):
      "Another consumer has exclusive access to the queue"
    case .channelClosed(403, _):
      "The user lacks a permission: capturing needs read on the queue and on bound exchanges, and with queue.declare: active also "
        + "configure and write on the queue"
    case .channelClosed(404, let text) where text.hasPrefix("NOT_FOUND - no exchange '"):
      "The connector never declares an exchange: create it, or correct bindings[].exchange"
    case .channelClosed(404, let text) where Self.isUnavailable(text):
      "The queue is there, and the broker's node that has it is down or still starting"
    case .channelClosed(404, _): "Create the queue, correct queue.name, or set queue.declare: active"
    case .channelClosed(405, _): "Another connection holds the queue exclusively"
    // https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
    case .channelClosed(406, let text) where text.contains("acknowledgement") && text.contains("timed out"):
      configuration.journal.path == nil
        ? "A message waited for its acknowledgement longer than the broker's consumer_timeout: raise that, let the runtime "
          + "commit more often, or set journal.acknowledge: journaled with a journal.path that outlives the process"
        : "A message waited for its acknowledgement longer than the broker's consumer_timeout: raise that, to a minute at least, and see "
          + "whether the journal's disk keeps up; if journal.acknowledge is committed, let the runtime commit more often"
    case .channelClosed(406, let text) where Self.hasNoReplica(text):
      "The stream is there, and its replica on this node of the broker is down or still starting"
    case .channelClosed(406, let text): Self.mismatch(text)?.advice ?? Self.refusal(text)
    case .everyNode(let failures):
      failures.reduce(into: [String]()) { advice, failure in
        if let next = self.advice(for: failure), !advice.contains(next) { advice.append(next) }
      }.joined(separator: ". ")
    case .notConnected where !configuration.hosts.isEmpty:
      "Check host, hosts and port, and that the broker listens there"
    case .nameNotResolved where !configuration.hosts.isEmpty: "Check host and hosts"
    case .notConnected: "Check host and port, and that the broker listens there"
    case .nameNotResolved: "Check host"
    default: nil
    }
  }

  /// The broker is on this machine, as far as `host` tells.
  private var isLocal: Bool {
    nodes.allSatisfy { ["localhost", "::1"].contains($0.host) || $0.host.hasPrefix("127.") }
  }

  /// Whether a 403 means an exclusive consumer, which may be the one that we have just lost, and not a permission. The
  /// end of the text says so too, but may be cut off.
  static func isHeldByConsumer(_ text: String) -> Bool { text.hasPrefix("ACCESS_REFUSED - queue '") }

  /// Whether a 406 means a stream whose replica on our node, or whose leader, is still on its way.
  static func hasNoReplica(_ text: String) -> Bool { text.contains("does not have a running replica") }

  /// Whether a 404 means a queue that exists, on a node that cannot be reached now.
  static func isUnavailable(_ text: String) -> Bool { text.hasPrefix("NOT_FOUND - home node '") }

  /// What to do about a 406 that is no mismatch: what the broker does not accept for any queue, or any of this type.
  private static func refusal(_ text: String) -> String? {
    if let argument = between("invalid arg '", "'", in: text) {
      return "The broker does not take this value, or not for this type of queue: change \(setting(of: argument))"
    }
    if let property = between("invalid property '", "'", in: text) {
      let argument = ["non-durable": "durable", "exclusive-owner": "exclusive", "auto-delete": "auto_delete"][property]
      return "Queues of this type cannot have that: change \(setting(of: argument ?? property))"
    }
    if text.contains("consumer prefetch count is not set") {
      return "A stream needs a limit: set consumer.prefetch_count to 1 or more"
    }
    return nil
  }

  /// The setting that a queue's property or argument comes from.
  private static func setting(of argument: String) -> String {
    switch argument {
    case "durable": "queue.durable"
    case "exclusive": "queue.exclusive"
    case "auto_delete": "queue.auto_delete"
    case "x-message-ttl": "message_ttl"
    case "x-max-priority": "max_priority"
    case "x-queue-type": "queue.type"
    case "x-single-active-consumer": "queue.single_active_consumer"
    case "x-priority": "consumer.priority"
    case StreamResumption.key: "consumer.stream_offset"
    default: "queue.arguments.\(argument)"
    }
  }

  /// A declaration that does not fit what exists, taken from RabbitMQ's text, for example
  /// `PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '60000' but current is '1000'`.
  struct Mismatch: Equatable {
    var argument: String
    /// Nil if the broker's text is cut off before both values: it has 255 bytes, and a name may be as long.
    var wanted: String?
    var found: String?

    /// The setting that the argument comes from.
    var setting: String { Topology.setting(of: argument) }

    var advice: String {
      let difference = wanted.flatMap { wanted in found.map { ": \($0) there, \(wanted) wanted" } }
      return "The queue exists with another \(argument)\(difference ?? ""). Change \(setting), delete the queue, or "
        + "set queue.declare: passive to use it as it is"
    }
  }

  static func mismatch(_ text: String) -> Mismatch? {
    guard let argument = between("inequivalent arg '", "'", in: text) else { return nil }
    guard !text.hasSuffix("..."), let wanted = between("received ", " but current is ", in: text),
      let found = after(" but current is ", in: text)
    else { return Mismatch(argument: argument) }
    return Mismatch(argument: argument, wanted: value(wanted), found: value(found))
  }

  /// `the value '60000' of type 'long'` and `'60000'` are `60000`; `none` stays, and so does `''`.
  private static func value(_ text: String) -> String {
    guard let value = between("'", "'", in: text) else { return text }
    return value.isEmpty ? "''" : value
  }

  private static func after(_ start: String, in text: String) -> String? {
    let words = Array(text.utf8)
    let needle = Array(start.utf8)
    guard words.count >= needle.count else { return nil }
    for index in 0...(words.count - needle.count) where words[index..<index + needle.count].elementsEqual(needle) {
      return String(decoding: words[(index + needle.count)...], as: UTF8.self)
    }
    return nil
  }

  private static func between(_ start: String, _ end: String, in text: String) -> String? {
    guard let rest = after(start, in: text), let behind = after(end, in: rest) else { return nil }
    return String(decoding: rest.utf8.dropLast(behind.utf8.count + end.utf8.count), as: UTF8.self)
  }
}

/// What a failure of a channel means, beyond what the broker says.
extension CaptureFailure {
  /// Too many attempts in a row have failed.
  static func exhausted(_ attempts: Int, last: CaptureFailure) -> CaptureFailure {
    CaptureFailure(
      cause: "attempts_exhausted",
      description:
        "gave up after \(attempts) failed attempt\(attempts == 1 ? "" : "s") in a row (max_reconnect_attempts): \(last)",
      needsUser: true)
  }

  static func cancelled(by queue: String) -> CaptureFailure {
    CaptureFailure(
      cause: "consumer_cancelled",
      description:
        "the broker cancelled the consumer of queue \"\(queue)\": the queue was deleted, or its node went away",
      needsUser: false)
  }

  /// The broker cannot send what stands at the front of a queue.
  ///
  /// - Parameter position: The journal's newest position when the channel began; nil if something was acknowledged on it.
  static func undeliverable(
    frontOf queue: String, _ kind: QueueNature.Kind, after position: Position?, attempts: Int, _ failure: CaptureFailure
  ) -> CaptureFailure {
    let place = position.map { ", after position \($0) of the journal" } ?? ""
    let limit =
      switch kind {
      case .quorum:
        "A quorum queue drops or dead-letters it after its delivery limit (20 by default from RabbitMQ 4.0 on; else set the policy "
          + "delivery-limit)"
      case .unknown:
        "If the queue has a delivery limit it drops or dead-letters it then; else take it out with a client that speaks the protocol "
          + "it was published by"
      case .classic, .stream:
        "Queues of this type never give it up: take it out of the queue with a client that speaks the protocol it was published by"
      }
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send the message at the front of queue \"\(queue)\"\(place) (attempt \(attempts) with this message "
        + "alone): \(failure). \(limit)", needsUser: false, kind: .undeliverable)
  }

  /// The broker cannot send what stands at an offset of a stream.
  ///
  /// - Parameters:
  ///   - offset: Nil if none can be named.
  ///   - captured: The newest captured offset; nil before the first.
  static func undeliverable(
    _ offset: Int64?, ofStream stream: String, captured: Int64?, _ failure: String
  ) -> CaptureFailure {
    let place =
      offset.map { "what stands at offset \($0)" } ?? captured.map { "what stands at or after offset \($0)" }
      ?? "the first message from consumer.stream_offset on"
    let advice =
      offset == nil
      ? "Nothing names an offset that could be gone past: capture the stream anew, with consumer.stream_offset set to an offset "
        + "after it; or read it with a client of the stream protocol"
      : "consumer.undeliverable: skip goes past it; with wait it is tried again. To have it, read it with a client of the stream "
        + "protocol"
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send \(place) of stream \"\(stream)\": \(failure). A client of the stream protocol wrote it as "
        + "bytes that are no AMQP message, or compressed (RabbitMQ 3). \(advice)",
      needsUser: false, kind: .undeliverable)
  }

  /// The broker cannot send what stands at a stream's end, though nothing comes of what was captured.
  static func unknownEnd(ofStream stream: String, captured: Int64, _ failure: CaptureFailure) -> CaptureFailure {
    CaptureFailure(
      cause: "undeliverable",
      description:
        "nothing comes from offset \(captured) of stream \"\(stream)\", which was captured, and the broker cannot send what stands at the "
        + "stream's end (\(failure)), so nothing shows whether the stream was made anew. If it was, capture it anew (a backfill in "
        + "Flow; another journal and output for source-amqp run)", needsUser: false, kind: .undeliverable)
  }
}
