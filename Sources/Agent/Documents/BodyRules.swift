/// Decides what a message's body becomes in its document.
///
/// - A body that is exactly one JSON object or array is parsed: it goes into the document byte for byte, except that
///   white space between tokens is dropped if it contains line breaks, because a document is one line. Numbers keep
///   their text.
/// - A JSON scalar (string, number, literal) is parsed only if `content_type` says JSON. `123` and `true` are text
///   far more often than they are JSON.
/// - Any other UTF-8 without NUL is a string; so is what ``JSONChecker`` refuses, among it an object with a key that occurs
///   twice, and JSON with the escape `\u0000`, which databases refuse. The empty body is the empty string.
/// - Any other bytes are base64; so are those that `content_type` declares binary (``BodyMediaType``).
///
/// Before that the codings of `content_encoding` are undone (``Coding``), and a text in another encoding becomes UTF-8
/// (``BodyCharset``).
struct BodyRules {
  /// What the body becomes.
  enum Form: Equatable {
    /// The JSON value at the range, to be copied, without white space between its tokens if `compact`.
    case json(Range<Int>, compact: Bool)
    case text
    case base64
  }

  /// A content encoding that is undone; names are compared without case.
  enum Coding: Equatable {
    case gzip
    /// With zlib wrapper or without.
    case deflate
    /// Whichever the bytes are.
    case gzipOrZlib

    /// - Parameter name: Lower case.
    init?(name: String) {
      switch name {
      case "gzip", "x-gzip": self = .gzip
      case "deflate": self = .deflate
      default: return nil
      }
    }

    /// Whether the name is one of a coding that is not undone here, so that others around it cannot be either.
    static func isUnknown(_ name: String) -> Bool {
      [
        "br", "zstd", "compress", "x-compress", "bzip2", "x-bzip2", "bz2", "lz4", "snappy", "xz", "lzma", "aes",
        "base64",
      ]
      .contains(name)
    }
  }

  private var checker = JSONChecker()

  /// - Parameters:
  ///   - saysJSON: The message's content type is one of JSON.
  ///   - parses: False if JSON stays a text.
  mutating func form(of body: Span<UInt8>, saysJSON: Bool, parses: Bool = true) -> Form {
    var index = 0
    JSONScanner.skipWhitespace(body, &index)
    if parses, index < body.count, saysJSON || body[index] == UInt8(ascii: "{") || body[index] == UInt8(ascii: "[") {
      if let value = try? checker.check(body), !JSONScanner.hasEscapedNUL(body, value.range) {
        return .json(value.range, compact: value.hasLineBreaks)
      }
    }
    return JSONScanner.isText(body) ? .text : .base64
  }

  /// Whether a media type is `application/json`, `text/json` or one with the suffix `+json`, parameters aside.
  static func saysJSON(_ contentType: Span<UInt8>) -> Bool {
    var end = 0
    while end < contentType.count, contentType[end] != UInt8(ascii: ";") { end += 1 }
    let type = trimmed(contentType, 0..<end)
    return equals(contentType, type, "application/json") || equals(contentType, type, "text/json")
      || type.count > 5 && equals(contentType, type.upperBound - 5..<type.upperBound, "+json")
  }

  /// Undoes `codings`, the first one first. Publishers do not agree in which order they name them, so the other one is
  /// tried if this one fails.
  ///
  /// - Parameters:
  ///   - limit: Most bytes decoded, by each.
  ///   - out: Gets the decoded bytes instead of what it holds.
  /// - Returns: False if the bytes are not of these codings, or too many.
  static func decode(_ body: Span<UInt8>, _ codings: [Coding], limit: Int, into out: inout [UInt8]) -> Bool {
    if decode(body, inOrder: codings, limit: limit, into: &out) { return true }
    return codings.count > 1 && decode(body, inOrder: codings.reversed(), limit: limit, into: &out)
  }

  private static func decode(
    _ body: Span<UInt8>, inOrder codings: [Coding], limit: Int, into out: inout [UInt8]
  ) -> Bool {
    guard let first = codings.first, decode(body, first, limit: limit, into: &out) else { return false }
    var further: [UInt8] = []
    for coding in codings.dropFirst() {
      guard decode(out.span, coding, limit: limit, into: &further) else { return false }
      swap(&out, &further)
    }
    return true
  }

  private static func decode(_ body: Span<UInt8>, _ coding: Coding, limit: Int, into out: inout [UInt8]) -> Bool {
    out.removeAll(keepingCapacity: true)
    do {
      switch coding {
      case .gzip: try BodyInflate.gunzip(body, limit: limit, to: &out)
      case .deflate: try BodyInflate.inflate(body, limit: limit, to: &out)
      case .gzipOrZlib:
        if body.count >= 2, body[0] == 0x1F, body[1] == 0x8B {
          try BodyInflate.gunzip(body, limit: limit, to: &out)
        } else {
          try BodyInflate.inflate(body, limit: limit, to: &out)
        }
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
