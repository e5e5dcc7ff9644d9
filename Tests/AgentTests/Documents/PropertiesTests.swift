import Testing

@testable import Agent

@Suite struct PropertiesTests {
  @Test(
    arguments: [
      ([0, 0], "{}"),
      (Wire.block(0, Wire.short("application/json")), #"{"content_type":"application/json"}"#),
      (Wire.block(1, Wire.short("gzip")), #"{"content_encoding":"gzip"}"#),
      (Wire.headers([]), #"{"headers":{}}"#), (Wire.block(3, [2]), #"{"delivery_mode":2}"#),
      (Wire.block(4, [255]), #"{"priority":255}"#), (Wire.block(5, Wire.short("c")), #"{"correlation_id":"c"}"#),
      (Wire.block(6, Wire.short("r")), #"{"reply_to":"r"}"#),
      (Wire.block(7, Wire.short("60000")), #"{"expiration":"60000"}"#),
      (Wire.block(8, Wire.short("m\"\n")), #"{"message_id":"m\"\n"}"#),
      (Wire.block(10, Wire.short("t")), #"{"type":"t"}"#),
      (Wire.block(11, Wire.short("u")), #"{"user_id":"u"}"#), (Wire.block(12, Wire.short("a")), #"{"app_id":"a"}"#),
      (Wire.block(13, Wire.short("")), #"{"cluster_id":""}"#),
      (Wire.block(8, Wire.short([0xFF, 0xFE])), #"{"message_id":"//4=","_base64":["message_id"]}"#),
      // U+0000 is refused downstream.
      (Wire.block(8, Wire.short("id\0")), #"{"message_id":"aWQA","_base64":["message_id"]}"#),
      (Wire.headers(Wire.field("h", Wire.string("v\0w"))), #"{"headers":{"h":{"base64":"dgB3"}}}"#),
      (
        Wire.big(UInt16(1 << 15 | 1 << 10 | 1 << 2)) + Wire.short([0x80]) + Wire.short("c") + Wire.short([0xC3]),
        #"{"content_type":"gA==","correlation_id":"c","cluster_id":"ww==","_base64":["content_type","cluster_id"]}"#
      ),
      (
        Wire.big(UInt16(0xFFFC)) + Wire.short("a") + Wire.short("b") + Wire.long(Wire.field("h", Wire.value("V"))) + [
          2, 9,
        ]
          + Wire.short("c") + Wire.short("d") + Wire.short("e") + Wire.short("f") + Wire.big(UInt64(0))
          + Wire.short("g")
          + Wire.short("h") + Wire.short("i") + Wire.short("j"),
        #"{"content_type":"a","content_encoding":"b","headers":{"h":null},"delivery_mode":2,"priority":9,"#
          + #""correlation_id":"c","reply_to":"d","expiration":"e","message_id":"f","timestamp":"1970-01-01T00:00:00Z","#
          + #""type":"g","user_id":"h","app_id":"i","cluster_id":"j"}"#
      ),
    ] as [([UInt8], String)])
  func `properties appear under their names, in the protocol's order`(block: [UInt8], text: String) {
    #expect(renderProperties(block) == (text, .exact))
    expectJSON(text)
  }

  @Test(
    arguments: [
      (1_767_607_200, #""timestamp":"2026-01-05T10:00:00Z""#),
      (253_402_300_799, #""timestamp":"9999-12-31T23:59:59Z""#),
      (1_767_607_200_123, #""timestamp":"2026-01-05T10:00:00.123Z","timestamp_raw":1767607200123"#),
      (253_402_300_800, #""timestamp":"1978-01-11T21:31:40.800Z","timestamp_raw":253402300800"#),
      (1_767_607_200_123_456, #""timestamp_raw":1767607200123456"#), (.max, #""timestamp_raw":18446744073709551615"#),
    ] as [(UInt64, String)])
  func `a timestamp is a date where it is one and its number where it is not in seconds`(value: UInt64, text: String) {
    #expect(renderProperties(Wire.block(9, Wire.big(value))) == ("{\(text)}", .exact))
  }

  @Test(
    arguments: [
      (Wire.value("V"), "null"), (Wire.value("t", [1]), "true"), (Wire.value("t", [0]), "false"),
      (Wire.value("b", [0x80]), "-128"), (Wire.value("B", [0xFF]), "255"), (Wire.value("s", [0x80, 0]), "-32768"),
      (Wire.value("u", [0xFF, 0xFF]), "65535"), (Wire.value("I", Wire.big(Int32.min)), "-2147483648"),
      (Wire.value("i", Wire.big(UInt32.max)), "4294967295"),
      (Wire.value("l", Wire.big(Int64.min)), "-9223372036854775808"),
      (Wire.value("L", Wire.big(Int64.max)), "9223372036854775807"),
      (Wire.value("l", Wire.big(Int64(9_007_199_254_740_993))), "9007199254740993"),
      (Wire.value("f", Wire.big(Float(0.1).bitPattern)), "0.1"),
      (Wire.value("f", Wire.big(Float(16_777_216).bitPattern)), "16777216.0"),
      (Wire.value("d", Wire.big((0.1 + 0.2).bitPattern)), "0.30000000000000004"),
      (Wire.value("d", Wire.big(Double.leastNonzeroMagnitude.bitPattern)), "5e-324"),
      (Wire.value("d", Wire.big((-0.0).bitPattern)), "-0.0"),
      (Wire.value("d", Wire.big(Double.nan.bitPattern)), #""NaN""#),
      (Wire.value("d", Wire.big(Double.infinity.bitPattern)), #""Infinity""#),
      (Wire.value("f", Wire.big((-Float.infinity).bitPattern)), #""-Infinity""#),
      (Wire.value("D", [0] + Wire.big(Int32(-5))), "-5"), (Wire.value("D", [2] + Wire.big(Int32(12345))), "123.45"),
      (Wire.value("D", [5] + Wire.big(Int32(12345))), "0.12345"),
      (Wire.value("D", [7] + Wire.big(Int32(-12345))), "-0.0012345"),
      (Wire.value("D", [255] + Wire.big(Int32.min)), "-2147483648e-255"),
      (Wire.value("D", [3] + Wire.big(Int32(0))), "0.000"),
      (Wire.value("T", Wire.big(UInt64(1_767_607_200))), #""2026-01-05T10:00:00Z""#),
      (Wire.value("T", Wire.big(UInt64(1_767_607_200_123))), #""2026-01-05T10:00:00.123Z""#),
      (Wire.value("T", Wire.big(UInt64.max)), "18446744073709551615"),
      (Wire.string("é\"\\\u{1}"), "\"é\\\"\\\\\\u0001\""),
      (Wire.value("S", Wire.long([0xED, 0xA0, 0x80])), #"{"base64":"7aCA"}"#),
      (Wire.value("x", Wire.long([0, 1, 2, 3])), #"{"base64":"AAECAw=="}"#),
      (Wire.value("x", Wire.long([])), #"{"base64":""}"#),
      (Wire.array([]), "[]"), (Wire.array(Wire.value("V") + Wire.string("a") + Wire.array([])), #"[null,"a",[]]"#),
      (Wire.table([]), "{}"),
      (Wire.table(Wire.field("", Wire.value("B", [1])) + Wire.field("b", Wire.table([]))), #"{"":1,"b":{}}"#),
    ] as [([UInt8], String)])
  func `every header type becomes typed JSON`(value: [UInt8], text: String) {
    let (rendered, fidelity) = renderProperties(Wire.headers(Wire.field("k", value)))
    #expect(rendered == #"{"headers":{"k":\#(text)}}"#)
    #expect(fidelity == .exact)
    expectJSON(rendered)
  }

  @Test(
    arguments: [
      // Repeated keys, keys that are not UTF-8, and a publisher's own `_fields`.
      (
        Wire.field("a", Wire.value("B", [1])) + Wire.field("b", Wire.value("V")) + Wire.field("a", Wire.value("B", [2]))
          + Wire.field("a", Wire.string("x")),
        #"{"a":1,"b":null,"_fields":[["a",2],["a","x"]]}"#
      ),
      (Wire.short([0xFF]) + Wire.value("B", [1]), #"{"_fields":[[{"base64":"/w=="},1]]}"#),
      (Wire.field("k\0", Wire.value("B", [1])), #"{"_fields":[[{"base64":"awA="},1]]}"#),
      (
        Wire.field("_fields", Wire.value("B", [1])) + Wire.field("_fields", Wire.value("B", [2])),
        #"{"_fields":1,"__fields":[["_fields",2]]}"#
      ),
      (
        Wire.field("t", Wire.table(Wire.field("", Wire.value("V")) + Wire.field("", Wire.value("V")))),
        #"{"t":{"":null,"_fields":[["",null]]}}"#
      ),
      // Malformed in the middle.
      (Wire.field("a", Wire.value("B", [1])) + [1, 0x62, 0x3F], #"{"a":1,"_fields":[["_note","malformed"]]}"#),
      (Wire.field("a", Wire.array(Wire.value("B", [1]) + [0x53, 0, 0, 0, 9])), #"{"a":[1,{"_note":"malformed"}]}"#),
      (Wire.field("a", Wire.table([5])), #"{"a":{"_fields":[["_note","malformed"]]}}"#),
    ] as [([UInt8], String)])
  func `what an object cannot hold is kept beside it and called lossy`(fields: [UInt8], text: String) {
    let (rendered, fidelity) = renderProperties(Wire.headers(fields))
    #expect(rendered == #"{"headers":\#(text)}"#)
    #expect(fidelity == .lossy)
    expectJSON(rendered)
  }

  @Test(arguments: [[], [0], [0, 2], [0x80, 0], [0, 0, 0], [0x20, 0, 0, 0, 0, 9]] as [[UInt8]])
  func `a malformed block becomes a note`(block: [UInt8]) {
    #expect(renderProperties(block) == (#"{"_note":"malformed"}"#, .lossy))
  }

  @Test func `sixty-four levels are rendered and the next is a note`() {
    func nested(_ depth: Int) -> [UInt8] {
      // The headers themselves are the first level.
      (2..<depth).reduce(Wire.array([])) { inner, _ in Wire.array(inner) }
    }
    let (whole, exact) = renderProperties(Wire.headers(Wire.field("k", nested(64))))
    #expect(exact == .exact)
    #expect(!whole.contains("_note"))
    let (cut, lossy) = renderProperties(Wire.headers(Wire.field("k", nested(65))))
    #expect(lossy == .lossy)
    #expect(cut.contains(#"[{"_note":"too deep"}]"#))
    expectJSON(cut)
    let (hostile, _) = renderProperties(Wire.headers(Wire.field("k", nested(26_000))))
    expectJSON(hostile)
    // The same through lists of odd fields, which nest faster.
    let twice = { (inner: [UInt8]) in Wire.field("", Wire.value("V")) + Wire.field("", Wire.table(inner)) }
    let (odd, _) = renderProperties(Wire.headers((0..<2000).reduce([]) { inner, _ in twice(inner) }))
    expectJSON(odd)
  }

  @Test func `headers whose text would be huge become a note`() {
    let (large, lossy) = renderProperties(
      Wire.headers(Wire.field("k", Wire.array([UInt8](repeating: 0x56, count: 262_000)))))
    #expect(
      large == #"{"headers":{"k":[\#(Array(repeating: "null", count: 262_000).joined(separator: ","))]}}"#
        || lossy == .lossy)
    #expect(large.utf8.count <= PropertiesRenderer.maxCount)
    let (keys, _) = renderProperties(
      Wire.headers(Array(repeating: [0, 0x56] as [UInt8], count: 131_000).flatMap { $0 }))
    #expect(keys == #"{"headers":{"_note":"too large"}}"#)
    let text = String(repeating: "x", count: 200_000)
    #expect(
      renderProperties(Wire.headers(Wire.field("k", Wire.string(text)))) == (#"{"headers":{"k":"\#(text)"}}"#, .exact))
  }

  @Test func `thousands of different keys stay under their keys`() throws {
    let fields = (0..<5000).flatMap { Wire.field("key-\($0)", Wire.value("I", Wire.big(Int32($0)))) }
    let (text, fidelity) = renderProperties(Wire.headers(fields))
    #expect(fidelity == .exact)
    #expect(expectJSON(text)?["headers"]?.objectValue?.members.count == 5000)
    let (repeated, lossy) = renderProperties(Wire.headers(fields + Wire.field("key-17", Wire.value("V"))))
    #expect(lossy == .lossy)
    #expect(repeated.hasSuffix(#","_fields":[["key-17",null]]}}"#))
  }

  @Test(arguments: 0..<64 as Range<UInt64>)
  func `any block becomes valid JSON`(seed: UInt64) {
    var random = JSONRandom(seed)
    for _ in 0..<100 {
      var block = Wire.big(UInt16.random(in: 0...UInt16.max, using: &random) & ~3)
      if Bool.random(using: &random) {
        block = Wire.headers(Self.fields(depth: 0, &random))
        for _ in 0..<Int.random(in: 0...2, using: &random) {
          block[Int.random(in: 6..<max(block.count, 7), using: &random) % block.count] = .random(
            in: 0...255, using: &random)
        }
      } else {
        block += (0..<Int.random(in: 0...80, using: &random)).map { _ in .random(in: 0...9, using: &random) }
      }
      expectJSON(renderProperties(block).text)
    }
  }

  /// Random fields, mostly well-formed.
  static func fields(depth: Int, _ random: inout JSONRandom) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 0...6, using: &random) {
      let key = (0..<Int.random(in: 0...2, using: &random)).map { _ in UInt8.random(in: 0x60...0x90, using: &random) }
      let content = (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) }
      let value: [UInt8]
      switch Int.random(in: 0..<9, using: &random) {
      case 0: value = Wire.value("V")
      case 1: value = Wire.value("l", content)
      case 2: value = Wire.value("d", content)
      case 3: value = Wire.value("f", Array(content[..<4]))
      case 4: value = Wire.value("D", Array(content[..<5]))
      case 5: value = Wire.value("S", Wire.long(content))
      case 6: value = Wire.value("T", content)
      default: value = depth > 5 ? Wire.value("V") : Wire.table(fields(depth: depth + 1, &random))
      }
      bytes += Wire.short(key) + value
    }
    return bytes
  }
}
