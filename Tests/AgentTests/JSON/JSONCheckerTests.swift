import Foundation
import Testing

@testable import Agent

@Suite struct JSONCheckerTests {
  @Test(
    arguments: [
      ("{}", true, false), (" [1]\t", true, false), ("\n[1]\n", true, false), ("[\n1]", true, true),
      ("{\"a\"\r: 1}", true, true),
      ("1", false, false), (#""a\nb""#, false, false), ("-0.0e-5", false, false), ("true", false, false),
      ("1e308", false, false), ("-1.7976931348623157e308", false, false), ("1e-400", false, false),
      ("[" + String(repeating: "9", count: 308) + "]", true, false), (#"{"a":{"a":1},"b":{"a":1}}"#, true, false),
    ] as [(String, Bool, Bool)])
  func `a valid value is accepted with what it is`(text: String, isContainer: Bool, hasLineBreaks: Bool) throws {
    let value = try check(Array(text.utf8))
    #expect(value.isContainer == isContainer)
    #expect(value.hasLineBreaks == hasLineBreaks)
    let content = String(decoding: Array(text.utf8)[value.range], as: UTF8.self)
    #expect(content == text.trimmingCharacters(in: .whitespacesAndNewlines))
  }

  @Test(
    arguments: [
      "", " ", "{", "[", "[1", "[1,", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "[1]x", "[1][2]",
      "nul", "tru", "falsy",
      "NaN", "Infinity", "01", "1.", ".1", "+1", "1e", "\"", "\"\\", "\"\\u\"", #"["\ud800"]"#, #"["\udc00\ud800"]"#,
      "[\"\t\"]", "[1e309]",
      "[-1e400]", "[" + String(repeating: "9", count: 310) + "]", #"{"a":1,"a":2}"#, #"[{"x":{"a":1,"b":2,"a":3}}]"#,
      #"{"a":1,"\u0061":2}"#, #"{"\u0061":1,"a":2}"#, "\u{FEFF}{}",
      String(repeating: "[", count: 101) + String(repeating: "]", count: 101),
      String(repeating: "[", count: 1_000_000), String(repeating: #"{"a":"#, count: 200_000),
    ])
  func `what a strict reader refuses is refused`(text: String) {
    #expect(throws: JSONSyntaxError.self) { try check(Array(text.utf8)) }
  }

  @Test func `repeated keys are found among many, also hostile ones, and different ones are not mixed up`() {
    for count in [2, 15, 16, 17, 40, 3000] {
      for prefix in ["", "k", "longer-than-eight-", "12345678"] {
        for suffix in ["", "-87654321"] {
          // Keys that differ only in the middle share a digest.
          let members = (0..<count).map { #""\#(prefix)\#($0)\#(suffix)":0"# }
          #expect(throws: Never.self) { try check(Array("{\(members.joined(separator: ","))}".utf8)) }
          let again = members + [members[count / 2]]
          #expect(throws: JSONSyntaxError.self) { try check(Array("{\(again.joined(separator: ","))}".utf8)) }
        }
      }
    }
  }

  @Test func `more keys than can be remembered are refused`() {
    func object(_ count: Int) -> [UInt8] {
      Array("{\((0..<count).map { #""\#($0)":0"# }.joined(separator: ","))}".utf8)
    }
    #expect(throws: Never.self) { try check(object(JSONKeys.limit)) }
    #expect(throws: JSONSyntaxError.self) { try check(object(JSONKeys.limit + 1)) }
  }

  @Test(
    arguments: [
      ("{ }", "{}"), ("[ 1 ,\n 2 ]", "[1,2]"),
      ("{\n  \"a b\" : \" \\\" \\\\\" ,\r\n\t\"c\": [ ] }", #"{"a b":" \" \\","c":[]}"#),
      ("[1.50e+3 , \"é \"]", "[1.50e+3,\"é \"]"),
    ] as [(String, String)])
  func `white space between tokens is dropped and nothing else`(text: String, compact: String) {
    let bytes = Array(text.utf8)
    var out: [UInt8] = []
    JSONChecker.appendCompact(bytes.span, 0..<bytes.count, to: &out)
    #expect(String(decoding: out, as: UTF8.self) == compact)
    #expect(compactCount(bytes) == compact.utf8.count)
  }

  @Test(arguments: 0..<64 as Range<UInt64>)
  func `the checker accepts no more and no less than the parser`(seed: UInt64) throws {
    var random = JSONRandom(seed)
    let start = Array(#"{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00",true,null],"bé":{"":"\\n", "é" : {}}}"#.utf8)
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
      let checked = try? check(bytes)
      let parsed = try? JSONValue.parse(bytes)
      #expect((checked != nil) == (parsed != nil), "\(String(decoding: bytes, as: UTF8.self))")
      guard let parsed, let checked else { continue }
      var compact: [UInt8] = []
      JSONChecker.appendCompact(bytes.span, checked.range, to: &compact)
      #expect(try JSONValue.parse(compact) == parsed)
    }
  }
}

private func check(_ bytes: [UInt8]) throws -> JSONChecker.Value {
  var checker = JSONChecker()
  return try checker.check(bytes.span)
}

private func compactCount(_ bytes: [UInt8]) -> Int { JSONChecker.compactCount(bytes.span, 0..<bytes.count) }
