/// The settings of a resource: what a subscription may say by itself (``CaptureConfiguration``).
///
/// It has the endpoint's groups `queue`, `bindings` and `consumer`. None of its settings has a default of its own: a form writes defaults
/// into the configuration, where they would override what follows from the endpoint.
extension SettingsTable {
  /// A resource as a group without a key.
  static let resource = SettingGroup(
    key: "", title: "Subscription",
    description: "A queue that you capture, and the stream that its messages go to.",
    members: [
      .setting(
        Setting(
          key: "stream", title: "Stream",
          description: "The name of the stream that you capture into. It names the queue too, if nothing else does.",
          kind: .text(.stream), presence: .required, given: .string("orders"))),
      .group(
        inherited(
          "queue",
          "The queue that you capture, if it is not the endpoint's, and how you want it declared. What the endpoint says of its own "
            + "queue does not hold for another."
        ) { setting in
          switch (setting.key, setting.presence) {
          case ("name", _): .derived("the endpoint's `queue.name`, else `stream`")
          case (_, .value): .derived("\(standard(of: setting)), or that of the endpoint if the queue is its own")
          case (_, let presence): presence
          }
        }),
      .group(
        inherited(
          "bindings",
          "The exchanges that you bind this queue to; those of the endpoint are for its own queue. They must exist.")),
      .group(
        inherited("consumer", "How you consume from this queue; what you leave out is as the endpoint has it.") { _ in
          .derived("that of the endpoint")
        }),
    ])

  /// Its rows in order, groups flattened.
  static let resourceRows: [Row] = flatten(resource.members, under: "")

  /// Whether a setting of the endpoint, or a group, is one of a resource too.
  static func isOfResource(_ path: String) -> Bool {
    let path = rowPath(of: path)
    return resourceRows.contains { $0.path == path || $0.path.hasPrefix(path + ".") || $0.path.hasPrefix(path + "[]") }
  }

  /// A group of the endpoint with another description, and other defaults.
  private static func inherited(
    _ key: String, _ description: String, _ presence: ((Setting) -> Setting.Presence)? = nil
  ) -> SettingGroup {
    guard case .group(let group)? = root.members.first(where: { $0.key == key }) else {
      preconditionFailure("the endpoint has no group \(key)")
    }
    let members = group.members.map { node in
      guard case .setting(var setting) = node, let presence else { return node }
      setting.presence = presence(setting)
      return .setting(setting)
    }
    return SettingGroup(
      key: group.key, title: group.title, description: description, item: group.item, advanced: true, members: members)
  }
}
