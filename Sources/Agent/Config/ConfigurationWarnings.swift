/// What works but costs something, one sentence each.
enum ConfigurationWarnings {
  /// What lets the broker drop messages that were not captured yet.
  private static func dropping(_ configuration: EndpointConfiguration) -> [String] {
    let arguments = configuration.queue.arguments
    var warnings: [String] = []
    let hasDeadLetters = arguments["x-dead-letter-exchange"] != Optional.none
    if configuration.document.oversize == .reject, !hasDeadLetters {
      warnings.append(
        "document.oversize is reject: a message above document.max_bytes is dropped, unless a policy gives the queue a dead-letter "
          + "exchange (queue.arguments.x-dead-letter-exchange would be one).")
    }
    // Of a queue that someone else declares the arguments say nothing.
    guard configuration.queue.declaration == .active, arguments["x-queue-type"] != .string("stream") else {
      return warnings
    }
    let drops = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"].filter { name in
      guard arguments[name] != Optional.none else { return false }
      return !name.hasPrefix("x-max-") || arguments["x-overflow"] == Optional.none
        || arguments["x-overflow"] == .string("drop-head")
    }
    if !drops.isEmpty {
      warnings.append(
        "\(drops.joined(separator: ", ")): the broker \(hasDeadLetters ? "dead-letters" : "drops") what waits too long or is too much, "
          + "captured or not; nothing here can count it.")
    }
    return warnings
  }

  /// What works but costs a guarantee, one sentence each.
  static func warnings(for configuration: EndpointConfiguration) -> [String] {
    var warnings: [String] = []
    let tls = configuration.tls
    if tls.enabled, !tls.verifyCertificate {
      warnings.append("tls.verify_cert is false: the broker's identity is not verified.")
    }
    if !tls.enabled {
      let idle = [
        tls.caCertificate.map { _ in "tls.ca_cert" }, tls.clientCertificate.map { _ in "tls.client_cert" },
        tls.serverName.map { _ in "tls.server_name" }, tls.verifyCertificate ? nil : "tls.verify_cert",
      ]
      let names = idle.compactMap { $0 }
      if !names.isEmpty {
        warnings.append(
          "\(names.joined(separator: ", ")) \(names.count == 1 ? "has" : "have") no effect, since tls.enabled is false."
        )
      }
    }
    if configuration.virtualHostIsEncoded {
      warnings.append(
        "virtual_host is taken literally: %2F stands for / only in an amqp:// address. Set virtual_host: / for the "
          + "default virtual host.")
    }
    if configuration.queue.declaration != .active, !configuration.bindings.isEmpty {
      warnings.append(
        "queue.declare is \(configuration.queue.declaration.rawValue): bindings are checked, but not made.")
    }
    if configuration.consumer.prefetchCount == 0, !configuration.consumer.noAck {
      warnings.append("consumer.prefetch_count is 0, so unlimited: messages are captured at least once only.")
    }
    if configuration.consumer.undeliverable == .skip,
      case .string(let type)? = configuration.queue.arguments["x-queue-type"],
      type != "stream"
    {
      warnings.append(
        "consumer.undeliverable: skip has no effect on a \(type) queue: what the broker cannot send is dropped or dead-lettered by its "
          + "delivery limit, or stays.")
    }
    warnings += dropping(configuration)
    if configuration.password.value.isEmpty, configuration.authType != .external {
      warnings.append("password is empty.")
    }
    if configuration.consumer.noAck {
      warnings.append("consumer.no_ack is true: messages in flight are lost when the connection breaks.")
    }
    return warnings
  }
}

extension EndpointConfiguration {
  /// What works but costs a guarantee, one sentence each, for the log at start.
  var warnings: [String] { ConfigurationWarnings.warnings(for: self) }
}

extension CaptureConfiguration {
  /// The same of all subscriptions, each sentence once, with the stream that it is about if there are several.
  var warnings: [String] { unused + ofSubscriptions }

  /// What is said of the endpoint's own queue, if nothing captures it.
  private var unused: [String] {
    let queue = endpoint.queue
    let isUsed = subscriptions.contains { $0.configuration.queue.name.isSameName(as: queue.name) }
    guard !subscriptions.isEmpty, !isUsed else { return [] }
    let isDescribed =
      !endpoint.bindings.isEmpty || !queue.arguments.members.isEmpty || queue.declaration != .active || !queue.durable
      || queue.exclusive || queue.autoDelete
    guard isDescribed else { return [] }
    return [
      "no resource captures \(ConfigurationWording.quote(queue.name)), the queue of queue.name: what the endpoint says of its declaration and "
        + "bindings has no effect."
    ]
  }

  private var ofSubscriptions: [String] {
    guard subscriptions.count > 1 else { return (subscriptions.first?.configuration ?? endpoint).warnings }
    let all = subscriptions.map { (stream: $0.stream, warnings: $0.configuration.warnings) }
    var told: [String] = []
    for (stream, warnings) in all {
      for warning in warnings {
        let isShared = all.allSatisfy { $0.warnings.contains(warning) }
        let text = isShared ? warning : "stream \(ConfigurationWording.quote(stream)): \(warning)"
        if !told.contains(text) { told.append(text) }
      }
    }
    return told
  }
}
