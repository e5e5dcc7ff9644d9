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

  /// - Parameter description: What was done; empty where there was nothing to do.
  static func applied(_ description: String) -> [UInt8] {
    line(["applied": .object(["actionDescription": .string(description)])])
  }

  static var opened: [UInt8] { line(["opened": .object(["explicitAcknowledgements": .bool(true)])]) }

  /// What stands in front of a document's text, and behind it.
  static let capturedPrefix = Array(#"{"captured":{"binding":0,"doc":"#.utf8)
  static let capturedSuffix = Array("}}\n".utf8)

  /// A checkpoint as a merge patch under the binding's state key.
  static func checkpoint(_ checkpoint: Checkpoint, stateKey: String, journal: String) -> [UInt8] {
    var state: JSONObject = ["journal": .string(journal), "position": .number(checkpoint.through.description)]
    if let redelivery = checkpoint.redelivery { state["redelivery"] = redelivery.json }
    if let stream = checkpoint.stream { state["stream"] = stream.json }
    return line([
      "checkpoint": .object([
        "state": .object([
          "updated": .object([
            "bindingStateV1": .object([
              stateKey: .object(state)
            ])
          ]),
          "mergePatch": .bool(true),
        ])
      ])
    ])
  }

  /// Reads what ``checkpoint(_:stateKey:journal:)`` wrote, after the runtime has merged it.
  ///
  /// - Returns: Nil where there is no state under this key.
  /// - Throws: Where there is one that this version does not understand.
  static func mark(in state: JSONValue, stateKey: String) throws(FlowProtocolError) -> ResumeDecision.Mark? {
    guard let mine = state.objectValue?["bindingStateV1"]?.objectValue?[stateKey], mine != .null else { return nil }
    guard let journal = mine.objectValue?["journal"]?.stringValue,
      let position = mine.objectValue?["position"]?.int64Value, position >= 0
    else {
      throw FlowProtocolError("the state under bindingStateV1 / \(stateKey) was not written by this connector")
    }
    return ResumeDecision.Mark(journal: journal, position: Position(rawValue: position))
  }

  /// What recognises redeliveries in the state, for a connector without a journal of its own.
  static func redelivery(in state: JSONValue, stateKey: String) -> RedeliveryState? {
    RedeliveryState(json: state["bindingStateV1"]?[stateKey]?["redelivery"])
  }

  /// Where to go on in a stream, for a connector without a journal of its own.
  static func streamOffset(in state: JSONValue, stateKey: String) -> StreamResumption.State? {
    StreamResumption.State(json: state["bindingStateV1"]?[stateKey]?["stream"])
  }

  private static func line(_ object: JSONObject) -> [UInt8] {
    var bytes: [UInt8] = []
    JSONValue.object(object).append(to: &bytes)
    bytes.append(0x0A)
    return bytes
  }
}
