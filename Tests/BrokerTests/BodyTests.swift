import Foundation
import Support
import Testing

/// What bodies become, through the real broker and the real process: the whole document, octet by octet (docs/documents.md).
@Suite struct BodyTests {
  /// `{"order":17,"items":["a","b"]}`, compressed by Python 3.11.
  static let text = #"{"order":17,"items":["a","b"]}"#
  static let quoted = #""{\"order\":17,\"items\":[\"a\",\"b\"]}""#
  static let gzip = octets(
    hex: "1f8b0800000000000203ab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad050049c0f17c1e000000")
  static let zlib = octets(hex: "78daab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad050090d808f6")
  static let deflate = Array(zlib.dropFirst(2).dropLast(4))

  static let texts: [Sample] = [
    .body("object", #"{"id":17}"#, is: #"{"id":17}"#, raw: #""{\"id\":17}""#),
    .body("object under another type", #"{"id":17}"#, type: "text/plain", is: #"{"id":17}"#, raw: #""{\"id\":17}""#),
    .body("array", "[1, 2]", is: "[1, 2]", raw: #""[1, 2]""#),
    .body("number as text", "12", is: #""12""#),
    .body("number as JSON", "12", type: "application/json", is: "12", raw: #""12""#),
    .body("literal as text", "true", type: "text/plain", is: #""true""#),
    .body("literal as JSON", "true", type: "Application/JSON; charset=utf-8", is: "true", raw: #""true""#),
    .body("null as JSON", "null", type: "application/vnd.acme+json", is: "null", raw: #""null""#),
    .body("string as JSON", #""é""#, type: "text/json", is: #""é""#, raw: #""\"é\"""#),
    .body("text", "it's 10 €\n", is: #""it's 10 €\n""#),
    .body("empty", "", is: #""""#),
    .body("empty as JSON", "", type: "application/json", is: #""""#),
    .body(
      "numbers beyond 2^53", #"{"n":12345678901234567890,"x":0.10000000000000000555,"e":1E2}"#,
      is: #"{"n":12345678901234567890,"x":0.10000000000000000555,"e":1E2}"#,
      raw: #""{\"n\":12345678901234567890,\"x\":0.10000000000000000555,\"e\":1E2}""#),
    .body("a number beyond a double", "[1e999]", is: #""[1e999]""#),
    .body("a lone surrogate", #"["\ud800"]"#, is: #""[\"\\ud800\"]""#),
    .body("a pair of surrogates", #"["\ud83d\ude9a"]"#, is: #"["\ud83d\ude9a"]"#, raw: #""[\"\\ud83d\\ude9a\"]""#),
    .body(
      "depth 100", nested(100), is: nested(100), raw: "\"\(nested(100))\""),
    .body("depth 101", nested(101), is: "\"\(nested(101))\""),
    .body("a key twice", #"{"a":1,"a":2}"#, is: #""{\"a\":1,\"a\":2}""#),
    .body(
      "line breaks between tokens", "{\n \"a\" : [ 1,\r\n2 ]}", is: #"{"a":[1,2]}"#,
      raw: #""{\n \"a\" : [ 1,\r\n2 ]}""#),
    .body("a line break in a string", "[\"a\nb\"]", is: #""[\"a\nb\"]""#),
    .body("two values", "[1] [2]", type: "application/json", is: #""[1] [2]""#),
    .body("a byte order mark", "\u{FEFF}[]", is: "[]", raw: #""[]""#),
    .body("NaN", "[NaN]", is: #""[NaN]""#),
    .body(
      "words of the document", #"{"session_id":"x","delivery":{"consumer_tag":"source-amqp-x"}}"#,
      is: #"{"session_id":"x","delivery":{"consumer_tag":"source-amqp-x"}}"#,
      raw: #""{\"session_id\":\"x\",\"delivery\":{\"consumer_tag\":\"source-amqp-x\"}}""#),
  ]

  static let binaries: [Sample] = [
    .bytes("no UTF-8", [0xFF, 0xFE], is: #""//4=""#, isBase64: true),
    .bytes("NUL", Array("a\u{0}b".utf8), is: #""YQBi""#, isBase64: true),
    .bytes(
      "a format of octets", Array("text".utf8), type: "application/x-protobuf", is: #""dGV4dA==""#, isBase64: true),
    .bytes("UTF-16 by its mark", [0xFF, 0xFE, 0x5B, 0, 0x5D, 0], is: "[]", raw: #""[]""#),
    .bytes("ISO-8859-1 by its type", [0xE9], type: "text/plain; charset=ISO-8859-1", is: #""é""#),
    .bytes("gzip and a charset", gzip, encoding: "gzip, UTF-8", is: text, raw: quoted),
    .bytes("no UTF-8, says JSON", [0x22, 0x80, 0x22], type: "application/json", is: #""IoAi""#, isBase64: true),
    .bytes("a surrogate in UTF-8", [0xED, 0xA0, 0x80], is: #""7aCA""#, isBase64: true),
    .bytes("all octets", Array(0...255), is: quotedBase64(Array(0...255)), isBase64: true),
    .bytes("gzip", gzip, encoding: "gzip", is: text, raw: quoted),
    .bytes("gzip in capitals", gzip, type: "application/json", encoding: "GZIP", is: text, raw: quoted),
    .bytes("deflate with a wrapper", zlib, encoding: "deflate", is: text, raw: quoted),
    .bytes("deflate without", deflate, encoding: "deflate", is: text, raw: quoted),
    .bytes("gzip that nobody declares", gzip, is: quotedBase64(gzip), isBase64: true),
    .bytes("broken gzip", gzip.dropLast(), encoding: "gzip", is: quotedBase64(gzip.dropLast()), isBase64: true),
    .bytes("text that claims gzip", Array("plain".utf8), encoding: "gzip", is: #""plain""#),
    .bytes("an encoding that is none", Array("plain".utf8), encoding: "utf-8", is: #""plain""#),
  ]

  private static func nested(_ depth: Int) -> String {
    String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
  }

  @Test func `text bodies become JSON or strings, and their text is kept`() throws {
    try Bench().check(Self.texts)
  }

  @Test func `other bodies are decoded or base64, and a bomb is neither`() throws {
    // 64 MiB of zeros.
    let program = "import gzip,base64;print(base64.b64encode(gzip.compress(bytes(1<<26),9)).decode())"
    let encoded = try run("/usr/bin/python3", ["-c", program]).split(separator: "\n")[0]
    let bomb = try #require(decoded(base64: String(encoded)))
    let sample = Sample.bytes("bomb", bomb, encoding: "gzip", is: quotedBase64(bomb), isBase64: true)
    try Bench().check(Self.binaries + [sample] + [Self.texts[0]])
  }

  @Test func `body_raw is left out where body is parsed JSON, or always`() throws {
    for (policy, keeps) in [
      ("unparsed", { (sample: Sample) in !sample.isParsed }), ("never", { (_: Sample) in false }),
    ] {
      let samples = (Self.texts + Self.binaries).map { sample in
        var sample = sample
        if !keeps(sample) { sample.bodyText = sample.withoutRaw }
        return sample
      }
      try Bench().check(samples, ["document": ["body_raw": .string(policy)]])
    }
  }
}

extension Sample {
  fileprivate var withoutRaw: String {
    let encoding = #","body_encoding":"base64""#
    guard let start = bodyText.range(of: #","body_raw":"#, options: .backwards) else { return bodyText }
    return bodyText[..<start.lowerBound] + (bodyText.hasSuffix(encoding) ? encoding : "")
  }
}
