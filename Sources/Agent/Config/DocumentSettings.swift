/// Which documents carry `body_raw`.
enum BodyRawPolicy: String, Sendable, Equatable, CaseIterable {
  case always
  /// Only where `body` is not parsed JSON.
  case unparsed
  case never
}

/// What happens to a message whose document would be larger than `document.max_bytes`.
enum OversizePolicy: String, Sendable, Equatable, CaseIterable {
  /// The capture stops with an error that names the message and the setting.
  case fail
  /// Rejected without requeue, so that a dead-letter exchange gets it.
  case reject
  case truncate
}

/// How messages become documents.
struct DocumentSettings: Sendable, Equatable {
  let bodyRaw: BodyRawPolicy
  /// 2 MiB to 64 MiB, the document's line.
  let maxBytes: Int
  let oversize: OversizePolicy

  init(_ values: CheckedValues) {
    bodyRaw = values.choice("document.body_raw")
    maxBytes = values.integer("document.max_bytes")
    oversize = values.choice("document.oversize")
  }
}
