/// What a body becomes (`document.body`).
enum BodyPolicy: String, Sendable, Equatable, CaseIterable {
  /// Parsed JSON, a string or base64, by what it is.
  case auto
  /// A string; base64 if it is no text.
  case text
  case base64
}

/// Which documents carry `body_raw`.
enum BodyRawPolicy: String, Sendable, Equatable, CaseIterable {
  case always
  /// Only if `body` is not parsed JSON.
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
  /// Smallest `document.max_bytes`: room for the largest properties (`PropertiesRenderer.maxCount`) and all else beside the body, so that a
  /// truncated document always exists.
  static let minimumMaxBytes = 2 << 20

  let body: BodyPolicy
  let bodyRaw: BodyRawPolicy
  /// 2 MiB to 63 MiB, the document's line.
  let maxBytes: Int
  let oversize: OversizePolicy

  init(_ values: CheckedValues) {
    body = values.choice("document.body")
    bodyRaw = values.choice("document.body_raw")
    maxBytes = values.integer("document.max_bytes")
    oversize = values.choice("document.oversize")
  }
}
