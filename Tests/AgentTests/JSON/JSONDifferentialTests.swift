import Support
import Testing

@testable import Agent

/// The fast code of ``JSONChecker``, ``JSONKeys``, ``JSONScanner`` and the escaping against naive code.
@Suite struct JSONDifferentialTests {
  /// With what this processor can do, and without.
  private static let tables = [EscapeTables.shared, EscapeTables(ordering: false)]

  @Test(arguments: 0..<48 as Range<UInt64>)
  func `the checker decides like a reader that looks at each byte by itself`(seed: UInt64) {
    var texts = JSONTexts(seed: seed)
    // One for all: what it remembers of one text must not matter for the next.
    var checker = JSONChecker()
    var accepted = 0
    for _ in 0..<60 {
      let text = texts.text()
      for bytes in [text] + (0..<8).map({ _ in texts.mutated(text) }) {
        let value = try? checker.check(bytes.span)
        let expected = JSONReference.check(bytes)
        if expected != nil { accepted += 1 }
        guard value != expected else { continue }
        Issue.record("\(String(decoding: bytes, as: UTF8.self)): \(String(describing: value))")
      }
    }
    #expect(accepted > 50, "the texts must not all be refused")
  }

  @Test(arguments: 0..<16 as Range<UInt64>)
  func `the checker decides alike about texts that are cut off anywhere`(seed: UInt64) {
    var texts = JSONTexts(seed: 1000 + seed)
    var checker = JSONChecker()
    for _ in 0..<6 {
      let text = texts.text().prefix(600)
      for length in 0...text.count {
        let bytes = Array(text.prefix(length))
        let found = try? checker.check(bytes.span)
        #expect(found == JSONReference.check(bytes))
      }
    }
  }

  @Test(arguments: 0..<16 as Range<UInt64>)
  func `the parser accepts what the checker accepts and numbers of any size`(seed: UInt64) {
    var texts = JSONTexts(seed: 2000 + seed)
    for _ in 0..<100 {
      let text = texts.mutated(texts.text())
      let isAccepted = JSONReference.check(text, anyMagnitude: true) != nil
      #expect(((try? JSONValue.parse(text)) != nil) == isAccepted, "\(String(decoding: text, as: UTF8.self))")
    }
  }

  @Test(arguments: 0...40)
  func `a key of any length is found twice, and told from one that differs in any byte`(length: Int) throws {
    let key = (0..<length).map { UInt8(ascii: "a") + UInt8($0 % 26) }
    func object(_ other: [UInt8], _ end: String) -> [UInt8] {
      Array(#"{""#.utf8) + key + Array(#"":1,""#.utf8) + other + Array("\":2}\(end)".utf8)
    }
    // After the object there is more of the text, or nothing: words are not read beyond the end.
    for end in ["", String(repeating: " ", count: 40)] {
      #expect(throws: JSONSyntaxError.self) { try check(object(key, end)) }
      #expect(throws: Never.self) { try check(object(key + [UInt8(ascii: "x")], end)) }
      for place in 0..<length {
        var other = key
        other[place] = UInt8(ascii: "Z")
        #expect(throws: Never.self) { try check(object(other, end)) }
        let escaped = key[..<place] + Array("\\u00\(String(key[place], radix: 16))".utf8) + key[(place + 1)...]
        #expect(throws: JSONSyntaxError.self) { try check(object(Array(escaped), end)) }
      }
    }
  }

  @Test(
    arguments: [
      (#"[{"a":1,"b":2},{"a":1,"b":2},{"a":1,"a":2}]"#, false),
      (#"[{"a":1,"b":2},{"a":1,"b":2,"a":3}]"#, false),
      (#"[{"a":1,"b":2},{"b":1,"b":2}]"#, false),
      (#"[{"a":1,"b":2},{"a":1,"b":2,"c":3},{"a":1,"b":2,"b":3}]"#, false),
      (#"{"x":{"a":1,"b":2},"a":0,"b":0,"x":{"a":1,"b":2}}"#, false),
      (#"{"x":{"a":1,"b":2},"b":{"a":1,"b":2},"a":{"b":1,"a":2}}"#, true),
      (#"[{"a":1,"b":2},{"c":{"a":1,"b":2},"b":2},{"a":1,"b":2}]"#, true),
      (#"[{"a":1,"b":2},{"\u0061":1,"b":2},{"a":1,"\u0061":2}]"#, false),
    ])
  func `the keys of an object are compared whatever the objects before it had`(text: String, isValid: Bool) {
    var checker = JSONChecker()
    for _ in 0..<3 {
      let found = try? checker.check(Array(text.utf8).span)
      #expect((found != nil) == isValid)
      let other = Array(#"[{"a":1,"b":2},{"b":1,"c":2,"a":3}]"#.utf8)
      let accepted = try? checker.check(other.span)
      #expect(accepted != nil)
    }
  }

  @Test(arguments: 0...20)
  func `a key like the one before it is checked as any other`(length: Int) {
    let key = (0..<length).map { UInt8(ascii: "a") + UInt8($0 % 26) }
    var keys = [key, key + [UInt8(ascii: "x")], key + Array("xxxxxxxxxxxxxxxxx".utf8)]
    for place in 0..<length {
      keys.append(Array(key[..<place]))
      for byte in [0, 0x1F, 0x22, 0x5C, 0x7F, 0x80, 0xFF, UInt8(ascii: "Z")] as [UInt8] {
        var other = key
        other[place] = byte
        keys.append(other)
        keys.append(key[..<place] + [byte] + key[place...])
      }
    }
    // Twice, after other keys or none, with text after the object or none: what is remembered meets both again.
    var checker = JSONChecker()
    for (before, end) in [("", ""), ("", String(repeating: " ", count: 40)), (#""q":[{"z":1}],"#, "  ")] {
      for other in keys + keys.reversed() {
        for name in [key, other, other, key] {
          for quote in [0x22, 0] as [UInt8] {
            let bytes = Array("{\(before)\"".utf8) + name + [quote] + Array(":0}\(end)".utf8)
            let expected = JSONReference.check(bytes)
            var fresh = JSONChecker()
            let found = [try? checker.check(bytes.span), try? fresh.check(bytes.span)]
            guard found != [expected, expected] else { continue }
            Issue.record("\(String(decoding: bytes, as: UTF8.self)): \(String(describing: found))")
          }
        }
      }
    }
  }

  @Test func `numbers of any length are read to their end`() {
    var checker = JSONChecker()
    for integer in 0...20 {
      for fraction in 0...20 {
        for (first, last) in [("1", "7"), ("0", "0"), ("-1", "9"), ("12", "x"), ("1", "e5"), ("1", "E"), ("2", ".")] {
          let digits = first + String(repeating: "3", count: integer) + "."
          let number = digits + String(repeating: "4", count: fraction) + last
          for text in [number, "[\(number)]", "[\(number), 1]\(String(repeating: " ", count: 40))"] {
            let bytes = Array(text.utf8)
            let found = try? checker.check(bytes.span)
            #expect(found == JSONReference.check(bytes), "\(text)")
          }
        }
      }
    }
  }

  @Test func `a table may have more keys than a body`() {
    // PropertiesRenderer has no limit of its own: a frame bounds it.
    let bytes = (0..<JSONKeys.limit + 10).flatMap { place in
      (0..<3).map { UInt8(truncatingIfNeeded: place >> ($0 * 8)) }
    }
    var keys = JSONKeys()
    func append(_ count: Int) { for place in 0..<count { keys.append(place * 3..<place * 3 + 3, in: bytes.span) } }
    append(JSONKeys.limit + 10)
    #expect(!keys.hasRoom)
    let areDifferent = keys.close(from: 0, in: bytes.span)
    #expect(areDifferent)
    append(JSONKeys.limit + 10)
    keys.append(300..<303, in: bytes.span)
    let areStillDifferent = keys.close(from: 0, in: bytes.span)
    #expect(!areStillDifferent)
    #expect(keys.hasRoom)
  }

  @Test(arguments: 0..<32 as Range<UInt64>)
  func `text is escaped as if byte by byte, also across chunks`(seed: UInt64) {
    var texts = JSONTexts(seed: 3000 + seed)
    for length in Array(0...70) + [990, 1023, 1024, 1025, 1055, 1056, 1057, 2047, 2049, 3100] {
      // From nothing to escape to nothing else, with control characters and without.
      let special = texts.pick([0, 1, 5, 10])
      let others = texts.pick([[0x22, 0x5C], Array(0..<0x20) + [0x22, 0x5C], Array(0...255)] as [[UInt8]])
      let bytes = (0..<length).map { _ in
        texts.below(10) < special ? texts.pick(others) : UInt8(0x23 + texts.below(0x30))
      }
      for tables in Self.tables {
        var out: [UInt8] = Array("before".utf8)
        appendJSONStringContent(bytes.span, to: &out, by: tables)
        #expect(out == Array("before".utf8) + bytes.flatMap(escaped))
      }
      let counted = jsonStringContentCount(bytes.span)
      #expect(counted == bytes.flatMap(escaped).count)
    }
  }

  @Test func `each byte at each place of a word and of 32 bytes is escaped right`() {
    for byte in UInt8.min...UInt8.max {
      for place in 0..<40 {
        var bytes = [UInt8](repeating: UInt8(ascii: "x"), count: 40)
        bytes[place] = byte
        // Next to a byte that a sum could reach.
        if place > 0, byte % 3 == 0 { bytes[place - 1] = byte % 2 == 0 ? 0xFF : 0x22 }
        for tables in Self.tables {
          var out: [UInt8] = []
          appendJSONStringContent(bytes.span, to: &out, by: tables)
          guard out != bytes.flatMap(escaped) else { continue }
          Issue.record("\(byte) at \(place): \(out)")
        }
      }
    }
  }

  @Test(arguments: 0..<32 as Range<UInt64>)
  func `bytes are UTF-8 where the standard library says so`(seed: UInt64) {
    var texts = JSONTexts(seed: 4000 + seed)
    for length in 0...100 {
      var bytes: [UInt8] = []
      while bytes.count < length {
        bytes += Array(texts.pick(["plain text, quite long", "a", "é", "中文", "😀", "\u{7FF}", "\u{FFFF}"]).utf8)
      }
      if texts.below(2) == 0 { bytes = texts.mutated(bytes) }
      let isUTF8 = JSONScanner.isUTF8(bytes.span)
      #expect(isUTF8 == (String(validating: bytes, as: UTF8.self) != nil))
    }
  }
}

private func check(_ bytes: [UInt8]) throws -> JSONChecker.Value {
  var checker = JSONChecker()
  return try checker.check(bytes.span)
}

/// What a byte becomes in a JSON string.
private func escaped(_ byte: UInt8) -> [UInt8] {
  switch byte {
  case UInt8(ascii: "\""), UInt8(ascii: "\\"): return [UInt8(ascii: "\\"), byte]
  case 0x08: return Array(#"\b"#.utf8)
  case 0x09: return Array(#"\t"#.utf8)
  case 0x0A: return Array(#"\n"#.utf8)
  case 0x0C: return Array(#"\f"#.utf8)
  case 0x0D: return Array(#"\r"#.utf8)
  case 0..<0x10: return Array("\\u000\(String(byte, radix: 16))".utf8)
  case 0x10..<0x20: return Array("\\u00\(String(byte, radix: 16))".utf8)
  default: return [byte]
  }
}
