/// The standalone agent's configuration: a file with an endpoint configuration, or a Flow catalog file.
///
/// Duty: from a text in JSON or YAML to a `CaptureConfiguration`, with problems that name file, line and column where these are known (YAML).
/// Its subscriptions are in `resources`; without it, the endpoint's own queue is the one subscription, and its stream has that name.
///
/// A catalog file is one with `captures` at its root. Its single capture is used, or the one asked for by name:
/// `captures.NAME.endpoint.connector.config` (an image) or `….local.config` (a command) is the configuration, inline or
/// as the path of another file, relative to the catalog file; the subscriptions are the resources of its bindings that
/// are not disabled. Everything else in a catalog file is Flow's and not looked at.
///
/// References to secrets are expanded here and only here (`SecretReferences`): within Flow, configurations come
/// complete. A configuration still encrypted by sops is refused, as only Flow decrypts.
struct ConfigurationFile: Sendable {
  let settings: CaptureConfiguration
  /// The capture of the catalog file, or nil if the file is an endpoint configuration.
  let capture: String?
  /// The catalog's capture is an image, which Flow runs in a container.
  let isContainer: Bool
  /// The endpoint configuration as it is written, with a catalog's resources as `resources`, references expanded: it holds secrets.
  let source: JSONValue
  /// Paths in it whose values came from the environment or from a file.
  let hidden: Set<String>
  /// Reads again what a connection is made with.
  let logins: Logins

  /// Reads and loads a file; `-` is stdin.
  static func read(
    path: String, capture: String? = nil, inputs: ConfigurationInputs = .process
  ) throws(ConfigurationError) -> ConfigurationFile {
    switch inputs.contents(path) {
    case .success(let text):
      return try load(text: text, name: path, capture: capture, inputs: inputs)
    case .failure(let error):
      throw ConfigurationError(file: path, "cannot be read: \(error.reason)")
    }
  }

  /// - Parameters:
  ///   - name: Path of the file; other files are relative to its directory.
  ///   - capture: Which capture of a catalog file to use; needed only if it has several.
  /// - Throws: All problems of the configuration at once, or the first that keeps it from being found.
  static func load(
    text: String, name: String, capture: String? = nil, inputs: ConfigurationInputs = .process
  ) throws(ConfigurationError) -> ConfigurationFile {
    let root = try SourceText.read(text, file: name)
    guard root["captures"] != nil else {
      // Keys of a catalog that no endpoint configuration has. https://docs.estuary.dev/concepts/catalogs/
      if ["import", "collections", "materializations", "derivations"].contains(where: { root[$0] != nil }) {
        throw ConfigurationError(
          file: name, "is a Flow catalog file without a capture of its own\(CatalogFile.imports(of: root))")
      }
      if capture != nil {
        throw ConfigurationError(file: name, "has no captures to choose from: it is an endpoint configuration")
      }
      let parsed = try parse(root, .listed, file: name, inputs: inputs)
      return ConfigurationFile(
        settings: parsed.settings, capture: nil, isContainer: false, source: parsed.source,
        hidden: parsed.hidden, logins: logins(root, .listed, parsed, file: name, inputs))
    }
    let entry = try CatalogFile(root, file: name, inputs: inputs).entry(named: capture)
    let place = entry.resources.map { ResourcePlace.catalog($0) } ?? .none
    let parsed = try parse(entry.configuration, place, file: entry.configurationFile, inputs: inputs)
    return ConfigurationFile(
      settings: parsed.settings, capture: entry.name, isContainer: entry.isContainer, source: parsed.source,
      hidden: parsed.hidden,
      logins: logins(entry.configuration, place, parsed, file: entry.configurationFile, inputs))
  }

  /// Where the resources are.
  private enum ResourcePlace {
    case none
    case listed
    case catalog([CatalogFile.Resource])
  }

  private struct Parsed {
    var settings: CaptureConfiguration
    var source: JSONValue
    var hidden: Set<String>
    var references: SecretReferences
  }

  /// Settings that a connection is made with, and that may come from files which change.
  private static let loginSettings = ["username", "password", "tls.ca_cert", "tls.client_cert", "tls.client_key"]

  /// - Parameter node: What was read of the configuration's own file, which is not read again.
  private static func logins(
    _ node: SourceNode, _ resources: ResourcePlace, _ parsed: Parsed, file: String, _ inputs: ConfigurationInputs
  ) -> Logins {
    // A pipe is read once, as it was.
    let files = Set(loginSettings.flatMap { parsed.references.files[$0] ?? [] }.filter(inputs.isFile))
    let first = parsed.settings.endpoint.login
    var again = inputs
    again.contents = { [known = parsed.references.contents] path in
      files.contains(path) ? inputs.contents(path) : known[path] ?? inputs.contents(path)
    }
    return Logins(first, mayChange: !files.isEmpty) { [again] () throws(ConfigurationError) in
      let login = try parse(node, resources, file: file, inputs: again).settings.endpoint.login
      if login.password.value.isEmpty, !first.password.value.isEmpty {
        throw ConfigurationError(file: file, "password: the file that it names is empty")
      }
      return login
    }
  }

  private static func parse(
    _ node: SourceNode, _ place: ResourcePlace, file: String, inputs: ConfigurationInputs
  ) throws(ConfigurationError) -> Parsed {
    try refuseEncrypted(node, file: file)
    var references = SecretReferences(inputs: inputs, directory: FileReference.directory(of: file))
    let endpoint = references.expand(node).value
    var source = endpoint
    var hidden = references.hidden
    var locations = node.locations()
    var files: [(path: String, file: String)] = []
    let resources: CaptureConfiguration.Resources
    switch place {
    case .none: resources = .own
    case .listed: resources = .listed
    case .catalog(let found):
      var given: [CaptureConfiguration.Resource] = []
      for resource in found {
        try refuseEncrypted(resource.node, file: resource.file)
        let expanded = references.expand(
          resource: resource.node, path: resource.path, directory: FileReference.directory(of: resource.file))
        given.append(.init(path: resource.path, value: expanded.value))
        locations.merge(resource.node.locations(under: resource.path)) { _, new in new }
        locations[resource.path] = resource.node.location
        files.append((resource.path, resource.file))
      }
      resources = .given(given)
      hidden = references.hidden
      // As they would stand in a file without a catalog.
      for (index, resource) in given.enumerated() {
        for path in hidden where path.hasPrefix(resource.path + ".") {
          hidden.insert("resources[\(index)]" + path.dropFirst(resource.path.count))
        }
      }
      if case .object(var object) = endpoint {
        object["resources"] = .array(given.map(\.value))
        source = .object(object)
      }
    }
    do throws(ConfigurationError) {
      guard references.problems.isEmpty else { throw ConfigurationError(references.problems) }
      let settings = try CaptureConfiguration.parse(endpoint, resources: resources, hidden: hidden)
      return Parsed(settings: settings, source: source, hidden: hidden, references: references)
    } catch {
      var problems = error.problems
      for index in problems.indices {
        problems[index].file = files.first { problems[index].path.hasPrefix($0.path) && $0.file != file }?.file
      }
      throw located(problems, locations, file: file)
    }
  }

  private static func refuseEncrypted(_ node: SourceNode, file: String) throws(ConfigurationError) {
    guard node["sops"] != nil, isEncrypted(node) else { return }
    throw ConfigurationError(file: file, "is encrypted with sops: decrypt it first, or give it to Flow")
  }

  /// Problems with the places of their settings, or of the closest group that is written.
  private static func located(
    _ problems: [ConfigurationProblem], _ locations: [String: TextLocation], file: String
  ) -> ConfigurationError {
    let located = problems.map { problem in
      var located = problem
      var path = problem.path[...]
      while located.location == nil, !path.isEmpty {
        located.location = locations[String(path)]
        path = path.lastIndex { $0 == "." || $0 == "[" }.map { path[..<$0] } ?? ""
      }
      return located
    }
    // In the file's order; those without a place come first, and Swift's sort keeps the order of equals.
    func place(_ problem: ConfigurationProblem) -> (Int, Int) {
      (problem.location?.line ?? 0, problem.location?.column ?? 0)
    }
    return ConfigurationError(located.sorted { place($0) < place($1) }, file: file)
  }

  /// Whether a value is one that sops writes.
  private static func isEncrypted(_ node: SourceNode) -> Bool {
    switch node.content {
    case .scalar: node.text?.hasPrefix("ENC[") ?? false
    case .array(let elements): elements.contains(where: isEncrypted)
    case .object(let members): members.contains { isEncrypted($0.value) }
    }
  }
}
