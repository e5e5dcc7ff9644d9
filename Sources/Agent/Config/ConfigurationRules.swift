/// The rules that tie settings together, and what a valid configuration is warned about.
enum ConfigurationRules {
  /// Problems between settings; a rule is silent where one of its settings has a problem of its own.
  static func problems(in values: [String: SettingValue]) -> [ConfigurationProblem] {
    credentials(values) + arguments(values) + queueType(values) + streamOffset(values) + acknowledgement(values)
  }

  private static func credentials(_ values: [String: SettingValue]) -> [ConfigurationProblem] {
    let certificate = values["tls.client_cert"] != nil
    let key = values["tls.client_key"] != nil
    if values["auth_type"] == .text("external") {
      var missing: [String] = []
      if values["tls.enabled"] == .flag(false) { missing.append("tls.enabled: true") }
      if !certificate { missing.append("tls.client_cert") }
      if !key { missing.append("tls.client_key") }
      if !missing.isEmpty {
        let message = "\"external\" needs \(missing.joined(separator: " and "))"
        return [ConfigurationProblem(path: "auth_type", message: message)]
      }
    }
    if certificate == key { return [] }
    let (given, absent) = certificate ? ("tls.client_cert", "tls.client_key") : ("tls.client_key", "tls.client_cert")
    return [ConfigurationProblem(path: absent, message: "is required where \(given) is given")]
  }

  /// Settings that are sent as arguments, with the table that may name the same argument.
  private static let sentAs: [(setting: String, table: String, argument: String)] = [
    ("message_ttl", "queue.arguments", "x-message-ttl"),
    ("max_priority", "queue.arguments", "x-max-priority"),
    ("consumer.priority", "consumer.arguments", "x-priority"),
    ("queue.type", "queue.arguments", "x-queue-type"),
    ("queue.single_active_consumer", "queue.arguments", "x-single-active-consumer"),
    ("consumer.stream_offset", "consumer.arguments", "x-stream-offset"),
  ]

  private static func arguments(_ values: [String: SettingValue]) -> [ConfigurationProblem] {
    sentAs.compactMap { entry in
      guard let value = values[entry.setting].flatMap({ sent($0, as: entry.argument) }),
        case .table(let table) = values[entry.table], let other = table[entry.argument], other != value
      else { return nil }
      return ConfigurationProblem(
        path: entry.setting,
        message: "differs from \(entry.table).\(entry.argument), which is the same argument: give one of them")
    }
  }

  /// What the broker refuses of a queue of the type that the settings name.
  /// https://www.rabbitmq.com/docs/quorum-queues#feature-comparison, https://www.rabbitmq.com/docs/streams#feature-comparison
  private static func queueType(_ values: [String: SettingValue]) -> [ConfigurationProblem] {
    guard values["queue.declare"] == .text("active") else { return [] }
    let arguments = merged("queue.arguments", in: values)
    guard case .string(let type) = arguments["x-queue-type"], type == "quorum" || type == "stream" else { return [] }
    var refused = [("max_priority", "x-max-priority")]
    var problems: [ConfigurationProblem] = []
    if type == "stream" {
      // 540. https://www.rabbitmq.com/docs/streams#consuming
      if values["consumer.no_ack"] == .flag(true) {
        problems.append(
          ConfigurationProblem(path: "consumer.no_ack", message: "a stream needs acknowledgements: leave it out"))
      }
      refused += [("message_ttl", "x-message-ttl"), ("queue.single_active_consumer", "x-single-active-consumer")]
    }
    return problems
      + refused.compactMap { setting, argument in
        guard let value = arguments[argument], value != .bool(false) else { return nil }
        let isSetting = values[setting].flatMap { sent($0, as: argument) } != nil
        let advice =
          type == "stream" && argument == "x-message-ttl" ? "; queue.arguments.x-max-age bounds a stream" : ""
        return ConfigurationProblem(
          path: isSetting ? setting : "queue.arguments.\(argument)",
          message: "a \(type == "stream" ? "stream" : "quorum queue") does not take it\(advice)")
      }
  }

  private static func streamOffset(_ values: [String: SettingValue]) -> [ConfigurationProblem] {
    guard case .table(let table) = values["consumer.arguments"], let offset = table["x-stream-offset"],
      StreamStart(argument: offset) == nil
    else { return [] }
    return [
      ConfigurationProblem(
        path: "consumer.arguments.x-stream-offset",
        message:
          "must be a string that the broker reads or an offset of 0 or more; consumer.stream_offset says it more plainly"
      )
    ]
  }

  /// The arguments of `table` together with the settings that are sent in the same place.
  static func merged(_ table: String, in values: [String: SettingValue]) -> JSONObject {
    var result = JSONObject()
    if case .table(let given) = values[table] { result = given }
    for entry in sentAs where entry.table == table {
      if let value = values[entry.setting].flatMap({ sent($0, as: entry.argument) }) { result[entry.argument] = value }
    }
    return result
  }

  /// A setting's value as that of the argument that it is sent as.
  private static func sent(_ value: SettingValue, as argument: String) -> JSONValue? {
    switch value {
    case .text(let text): argument == "x-stream-offset" ? StreamStart(text: text)?.json : .string(text)
    case .integer(let number): .number(String(number))
    // False is the broker's default, and sending it would not fit queues that were declared without the argument.
    case .flag(let flag): flag ? .bool(true) : nil
    case .number, .texts, .table: nil
    }
  }

  private static func acknowledgement(_ values: [String: SettingValue]) -> [ConfigurationProblem] {
    guard values["journal.acknowledge"] == .text("journaled"), values["journal.path"] == nil else { return [] }
    return [
      ConfigurationProblem(
        path: "journal.acknowledge",
        message: "\"journaled\" needs journal.path: a temporary journal is gone after a crash, "
          + "and with it messages that the broker has forgotten")
    ]
  }

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
    // Of a queue that somebody else declares the arguments say nothing.
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
