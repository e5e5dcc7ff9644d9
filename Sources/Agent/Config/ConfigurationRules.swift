/// The rules that tie settings together, and what a valid configuration is warned about.
enum ConfigurationRules {
  /// Problems between settings; a rule is silent if one of its settings has a problem of its own.
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
    return [ConfigurationProblem(path: absent, message: "is required if \(given) is given")]
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

  /// The argument that a queue's setting outside of `queue` is sent as.
  static func argument(of setting: String) -> String? {
    sentAs.first { $0.setting == setting && !setting.contains(".") }?.argument
  }

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
}
