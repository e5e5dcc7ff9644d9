import Foundation
import Testing

@testable import Agent

@Suite struct BodyCharsetTests {
  /// `{"ä":"€😀"}` in each encoding, without a mark.
  private static let text = #"{"ä":"€😀"}"#
  private static let little = Array(text.data(using: .utf16LittleEndian)!)
  private static let big = Array(text.data(using: .utf16BigEndian)!)

  @Test(
    arguments: [
      // By a mark.
      ("", [0xEF, 0xBB, 0xBF] + Array(text.utf8)), ("", [0xFF, 0xFE] + little), ("", [0xFE, 0xFF] + big),
      // By declaration, with and without a mark, in any spelling.
      (#""content_type":"application/json; charset=utf-16le""#, little),
      (#""content_type":"application/json; charset=UTF-16LE""#, [0xFF, 0xFE] + little),
      (#""content_type":"application/json;charset=\"UTF-16BE\"""#, big),
      (#""content_type":"application/json ; version=1; Charset = utf-16""#, big),
      (#""content_type":"application/json; charset=utf-16""#, [0xFF, 0xFE] + little),
      (#""content_type":"application/json; charset=utf-8""#, [0xEF, 0xBB, 0xBF] + Array(text.utf8)),
      (#""content_encoding":"UTF-16LE""#, little), (#""content_encoding":"utf-16""#, [0xFE, 0xFF] + big),
      (#""content_type":"text/plain; charset=utf-8","content_encoding":"UTF-16""#, Array(text.utf8)),
      // A charset that no one knows: the bytes decide.
      (#""content_type":"text/plain; charset=klingon""#, Array(text.utf8)),
    ] as [(String, [UInt8])])
  func `JSON in any encoding is JSON`(properties: String, body: [UInt8]) {
    let message = TestMessage(body, properties: "{\(properties)}")
    let raw = JSONValue.string(Self.text).text
    #expect(message.bodyMembers() == #""body":\#(Self.text),"body_raw":\#(raw)"#)
    #expect(expectJSON(message.document().text)?["body_size"] == .integer(body.count))
  }

  @Test func `ISO-8859-1 is every byte its own code point`() {
    let body = (1...255).map { UInt8($0) }
    let text = String(String.UnicodeScalarView(body.map { Unicode.Scalar($0) }))
    for name in ["iso-8859-1", "ISO8859-1", "latin1"] {
      let message = TestMessage(body, properties: #"{"content_type":"text/plain; charset=\#(name)"}"#)
      #expect(expectJSON(message.document().text)?["body"] == .string(text))
    }
    #expect(
      TestMessage([0xE9], properties: #"{"content_encoding":"iso-8859-1"}"#).bodyMembers()
        == #""body":"é","body_raw":"é""#)
  }

  @Test(
    arguments: [
      // A lone surrogate, half a unit, NUL, a mark alone, UTF-32's mark, other bytes under a charset.
      ("", [0xFF, 0xFE, 0x00, 0xD8]), ("", [0xFF, 0xFE, 0x00, 0xDC]), ("", [0xFF, 0xFE, 0x61]),
      ("", [0xFF, 0xFE, 0, 0]), ("", [0xFF, 0xFE]), ("", [0xFE, 0xFF]), ("", [0xFF, 0xFE, 0, 0, 0x61, 0, 0, 0]),
      (#""content_type":"text/plain; charset=utf-8""#, [0xFF, 0xFE, 0x61, 0]),
      (#""content_type":"text/plain; charset=utf-16""#, [0x61]),
      (#""content_type":"text/plain; charset=iso-8859-1""#, [0x61, 0]),
    ] as [(String, [UInt8])])
  func `what is no text in its encoding is base64 of the bytes received`(properties: String, body: [UInt8]) {
    let base64 = Data(body).base64EncodedString()
    #expect(
      TestMessage(body, properties: "{\(properties)}").bodyMembers()
        == #""body":"\#(base64)","body_raw":"\#(base64)","body_encoding":"base64""#)
  }

  @Test(
    arguments: [
      (#"{"s":"\u0000"}"#, false), (#"{"k\u0000":1}"#, false), (#"["\\\u0000"]"#, false), (#"["a\n\u0000"]"#, false),
      (#"{"s":"\\u0000"}"#, true), (#"["\u0001","\\"]"#, true), (#"["\u00000"]"#, false), (#"["\\\\u0000"]"#, true),
    ])
  func `JSON that says U+0000 stays a text`(body: String, isParsed: Bool) {
    let members = TestMessage(body, properties: #"{"content_type":"application/json"}"#)
      .bodyMembers(DocumentOptions(bodyRaw: .never))
    var text: [UInt8] = []
    appendJSONString(body, to: &text)
    #expect(members == #""body":"# + (isParsed ? body : String(decoding: text, as: UTF8.self)))
  }

  @Test(
    arguments: [
      "application/octet-stream", "Application/Octet-Stream; charset=utf-8", "application/x-protobuf",
      "application/protobuf", "application/vnd.google.protobuf", "application/x-google-protobuf", "avro/binary",
      "application/avro", "application/vnd.apache.avro", "application/avro-binary", "application/msgpack",
      "application/x-msgpack", "application/vnd.msgpack", "application/bson", "application/cbor", "image/png",
      "audio/ogg", "video/mp4", "application/x-java-serialized-object",
      "application/grpc", "application/grpc+proto", "application/vnd.acme.order+proto",
      "application/vnd.apache.avro+binary",
      "application/vnd.apache.thrift.binary", "application/vnd.apache.arrow.stream",
      "application/vnd.apache.arrow.file",
      "application/x-protobuf; messageType=\\\"x.Y\\\"",
    ])
  func `a format of bytes is base64, whatever the bytes are`(type: String) {
    for body in ["text", "{}", ""] {
      let members = TestMessage(body, properties: #"{"content_type":"\#(type)"}"#).bodyMembers()
      #expect(members.hasSuffix(#","body_encoding":"base64""#), "\(members)")
    }
  }

  @Test(
    arguments: [
      "text/plain", "application/json", "application/vnd.avro+json", "image/svg+xml", "application/xml", "json", "avro",
      "application/x-www-form-urlencoded", "application/grpc+json", "application/vnd.acme.event-stream",
      "application/file", "application/protobuf+json", "text/avro", "", "/", "application/",
    ])
  func `other types leave a text a text`(type: String) {
    #expect(
      TestMessage("{}", properties: #"{"content_type":"\#(type)"}"#).bodyMembers(DocumentOptions(bodyRaw: .never))
        == #""body":{}"#)
  }

  @Test(
    arguments: [
      ("gzip, UTF-8", BodyInflateTests.gzip), ("gzip:UTF-8", BodyInflateTests.gzip),
      ("UTF-8, gzip", BodyInflateTests.gzip),
      ("deflate,utf-8", BodyInflateTests.zlib), (" GZIP , iso-8859-1 ", BodyInflateTests.gzip),
      ("identity, gzip", BodyInflateTests.gzip), ("gzip,", BodyInflateTests.gzip),
      // gzip.compress(zlib), and zlib.compress(gzip), each by both orders of names.
      ("deflate, gzip", twice), ("gzip, deflate", twice), ("gzip, deflate, utf-8", twice),
    ] as [(String, String)])
  func `a list of codings and a charset is undone`(encoding: String, hex: String) {
    let message = TestMessage(bytes(hex: hex), properties: #"{"content_encoding":"\#(encoding)"}"#)
    #expect(message.bodyMembers(DocumentOptions(bodyRaw: .never)) == #""body":\#(BodyInflateTests.text)"#)
  }

  /// `gzip.compress(zlib.compress(text))` of Python 3.11.
  private static let twice =
    "1f8b0800000000000203ab98b33aec94be97a76ed0262393eb81a7743ccfea866dea0af30ab914e815d4b5969561c20d8e6f00388717bf26000000"

  @Test func `a list with a coding that is not known is left alone`() {
    for encoding in ["br, gzip", "gzip, zstd", "aes:gzip"] {
      let message = TestMessage(bytes(hex: BodyInflateTests.gzip), properties: #"{"content_encoding":"\#(encoding)"}"#)
      #expect(message.bodyMembers().hasSuffix(#""body_encoding":"base64""#))
    }
  }

  @Test(
    arguments: [
      ("application/x-gzip", BodyInflateTests.gzip), ("application/x-gzip", BodyInflateTests.zlib),
      ("zlib", BodyInflateTests.zlib), ("gzip", BodyInflateTests.gzip),
    ])
  func `Celery's header says a coding`(name: String, hex: String) {
    let properties = #"{"content_type":"application/json","headers":{"id":"1","compression":"\#(name)","x":[]}}"#
    let message = TestMessage(bytes(hex: hex), properties: properties)
    #expect(message.bodyMembers(DocumentOptions(bodyRaw: .never)) == #""body":\#(BodyInflateTests.text)"#)
  }

  @Test(
    arguments: [
      #"{"headers":{"x":{"compression":"gzip"}}}"#, #"{"headers":{"compression":"application/x-bz2"}}"#,
      #"{"headers":{"compression":1}}"#, #"{"headers":{"x":"\"compression\":\"gzip\""}}"#, #"{"type":"compression"}"#,
    ])
  func `another header is none`(properties: String) {
    let message = TestMessage(bytes(hex: BodyInflateTests.gzip), properties: properties)
    #expect(message.bodyMembers().hasSuffix(#""body_encoding":"base64""#))
  }

  @Test func `document-body decides the form`() {
    let text = DocumentOptions(body: .text, bodyRaw: .never)
    let base64 = DocumentOptions(body: .base64, bodyRaw: .never)
    #expect(TestMessage("{}").bodyMembers(text) == #""body":"{}""#)
    #expect(TestMessage("12", properties: #"{"content_type":"application/json"}"#).bodyMembers(text) == #""body":"12""#)
    #expect(TestMessage([0xFF]).bodyMembers(text) == #""body":"/w==","body_encoding":"base64""#)
    #expect(TestMessage("{}").bodyMembers(base64) == #""body":"e30=","body_encoding":"base64""#)
    let gzip = TestMessage(bytes(hex: BodyInflateTests.gzip), properties: #"{"content_encoding":"gzip"}"#)
    let decoded = Data(BodyInflateTests.text.utf8).base64EncodedString()
    #expect(gzip.bodyMembers(base64) == #""body":"\#(decoded)","body_encoding":"base64""#)
  }
}
