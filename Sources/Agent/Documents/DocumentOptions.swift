import AMQP

/// How documents are made, the settings under `document`.
struct DocumentOptions: Equatable, Sendable {
  var body = BodyPolicy.auto
  var bodyRaw = BodyRawPolicy.always
  /// Bytes of the largest document, without the line feed after it.
  var maxBytes = 16 << 20
  var oversize = OversizePolicy.fail

  /// Which bodies intake does not keep whole. Nothing makes a document smaller than half of its body but a compression that makes
  /// larger what it compresses, and JSON of which most is white space: UTF-16 comes near. So what is cut is too large; of JSON what is
  /// more than eight times as large is taken for it.
  var bodyLimit: BodyLimit {
    let largest = 2 * min(maxBytes, .max / 4) + 1024
    return BodyLimit(largest: largest, largestJSON: 4 * largest, kept: oversize == .truncate ? maxBytes : 0)
  }

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
