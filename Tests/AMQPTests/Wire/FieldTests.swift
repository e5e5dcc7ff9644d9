import Testing

@testable import AMQP

@Suite struct FieldTests {
  @Test(
    arguments: [
      ("V", [], .void), ("t", [0], .bool(false)), ("t", [1], .bool(true)), ("t", [2], .bool(true)),
      ("b", [0x80], .integer(-128)), ("B", [0xFF], .integer(255)), ("s", [0x80, 0], .integer(-32768)),
      ("u", [0xFF, 0xFE], .integer(65534)), ("I", [0x80, 0, 0, 0], .integer(-2_147_483_648)),
      ("i", [0xFF, 0xFF, 0xFF, 0xFF], .integer(4_294_967_295)),
      ("l", [0x80, 0, 0, 0, 0, 0, 0, 0], .integer(.min)),
      ("L", [0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], .integer(.max)),
      ("L", [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], .integer(-1)),
      ("f", [0x3F, 0x80, 0, 0], .float(1)), ("d", [0xC0, 0, 0, 0, 0, 0, 0, 0], .double(-2)),
      ("D", [2, 0, 0, 0x30, 0x39], .decimal(scale: 2, unscaled: 12345)),
      ("D", [255, 0xFF, 0xFF, 0xFF, 0xFF], .decimal(scale: 255, unscaled: -1)),
      ("T", [0, 0, 0, 0, 0x69, 0x5B, 0x8B, 0x20], .timestamp(0x695B_8B20)),
      ("S", [0, 0, 0, 2, 0xFF, 0xFE], .string(5..<7)), ("x", [0, 0, 0, 0], .bytes(5..<5)),
      ("A", [0, 0, 0, 1, 0x56], .array(5..<6)), ("F", [0, 0, 0, 2, 0, 0x56], .table(5..<7)),
    ] as [(Character, [UInt8], FieldValue)])
  func `every field type of the broker is read`(type: Character, content: [UInt8], value: FieldValue) throws {
    let bytes = [type.asciiValue ?? 0] + content
    #expect(try arrayValues(bytes) == [value])
    // The same in a table, three bytes later.
    let fields = try tableFields([2, 0x6B, 0x31] + bytes)
    #expect(fields.map(\.key) == [1..<3])
    #expect(fields.map(\.value) == [value.moved(by: 3)])
    // Every shorter form is an error, never a read past the end.
    for count in 1..<bytes.count {
      #expect(throws: FieldError.self) { try arrayValues(Array(bytes[..<count])) }
    }
  }

  @Test func `every other type octet is an error that names it`() {
    let known = Set("tbBsuIilLfdDSATFVx".utf8)
    for type in UInt8.min...UInt8.max where !known.contains(type) {
      #expect(throws: FieldError(kind: .unknownType(type), offset: 1)) {
        try arrayValues([0x56, type] + [UInt8](repeating: 0, count: 16))
      }
    }
  }

  @Test func `empty, repeated and non-UTF-8 keys are fields like others`() throws {
    let fields = try tableFields([0, 0x56, 1, 0x61, 0x56, 1, 0x61, 0x56, 2, 0xFF, 0xFE, 0x56])
    #expect(fields.map(\.key) == [1..<1, 3..<4, 6..<7, 9..<11])
  }

  @Test func `a length beyond the table is an error although bytes follow it`() {
    // The table's content is bytes 0..<7; the string in it claims three bytes but has one.
    let bytes: [UInt8] = [0, 0x53, 0, 0, 0, 3, 1, 2, 3, 4]
    var table = FieldTable(0..<7, of: bytes.span)
    #expect(throws: FieldError(kind: .truncated, offset: 6)) { _ = try table.next(bytes.span) }
    #expect(throws: FieldError.self) { try arrayValues([0x53, 0xFF, 0xFF, 0xFF, 0xFF, 0]) }
  }

  @Test func `a range outside the bytes is cut`() throws {
    let bytes: [UInt8] = [0, 0x56]
    var table = FieldTable(0..<1000, of: bytes.span)
    #expect(try table.next(bytes.span) != nil)
    #expect(try table.next(bytes.span) == nil)
    var array = FieldArray(5..<9, of: bytes.span)
    #expect(try array.next(bytes.span) == nil)
  }

  @Test(arguments: 0..<64 as Range<UInt64>)
  func `random bytes are values or errors and ranges stay inside`(seed: UInt64) {
    var random = Seeded(seed: seed)
    let likely = Array("tbBsuIilLfdDSATFVx".utf8) + [0, 0, 0, 1, 2, 3, 255]
    for _ in 0..<200 {
      let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
        Bool.random(using: &random)
          ? likely[Int.random(in: 0..<likely.count, using: &random)] : UInt8.random(in: 0...255, using: &random)
      }
      var table = FieldTable(0..<bytes.count, of: bytes.span)
      while let field = try? table.next(bytes.span) {
        #expect(field.key.upperBound <= bytes.count)
        #expect((field.value.range ?? 0..<0).upperBound <= bytes.count)
      }
      var array = FieldArray(0..<bytes.count, of: bytes.span)
      while let value = try? array.next(bytes.span) {
        #expect((value.range ?? 0..<0).upperBound <= bytes.count)
      }
      if let properties = try? BasicProperties(block: bytes.span) {
        #expect((properties.headers ?? 0..<0).upperBound <= bytes.count)
      }
    }
  }
}

@Suite struct FieldPropertiesTests {
  /// All fourteen properties, each with a content that tells it from the others.
  static let whole: [UInt8] =
    [0xFF, 0xFC, 1, 0x61, 1, 0x62, 0, 0, 0, 2, 0, 0x56, 2, 9] + [1, 0x63, 1, 0x64, 1, 0x65, 1, 0x66]
    + [0, 0, 0, 0, 0, 0, 1, 0, 1, 0x67, 1, 0x68, 1, 0x69, 1, 0x6A]

  @Test func `all properties are read in their order`() throws {
    let properties = try decode(Self.whole)
    let strings = [
      properties.contentType, properties.contentEncoding, properties.correlationID, properties.replyTo,
      properties.expiration, properties.messageID, properties.type, properties.userID, properties.appID,
      properties.clusterID,
    ]
    #expect(
      strings.map { range in range.map { String(decoding: Self.whole[$0], as: UTF8.self) } } == [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
      ])
    #expect(properties.headers == 10..<12)
    #expect(properties.deliveryMode == 2)
    #expect(properties.priority == 9)
    #expect(properties.timestamp == 256)
  }

  @Test func `each property alone is read and nothing else`() throws {
    let contents: [[UInt8]] = [
      [1, 0x61], [1, 0x61], [0, 0, 0, 0], [1], [1], [1, 0x61], [1, 0x61], [1, 0x61], [1, 0x61],
      [0, 0, 0, 0, 0, 0, 0, 1], [1, 0x61], [1, 0x61], [1, 0x61], [1, 0x61],
    ]
    for (number, content) in contents.enumerated() {
      let flags = UInt16(1) << (15 - number)
      let properties = try decode([UInt8(flags >> 8), UInt8(flags & 0xFF)] + content)
      let present = Mirror(reflecting: properties).children.enumerated().filter { _, child in
        !String(describing: child.value).hasPrefix("nil")
      }
      #expect(present.map(\.offset) == [number])
    }
    #expect(throws: Never.self) { try decode([0, 0]) }
  }

  @Test(
    arguments: [
      ([], .truncated, 0), ([0], .truncated, 0), ([0, 1], .truncated, 2), ([0x80, 0], .truncated, 2),
      ([0x80, 0, 2, 1], .truncated, 3), ([0x20, 0, 0, 0, 0, 1], .truncated, 6), ([0, 0x40, 0, 0], .truncated, 2),
      ([0, 2], .unknownFlags, 0), ([0, 1, 0, 2], .unknownFlags, 2), ([0, 1, 0, 1, 0x80, 0], .unknownFlags, 4),
      ([0, 0, 0], .trailingBytes, 2), ([0x10, 0, 1, 1], .trailingBytes, 3),
    ] as [([UInt8], FieldError.Kind, Int)])
  func `a malformed block is an error with its place`(block: [UInt8], kind: FieldError.Kind, offset: Int) {
    #expect(throws: FieldError(kind: kind, offset: offset)) { try decode(block) }
  }

  @Test func `every shorter form of a whole block is an error`() {
    for count in 0..<Self.whole.count {
      #expect(throws: FieldError.self) { try decode(Array(Self.whole[..<count])) }
    }
  }

  @Test func `an empty continued flags word changes nothing`() throws {
    #expect(try decode([0x10, 1, 0, 0, 7]).deliveryMode == 7)
  }
}

private func decode(_ block: [UInt8]) throws -> BasicProperties { try BasicProperties(block: block.span) }

private func arrayValues(_ bytes: [UInt8]) throws -> [FieldValue] {
  var array = FieldArray(0..<bytes.count, of: bytes.span)
  var values: [FieldValue] = []
  while let value = try array.next(bytes.span) { values.append(value) }
  return values
}

private func tableFields(_ bytes: [UInt8]) throws -> [FieldTable.Field] {
  var table = FieldTable(0..<bytes.count, of: bytes.span)
  var fields: [FieldTable.Field] = []
  while let field = try table.next(bytes.span) { fields.append(field) }
  return fields
}

extension FieldValue {
  fileprivate var range: Range<Int>? {
    switch self {
    case .string(let range), .bytes(let range), .table(let range), .array(let range): range
    default: nil
    }
  }

  fileprivate func moved(by count: Int) -> FieldValue {
    guard let range else { return self }
    let moved = range.lowerBound + count..<range.upperBound + count
    switch self {
    case .string: return .string(moved)
    case .bytes: return .bytes(moved)
    case .table: return .table(moved)
    case .array: return .array(moved)
    default: return self
    }
  }
}

/// A small seeded generator (SplitMix64), so that a failing seed fails again.
private struct Seeded: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
