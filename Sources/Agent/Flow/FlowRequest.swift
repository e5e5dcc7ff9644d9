/// A request of the Flow runtime, as far as this connector needs it. Unknown fields are ignored, since requests grow;
/// absent ones mean their defaults.
/// https://github.com/estuary/flow/blob/master/go/protocols/capture/capture.proto
enum FlowRequest: Equatable, Sendable {
  /// Its `config` may be empty or encrypted, and is not looked at.
  case spec
  case discover(config: JSONValue)
  case validate(Validation)
  case apply(Capture)
  /// `range` is the part of the key space that is this shard's.
  case open(Capture, range: KeyRange, state: JSONValue)
  /// The oldest `checkpoints` that are outstanding are committed.
  case acknowledge(checkpoints: Int)

  struct Validation: Equatable, Sendable {
    var config: JSONValue
    var bindings: [ProposedBinding]
    /// The connector runs as a container (`connectorType: IMAGE`), whose disk goes away with it.
    var isContainer = false
  }

  /// A binding that is to be checked.
  struct ProposedBinding: Equatable, Sendable {
    var resource: JSONValue
    /// The collection's name, and its key as JSON pointers; nil if the request does not say them.
    var collection: String?
    var key: [String]?
  }

  /// The parts of a `CaptureSpec` that matter here.
  struct Capture: Equatable, Sendable {
    var name: String
    var config: JSONValue
    var bindings: [Binding]
    var isContainer = false
    /// Resources of bindings that were captured once, and are not any more.
    var inactive: [JSONValue] = []
  }

  struct Binding: Equatable, Sendable {
    var resource: JSONValue
    /// Under this key the binding's state is kept; it changes when the user asks for a backfill.
    var stateKey: String
  }

  private static let kinds = ["spec", "discover", "validate", "apply", "open", "acknowledge"]

  /// - Throws: Why the line is no request; never quotes it, since it may hold credentials.
  init(line: [UInt8]) throws(FlowProtocolError) {
    let value: JSONValue
    do throws(JSONSyntaxError) {
      value = try JSONValue.parse(line)
    } catch {
      throw FlowProtocolError("a request is \(error)")
    }
    guard let request = value.objectValue else { throw FlowProtocolError("a request is not a JSON object") }
    let present = Self.kinds.filter { request[$0] != nil && request[$0] != .null }
    guard present.count == 1, let kind = present.first else {
      throw FlowProtocolError(
        "a request must hold exactly one of \(Self.kinds.joined(separator: ", ")); this one holds "
          + (present.isEmpty ? "none" : present.joined(separator: " and ")))
    }
    guard let fields = request[kind]?.objectValue else { throw FlowProtocolError("\(kind) is not a JSON object") }
    switch kind {
    case "spec": self = .spec
    case "discover": self = .discover(config: fields["config"] ?? .null)
    case "validate":
      let bindings = try Self.list(fields["bindings"], "validate.bindings")
      self = .validate(
        Validation(
          config: fields["config"] ?? .null,
          bindings: bindings.map { binding in
            let collection = binding["collection"]?.objectValue
            return ProposedBinding(
              resource: binding["resourceConfig"] ?? .null, collection: collection?["name"]?.stringValue,
              key: collection?["key"]?.arrayValue?.compactMap(\.stringValue))
          }, isContainer: Self.isContainer(fields)))
    case "apply": self = .apply(try Self.capture(fields["capture"], in: kind))
    case "open":
      let state = fields["state"] ?? .null
      self = .open(
        try Self.capture(fields["capture"], in: kind), range: try KeyRange(json: fields["range"]),
        state: state == .null ? .object(JSONObject()) : state)
    default:
      // protobuf's JSON writes 32-bit integers as numbers; a missing one is 0, which is no acknowledgement.
      guard let count = fields["checkpoints"]?.int64Value, (1...Int64(UInt32.max)).contains(count) else {
        throw FlowProtocolError("acknowledge.checkpoints must be a number of at least 1")
      }
      self = .acknowledge(checkpoints: Int(count))
    }
  }

  private static func capture(_ value: JSONValue?, in kind: String) throws(FlowProtocolError) -> Capture {
    guard let fields = value?.objectValue else { throw FlowProtocolError("\(kind).capture is missing") }
    var bindings: [Binding] = []
    for binding in try list(fields["bindings"], "\(kind).capture.bindings") {
      let path = binding["resourcePath"]?.arrayValue?.compactMap(\.stringValue) ?? []
      bindings.append(
        Binding(
          resource: binding["resourceConfig"] ?? .null,
          // Runtimes of before state keys: the resource path identifies the binding as well.
          stateKey: binding["stateKey"]?.stringValue ?? path.joined(separator: "/")))
    }
    let inactive = try list(fields["inactiveBindings"], "\(kind).capture.inactiveBindings")
    return Capture(
      name: fields["name"]?.stringValue ?? "", config: fields["config"] ?? .null, bindings: bindings,
      isContainer: isContainer(fields), inactive: inactive.map { $0["resourceConfig"] ?? .null })
  }

  /// protobuf's JSON writes an enumeration by name, and takes its number as well.
  private static func isContainer(_ fields: JSONObject) -> Bool {
    fields["connectorType"] == .string("IMAGE") || fields["connectorType"] == .number("7")
  }

  private static func list(_ value: JSONValue?, _ path: String) throws(FlowProtocolError) -> [JSONObject] {
    guard let value, value != .null else { return [] }
    guard let elements = value.arrayValue else { throw FlowProtocolError("\(path) is not a list") }
    var objects: [JSONObject] = []
    for element in elements {
      guard let object = element.objectValue else { throw FlowProtocolError("\(path) holds what is no object") }
      objects.append(object)
    }
    return objects
  }
}
