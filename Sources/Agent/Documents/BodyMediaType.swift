/// What a message's content type says of its body.
enum BodyMediaType {
  /// Formats of bytes, by whatever name publishers give them: `application/x-protobuf`, `application/vnd.google.protobuf`,
  /// `avro/binary`, `application/msgpack` …
  private static let binaryWords = [
    "protobuf", "avro", "msgpack", "messagepack", "bson", "cbor", "thrift", "flatbuffers", "octet-stream",
    "java-serialized-object", "x-java-serialized", "gzip", "zip", "x-tar", "pdf", "x-erlang-binary", "parquet",
    "proto", "arrow",
  ]
  /// What may follow on such a name: `vnd.apache.avro+binary`, `vnd.apache.thrift.binary`, `vnd.apache.arrow.stream`.
  private static let binaryEndings = ["+binary", ".binary", "-binary", ".stream", ".file"]
  private static let binaryTypes = ["image", "audio", "video", "font"]

  /// Whether the media type names a format of bytes, parameters aside.
  static func isBinary(_ contentType: Span<UInt8>) -> Bool {
    guard let type = words(contentType, separators: [UInt8(ascii: ";")]).first else { return false }
    let parts = type.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2 else { return false }
    // Text formats of these families: image/svg+xml, application/avro+json.
    if type.hasSuffix("+json") || type.hasSuffix("+xml") { return false }
    if parts[0] == "text" { return false }
    if binaryTypes.contains(String(parts[0])) { return true }
    // The subtype, and each of its words between dots, hyphens and plus signs: vnd.google.protobuf.
    var subtype = String(parts[1])
    if subtype == "grpc" { return true }
    if let ending = binaryEndings.first(where: subtype.hasSuffix) { subtype.removeLast(ending.utf8.count) }
    return binaryWords.contains { word in
      subtype == word || subtype.hasSuffix(".\(word)") || subtype.hasSuffix("-\(word)") || subtype.hasSuffix("+\(word)")
        || [".", "+", "-"].contains { subtype.hasPrefix("\(word)\($0)") } || subtype.hasPrefix("x-\(word)")
        || subtype.hasPrefix("vnd.\(word)")
    } || parts[0] == "avro"
  }

  /// The parameter `charset`, if it names one that is known.
  static func charset(_ contentType: Span<UInt8>) -> BodyCharset? {
    var hasParameters = false
    for index in contentType.indices where contentType[index] == UInt8(ascii: ";") { hasParameters = true }
    guard hasParameters else { return nil }
    for parameter in words(contentType, separators: [UInt8(ascii: ";")]).dropFirst()
    where parameter.hasPrefix("charset") {
      let value = parameter.dropFirst(7).drop { $0 == " " || $0 == "\t" }
      guard value.first == "=" else { continue }
      let name = value.dropFirst().filter { !" \t\"\\\'".contains($0) }
      return BodyCharset(name: String(name))
    }
    return nil
  }

  /// The parts between `separators`, in lower case, without blanks around them; empty ones are left out.
  static func words(_ text: Span<UInt8>, separators: [UInt8]) -> [String] {
    var words: [String] = []
    var word: [UInt8] = []
    func end() {
      while let last = word.last, last == 0x20 || last == 0x09 { word.removeLast() }
      if !word.isEmpty { words.append(String(decoding: word, as: UTF8.self)) }
      word.removeAll()
    }
    for index in text.indices {
      let byte = text[index]
      if separators.contains(byte) {
        end()
      } else if !(word.isEmpty && (byte == 0x20 || byte == 0x09)) {
        word.append((0x41...0x5A).contains(byte) ? byte | 0x20 : byte)
      }
    }
    end()
    return words
  }
}
