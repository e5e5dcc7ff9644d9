internal import AMQP
import Platform

/// Turns a message's property block into the document's `properties`: a JSON object, rendered once, at intake.
///
/// The journal keeps the text and the emitter splices it into documents untouched. Whatever a publisher sent, the result
/// is one valid JSON object on one line that no strict reader refuses: keys occur once, strings are UTF-8, nesting and
/// size are bounded.
///
/// **Properties**: in the protocol's order under the names of the specification; absent ones are left out; `{}` for
/// none. A string stays one, so that a collection can be keyed by it: if it is not UTF-8 it becomes its base64, and a last
/// member, `_base64`, lists the names of those. A timestamp in seconds that RFC 3339 can write (up to the
/// year 9999) is the date-time `timestamp`. A greater number that is such an instant in milliseconds, as some clients
/// send, is both the date-time `timestamp` and the number `timestamp_raw`. Any other is `timestamp_raw` alone.
///
/// **Headers** become typed JSON: booleans; integers exactly, in decimal; floats with the shortest digits that read
/// back equal in their own width, `"NaN"`, `"Infinity"` and `"-Infinity"` as strings; decimals as an exact number;
/// timestamps as date-times if they are ones (seconds or milliseconds, as above), else the raw integer; tables and
/// arrays nested; void as null; long strings as strings; bytes, and strings that are not UTF-8, as `{"base64":"…"}`.
///
/// **What an object cannot hold.** If in a table a key occurs twice or is not UTF-8, the first field with a key
/// stays under it; the others follow in a last member, `_fields`, as a list of pairs `[key, value]` in wire order. (A
/// member of that name from the publisher moves ours to the first free one of `__fields`, `___fields` …) Arrays and
/// tables nested deeper than ``maxDepth`` levels become `{"_note":"too deep"}`. If headers are malformed, what came
/// before is kept and `["_note", "malformed"]` is the last of `_fields`, or `{"_note":"malformed"}` the last of an
/// array. A block that is malformed itself becomes `{"_note":"malformed"}`, and headers whose text would exceed
/// ``maxCount`` become `{"_note":"too large"}`. In all these cases the result is ``Fidelity/lossy``, and the caller
/// keeps the block itself beside the text.
///
/// A renderer keeps scratch memory; use one for many messages.
struct PropertiesRenderer {
  /// Deepest nesting of containers inside of `headers`. Together with the document around it that stays far below the
  /// hundred levels that readers downstream accept.
  static let maxDepth = 64

  /// Most bytes that ``render(_:into:)`` appends, so that `document.max_bytes` (2 MiB or more) has room for them. Only
  /// hostile headers come near: a block is at most 262,144 bytes, and it takes many one-byte values to grow so much.
  static let maxCount = 1 << 20

  /// Whether the JSON says everything that the block said, apart from the widths of its types.
  enum Fidelity: Equatable, Sendable {
    case exact
    /// Something could not be held as it was; keep the block.
    case lossy
  }

  private var keys = JSONKeys()
  private var fidelity = Fidelity.exact

  /// Appends `block`, as a content header carries it, as one JSON object; at most ``maxCount`` bytes.
  mutating func render(_ block: Span<UInt8>, into out: inout [UInt8]) -> Fidelity {
    render(try? BasicProperties(block: block), of: block, into: &out)
  }

  /// The same for a block that was decoded as `properties`; nil if it is malformed.
  mutating func render(
    _ properties: BasicProperties?, of block: Span<UInt8>, into out: inout [UInt8]
  ) -> Fidelity {
    keys.removeAll()
    fidelity = .exact
    // A block of flags alone: no properties.
    if block.count == 2, block[0] == 0, block[1] == 0 {
      out.append(text: "{}")
      return .exact
    }
    guard let properties else {
      out.append(text: #"{"_note":"malformed"}"#)
      return .lossy
    }
    unsafe withUnsafeTemporaryAllocation(byteCount: ScratchBytes.stackBytes, alignment: 16) { scratch in
      var text = unsafe ScratchBytes(scratch)
      text.append(UInt8(ascii: "{"))
      var object = Members()
      append(properties, block, &object, to: &text)
      text.append(UInt8(ascii: "}"))
      unsafe out.append(contentsOf: text.bytes)
    }
    return fidelity
  }

  /// Writes the commas between an object's members.
  private struct Members {
    private var isFirst = true

    /// Appends what stands before a member: a comma, except for the first, and its key, as JSON with colon.
    @inline(__always) mutating func begin(_ key: StaticString, to out: inout ScratchBytes) {
      separate(to: &out)
      out.append(text: key)
    }

    @inline(__always) mutating func separate(to out: inout ScratchBytes) {
      if !isFirst { out.append(UInt8(ascii: ",")) }
      isFirst = false
    }
  }

  private mutating func append(
    _ properties: BasicProperties, _ block: Span<UInt8>, _ object: inout Members, to out: inout ScratchBytes
  ) {
    var encoded: [StaticString] = []
    func string(_ key: StaticString, _ range: Range<Int>?) {
      guard let range else { return }
      object.begin(key, to: &out)
      if !Self.appendShortString(block.extracting(range), to: &out) { encoded.append(key) }
    }
    string(#""content_type":"#, properties.contentType)
    string(#""content_encoding":"#, properties.contentEncoding)
    if let headers = properties.headers {
      object.begin(#""headers":"#, to: &out)
      appendHeaders(headers, block, to: &out)
    }
    if let mode = properties.deliveryMode {
      object.begin(#""delivery_mode":"#, to: &out)
      out.append(decimal: mode)
    }
    if let priority = properties.priority {
      object.begin(#""priority":"#, to: &out)
      out.append(decimal: priority)
    }
    string(#""correlation_id":"#, properties.correlationID)
    string(#""reply_to":"#, properties.replyTo)
    string(#""expiration":"#, properties.expiration)
    string(#""message_id":"#, properties.messageID)
    if let timestamp = properties.timestamp {
      if let digits = Self.fractionalDigits(ofTimestamp: timestamp) {
        object.begin(#""timestamp":"#, to: &out)
        Self.appendTimestamp(timestamp, fractionalDigits: digits, to: &out)
      }
      if !RFC3339.seconds.contains(timestamp) {
        object.begin(#""timestamp_raw":"#, to: &out)
        out.append(decimal: timestamp)
      }
    }
    string(#""type":"#, properties.type)
    string(#""user_id":"#, properties.userID)
    string(#""app_id":"#, properties.appID)
    string(#""cluster_id":"#, properties.clusterID)
    if !encoded.isEmpty {
      object.begin(#""_base64":"#, to: &out)
      Self.appendNames(of: encoded, to: &out)
    }
  }

  /// Appends the headers, or a note if their text would be too long.
  private mutating func appendHeaders(_ range: Range<Int>, _ block: Span<UInt8>, to out: inout ScratchBytes) {
    let start = out.count
    // All other properties together: eleven short strings, at most six bytes for one, and some constants.
    let limit = start + Self.maxCount - 32 * 1024
    appendTable(range, block, depth: 1, limit: limit, to: &out)
    if out.count > limit {
      out.removeAll(from: start)
      out.append(text: #"{"_note":"too large"}"#)
      fidelity = .lossy
    }
  }

  private mutating func appendTable(
    _ range: Range<Int>, _ block: Span<UInt8>, depth: Int, limit: Int, to out: inout ScratchBytes
  ) {
    guard depth <= Self.maxDepth else { return appendTooDeep(to: &out) }
    guard isPlain(range, block) else {
      return appendOddTable(range, block, depth: depth, limit: limit, to: &out)
    }
    out.append(UInt8(ascii: "{"))
    var table = FieldTable(range, of: block)
    var object = Members()
    // It was read to its end just now.
    while out.count <= limit, let field = try? table.next(block) {
      object.separate(to: &out)
      appendJSONString(block.extracting(field.key), to: &out)
      out.append(UInt8(ascii: ":"))
      append(field.value, block, depth: depth, limit: limit, to: &out)
    }
    out.append(UInt8(ascii: "}"))
  }

  /// Whether a table is well-formed on its own level, and its keys are text and all different.
  private mutating func isPlain(_ range: Range<Int>, _ block: Span<UInt8>) -> Bool {
    let mark = keys.mark
    var isText = true
    do {
      var table = FieldTable(range, of: block)
      var count = 0
      while let field = try table.next(block) {
        count += 1
        // Each takes five bytes of text, so that is too large already; there may be millions.
        guard count <= Self.maxCount / 5 else {
          _ = keys.close(from: mark, in: block)
          return false
        }
        keys.append(field.key, in: block)
        if !JSONScanner.isText(block.extracting(field.key)) { isText = false }
      }
    } catch {
      isText = false
    }
    return keys.close(from: mark, in: block) && isText
  }

  /// Appends a table that holds more than an object can; rare, so it may allocate.
  private mutating func appendOddTable(
    _ range: Range<Int>, _ block: Span<UInt8>, depth: Int, limit: Int, to out: inout ScratchBytes
  ) {
    fidelity = .lossy
    var seen: Set<[UInt8]> = []
    var others: [FieldTable.Field] = []
    var isMalformed = false
    var object = Members()
    out.append(UInt8(ascii: "{"))
    do {
      var table = FieldTable(range, of: block)
      while out.count <= limit, let field = try table.next(block) {
        var key: [UInt8] = []
        key.append(copying: block.extracting(field.key))
        guard JSONScanner.isText(key.span), seen.insert(key).inserted else {
          others.append(field)
          // Each takes nine bytes of text, and there may be millions.
          if others.count > limit / 9 { break }
          continue
        }
        object.separate(to: &out)
        appendJSONString(key.span, to: &out)
        out.append(UInt8(ascii: ":"))
        append(field.value, block, depth: depth, limit: limit, to: &out)
      }
    } catch {
      isMalformed = true
    }
    var name = Array("_fields".utf8)
    while seen.contains(name) { name.insert(UInt8(ascii: "_"), at: 0) }
    object.separate(to: &out)
    appendJSONString(name.span, to: &out)
    out.append(text: ":[")
    var list = Members()
    for field in others where out.count <= limit {
      list.separate(to: &out)
      out.append(UInt8(ascii: "["))
      Self.appendString(block.extracting(field.key), to: &out)
      out.append(UInt8(ascii: ","))
      // The list and the pair are levels too.
      append(field.value, block, depth: depth + 2, limit: limit, to: &out)
      out.append(UInt8(ascii: "]"))
    }
    if isMalformed { list.begin(#"["_note","malformed"]"#, to: &out) }
    out.append(text: "]}")
  }

  private mutating func appendArray(
    _ range: Range<Int>, _ block: Span<UInt8>, depth: Int, limit: Int, to out: inout ScratchBytes
  ) {
    guard depth <= Self.maxDepth else { return appendTooDeep(to: &out) }
    out.append(UInt8(ascii: "["))
    var array = FieldArray(range, of: block)
    var list = Members()
    do {
      while out.count <= limit, let value = try array.next(block) {
        list.separate(to: &out)
        append(value, block, depth: depth, limit: limit, to: &out)
      }
    } catch {
      list.begin(#"{"_note":"malformed"}"#, to: &out)
      fidelity = .lossy
    }
    out.append(UInt8(ascii: "]"))
  }

  private mutating func appendTooDeep(to out: inout ScratchBytes) {
    out.append(text: #"{"_note":"too deep"}"#)
    fidelity = .lossy
  }

  /// Appends one value of a container at `depth`.
  private mutating func append(
    _ value: FieldValue, _ block: Span<UInt8>, depth: Int, limit: Int, to out: inout ScratchBytes
  ) {
    switch value {
    case .void: out.append(text: "null")
    case .bool(let value): out.append(text: value ? "true" : "false")
    case .integer(let value): out.append(decimal: value)
    case .float(let value): Self.appendFloat(value, to: &out)
    case .double(let value): Self.appendFloat(value, to: &out)
    case .decimal(let scale, let unscaled): Self.appendDecimal(unscaled, scale: Int(scale), to: &out)
    case .timestamp(let value):
      if let digits = Self.fractionalDigits(ofTimestamp: value) {
        Self.appendTimestamp(value, fractionalDigits: digits, to: &out)
      } else {
        out.append(decimal: value)
      }
    case .string(let range): Self.appendString(block.extracting(range), to: &out)
    case .bytes(let range): Self.appendBytes(block.extracting(range), to: &out)
    case .table(let range): appendTable(range, block, depth: depth + 1, limit: limit, to: &out)
    case .array(let range): appendArray(range, block, depth: depth + 1, limit: limit, to: &out)
    }
  }
}

extension PropertiesRenderer {
  /// Appends a string, or `{"base64":"…"}` if it is not UTF-8 or has a NUL.
  static func appendString<Output: TextOutput & ~Copyable>(_ bytes: Span<UInt8>, to out: inout Output) {
    if JSONScanner.isText(bytes) {
      appendJSONString(bytes, to: &out)
    } else {
      appendBytes(bytes, to: &out)
    }
  }

  /// Appends a string, or its base64 as a string if it is not UTF-8 or has a NUL; then false.
  static func appendShortString<Output: TextOutput & ~Copyable>(_ bytes: Span<UInt8>, to out: inout Output) -> Bool {
    if JSONScanner.isText(bytes) {
      appendJSONString(bytes, to: &out)
      return true
    }
    out.append(UInt8(ascii: "\""))
    Base64.append(bytes, to: &out)
    out.append(UInt8(ascii: "\""))
    return false
  }

  /// Appends the list of the names in `keys`, each of which is a member's key as JSON with colon.
  static func appendNames<Output: TextOutput & ~Copyable>(of keys: [StaticString], to out: inout Output) {
    for (index, key) in keys.enumerated() {
      out.append(index == 0 ? UInt8(ascii: "[") : UInt8(ascii: ","))
      // A static string's bytes live for ever.
      for offset in 0..<key.utf8CodeUnitCount - 1 { out.append(unsafe key.utf8Start[offset]) }
    }
    out.append(UInt8(ascii: "]"))
  }

  private static func appendBytes<Output: TextOutput & ~Copyable>(_ bytes: Span<UInt8>, to out: inout Output) {
    out.append(text: #"{"base64":""#)
    Base64.append(bytes, to: &out)
    out.append(text: #""}"#)
  }

  /// The standard library's description is the shortest text that reads back equal, and JSON if the value is finite.
  private static func appendFloat<Value: BinaryFloatingPoint & CustomStringConvertible>(
    _ value: Value, to out: inout ScratchBytes
  ) {
    if value.isFinite {
      out.append(copying: value.description.utf8Span.span)
    } else if value.isNaN {
      out.append(text: #""NaN""#)
    } else {
      out.append(text: value < 0 ? #""-Infinity""# : #""Infinity""#)
    }
  }

  /// Appends the number with its digits as they are; with an exponent if leading zeros would be many.
  private static func appendDecimal(_ unscaled: Int32, scale: Int, to out: inout ScratchBytes) {
    if unscaled < 0 { out.append(UInt8(ascii: "-")) }
    let digits = Array(String(unscaled.magnitude).utf8)
    if scale == 0 || scale > 20 {
      out.append(copying: digits.span)
      if scale > 0 {
        out.append(text: "e-")
        out.append(decimal: scale)
      }
      return
    }
    let whole = digits.count - scale
    if whole > 0 { out.append(copying: digits.span.extracting(..<whole)) } else { out.append(UInt8(ascii: "0")) }
    out.append(UInt8(ascii: "."))
    for _ in 0..<max(-whole, 0) { out.append(UInt8(ascii: "0")) }
    out.append(copying: digits.span.extracting(max(whole, 0)...))
  }

  /// 0 for a plausible number of seconds, 3 for one of milliseconds, nil for neither.
  private static func fractionalDigits(ofTimestamp value: UInt64) -> Int? {
    if RFC3339.seconds.contains(value) { return 0 }
    return RFC3339.seconds.contains(value / 1000) ? 3 : nil
  }

  private static func appendTimestamp(_ value: UInt64, fractionalDigits digits: Int, to out: inout ScratchBytes) {
    out.append(UInt8(ascii: "\""))
    RFC3339.append(Int64(value), fractionalDigits: digits, to: &out)
    out.append(UInt8(ascii: "\""))
  }
}
