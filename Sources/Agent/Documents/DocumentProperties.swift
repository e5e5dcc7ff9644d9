/// The properties that decide what becomes of a body, found in the text that ``PropertiesRenderer`` made.
///
/// Content type and encoding are its first members if they are there at all, so that hardly anything else needs to be
/// read. A header `compression`, by which Celery and Kombu say it, is looked for only if that word occurs.
/// https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.compression.html
struct DocumentProperties {
  private(set) var saysJSON = false
  /// The content type names a format of bytes, not of text.
  private(set) var saysBinary = false
  /// In the order in which they are undone; empty for none.
  private(set) var codings: [BodyRules.Coding] = []
  /// What the message says; nil if it says nothing that is known.
  private(set) var charset: BodyCharset?

  init(_ properties: Span<UInt8>) {
    var index = 1
    if let type = Self.string(#""content_type":"#, properties, &index) {
      let type = properties.extracting(type)
      saysJSON = BodyRules.saysJSON(type)
      if !saysJSON { saysBinary = BodyMediaType.isBinary(type) }
      charset = BodyMediaType.charset(type)
      if index < properties.count, properties[index] == UInt8(ascii: ",") { index += 1 }
    }
    if let encoding = Self.string(#""content_encoding":"#, properties, &index), !encoding.isEmpty {
      read(contentEncoding: properties.extracting(encoding))
    }
    if codings.isEmpty, JSONScanner.contains(#""compression":""#, properties) { read(headersOf: properties) }
  }

  /// A list of codings, in the order in which they were applied, and a charset: `gzip, UTF-8`, or `gzip:UTF-8` as older
  /// publishers write it.
  private mutating func read(contentEncoding text: Span<UInt8>) {
    var found: [BodyRules.Coding] = []
    for name in BodyMediaType.words(text, separators: [UInt8(ascii: ","), UInt8(ascii: ":")]) {
      if let coding = BodyRules.Coding(name: name) {
        found.append(coding)
      } else if BodyRules.Coding.isUnknown(name) {
        return
      } else {
        charset = charset ?? BodyCharset(name: name)
      }
    }
    // No publisher compresses more often, and a bomb shall not.
    if found.count <= 4 { codings = found.reversed() }
  }

  private mutating func read(headersOf properties: Span<UInt8>) {
    var text: [UInt8] = []
    text.append(copying: properties)
    guard let name = (try? JSONValue.parse(text))?["headers"]?["compression"]?.stringValue?.lowercased(),
      ["application/x-gzip", "application/gzip", "application/zlib", "gzip", "x-gzip", "zlib", "deflate"].contains(name)
    else { return }
    codings = [.gzipOrZlib]
  }

  /// Reads the member with `key` at `index`: the content of its string, escapes and all (no media type has any).
  private static func string(_ key: StaticString, _ text: Span<UInt8>, _ index: inout Int) -> Range<Int>? {
    var end = index
    guard (try? JSONScanner.literal(key, text, &end)) != nil, end < text.count, text[end] == UInt8(ascii: "\"")
    else { return nil }
    let start = end + 1
    guard (try? JSONScanner.string(text, &end)) != nil else { return nil }
    index = end
    return start..<end - 1
  }
}
