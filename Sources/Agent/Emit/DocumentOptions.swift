/// How documents are made, the settings under `document`.
struct DocumentOptions: Equatable, Sendable {
  /// Smallest `document.max_bytes`: room for the largest properties (``PropertiesRenderer/maxCount``) and all else
  /// beside the body, so that a truncated document always exists.
  static let minimumMaxBytes = 2 << 20

  var body = BodyPolicy.auto
  var bodyRaw = BodyRawPolicy.always
  /// Bytes of the largest document, without the line feed behind it.
  var maxBytes = 16 << 20
  var oversize = OversizePolicy.fail

  init(
    body: BodyPolicy = .auto, bodyRaw: BodyRawPolicy = .always, maxBytes: Int = 16 << 20,
    oversize: OversizePolicy = .fail
  ) {
    self.body = body
    self.bodyRaw = bodyRaw
    self.maxBytes = maxBytes
    self.oversize = oversize
  }

  init(_ settings: DocumentSettings) {
    self.init(body: settings.body, bodyRaw: settings.bodyRaw, maxBytes: settings.maxBytes, oversize: settings.oversize)
  }
}
