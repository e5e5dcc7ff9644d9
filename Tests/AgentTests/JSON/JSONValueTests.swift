import Foundation
import Testing

@testable import Agent

@Suite struct JSONValueTests {
  @Test(
    arguments: [
      ("null", JSONValue.null), (" true ", true), ("false", false), ("0", 0), ("-0", .number("-0")),
      ("12345678901234567890123", .number("12345678901234567890123")), ("1.50", .number("1.50")),
      ("1E+3", .number("1E+3")), ("1e400", .number("1e400")), (#""""#, ""),
      (#""a\"\\\/\b\f\n\r\t""#, "a\"\\/\u{8}\u{c}\n\r\t"),
      (#""\u00e9\ud83d\ude00é😀""#, "é😀é😀"), (#""\u0000""#, "\0"), ("[]", []), ("[1, [2],\n\t3]", [1, [2], 3]),
      ("{}", [:]), (#"{"b": 1, "a": {"": null}}"#, ["b": 1, "a": ["": nil]]),
    ] as [(String, JSONValue)])
  func `a valid text is read as it says`(text: String, value: JSONValue) throws {
    #expect(try JSONValue.parse(text) == value)
  }

  @Test(
    arguments: [
      ("", 0, "a value is missing"), ("  ", 2, "a value is missing"), ("nul", 0, "neither a value nor a literal"),
      ("nulL", 0, "neither a value nor a literal"), ("1 2", 2, "text after the value"),
      ("01", 0, "a number with leading zeros"), ("-", 1, "a number without digits"),
      ("-01", 1, "a number with leading zeros"),
      ("1.", 2, "a number without digits"), (".5", 0, "neither a value nor a literal"),
      ("1e", 2, "a number without digits"),
      ("1e+", 3, "a number without digits"), ("+1", 0, "neither a value nor a literal"),
      ("NaN", 0, "neither a value nor a literal"),
      ("[1,]", 3, "neither a value nor a literal"), ("[1", 2, "a closing bracket is missing"),
      ("[1 2]", 3, "a comma or a closing bracket is missing"),
      ("[", 1, "a value is missing"), ("{", 1, "a key is missing"), ("{1:2}", 1, "a key is missing"),
      (#"{"a"}"#, 4, "a colon is missing after a key"),
      (#"{"a":1,}"#, 7, "a key is missing"), (#"{"a":1]"#, 6, "a comma or a closing bracket is missing"),
      (#"{"a":1,"b":2,"a":3}"#, 13, "the key \"a\" occurs twice"),
      (#"{"a":1,"\u0061":3}"#, 7, "the key \"a\" occurs twice"),
      (#"""#, 1, "a string without its end"), (#""\"#, 1, "a string without its end"),
      ("\"a\nb\"", 2, "a control character in a string"),
      (#""\x""#, 1, "an unknown escape"), (#""\u12""#, 1, "\\u without four hexadecimal digits"),
      (#""\u12g4""#, 1, "\\u without four hexadecimal digits"),
      (#""\ud800""#, 1, "a lone surrogate"), (#""\ud800\n""#, 1, "a lone surrogate"),
      (#""\ud800\u0041""#, 1, "a lone surrogate"),
      (#""\udc00""#, 1, "a lone surrogate"), ("\u{FEFF}1", 0, "neither a value nor a literal"),
      ("'a'", 0, "neither a value nor a literal"),
      ("// x\n1", 0, "neither a value nor a literal"),
    ] as [(String, Int, String)])
  func `an invalid text is refused with its place and reason`(text: String, offset: Int, reason: String) {
    #expect(throws: JSONSyntaxError(offset: offset, reason: reason)) { try JSONValue.parse(text) }
  }

  @Test(
    arguments: [
      [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xC2], [0xC2, 0x20], [0xE0, 0x80, 0x80], [0xE0, 0x9F, 0xBF], [0xE2, 0x82],
      [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF], [0xF0, 0x80, 0x80, 0x80], [0xF0, 0x8F, 0xBF, 0xBF],
      [0xF4, 0x90, 0x80, 0x80],
      [0xF5, 0x80, 0x80, 0x80], [0xF0, 0x9F, 0x98], [0xFF], [0xFE, 0xFF],
    ] as [[UInt8]])
  func `invalid UTF-8 is refused`(bytes: [UInt8]) {
    #expect(throws: JSONSyntaxError(offset: 1, reason: "invalid UTF-8")) {
      try JSONValue.parse([0x22] + bytes + [0x22])
    }
    #expect(!isUTF8(bytes))
    #expect(!isUTF8(Array("abcdefgh".utf8) + bytes))
  }

  @Test func `a hundred levels are read and the next is refused`() {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(throws: Never.self) { try JSONValue.parse(nested(100)) }
    #expect(throws: JSONSyntaxError(offset: 100, reason: "nested deeper than 100 levels")) {
      try JSONValue.parse(nested(101))
    }
    #expect(throws: JSONSyntaxError.self) { try JSONValue.parse(String(repeating: #"{"a":"#, count: 100_000)) }
  }

  @Test func `keys that are only canonically equivalent are different keys`() throws {
    let value = try JSONValue.parse("{\"\u{e9}\":1,\"e\u{301}\":2}")
    #expect(value.objectValue?.members.count == 2)
  }

  @Test(
    arguments: [
      (
        JSONValue.string("a\"b\\c\u{0}\u{1f}\u{7f}\n\r\t\u{8}\u{c}/é😀"),
        "\"a\\\"b\\\\c\\u0000\\u001f\u{7f}\\n\\r\\t\\b\\f/é😀\""
      ),
      (["b": 1, "a": [nil, true, 1.5, .number("1e400")]], #"{"b":1,"a":[null,true,1.5,1e400]}"#),
      ([:], "{}"), ([], "[]"), (.double(.nan), "null"),
    ] as [(JSONValue, String)])
  func `a value prints compactly in order`(value: JSONValue, text: String) {
    #expect(value.text == text)
  }

  @Test(arguments: 0..<64)
  func `plain runs of any length around a special byte are copied whole`(length: Int) throws {
    for special in ["", "\"", "\\", "\n", "é", "\u{1}"] {
      let text = String(repeating: "x", count: length) + special + String(repeating: "y", count: length % 11)
      #expect(try JSONValue.parse(JSONValue.string(text).text) == .string(text))
    }
  }

  @Test func `numbers answer as integers only where they are written as integers`() {
    #expect(JSONValue.number("9223372036854775807").int64Value == .max)
    #expect(JSONValue.number("9223372036854775808").int64Value == nil)
    #expect(JSONValue.number("1.0").int64Value == nil)
    #expect(JSONValue.number("1e3").int64Value == nil)
    #expect(JSONValue.string("1").int64Value == nil)
  }

  @Test(arguments: 0..<50 as Range<UInt64>)
  func `mutated texts never trap and what is read prints as JSON that reads back equal`(seed: UInt64) throws {
    var random = JSONRandom(seed)
    let start = Array(#"{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00",true,null],"bé":{"":"\\n"}}"#.utf8)
    for _ in 0..<400 {
      var bytes = start
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: at)
        default: bytes.insert(start.randomElement(using: &random) ?? 0, at: at)
        }
      }
      guard let value = try? JSONValue.parse(bytes) else { continue }
      #expect(try JSONValue.parse(value.text) == value)
      #expect(throws: Never.self) {
        try JSONSerialization.jsonObject(with: Data(value.text.utf8), options: [.fragmentsAllowed])
      }
    }
  }
}

private func isUTF8(_ bytes: [UInt8]) -> Bool { JSONScanner.isUTF8(bytes.span) }

/// A small seeded generator (SplitMix64), so that a failing seed fails again.
struct JSONRandom: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
