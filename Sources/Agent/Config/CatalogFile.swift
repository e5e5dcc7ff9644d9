/// A Flow catalog file, as far as a standalone agent needs it.
///
/// https://docs.estuary.dev/concepts/captures/ has the specification.
struct CatalogFile {
  private let root: SourceNode
  private let file: String
  private let inputs: ConfigurationInputs

  /// A capture that was found.
  struct Entry {
    let name: String
    let configuration: SourceNode
    /// The file that `configuration` is in: the catalog file, or the one that it refers to.
    let configurationFile: String
    /// The resources of its bindings that are not disabled; nil if it has no binding at all.
    let resources: [Resource]?
    /// It is an image, not a command of this machine.
    let isContainer: Bool
  }

  /// A binding's resource.
  struct Resource {
    /// As problems name it: `captures.NAME.bindings[0].resource`.
    let path: String
    let node: SourceNode
    let file: String
  }

  /// - Parameter root: An object with `captures`.
  init(_ root: SourceNode, file: String, inputs: ConfigurationInputs) {
    self.root = root
    self.file = file
    self.inputs = inputs
  }

  /// The capture of that name, or the only one.
  func entry(named wanted: String?) throws(ConfigurationError) -> Entry {
    guard let captures = root["captures"]?.members else {
      throw problem("captures", root["captures"], "must be an object")
    }
    let names = captures.map { ConfigurationWording.quote($0.key) }.joined(separator: ", ")
    let chosen: SourceNode.Member
    if let wanted {
      guard let found = captures.first(where: { $0.key == wanted }) else {
        let quoted = ConfigurationWording.quote(wanted)
        throw problem("captures", root["captures"], "has no capture \(quoted), but: \(names)")
      }
      chosen = found
    } else {
      guard let first = captures.first else {
        throw problem("captures", root["captures"], "has no capture\(Self.imports(of: root))")
      }
      guard captures.count == 1 else {
        throw problem("captures", root["captures"], "has several captures; choose one with --capture: \(names)")
      }
      chosen = first
    }
    let path = "captures.\(chosen.key)"
    let (configuration, configurationFile) = try self.configuration(of: chosen.value, path: path)
    return Entry(
      name: chosen.key, configuration: configuration, configurationFile: configurationFile,
      resources: try resources(of: chosen.value, path: path), isContainer: chosen.value["endpoint"]?["connector"] != nil
    )
  }

  /// The files that a catalog imports, as the end of a sentence; empty if it imports none.
  static func imports(of root: SourceNode) -> String {
    guard case .array(let files)? = root["import"]?.content else { return "" }
    let names = files.compactMap { $0.text.map(ConfigurationWording.quote) }
    return names.isEmpty ? "" : ": it imports \(names.joined(separator: ", ")); give the one that has the capture"
  }

  private func configuration(
    of capture: SourceNode, path: String
  ) throws(ConfigurationError) -> (SourceNode, file: String) {
    let path = "\(path).endpoint"
    guard let endpoint = capture["endpoint"] else { throw problem(path, capture, ConfigurationWording.missing) }
    let kinds = ["connector", "local"].filter { endpoint[$0] != nil }
    guard kinds.count == 1, let connector = endpoint[kinds[0]] else {
      throw problem(path, endpoint, "must have either connector or local")
    }
    let own = "\(path).\(kinds[0]).config"
    guard let configuration = connector["config"] else {
      throw problem(own, connector, ConfigurationWording.missing)
    }
    return try follow(configuration, path: own)
  }

  private func resources(of capture: SourceNode, path: String) throws(ConfigurationError) -> [Resource]? {
    let path = "\(path).bindings"
    guard let node = capture["bindings"] else { return nil }
    guard case .array(let all) = node.content else { throw problem(path, node, "must be an array") }
    if all.isEmpty { return nil }
    var resources: [Resource] = []
    for (index, binding) in all.enumerated() where binding["disable"]?.content != .scalar(.bool(true)) {
      let resourcePath = "\(path)[\(index)].resource"
      guard let resource = binding["resource"] else {
        throw problem(resourcePath, binding, ConfigurationWording.missing)
      }
      let (object, file) = try follow(resource, path: resourcePath)
      resources.append(Resource(path: resourcePath, node: object, file: file))
    }
    return resources
  }

  /// The value itself, or the contents of the file that it names.
  private func follow(_ node: SourceNode, path: String) throws(ConfigurationError) -> (SourceNode, file: String) {
    guard let reference = node.text else { return (node, file) }
    let other = FileReference.resolve(reference, in: FileReference.directory(of: file))
    guard !reference.isEmpty, !reference.unicodeScalars.contains("\0") else {
      throw problem(path, node, "must be an object, or the path of a file")
    }
    switch inputs.contents(other) {
    case .success(let text):
      return (try SourceText.read(text, file: other), other)
    case .failure(let error):
      throw problem(path, node, "cannot read file \(ConfigurationWording.quote(other)): \(error.reason)")
    }
  }

  private func problem(_ path: String, _ node: SourceNode?, _ message: String) -> ConfigurationError {
    ConfigurationError(file: file, location: node?.location, path: path, message)
  }
}
