internal import Journal

/// Makes documents: one JSON object on one line for each journaled message.
///
/// Keys come in the order of the specification, an absent one is left out:
/// `received_at`, `body`, `body_truncated`, `body_raw`, `body_encoding`, `body_size`, `properties`, `delivery`
/// (`consumer_tag`, `delivery_tag`, `redelivered`, `exchange`, `routing_key`), `queue`, `virtual_host`, `sequence`,
/// `session_id`.
///
/// - The same row, consumer and options give the same bytes, so that a document that is emitted again is equal to the
///   first one.
/// - Any row gives a document, or is ``Outcome/tooLarge(bytes:)``. No bytes of a message can make one invalid: body and
///   names are checked here (``BodyRules``); `properties` is a JSON object that ``PropertiesRenderer`` made at intake, is
///   checked to be one (a file may be damaged), and is spliced untouched. All else is written here.
/// - `body_raw` is the text in UTF-8, or base64 of the bytes, decoded if a content encoding was undone; it is left out
///   if only it makes a document larger than the limit. `body_size` always counts the bytes received.
/// - A compressed body whose document would exceed the limit when decoded is kept as it was received, so that a small
///   message cannot become one that is too large.
/// - Exchange names and routing keys are strings, and if they are not UTF-8 their base64, which `delivery._base64` tells.
///
/// A renderer keeps scratch memory and what documents of one consumer have in common; use one for many rows.
struct DocumentRenderer {
  /// What became of a row.
  enum Outcome: Equatable, Sendable {
    /// Its document was appended.
    case appended
    /// The document was appended with the beginning of the body.
    case truncated
    /// Nothing was appended, because the document would have `bytes` bytes.
    case tooLarge(bytes: Int)
    /// Nothing was appended, because `properties` is no JSON object: the journal is damaged, or someone has changed it.
    case damaged
  }

  private let options: DocumentOptions
  private var checker = JSONChecker()
  private var rules = BodyRules()
  private var consumer: DocumentConsumer?
  /// A decoded body; kept for its memory.
  private var decoded: [UInt8] = []
  /// A text's UTF-8 if the body has another encoding; kept for its memory.
  private var transcoded: [UInt8] = []

  init(options: DocumentOptions) {
    self.options = options
  }

  /// Appends the document of `row`, without a line feed.
  ///
  /// - Parameter consumer: The one whose id is `row.consumer`.
  /// - Returns: `truncated` only under that policy; `tooLarge` only under the others, and then never for a row for which
  ///   ``oversize(_:consumer:)`` was nil with the same options.
  mutating func append(_ row: Row, consumer: ConsumerRecord, to out: inout [UInt8]) -> Outcome {
    let common = prepare(consumer)
    let properties = row.properties
    guard isObject(properties) else { return .damaged }
    let headers = DocumentProperties(properties)
    let received = row.body
    if row.isCut { return appendCut(headers, row, common, to: &out) }
    if !headers.codings.isEmpty, appendDecoded(received, headers, row, common, to: &out) { return .appended }
    let outcome = withText(of: received, headers) { (renderer, body, content) -> Outcome in
      var body = body
      if let size = renderer.oversize(&body, content, row, common) {
        guard renderer.options.oversize == .truncate else { return .tooLarge(bytes: size) }
        return renderer.appendTruncated(body, content, row, common, size: size, to: &out)
      }
      renderer.write(body, content, row, common, to: &out)
      return .appended
    }
    return outcome
  }

  /// Whether the text is one JSON object, and UTF-8; none at all stands for an empty one.
  private mutating func isObject(_ text: Span<UInt8>) -> Bool {
    if text.isEmpty { return true }
    guard text[0] == UInt8(ascii: "{"), let value = try? checker.check(text) else { return false }
    // A line break would end the document.
    return value.range == 0..<text.count && !value.hasLineBreaks
  }

  /// Decides what the bytes become, and calls `body` with that and the bytes it is of: the text's UTF-8, or, for base64, the
  /// bytes themselves.
  private mutating func withText<Result>(
    of bytes: Span<UInt8>, _ headers: DocumentProperties,
    _ body: (inout DocumentRenderer, Body, Span<UInt8>) -> Result
  ) -> Result {
    if options.body == .base64 || options.body == .auto && headers.saysBinary {
      return body(&self, Body(form: .base64), bytes)
    }
    var text = transcoded
    transcoded = []
    defer { if text.capacity <= 1 << 20 { transcoded = text } }
    guard let source = BodyCharset.text(of: bytes, headers.charset, into: &text) else {
      return body(&self, Body(form: .base64), bytes)
    }
    func decide(_ content: Span<UInt8>) -> Result {
      let form = rules.form(of: content, saysJSON: headers.saysJSON, parses: options.body == .auto)
      return body(&self, Body(form: form), form == .base64 ? bytes : content)
    }
    switch source {
    case .bytes(let start): return decide(bytes.extracting(start..<bytes.count))
    case .transcoded: return decide(text.span)
    }
  }

  /// The size of the document of `row` if that exceeds `document.max_bytes`; nil if it fits, or is truncated.
  ///
  /// For intake, so that a message is refused before it is acknowledged. Nearly always it only compares lengths; large
  /// bodies are measured, not rendered. `row.position` does not matter: the largest sequence is assumed.
  mutating func oversize(_ row: Row, consumer: ConsumerRecord) -> Int? {
    if options.oversize == .truncate { return nil }
    if row.isCut { return row.bodySize }
    let common = prepare(consumer)
    let received = row.body
    if upperBound(bodyCount: received.count, row, common) <= options.maxBytes { return nil }
    let headers = DocumentProperties(row.properties)
    guard let size = oversize(of: received, headers, row, common) else { return nil }
    // What is too large as it was received may still fit when it is decoded, as JSON above all.
    if !headers.codings.isEmpty {
      var decoded = takeScratch()
      defer { keepScratch(decoded) }
      if BodyRules.decode(received, headers.codings, limit: options.maxBytes, into: &decoded),
        oversize(of: decoded.span, headers, row, common) == nil
      {
        return nil
      }
    }
    return size
  }

  /// The size of the document with these bytes as its body if it exceeds the limit.
  private mutating func oversize(
    of bytes: Span<UInt8>, _ headers: DocumentProperties, _ row: Row, _ common: DocumentConsumer
  ) -> Int? {
    withText(of: bytes, headers) { (renderer, body, content) -> Int? in
      var body = body
      return renderer.oversize(&body, content, row, common)
    }
  }

  /// How the body appears.
  private struct Body {
    var form: BodyRules.Form
    /// `body_raw` is left out, since only it makes the document too large.
    var dropsRaw = false
    /// Only so many bytes of it, as a string.
    var prefix: Int?
  }

  private mutating func prepare(_ record: ConsumerRecord) -> DocumentConsumer {
    if let consumer, consumer.record == record { return consumer }
    let prepared = DocumentConsumer(record)
    consumer = prepared
    return prepared
  }

  /// Appends the document with the body decoded; false if it cannot be, or the document would be too large.
  private mutating func appendDecoded(
    _ received: Span<UInt8>, _ headers: DocumentProperties, _ row: Row, _ common: DocumentConsumer,
    to out: inout [UInt8]
  ) -> Bool {
    var decoded = takeScratch()
    defer { keepScratch(decoded) }
    guard BodyRules.decode(received, headers.codings, limit: options.maxBytes, into: &decoded) else { return false }
    return withText(of: decoded.span, headers) { (renderer, body, content) -> Bool in
      var body = body
      guard renderer.oversize(&body, content, row, common) == nil else { return false }
      renderer.write(body, content, row, common, to: &out)
      return true
    }
  }

  private mutating func takeScratch() -> [UInt8] {
    defer { decoded = [] }
    return decoded
  }

  /// Keeps the memory for the next body; but a single huge message must not occupy it for ever.
  private mutating func keepScratch(_ scratch: [UInt8]) {
    if scratch.capacity <= 1 << 20 { decoded = scratch }
  }

  // MARK: - Size

  /// The document's size if it exceeds the limit, also without `body_raw`, which goes first.
  private func oversize(
    _ body: inout Body, _ content: Span<UInt8>, _ row: Row, _ common: DocumentConsumer
  ) -> Int? {
    if upperBound(bodyCount: content.count, row, common) <= options.maxBytes { return nil }
    let frame = frameCount(row, common)
    if frame + bodyCount(body, content) <= options.maxBytes { return nil }
    body.dropsRaw = true
    let size = frame + bodyCount(body, content)
    return size > options.maxBytes ? size : nil
  }

  /// At least the document's size: as if each byte took six, in `body` and in `body_raw`.
  private func upperBound(bodyCount: Int, _ row: Row, _ common: DocumentConsumer) -> Int {
    12 * bodyCount + row.properties.count + 6 * (row.exchange.count + row.routingKey.count) + common.count + 512
  }

  /// The exact size of everything but the members that ``appendBody(_:_:to:)`` writes, with the longest sequence.
  private func frameCount(_ row: Row, _ common: DocumentConsumer) -> Int {
    var frame: [UInt8] = []
    appendStart(row, to: &frame)
    appendEnd(row, common, to: &frame)
    return frame.count - decimalCount(sequence(row, common)) + decimalCount(Int64.max)
  }

  /// The exact count of what ``appendBody(_:_:to:)`` appends.
  private func bodyCount(_ body: Body, _ content: Span<UInt8>) -> Int {
    let raw = hasRaw(body)
    let keys = #""body":"#.utf8.count + (raw ? #","body_raw":"#.utf8.count : 0)
    switch body.form {
    case .json(let range, let compact):
      let value = compact ? JSONChecker.compactCount(content, range) : range.count
      return keys + value + (raw ? 2 + jsonStringContentCount(content) : 0)
    case .text:
      return keys + (2 + jsonStringContentCount(content)) * (raw ? 2 : 1)
    case .base64:
      return keys + (2 + Base64.encodedCount(content.count)) * (raw ? 2 : 1)
        + #","body_encoding":"base64""#.utf8.count
    }
  }

  private func hasRaw(_ body: Body) -> Bool {
    if body.prefix != nil || body.dropsRaw { return false }
    switch options.bodyRaw {
    case .always: return true
    case .never: return false
    case .unparsed:
      if case .json = body.form { return false }
      return true
    }
  }

  // MARK: - Writing

  private func write(
    _ body: Body, _ content: Span<UInt8>, _ row: Row, _ common: DocumentConsumer, to out: inout [UInt8]
  ) {
    appendStart(row, to: &out)
    appendBody(body, content, to: &out)
    appendEnd(row, common, to: &out)
  }

  /// Appends the document with as much of the body as fits, cut between characters.
  private func appendTruncated(
    _ body: Body, _ content: Span<UInt8>, _ row: Row, _ common: DocumentConsumer, size: Int, to out: inout [UInt8]
  ) -> Outcome {
    let isText = body.form != .base64
    let around =
      #""body":"","body_truncated":true"#.utf8.count + (isText ? 0 : #","body_encoding":"base64""#.utf8.count)
    let room = options.maxBytes - frameCount(row, common) - around
    // Cannot be, with at least `DocumentSettings.minimumMaxBytes` and names as AMQP bounds them.
    guard room >= 0 else { return .tooLarge(bytes: size) }
    let prefix = isText ? jsonStringContentPrefix(content, limit: room) : room / 4 * 3
    write(
      Body(form: isText ? .text : .base64, prefix: min(prefix, content.count)), content, row, common, to: &out)
    return .truncated
  }

  /// Appends the document of a message of which intake has kept the beginning only: as text if it is some up to where it was cut.
  private mutating func appendCut(
    _ headers: DocumentProperties, _ row: Row, _ common: DocumentConsumer, to out: inout [UInt8]
  ) -> Outcome {
    let received = row.body
    // The last character may have lost some of its up to four bytes.
    for lost in 0..<min(4, received.count) {
      let outcome = withText(of: received.extracting(first: received.count - lost), headers) {
        (renderer, body, content) -> Outcome? in
        if body.form == .base64 { return nil }
        return renderer.appendTruncated(body, content, row, common, size: row.bodySize, to: &out)
      }
      if let outcome { return outcome }
    }
    return appendTruncated(Body(form: .base64), received, row, common, size: row.bodySize, to: &out)
  }

  private func appendStart(_ row: Row, to out: inout [UInt8]) {
    out.append(addingCapacity: 64) { output in
      output.append(text: #"{"received_at":""#)
      RFC3339.append(row.receivedAt, fractionalDigits: 6, to: &output)
      output.append(text: #"","#)
    }
  }

  private func appendBody(_ body: Body, _ content: Span<UInt8>, to out: inout [UInt8]) {
    let content = content.extracting(first: body.prefix ?? content.count)
    out.append(text: #""body":"#)
    if case .json(let range, let compact) = body.form {
      if compact {
        JSONChecker.appendCompact(content, range, to: &out)
      } else {
        out.append(copying: content.extracting(range))
      }
    } else {
      appendString(body, content, to: &out)
    }
    if body.prefix != nil { out.append(text: #","body_truncated":true"#) }
    if hasRaw(body) {
      out.append(text: #","body_raw":"#)
      appendString(body, content, to: &out)
    }
    if body.form == .base64 { out.append(text: #","body_encoding":"base64""#) }
  }

  /// Appends the body as text or base64, quotes included.
  private func appendString(_ body: Body, _ content: Span<UInt8>, to out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    if body.form == .base64 {
      Base64.append(content, to: &out)
    } else {
      appendJSONStringContent(content, to: &out)
    }
    out.append(UInt8(ascii: "\""))
  }

  private func appendEnd(_ row: Row, _ common: DocumentConsumer, to out: inout [UInt8]) {
    let properties = row.properties
    let (beforeTag, beforeSequence, afterSequence) = (
      common.beforeDeliveryTag, common.beforeSequence, common.afterSequence
    )
    // Room for the constants and two numbers.
    out.append(addingCapacity: properties.count + beforeTag.count + 128) { output in
      output.append(text: #","body_size":"#)
      output.append(decimal: row.bodySize)
      output.append(text: #","properties":"#)
      if properties.isEmpty { output.append(text: "{}") } else { output.append(copying: properties) }
      output.append(copying: beforeTag.span)
      output.append(decimal: row.deliveryTag)
      output.append(text: row.redelivered ? #","redelivered":true,"exchange":"# : #","redelivered":false,"exchange":"#)
    }
    let exchange = row.exchange
    let exchangeIsText = PropertiesRenderer.appendShortString(exchange, to: &out)
    out.append(text: #","routing_key":"#)
    let routingKey = row.routingKey
    let routingKeyIsText = PropertiesRenderer.appendShortString(routingKey, to: &out)
    if !exchangeIsText || !routingKeyIsText {
      let keys: [StaticString] =
        (exchangeIsText ? [] : [#""exchange":"#]) + (routingKeyIsText ? [] : [#""routing_key":"#])
      out.append(text: #","_base64":"#)
      PropertiesRenderer.appendNames(of: keys, to: &out)
    }
    out.append(addingCapacity: beforeSequence.count + 20 + afterSequence.count) { output in
      output.append(copying: beforeSequence.span)
      output.append(decimal: sequence(row, common))
      output.append(copying: afterSequence.span)
    }
  }

  private func sequence(_ row: Row, _ common: DocumentConsumer) -> Int64 {
    row.number.rawValue &- common.record.sessionBase.rawValue
  }
}

/// What all documents of one consumer have in common, rendered once. A class, so that passing it on copies nothing.
private final class DocumentConsumer {
  let record: ConsumerRecord
  let beforeDeliveryTag: [UInt8]
  let beforeSequence: [UInt8]
  let afterSequence: [UInt8]

  init(_ record: ConsumerRecord) {
    func text(_ write: (inout [UInt8]) -> Void) -> [UInt8] {
      var bytes: [UInt8] = []
      write(&bytes)
      return bytes
    }
    self.record = record
    beforeDeliveryTag = text {
      $0.append(text: #","delivery":{"consumer_tag":"#)
      appendJSONString(record.tag, to: &$0)
      $0.append(text: #","delivery_tag":"#)
    }
    beforeSequence = text {
      $0.append(text: #"},"queue":"#)
      appendJSONString(record.queue, to: &$0)
      $0.append(text: #","virtual_host":"#)
      appendJSONString(record.virtualHost, to: &$0)
      $0.append(text: #","sequence":"#)
    }
    afterSequence = text {
      $0.append(text: #","session_id":"#)
      appendJSONString(record.sessionID, to: &$0)
      $0.append(text: "}")
    }
  }

  var count: Int { beforeDeliveryTag.count + beforeSequence.count + afterSequence.count }
}
