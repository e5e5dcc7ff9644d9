import Journal

/// The lines that the connector sends. The runtime decodes them strictly: an unknown or repeated field is fatal.
enum FlowResponse {
  /// Version of the protocol that the runtime insists on.
  static let protocolVersion = 3_032_023
  static let documentationURL = "https://github.com/estuary/source-amqp#readme"

  static var spec: [UInt8] {
    line([
      "spec": .object([
        "protocol": .number("\(protocolVersion)"), "configSchema": SettingsTable.endpointSchema,
        "resourceConfigSchema": SettingsTable.resourceSchema, "documentationUrl": .string(documentationURL),
        "resourcePathPointers": .array([.string("/stream")]),
      ])
    ])
  }

  /// One binding: everything in the queue goes to one stream, named like it.
  static func discovered(queue: String) -> [UInt8] {
    line([
      "discovered": .object([
        "bindings": .array([
          .object([
            "recommendedName": .string(queue), "resourceConfig": .object(["stream": .string(queue)]),
            "documentSchema": DocumentSchema.value, "key": .array(DocumentSchema.key.map { .string($0) }),
            "resourcePath": .array([.string(queue)]), "isFallbackKey": .bool(true),
          ])
        ])
      ])
    ])
  }

  static func validated(streams: [String]) -> [UInt8] {
    let bindings = streams.map { JSONValue.object(["resourcePath": .array([.string($0)])]) }
    return line(["validated": .object(["bindings": .array(bindings)])])
  }

  /// - Parameter description: What was done; empty if there was nothing to do.
  static func applied(_ description: String) -> [UInt8] {
    line(["applied": .object(["actionDescription": .string(description)])])
  }

  static var opened: [UInt8] { line(["opened": .object(["explicitAcknowledgements": .bool(true)])]) }

  /// What stands after a document's text (``FlowBinding/prefix``).
  static let capturedSuffix = Array("}}\n".utf8)

  /// A checkpoint as a merge patch under the state keys of the bindings of which it covers anything new.
  ///
  /// - Parameters:
  ///   - bindings: Of each subscription.
  ///   - isKept: The journal outlives the process, and may hold what the broker no longer has.
  ///   - hasParked: It does, whatever is emitted.
  static func checkpoint(
    _ checkpoint: Checkpoint, _ bindings: [FlowBinding], journal: String, isKept: Bool = false,
    hasParked: Bool = false
  ) -> [UInt8] {
    var states = JSONObject()
    for part in checkpoint.parts {
      var state: JSONObject = ["journal": .string(journal), "position": .number(checkpoint.through.description)]
      // In a merge patch null removes what a session with other settings left there.
      for member in bindings[part.index].stale { state[member] = .null }
      if isKept { state["kept"] = .bool(!checkpoint.isLast || hasParked) }
      if let redelivery = part.redelivery { state["redelivery"] = redelivery.json }
      if let stream = part.stream { state["stream"] = stream.json }
      states[bindings[part.index].stateKey] = .object(state)
    }
    return line([
      "checkpoint": .object([
        "state": .object([
          "updated": .object(["bindingStateV1": .object(states)]),
          "mergePatch": .bool(true),
        ])
      ])
    ])
  }

  private static func line(_ object: JSONObject) -> [UInt8] {
    var bytes: [UInt8] = []
    JSONValue.object(object).append(to: &bytes)
    bytes.append(0x0A)
    return bytes
  }
}
