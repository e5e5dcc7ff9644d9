/// What one process captures: the settings of the endpoint, and its subscriptions, checked and typed.
///
/// A subscription is one queue that is consumed, with its settings, and the stream that its documents go to. It is written as a resource:
/// that of a binding in Flow, an entry of `resources` in a standalone configuration. What a resource does not say follows from the
/// endpoint, by three rules:
///
/// - `consumer.*` of the endpoint are defaults for all.
/// - A resource that names no queue means the endpoint's, and if that has none, the queue with the name of its stream.
/// - `queue.*`, `bindings`, `message_ttl` and `max_priority` of the endpoint belong to the queue that `queue.name` names, and to no other: all
///   queues bound to one exchange would get every message.
///
/// So a configuration with one queue, whose binding says nothing but a stream, means what it always has.
///
/// It can only be had from `parse`, as ``EndpointConfiguration``.
struct CaptureConfiguration: Sendable, Equatable {
  /// Broker, journal and documents. `queue` and `bindings` are those of `queue.name`; without it the name is empty.
  let endpoint: EndpointConfiguration
  /// In the order given; streams differ, and so do queues, unless they are streams of RabbitMQ.
  let subscriptions: [Subscription]

  /// A resource as it is written.
  struct Resource: Sendable, Equatable {
    /// Where it stands, for problems: `resources[0]`.
    var path: String
    var value: JSONValue
  }

  /// Where the resources are.
  enum Resources: Sendable, Equatable {
    /// There are none: the endpoint's own queue is the one subscription.
    case own
    /// In the configuration, as `resources`; without that, as ``own``.
    case listed
    /// Elsewhere: none is legal.
    case given([Resource])
  }
}

/// One queue that is captured, and where its documents go.
struct Subscription: Sendable, Equatable {
  /// Its identity, the recommended name of its collection, and that of its files; not empty.
  let stream: String
  /// The endpoint's settings as they hold for this queue.
  let configuration: EndpointConfiguration
}

extension CaptureConfiguration {
  /// Reads and checks a configuration with its resources.
  ///
  /// - Parameters:
  ///   - value: The endpoint's object, as JSON.
  ///   - hidden: Paths (`bindings[0].exchange`) whose values are treated as secrets, as they came from elsewhere.
  /// - Throws: All problems at once. No secret appears in them.
  static func parse(
    _ value: JSONValue, resources: Resources, hidden: Set<String> = []
  ) throws(ConfigurationError) -> CaptureConfiguration {
    var (value, problems) = (value, [ConfigurationProblem]())
    let listed = listed(resources, &value, &problems)
    var endpoint = SettingsReader(hidden: hidden, needsQueue: listed == nil)
    endpoint.read(value)
    problems += endpoint.problems
    // Without an object every rule would complain about the same.
    let isObject = if case .object = value { true } else { false }
    let hasResources = listed?.isEmpty == false
    // What is said of queues and consumers holds of those that there are.
    if isObject { problems += rules(endpoint).filter { !hasResources || !SubscriptionDraft.takes($0.path) } }
    let inherited = ConfigurationRules.problems(in: endpoint.values)
    var drafts: [SubscriptionDraft] = []
    for resource in listed ?? [] {
      var reader = SettingsReader(hidden: hidden, group: SettingsTable.resource, path: resource.path)
      reader.read(resource.value)
      problems += reader.problems
      if reader.problems.isEmpty {
        drafts.append(SubscriptionDraft(reader, at: resource.path, of: endpoint, inherited))
      }
    }
    // A setting with a problem has no value, so nothing can be said of what follows from it.
    if isObject, !endpoint.problems.contains(where: { SubscriptionDraft.takes($0.path) }) {
      problems += unowned(endpoint, isOwn: listed == nil)
      for draft in drafts { problems += draft.problems.filter { !problems.contains($0) } }
      problems += between(drafts).filter { !problems.contains($0) }
    }
    guard problems.isEmpty else { throw ConfigurationError(problems) }
    let own = EndpointConfiguration(
      checked: endpoint.values.merging(["queue.name": .text("")]) { given, _ in given },
      bindings: endpoint.items["bindings"] ?? [])
    return CaptureConfiguration(
      endpoint: own,
      subscriptions: listed == nil
        ? [Subscription(stream: own.queue.name, configuration: own)] : drafts.map(\.subscription))
  }

  /// The resources; nil if the endpoint's own queue is meant.
  private static func listed(
    _ resources: Resources, _ value: inout JSONValue, _ problems: inout [ConfigurationProblem]
  ) -> [Resource]? {
    switch resources {
    case .given(let resources): return resources
    case .own: return nil
    case .listed: break
    }
    guard case .object(var object) = value, let list = object["resources"] else { return nil }
    object["resources"] = nil
    value = .object(object)
    if list == .null { return nil }
    guard case .array(let elements) = list, !elements.isEmpty else {
      problems.append(
        ConfigurationProblem(
          path: "resources",
          message:
            "must be a list with an entry for each queue, such as - stream: orders; leave it out to capture queue.name alone"
        ))
      return []
    }
    return elements.enumerated().map { Resource(path: "resources[\($0.offset)]", value: $0.element) }
  }

  /// Rules between settings, save those that a setting's own problem sets off.
  private static func rules(_ reader: SettingsReader) -> [ConfigurationProblem] {
    let broken = reader.problems.map(\.path)
    func isBroken(_ path: String) -> Bool {
      broken.contains { $0 == path || path.hasPrefix($0 + ".") || $0.hasPrefix(path + ".") }
    }
    let certificates = ["tls.client_cert", "tls.client_key"].contains(where: isBroken)
    return ConfigurationRules.problems(in: reader.values).filter { problem in
      switch problem.path {
      case "auth_type", "tls.client_cert", "tls.client_key": !certificates
      case "journal.acknowledge": !isBroken("journal.path")
      default: true
      }
    }
  }

  /// Settings of the endpoint's own queue if it names none: they would be without effect.
  private static func unowned(_ endpoint: SettingsReader, isOwn: Bool) -> [ConfigurationProblem] {
    guard !isOwn, endpoint.values["queue.name"] == nil else { return [] }
    let idle = SettingsTable.rows.map(\.path).filter { path in
      SubscriptionDraft.isOfQueue(path) && endpoint.values[path] != SettingsReader.defaults[path]
        && endpoint.values[path] != .table(JSONObject())
    }
    return (idle + (endpoint.items["bindings"]?.isEmpty == false ? ["bindings"] : [])).map { path in
      let argument = ConfigurationRules.argument(of: path).map { ", as queue.arguments.\($0)" } ?? ""
      return ConfigurationProblem(
        path: path,
        message:
          "is of the queue that queue.name names, and none is named: say it with the resource of each queue\(argument)")
    }
  }

  /// Rules between subscriptions.
  private static func between(_ drafts: [SubscriptionDraft]) -> [ConfigurationProblem] {
    var problems: [ConfigurationProblem] = []
    for (index, draft) in drafts.enumerated() {
      let before = drafts[..<index]
      if let other = before.first(where: { $0.stream.isSameName(as: draft.stream) }) {
        problems.append(
          ConfigurationProblem(
            path: draft.path("stream"),
            message: "is that of \(other.path) too: each queue needs a stream of its own"))
      }
      if let other = before.first(where: { $0.queue.isSameName(as: draft.queue) && !($0.isStream && draft.isStream) }) {
        problems.append(
          ConfigurationProblem(
            path: draft.path("queue.name"),
            message:
              "is the queue of \(other.path) too, and each would get a part of its messages: capture it once. Only a stream can be "
              + "read twice; if it is one, set queue.type: stream"))
      }
      guard drafts.count > 1 else { continue }
      if draft.values["consumer.no_ack"] == .flag(true) {
        problems.append(draft.alone("consumer.no_ack", "true"))
      }
      if draft.values["consumer.prefetch_count"] == .integer(0) {
        problems.append(draft.alone("consumer.prefetch_count", "0"))
      }
    }
    return problems.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }
}

extension String {
  /// Whether two names are the same to the broker, which compares bytes; `==` of texts takes what looks alike for equal.
  func isSameName(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}

/// A resource with what it takes from the endpoint.
private struct SubscriptionDraft {
  /// Where the resource stands.
  let path: String
  let stream: String
  let queue: String
  /// Those of the endpoint's table, but for what stands in lists.
  let values: [String: SettingValue]
  private let bindings: [[String: SettingValue]]
  private let given: Set<String>
  private let nameProblem: ConfigurationProblem?
  /// The resource itself says where a stream is read from.
  private let isGivenOffset: Bool
  /// What the endpoint's settings lead to without the resource.
  private let inherited: [ConfigurationProblem]

  /// - Parameter resource: Read without problems.
  init(
    _ resource: SettingsReader, at path: String, of endpoint: SettingsReader, _ inherited: [ConfigurationProblem]
  ) {
    (self.path, self.inherited) = (path, inherited)
    stream = CheckedValues(resource.values).text("stream")
    given = Set(resource.values.keys)
    let own = CheckedValues(endpoint.values).optionalText("queue.name")
    let named = CheckedValues(resource.values).optionalText("queue.name") ?? own
    let isOwn = if let named, let own { named.isSameName(as: own) } else { false }
    nameProblem = named == nil ? Self.nameProblem(stream, at: path) : nil
    isGivenOffset =
      given.contains("consumer.stream_offset")
      || CheckedValues(resource.values).table("consumer.arguments")["x-stream-offset"] != Optional.none
    var values: [String: SettingValue] = [:]
    for row in SettingsTable.rows {
      values[row.path] =
        if Self.isOfQueue(row.path) {
          resource.values[row.path] ?? (isOwn ? endpoint.values[row.path] : SettingsReader.defaults[row.path])
        } else if row.path.hasPrefix("consumer.") {
          resource.values[row.path] ?? endpoint.values[row.path]
        } else {
          endpoint.values[row.path]
        }
    }
    queue = named ?? stream
    values["queue.name"] = .text(queue)
    self.values = values
    bindings =
      resource.gives("bindings") || !isOwn ? resource.items["bindings"] ?? [] : endpoint.items["bindings"] ?? []
  }

  /// Whether a setting of the endpoint has to do with what a subscription is made of.
  static func takes(_ path: String) -> Bool {
    isOfQueue(path) || path == "queue" || path.hasPrefix("consumer") || path.hasPrefix("bindings")
  }

  /// Whether a setting of the endpoint belongs to its own queue.
  static func isOfQueue(_ path: String) -> Bool {
    path.hasPrefix("queue.") || path == "message_ttl" || path == "max_priority"
  }

  /// A stream may be called what no queue can be.
  private static func nameProblem(_ stream: String, at path: String) -> ConfigurationProblem? {
    guard case .failure(let refusal) = SettingCheck.text(.string(stream), .name, hidden: false) else { return nil }
    return ConfigurationProblem(
      path: "\(path).stream", message: "names the queue as well, since queue.name does not: \(refusal.message)")
  }

  /// Where a setting is written: here, or at the endpoint.
  func path(_ setting: String) -> String {
    let isHere = given.contains { setting == $0 || setting.hasPrefix($0 + ".") }
    return isHere || setting == "queue.name" ? "\(path).\(setting)" : setting
  }

  /// Problems between its settings.
  var problems: [ConfigurationProblem] {
    if let nameProblem { return [nameProblem] }
    return ConfigurationRules.problems(in: values).filter { Self.takes($0.path) }.map { problem in
      // What is wrong without the resource is told once.
      let isInherited = inherited.contains(problem) && path(problem.path) == problem.path
      return ConfigurationProblem(
        path: isInherited ? problem.path : "\(path).\(problem.path)", message: problem.message)
    }
  }

  /// What a connection with other subscriptions does not bear.
  func alone(_ setting: String, _ value: String) -> ConfigurationProblem {
    ConfigurationProblem(
      path: path(setting),
      message:
        "cannot be \(value) beside other queues: the broker would send without a limit, and they would wait behind it. Capture that queue "
        + "by itself")
  }

  /// The resource says that its queue is a stream; what the endpoint says of all consumers shows nothing.
  var isStream: Bool {
    ConfigurationRules.merged("queue.arguments", in: values)["x-queue-type"].map { $0 == .string("stream") }
      ?? isGivenOffset
  }

  var subscription: Subscription {
    Subscription(stream: stream, configuration: EndpointConfiguration(checked: values, bindings: bindings))
  }
}
