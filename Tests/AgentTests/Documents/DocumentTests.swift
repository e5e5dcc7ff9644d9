import Foundation
import Journal
import Testing

@testable import Agent

@Suite struct DocumentTests {
  /// As a file may hold them that was damaged, or changed by someone.
  @Test(arguments: ["{", "[]", "{\"a\":1,}", "{\"a\":1}{}", "{\"a\":\n1}", " {}", "null", "\0\0\0\0"])
  func `properties that are no JSON object make no document`(properties: String) {
    let (text, outcome) = TestMessage("body", properties: properties).document()
    #expect(outcome == .damaged && text.isEmpty)
  }

  @Test func `a document has every key in order`() {
    var message = TestMessage(#"{"id": 1.50}"#, properties: #"{"content_type":"application/json","headers":{"a":1}}"#)
    message.redelivered = true
    #expect(
      message.document().text
        == #"{"received_at":"2026-01-05T10:00:00.000123Z","body":{"id": 1.50},"body_raw":"{\"id\": 1.50}","#
        + #""body_size":12,"properties":{"content_type":"application/json","headers":{"a":1}},"#
        + #""delivery":{"consumer_tag":"tag-1","delivery_tag":7,"redelivered":true,"exchange":"orders","#
        + #""routing_key":"eu.new"},"queue":"q \"1\"","virtual_host":"/","sequence":2,"#
        + #""session_id":"0b9d7a52-54d7-4a46-9f59-0a8f0d3f3f3b"}"#)
    #expect(message.document().outcome == .appended)
    expectJSON(message.document().text)
  }

  @Test(
    arguments: [
      // Objects and arrays are parsed whatever the content type says; numbers keep their text.
      (#"{"a":12345678901234567890,"b":1e2}"#, "", #""body":{"a":12345678901234567890,"b":1e2}"#),
      (" [1, 2]\n", "text/plain", #""body":[1, 2]"#), ("{\n \"a\" : [ 1,\r\n2 ]}", "", #""body":{"a":[1,2]}"#),
      // Scalars only if the content type says JSON.
      ("12", "", #""body":"12""#), ("12", "text/plain", #""body":"12""#), ("12", "application/json", #""body":12"#),
      ("true", "Application/JSON ; charset=utf-8", #""body":true"#), (" null ", "text/json", #""body":null"#),
      (#""a\u00e9""#, "application/vnd.x+json", #""body":"a\u00e9""#), ("12", "application/jsonl", #""body":"12""#),
      ("12", "json", #""body":"12""#), ("12", "+json", #""body":"12""#),
      // Text.
      ("", "", #""body":"""#), ("", "application/json", #""body":"""#),
      ("plain \"é\"\n", "", #""body":"plain \"é\"\n""#),
      ("[1] [2]", "", #""body":"[1] [2]""#), ("{]", "application/json", #""body":"{]""#),
      // What a strict reader downstream would refuse.
      (#"["\ud800"]"#, "", #""body":"[\"\\ud800\"]""#), ("[1e999]", "application/json", #""body":"[1e999]""#),
      (#"{"a":1,"a":2}"#, "", #""body":"{\"a\":1,\"a\":2}""#), ("[NaN]", "", #""body":"[NaN]""#),
    ] as [(String, String, String)])
  func `a text body becomes what the rules say`(body: String, contentType: String, members: String) {
    let properties = contentType.isEmpty ? "{}" : #"{"content_type":"\#(contentType)"}"#
    let message = TestMessage(body, properties: properties)
    let raw = JSONValue.string(body).text
    #expect(message.bodyMembers() == #"\#(members),"body_raw":\#(raw)"#)
    #expect(message.bodyMembers(DocumentOptions(bodyRaw: .never)) == members)
    let isParsed = members != #""body":\#(raw)"#
    #expect(
      message.bodyMembers(DocumentOptions(bodyRaw: .unparsed))
        == (isParsed ? members : #"\#(members),"body_raw":\#(raw)"#))
    #expect(expectJSON(message.document().text)?["body_raw"] == .string(body))
    #expect(expectJSON(message.document().text)?["body_size"] == .integer(body.utf8.count))
  }

  @Test func `nesting up to a hundred levels is parsed and deeper is text`() {
    let whole = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(TestMessage(whole).bodyMembers(DocumentOptions(bodyRaw: .never)) == #""body":\#(whole)"#)
    #expect(TestMessage("[\(whole)]").bodyMembers(DocumentOptions(bodyRaw: .never)) == #""body":"[\#(whole)]""#)
  }

  @Test(
    arguments: [[0xFF], [0xC3], [0xED, 0xA0, 0x80], [0x5B, 0x22, 0x80, 0x22, 0x5D], [0, 1, 2, 0xFE]] as [[UInt8]])
  func `other bytes are base64`(body: [UInt8]) {
    let base64 = Data(body).base64EncodedString()
    let message = TestMessage(body, properties: #"{"content_type":"application/json"}"#)
    #expect(message.bodyMembers() == #""body":"\#(base64)","body_raw":"\#(base64)","body_encoding":"base64""#)
    #expect(message.bodyMembers(DocumentOptions(bodyRaw: .unparsed)) == message.bodyMembers())
    #expect(message.bodyMembers(DocumentOptions(bodyRaw: .never)) == #""body":"\#(base64)","body_encoding":"base64""#)
    expectJSON(message.document().text)
  }

  @Test(arguments: 0...10)
  func `base64 of any length is padded`(count: Int) {
    let body = [UInt8](repeating: 0xFB, count: 3072 * (count % 2) + count + 1)
    #expect(expectJSON(TestMessage(body).document().text)?["body"] == .string(Data(body).base64EncodedString()))
  }

  @Test(
    arguments: [
      (#"{"content_encoding":"gzip"}"#, BodyInflateTests.gzip),
      (#"{"content_encoding":"X-GZIP"}"#, BodyInflateTests.gzip),
      (#"{"content_type":"a/b","content_encoding":" GZip ","priority":1}"#, BodyInflateTests.gzip),
      (#"{"content_encoding":"deflate"}"#, BodyInflateTests.zlib),
    ] as [(String, String)])
  func `a content encoding is undone first`(properties: String, hex: String) {
    let message = TestMessage(bytes(hex: hex), properties: properties)
    let text = BodyInflateTests.text
    #expect(message.bodyMembers() == #""body":\#(text),"body_raw":\#(JSONValue.string(text).text)"#)
    #expect(expectJSON(message.document().text)?["body_size"] == .integer(hex.count / 2))
  }

  @Test(
    arguments: [
      (#"{"content_encoding":"utf-8"}"#, BodyInflateTests.gzip),
      (#"{"content_encoding":"gzip, gzip"}"#, BodyInflateTests.gzip),
      (#"{"content_encoding":"gzip"}"#, BodyInflateTests.zlib),
      (#"{"content_encoding":"gzip"}"#, BodyInflateTests.gzip + "00"),
      (#"{"content_encoding":"deflate"}"#, "ff00ff"),
      (#"{"headers":{"content_encoding":"gzip"}}"#, BodyInflateTests.gzip),
    ] as [(String, String)])
  func `bytes that are not of the encoding are kept as they are`(properties: String, hex: String) {
    let message = TestMessage(bytes(hex: hex), properties: properties)
    let base64 = Data(message.body).base64EncodedString()
    #expect(message.bodyMembers() == #""body":"\#(base64)","body_raw":"\#(base64)","body_encoding":"base64""#)
  }

  @Test(
    arguments: [
      (0, "1970-01-01T00:00:00.000000Z"), (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
      (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"), (4_107_542_399_000_001, "2100-02-28T23:59:59.000001Z"),
      (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"),
      (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
      (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
    ] as [(Int64, String)])
  func `the time of arrival has microseconds`(microseconds: Int64, text: String) {
    var message = TestMessage("")
    message.receivedAt = microseconds
    #expect(message.document().text.hasPrefix(#"{"received_at":"\#(text)","#))
  }

  @Test(arguments: [Int64.min, .max])
  func `an impossible time of arrival is still a document`(microseconds: Int64) {
    var message = TestMessage("")
    message.receivedAt = microseconds
    message.position = microseconds
    expectJSON(message.document().text)
  }

  @Test func `names that are not UTF-8 are base64, and listed`() {
    var message = TestMessage("")
    message.exchange = [0xFF]
    message.routingKey = [0xFE, 0xFF]
    #expect(
      message.document().text.contains(
        #""exchange":"/w==","routing_key":"/v8=","_base64":["exchange","routing_key"]},"queue""#))
    expectJSON(message.document().text)
    message.exchange = []
    #expect(message.document().text.contains(#""exchange":"","routing_key":"/v8=","_base64":["routing_key"]}"#))
  }

  @Test func `a renderer follows the consumer that it is given`() {
    var renderer = DocumentRenderer(options: DocumentOptions())
    var other = TestMessage.consumer
    other.queue = "other"
    var out: [UInt8] = []
    for consumer in [TestMessage.consumer, other, TestMessage.consumer] {
      out.removeAll()
      _ = TestMessage("").withRow { renderer.append($0, consumer: consumer, to: &out) }
      #expect(expectJSON(String(decoding: out, as: UTF8.self))?["queue"] == .string(consumer.queue))
    }
  }

  @Test func `the schema requires scalar keys and describes every field`() throws {
    let schema = try JSONValue.parse(DocumentSchema.text)
    #expect(schema["x-infer-schema"] == true)
    #expect(schema["required"] == ["session_id", "sequence"])
    let message = TestMessage([0xFF], properties: renderProperties(Wire.block(9, Wire.big(UInt64.max))).text)
    let document = try JSONValue.parse(message.document().text)
    let fields = try #require(schema["properties"]?.objectValue)
    #expect(fields.keys.filter { $0 != "body_truncated" } == document.objectValue?.keys)
    #expect(
      fields["delivery"]?["properties"]?.objectValue?.keys == (document["delivery"]?.objectValue?.keys ?? []) + [
        "_base64"
      ])
    // What a user may take as a key or a partition has one scalar type.
    let scalars: [JSONValue] = ["string", "integer", "boolean"]
    for (group, odd) in [("properties", ["headers", "_base64"]), ("delivery", ["_base64"])] {
      for (name, field) in fields[group]?["properties"]?.objectValue?.members.map({ ($0.key, $0.value) }) ?? [] {
        #expect(odd.contains(name) != scalars.contains(field["type"] ?? .null), "\(name)")
      }
    }
    for pointer in DocumentSchema.key {
      let type = fields[String(pointer.dropFirst())]?["type"]
      #expect(type == "string" || type == "integer")
    }
  }
}

@Suite struct DocumentLimitTests {
  /// Bodies whose documents are near a small limit, in each form.
  static let bodies: [[UInt8]] = [
    Array(repeating: 0x78, count: 900), Array(repeating: 0x0A, count: 300), Array(repeating: 0xFF, count: 600),
    Array("[\(Array(repeating: "1", count: 400).joined(separator: ",\n"))]".utf8),
    Array(String(repeating: "é\"", count: 200).utf8),
  ]

  @Test(arguments: bodies, [BodyRawPolicy.always, .never])
  func `the limit is exact`(body: [UInt8], bodyRaw: BodyRawPolicy) {
    var message = TestMessage(body, properties: #"{"message_id":"m"}"#)
    // The size is reckoned with the largest sequence.
    message.position = .max
    let withoutRaw = message.document(DocumentOptions(bodyRaw: .never))
    let size = withoutRaw.text.utf8.count
    for policy in [OversizePolicy.fail, .reject] {
      let options = DocumentOptions(bodyRaw: bodyRaw, maxBytes: size, oversize: policy)
      #expect(message.document(options) == withoutRaw)
      #expect(oversize(message, options) == nil)
      let tight = DocumentOptions(bodyRaw: bodyRaw, maxBytes: size - 1, oversize: policy)
      #expect(message.document(tight) == ("", .tooLarge(bytes: size)))
      #expect(oversize(message, tight) == size)
    }
  }

  @Test(arguments: bodies, OversizePolicy.allCases)
  func `body_raw goes first, and exactly when it must`(body: [UInt8], policy: OversizePolicy) {
    var message = TestMessage(body)
    message.position = .max
    let whole = message.document().text
    let tight = DocumentOptions(maxBytes: whole.utf8.count - 1, oversize: policy)
    #expect(message.document(tight) == message.document(DocumentOptions(bodyRaw: .never)))
    #expect(message.document(DocumentOptions(maxBytes: whole.utf8.count, oversize: policy)).text == whole)
  }

  @Test(arguments: OversizePolicy.allCases)
  func `what only body_raw made too large is captured whole`(policy: OversizePolicy) {
    let text = TestMessage(String(repeating: "x", count: 9_000_000))
    #expect(text.document(DocumentOptions(oversize: policy)).outcome == .appended)
    let json = TestMessage("[\(String(repeating: "1,", count: 600_000))1]")
    let options = DocumentOptions(maxBytes: DocumentSettings.minimumMaxBytes, oversize: policy)
    #expect(json.document(options).outcome == .appended)
    #expect(json.bodyMembers(options).hasPrefix(#""body":[1,1"#))
    // Decoded as well.
    let decoded = BodyInflateTests.dynamic
    let message = TestMessage(bytes(hex: decoded), properties: #"{"content_encoding":"deflate"}"#)
    let limit = message.document(DocumentOptions(bodyRaw: .never)).text.utf8.count
    let members = message.bodyMembers(DocumentOptions(maxBytes: limit + 20, oversize: policy))
    #expect(members == message.bodyMembers(DocumentOptions(bodyRaw: .never)))
  }

  @Test func `a body is cut between characters`() throws {
    for text in ["aé€😀", "\"\\\n\u{1}é😀"].map({ String(repeating: $0, count: 300) }) {
      let message = TestMessage(text)
      for less in 1...40 {
        let size = message.document(DocumentOptions(bodyRaw: .never)).text.utf8.count
        let (document, outcome) = message.document(DocumentOptions(maxBytes: size - less, oversize: .truncate))
        #expect(outcome == .truncated)
        let body = try #require(expectJSON(document)?["body"]?.stringValue)
        #expect(text.unicodeScalars.starts(with: body.unicodeScalars))
        // Nothing more is cut than must be: what was cut off is no longer than what was too much, and a character.
        #expect(text.utf8.count - body.utf8.count < 64 + less)
      }
    }
  }

  @Test(arguments: bodies)
  func `a truncated document fits and holds the beginning of the body`(body: [UInt8]) throws {
    let message = TestMessage(body)
    let size = message.document(DocumentOptions(bodyRaw: .never)).text.utf8.count
    for less in [1, 2, 3, 4, 5, 6, 7, 50, 100] {
      let options = DocumentOptions(bodyRaw: .always, maxBytes: size - less, oversize: .truncate)
      #expect(oversize(message, options) == nil)
      let (text, outcome) = message.document(options)
      #expect(outcome == .truncated)
      #expect(text.utf8.count <= options.maxBytes)
      let document = try #require(expectJSON(text))
      #expect(document["body_truncated"] == true)
      #expect(document["body_raw"] == nil)
      #expect(document["body_size"] == .integer(body.count))
      let beginning = try #require(document["body"]?.stringValue)
      if document["body_encoding"] == "base64" {
        #expect(Data(base64Encoded: beginning).map { Data(body).starts(with: $0) } == true)
      } else {
        #expect(body.starts(with: beginning.utf8))
      }
    }
  }

  @Test func `a small limit truncates to nothing rather than to something invalid`() {
    let options = DocumentOptions(maxBytes: 100, oversize: .truncate)
    #expect(TestMessage("abc").document(options).text.isEmpty)
  }

  @Test func `a compressed body that would be too large is kept as it was received`() {
    let message = TestMessage(bytes(hex: BodyInflateTests.gzip), properties: #"{"content_encoding":"gzip"}"#)
    let whole = message.document(DocumentOptions(bodyRaw: .never)).text.utf8.count
    // Longer decoded than as base64: 3,000 bytes in 1,830.
    let large = TestMessage(bytes(hex: BodyInflateTests.dynamic), properties: #"{"content_encoding":"deflate"}"#)
    let options = DocumentOptions(bodyRaw: .never, maxBytes: whole + 2600, oversize: .fail)
    #expect(large.document(options).outcome == .appended)
    #expect(large.bodyMembers(options).hasSuffix(#""body_encoding":"base64""#))
    #expect(oversize(large, options) == nil)
    let tight = DocumentOptions(bodyRaw: .never, maxBytes: whole + 500, oversize: .fail)
    #expect(oversize(large, tight) != nil)
  }

  @Test func `the largest properties fit beside a truncated body`() {
    let (properties, _) = renderProperties(
      Wire.headers(Wire.field("k", Wire.string(String(repeating: "\u{1}", count: 160_000)))))
    let options = DocumentOptions(maxBytes: DocumentSettings.minimumMaxBytes, oversize: .truncate)
    let (text, outcome) = TestMessage([UInt8](repeating: 0x01, count: 400_000), properties: properties).document(
      options)
    #expect(outcome == .truncated)
    #expect(text.utf8.count <= options.maxBytes && text.utf8.count > options.maxBytes - 32)
  }

  @Test(arguments: 0..<64 as Range<UInt64>)
  func `any row becomes one valid line, and intake and emitter agree about its size`(seed: UInt64) {
    var random = JSONRandom(seed)
    let pieces = ["{", "}", "[", "]", "\"a\"", ":", ",", "1e5", "true", "\\u00", "é", "\n", " ", "\u{0}", "\"", "\\"]
      .map { Array($0.utf8) }
    for _ in 0..<40 {
      var body: [UInt8] = []
      for _ in 0..<Int.random(in: 0...40, using: &random) {
        body +=
          Int.random(in: 0..<20, using: &random) == 0
          ? [UInt8.random(in: 0...255, using: &random)] : pieces.randomElement(using: &random) ?? []
      }
      var message = TestMessage(body)
      message.properties = renderProperties(Wire.headers(PropertiesTests.fields(depth: 0, &random))).text
      message.exchange = (0..<3).map { _ in UInt8.random(in: 0...255, using: &random) }
      let options = DocumentOptions(
        body: BodyPolicy.allCases.randomElement(using: &random) ?? .auto,
        bodyRaw: BodyRawPolicy.allCases.randomElement(using: &random) ?? .always,
        maxBytes: Int.random(in: 300...3000, using: &random),
        oversize: OversizePolicy.allCases.randomElement(using: &random) ?? .fail)
      let (text, outcome) = message.document(options)
      if oversize(message, options) == nil, options.oversize != .truncate { #expect(outcome == .appended) }
      #expect(text.utf8.count <= options.maxBytes)
      if !text.isEmpty { expectJSON(text) }
      expectJSON(message.document().text)
    }
  }
}

private func oversize(_ message: TestMessage, _ options: DocumentOptions) -> Int? {
  var renderer = DocumentRenderer(options: options)
  return message.withRow { renderer.oversize($0, consumer: TestMessage.consumer) }
}
