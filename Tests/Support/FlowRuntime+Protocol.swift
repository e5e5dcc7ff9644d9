import Platform

/// One line of the connector's stdout in a capture session.
enum Response {
  case spec(JSON)
  case opened(JSON)
  /// The document, and which binding's it is.
  case captured(JSON, binding: Int)
  /// The checkpoint's `state`, where it has one.
  case checkpoint(JSON?)

  /// Reads a line as Flow does: exactly one message, no member that it does not know, none twice.
  init(line: [UInt8]) throws {
    let text = String(decoding: line.prefix(300), as: UTF8.self)
    guard let message = try JSON(parsing: line).object, message.count == 1, let (kind, body) = message.first else {
      throw SupportError("not exactly one message in a line: \(text)")
    }
    func check(_ value: JSON, _ known: Set<String>) throws {
      guard let members = value.object else { throw SupportError("\(kind) is no object: \(text)") }
      for name in members.keys where !known.contains(name) {
        throw SupportError("unknown member \(name) in \(kind): \(text)")
      }
    }
    switch kind {
    case "spec":
      try check(
        body,
        [
          "protocol", "configSchema", "resourceConfigSchema", "documentationUrl", "oauth2", "resourcePathPointers",
        ])
      guard body["protocol"]?.int == 3_032_023 else { throw SupportError("wrong protocol version: \(text)") }
      self = .spec(body)
    case "opened":
      try check(body, ["explicitAcknowledgements"])
      self = .opened(body)
    case "captured":
      try check(body, ["binding", "doc"])
      guard let document = body["doc"], let members = document.object else {
        throw SupportError("a document that is no object: \(text)")
      }
      // Flow writes /_meta/uuid itself.
      if let meta = members["_meta"], meta.object == nil { throw SupportError("_meta is no object: \(text)") }
      guard let binding = (body["binding"] ?? 0).int else { throw SupportError("no such binding: \(text)") }
      self = .captured(document, binding: binding)
    case "checkpoint":
      try check(body, ["state"])
      if let state = body["state"] {
        try check(state, ["updated", "mergePatch"])
        guard state["updated"]?.object != nil else { throw SupportError("no state.updated: \(text)") }
      }
      self = .checkpoint(body["state"])
    default: throw SupportError("unknown message \(kind): \(text)")
    }
  }
}

/// What a unary request (Spec, Discover, Validate, Apply) came to.
public struct UnaryResult: Sendable {
  /// Every line of stdout, one response each.
  public let responses: [JSON]
  public let exit: ChildProcess.Exit
  /// The connector's stderr lines.
  public let log: [String]
}

/// Sends `requests` as Flow sends a unary request: Spec first (by default), then the request, then the end of stdin.
public func unary(
  _ requests: [JSON], sendSpec: Bool = true, environment: [String: String] = [:], binary: String? = nil
) throws -> UnaryResult {
  struct Output {
    var lines: [[UInt8]] = []
    var torn: [UInt8] = []
    var log: [String] = []
    var ended = 0
  }
  let output = Monitor(Output())
  let child = try ChildProcess(
    try binary ?? connectorBinary(), [],
    environment: ["LOG_LEVEL": "info", "LOG_FORMAT": "json"].merging(environment) { $1 }
  ) { event in
    output.update {
      switch event {
      case .line(let line): $0.lines.append(line)
      case .end(let torn):
        $0.torn = torn
        $0.ended += 1
      }
    }
  } onError: { event in
    output.update {
      switch event {
      case .line(let line): $0.log.append(String(decoding: line, as: UTF8.self))
      case .end: $0.ended += 1
      }
    }
  }
  let spec: JSON = ["spec": ["connectorType": "LOCAL", "config": [:]]]
  // A connector that refuses a request may end before it read all of them; its exit and log say so.
  for request in (sendSpec ? [spec] : []) + requests { try? child.write(line: request.text) }
  child.closeInput()
  let status = try child.waitForExit()
  guard let result = output.wait(atMost: generousLimit, until: { $0.ended == 2 ? $0 : nil }) else {
    throw SupportError("the connector ended, but its output stays open")
  }
  guard result.torn.isEmpty else { throw SupportError("a partial line at the end of the output") }
  return UnaryResult(responses: try result.lines.map { try JSON(parsing: $0) }, exit: status, log: result.log)
}

/// The source-amqp binary: SOURCE_AMQP_BINARY, or the one that was built with these tests.
public func connectorBinary() throws -> String {
  if let path = processEnvironment()["SOURCE_AMQP_BINARY"] { return path }
  var path = try destination(ofLink: "/proc/self/exe").split(separator: "/", omittingEmptySubsequences: false)
  path[path.count - 1] = "source-amqp"
  return path.joined(separator: "/")
}
