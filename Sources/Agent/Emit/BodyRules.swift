/// Decides what a message's body becomes in its document.
///
/// - A body that is exactly one JSON object or array is parsed: it goes into the document byte for byte, except that
///   white space between tokens is dropped where it contains line breaks, because a document is one line. Numbers keep
///   their text.
/// - A JSON scalar (string, number, literal) is parsed only where `content_type` says JSON. `123` and `true` are text
///   far more often than they are JSON.
/// - Any other UTF-8 is a string; so is what ``JSONChecker`` refuses, among it an object with a key that occurs twice.
///   The empty body is the empty string.
/// - Any other bytes are base64.
///
/// Before that a `content_encoding` of `gzip` (or `x-gzip`) or `deflate` is undone; see ``Coding``.
struct BodyRules {
  /// What the body becomes.
  enum Form: Equatable {
    /// The JSON value at the range, to be copied, without white space between its tokens where `compact`.
    case json(Range<Int>, compact: Bool)
    case text
    case base64
  }

  /// A content encoding that is undone; names are compared without case.
  enum Coding: Equatable {
    case gzip
    /// With zlib wrapper or without.
    case deflate
  }

  private var checker = JSONChecker()

  /// - Parameter saysJSON: The message's content type is one of JSON.
  mutating func form(of body: Span<UInt8>, saysJSON: Bool) -> Form {
    var index = 0
    JSONScanner.skipWhitespace(body, &index)
    if index < body.count, saysJSON || body[index] == UInt8(ascii: "{") || body[index] == UInt8(ascii: "[") {
      if let value = try? checker.check(body) { return .json(value.range, compact: value.hasLineBreaks) }
    }
    return JSONScanner.isUTF8(body) ? .text : .base64
  }

  /// Whether a media type is `application/json`, `text/json` or one with the suffix `+json`, parameters aside.
  static func saysJSON(_ contentType: Span<UInt8>) -> Bool {
    var end = 0
    while end < contentType.count, contentType[end] != UInt8(ascii: ";") { end += 1 }
    let type = trimmed(contentType, 0..<end)
    return equals(contentType, type, "application/json") || equals(contentType, type, "text/json")
      || type.count > 5 && equals(contentType, type.upperBound - 5..<type.upperBound, "+json")
  }

  /// The coding that a `content_encoding` names; nil for none, an unknown one (`utf-8` is common), or several.
  static func coding(_ contentEncoding: Span<UInt8>) -> Coding? {
    let name = trimmed(contentEncoding, 0..<contentEncoding.count)
    if equals(contentEncoding, name, "gzip") || equals(contentEncoding, name, "x-gzip") { return .gzip }
    return equals(contentEncoding, name, "deflate") ? .deflate : nil
  }

  /// Undoes `coding`.
  ///
  /// - Parameters:
  ///   - limit: Most bytes decoded.
  ///   - out: Gets the decoded bytes instead of what it holds.
  /// - Returns: False where the bytes are not of that coding, or too many.
  static func decode(_ body: Span<UInt8>, _ coding: Coding, limit: Int, into out: inout [UInt8]) -> Bool {
    out.removeAll(keepingCapacity: true)
    do {
      switch coding {
      case .gzip: try BodyInflate.gunzip(body, limit: limit, to: &out)
      case .deflate: try BodyInflate.inflate(body, limit: limit, to: &out)
      }
      return true
    } catch {
      return false
    }
  }

  private static func trimmed(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
    var range = range
    while let first = range.first, bytes[first] == 0x20 || bytes[first] == 0x09 { range = first + 1..<range.upperBound }
    while let last = range.last, bytes[last] == 0x20 || bytes[last] == 0x09 { range = range.lowerBound..<last }
    return range
  }

  /// Compares ASCII without case.
  private static func equals(_ bytes: Span<UInt8>, _ range: Range<Int>, _ lowercase: StaticString) -> Bool {
    guard range.count == lowercase.utf8CodeUnitCount else { return false }
    if JSONScanner.matches(lowercase, bytes, range.lowerBound) { return true }
    for offset in 0..<range.count {
      let byte = bytes[range.lowerBound + offset]
      let lower = (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
      // A static string's bytes live for ever, and the offset is below their count.
      guard unsafe lower == lowercase.utf8Start[offset] else { return false }
    }
    return true
  }
}
