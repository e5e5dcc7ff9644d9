internal import CSQLite

/// What a row's values look like, in 64 bits: SQLite has no checksums over its file, so a row carries its own.
///
/// Every table has a column `digest`, of all its other columns in their order. It is for accidents, a bit that changed on a disk or a page
/// that is an older one, and not against people: anybody can compute it. In SQL it is the function `row_digest(…)` of our own
/// connections. The type counts as well as the bytes, since whether a body is TEXT decides what becomes of it.
///
/// A number goes in as XXH64's step for eight bytes, bytes as the whole of XXH64 with what came before as its seed
/// (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
struct RowDigest {
  private(set) var value: UInt64 = 0

  init() {}

  /// Of a row of `message`, in the order of its columns; bytes with whether they are TEXT. None at all are NULL for the raw properties. A
  /// number that is NULL is left out, as in rows of before there was one (``Schema/fitsDigest(_:version:)``).
  init(
    _ position: Int64, _ consumer: Int64, _ deliveryTag: Int64, _ receivedAt: Int64, _ redelivered: Int64,
    _ size: Int64, _ bytesBefore: Int64, exchange: Span<UInt8>, isText exchangeIsText: Bool, routingKey: Span<UInt8>,
    isText routingKeyIsText: Bool, properties: Span<UInt8>, rawProperties: Span<UInt8>, body: Span<UInt8>,
    isText bodyIsText: Bool, number: Int64?
  ) {
    add(position)
    add(consumer)
    add(deliveryTag)
    add(receivedAt)
    add(redelivered)
    add(size)
    add(bytesBefore)
    add(exchange, isText: exchangeIsText)
    add(routingKey, isText: routingKeyIsText)
    add(properties, isText: true)
    if rawProperties.count > 0 { add(rawProperties, isText: false) } else { addNull() }
    add(body, isText: bodyIsText)
    if let number { add(number) }
  }

  /// As the column holds it.
  var stored: Int64 { Int64(bitPattern: value) }

  mutating func add(_ number: Int64) {
    value = XXHash.step(value ^ Self.kind(SQLITE_INTEGER), UInt64(bitPattern: number))
  }

  mutating func addNull() { value = XXHash.step(value ^ Self.kind(SQLITE_NULL), 0) }

  mutating func add(_ bytes: Span<UInt8>, isText: Bool) {
    let seed = value ^ Self.kind(isText ? SQLITE_TEXT : SQLITE_BLOB)
    value = unsafe bytes.withUnsafeBytes { unsafe XXHash.hash($0, seed: seed) }
  }

  private static func kind(_ type: Int32) -> UInt64 { UInt64(UInt32(bitPattern: type)) << 32 }

  /// Adds a value of SQLite's.
  private mutating func add(_ other: OpaquePointer?) {
    switch unsafe sqlite3_value_type(other) {
    case SQLITE_INTEGER: add(unsafe sqlite3_value_int64(other))
    case SQLITE_NULL: addNull()
    case let type:
      // The pointer comes first, the size after it (https://www.sqlite.org/c3ref/value_blob.html). No column holds a FLOAT.
      let start = unsafe sqlite3_value_blob(other)
      let bytes = unsafe UnsafeRawBufferPointer(start: start, count: Int(sqlite3_value_bytes(other)))
      unsafe value = XXHash.hash(bytes, seed: value ^ Self.kind(type))
    }
  }

  /// Gives a connection the function `row_digest(…)`, of any number of values.
  ///
  /// - Returns: SQLite's result code.
  static func register(_ handle: OpaquePointer?) -> Int32 {
    unsafe sqlite3_create_function_v2(
      handle, "row_digest", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, nil,
      { context, count, values in
        var digest = RowDigest()
        for index in 0..<Int(count) { unsafe digest.add(values?[index]) }
        unsafe sqlite3_result_int64(context, digest.stored)
      }, nil, nil, nil)
  }
}

/// XXH64, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
enum XXHash {
  private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
  private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
  private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
  private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
  private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

  private static func rotated(_ value: UInt64, _ bits: UInt64) -> UInt64 { value << bits | value >> (64 - bits) }

  private static func round(_ accumulator: UInt64, _ lane: UInt64) -> UInt64 {
    rotated(accumulator &+ lane &* prime2, 31) &* prime1
  }

  /// What eight bytes do to an accumulator.
  static func step(_ accumulator: UInt64, _ lane: UInt64) -> UInt64 {
    rotated(accumulator ^ round(0, lane), 27) &* prime1 &+ prime4
  }

  static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
    func lane(_ offset: Int) -> UInt64 {
      UInt64(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    let count = bytes.count
    var offset = 0
    var hash: UInt64
    if count >= 32 {
      var one = seed &+ prime1 &+ prime2
      var two = seed &+ prime2
      var three = seed
      var four = seed &- prime1
      while offset + 32 <= count {
        one = round(one, lane(offset))
        two = round(two, lane(offset + 8))
        three = round(three, lane(offset + 16))
        four = round(four, lane(offset + 24))
        offset += 32
      }
      hash = rotated(one, 1) &+ rotated(two, 7) &+ rotated(three, 12) &+ rotated(four, 18)
      hash = (hash ^ round(0, one)) &* prime1 &+ prime4
      hash = (hash ^ round(0, two)) &* prime1 &+ prime4
      hash = (hash ^ round(0, three)) &* prime1 &+ prime4
      hash = (hash ^ round(0, four)) &* prime1 &+ prime4
    } else {
      hash = seed &+ prime5
    }
    hash &+= UInt64(count)
    while offset + 8 <= count {
      hash = step(hash, lane(offset))
      offset += 8
    }
    if offset + 4 <= count {
      let word = UInt32(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
      hash = rotated(hash ^ UInt64(word) &* prime1, 23) &* prime2 &+ prime3
      offset += 4
    }
    while offset < count {
      hash = rotated(hash ^ UInt64(unsafe bytes[offset]) &* prime5, 11) &* prime1
      offset += 1
    }
    hash = (hash ^ hash >> 33) &* prime2
    hash = (hash ^ hash >> 29) &* prime3
    return hash ^ hash >> 32
  }
}
