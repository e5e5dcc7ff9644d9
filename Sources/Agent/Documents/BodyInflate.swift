/// Decompresses DEFLATE (RFC 1951), bare or in a gzip (RFC 1952) or zlib (RFC 1950) wrapper, up to a bound.
///
/// Bodies come from anybody: any input is either decompressed as a whole, with its checksum confirmed, or refused. Every
/// read is bounds-checked, output never exceeds the bound, and time is proportional to input and output.
struct BodyInflate: ~Copyable {
  enum Failure: Error, Equatable {
    /// The input ends too early.
    case truncated
    /// The input is not of the format, or a checksum differs, or something follows its end.
    case invalid
    /// The output would exceed the bound.
    case tooLarge
  }

  /// Appends what the gzip file `bytes` holds (one or more members, nothing behind them).
  ///
  /// - Parameter limit: Most bytes appended. After a failure some may have been.
  static func gunzip(_ bytes: Span<UInt8>, limit: Int, to out: inout [UInt8]) throws(Failure) {
    let end = out.count + limit
    var index = 0
    repeat {
      index = try skipGzipHeader(bytes, index)
      let start = out.count
      var inflate = BodyInflate(index: index, start: start, limit: end)
      try inflate.run(bytes, &out)
      index = inflate.index
      guard bytes.count - index >= 8 else { throw .truncated }
      guard littleEndian(bytes, index) == crc32(out.span.extracting(start...)),
        littleEndian(bytes, index + 4) == UInt32(truncatingIfNeeded: out.count - start)
      else { throw .invalid }
      index += 8
    } while index < bytes.count
  }

  /// Appends what the zlib stream `bytes` holds; where it is none, tries it as bare DEFLATE, which many servers and
  /// clients mean by `deflate` (RFC 9110, 8.4.1.2).
  ///
  /// - Parameter limit: Most bytes appended. After a failure some may have been.
  static func inflate(_ bytes: Span<UInt8>, limit: Int, to out: inout [UInt8]) throws(Failure) {
    let start = out.count
    // Method 8, no preset dictionary, and the check of the two bytes.
    if bytes.count >= 2, bytes[0] & 0x0F == 8, bytes[1] & 0x20 == 0,
      (Int(bytes[0]) << 8 | Int(bytes[1])) % 31 == 0
    {
      do throws(Failure) {
        var inflate = BodyInflate(index: 2, start: start, limit: start + limit)
        try inflate.run(bytes, &out)
        guard bytes.count - inflate.index >= 4 else { throw Failure.truncated }
        guard bytes.count - inflate.index == 4,
          littleEndian(bytes, inflate.index).byteSwapped == adler32(out.span.extracting(start...))
        else { throw Failure.invalid }
        return
      } catch {
        if error == .tooLarge { throw error }
        out.removeLast(out.count - start)
      }
    }
    var inflate = BodyInflate(index: 0, start: start, limit: start + limit)
    try inflate.run(bytes, &out)
    guard inflate.index == bytes.count else { throw .invalid }
  }

  /// The first byte behind the gzip header that begins at `start`.
  private static func skipGzipHeader(_ bytes: Span<UInt8>, _ start: Int) throws(Failure) -> Int {
    guard bytes.count - start >= 10 else { throw .truncated }
    let flags = bytes[start + 3]
    guard bytes[start] == 0x1F, bytes[start + 1] == 0x8B, bytes[start + 2] == 8, flags & 0xE0 == 0 else {
      throw .invalid
    }
    var index = start + 10
    if flags & 0x04 != 0 {
      guard bytes.count - index >= 2 else { throw .truncated }
      index += 2 + Int(bytes[index]) + Int(bytes[index + 1]) << 8
    }
    // File name and comment, each ended by a zero byte.
    for flag in [0x08, 0x10] as [UInt8] where flags & flag != 0 {
      while index < bytes.count, bytes[index] != 0 { index += 1 }
      index += 1
    }
    if flags & 0x02 != 0 { index += 2 }
    guard index <= bytes.count else { throw .truncated }
    return index
  }

  private static func littleEndian(_ bytes: Span<UInt8>, _ index: Int) -> UInt32 {
    UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 | UInt32(bytes[index + 2]) << 16
      | UInt32(bytes[index + 3]) << 24
  }

  /// The next input byte that is not in `bits`, after ``run(_:_:)`` the first byte behind the stream.
  private var index: Int
  /// Count of output bytes before this stream; matches do not reach back to them.
  private let start: Int
  /// Count of output bytes that must not be exceeded.
  private let limit: Int
  /// Input bits that were read but not used, the next one lowest.
  private var bits: UInt64 = 0
  private var bitCount = 0

  private init(index: Int, start: Int, limit: Int) {
    self.index = index
    self.start = start
    self.limit = limit
  }

  /// Appends one DEFLATE stream's content.
  private mutating func run(_ bytes: Span<UInt8>, _ out: inout [UInt8]) throws(Failure) {
    var isLast = false
    while !isLast {
      isLast = try take(1, bytes) == 1
      switch try take(2, bytes) {
      case 0: try stored(bytes, &out)
      case 1: try compressed(bytes, Self.fixedLiterals, Self.fixedDistances, &out)
      case 2:
        let (literals, distances) = try codes(bytes)
        try compressed(bytes, literals, distances, &out)
      default: throw .invalid
      }
    }
    // Whole bytes that were read ahead go back.
    index -= bitCount / 8
    bitCount = 0
    bits = 0
  }

  /// The next `count` bits, at most 16, the first one lowest.
  private mutating func take(_ count: Int, _ bytes: Span<UInt8>) throws(Failure) -> Int {
    while bitCount < count {
      guard index < bytes.count else { throw .truncated }
      bits |= UInt64(bytes[index]) << UInt64(bitCount)
      index += 1
      bitCount += 8
    }
    let value = bits & ((1 << UInt64(count)) - 1)
    bits >>= UInt64(count)
    bitCount -= count
    return Int(value)
  }

  private mutating func stored(_ bytes: Span<UInt8>, _ out: inout [UInt8]) throws(Failure) {
    index -= bitCount / 8
    bits = 0
    bitCount = 0
    let count = try take(16, bytes)
    guard try take(16, bytes) == ~count & 0xFFFF else { throw .invalid }
    guard bytes.count - index >= count else { throw .truncated }
    guard limit - out.count >= count else { throw .tooLarge }
    out.append(copying: bytes.extracting(index..<index + count))
    index += count
  }

  private mutating func compressed(
    _ bytes: Span<UInt8>, _ literals: HuffmanCode, _ distances: HuffmanCode, _ out: inout [UInt8]
  ) throws(Failure) {
    while true {
      let symbol = try decode(literals, bytes)
      if symbol < 256 {
        guard out.count < limit else { throw .tooLarge }
        out.append(UInt8(symbol))
        continue
      }
      if symbol == 256 { return }
      guard symbol - 257 < Self.lengths.count else { throw .invalid }
      let (length, lengthBits) = Self.lengths[symbol - 257]
      let count = length + (try take(lengthBits, bytes))
      let distanceSymbol = try decode(distances, bytes)
      guard distanceSymbol < Self.distances.count else { throw .invalid }
      let (base, distanceBits) = Self.distances[distanceSymbol]
      let distance = base + (try take(distanceBits, bytes))
      guard distance <= out.count - start else { throw .invalid }
      guard limit - out.count >= count else { throw .tooLarge }
      // One by one: source and copy overlap where the distance is shorter than the length.
      for _ in 0..<count { out.append(out[out.count - distance]) }
    }
  }

  private mutating func decode(_ code: HuffmanCode, _ bytes: Span<UInt8>) throws(Failure) -> Int {
    while bitCount < HuffmanCode.maxLength, index < bytes.count {
      bits |= UInt64(bytes[index]) << UInt64(bitCount)
      index += 1
      bitCount += 8
    }
    guard let (symbol, length) = code.symbol(bits) else {
      throw bitCount < HuffmanCode.maxLength ? .truncated : .invalid
    }
    guard length <= bitCount else { throw .truncated }
    bits >>= UInt64(length)
    bitCount -= length
    return symbol
  }

  /// Reads the two codes of a block with dynamic ones.
  private mutating func codes(_ bytes: Span<UInt8>) throws(Failure) -> (HuffmanCode, HuffmanCode) {
    let literalCount = try take(5, bytes) + 257
    let distanceCount = try take(5, bytes) + 1
    let lengthCount = try take(4, bytes) + 4
    guard literalCount <= 286, distanceCount <= 30 else { throw .invalid }
    var codeLengths = [UInt8](repeating: 0, count: 19)
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    for place in order[..<lengthCount] { codeLengths[place] = UInt8(try take(3, bytes)) }
    guard let lengthCode = HuffmanCode(lengths: codeLengths[...], mayBeIncomplete: false) else { throw .invalid }
    var lengths: [UInt8] = []
    while lengths.count < literalCount + distanceCount {
      let symbol = try decode(lengthCode, bytes)
      var repeated: UInt8 = 0
      let count: Int
      switch symbol {
      case 0..<16:
        lengths.append(UInt8(symbol))
        continue
      case 16:
        guard let last = lengths.last else { throw .invalid }
        repeated = last
        count = 3 + (try take(2, bytes))
      case 17: count = 3 + (try take(3, bytes))
      default: count = 11 + (try take(7, bytes))
      }
      lengths.append(contentsOf: repeatElement(repeated, count: count))
    }
    guard lengths.count == literalCount + distanceCount, lengths[256] != 0,
      let literals = HuffmanCode(lengths: lengths[..<literalCount], mayBeIncomplete: true),
      let distances = HuffmanCode(lengths: lengths[literalCount...], mayBeIncomplete: true)
    else { throw .invalid }
    return (literals, distances)
  }

  /// Base and extra bits of the lengths for symbols 257 to 285.
  private static let lengths: [(Int, Int)] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 1), (13, 1), (15, 1), (17, 1), (19, 2),
    (23, 2), (27, 2), (31, 2), (35, 3), (43, 3), (51, 3), (59, 3), (67, 4), (83, 4), (99, 4), (115, 4), (131, 5),
    (163, 5), (195, 5), (227, 5), (258, 0),
  ]

  /// Base and extra bits of the distances for symbols 0 to 29: two symbols for each number of extra bits.
  private static let distances: [(Int, Int)] = (0..<30).map { symbol in
    if symbol < 4 { return (symbol + 1, 0) }
    let extraBits = symbol / 2 - 1
    return ((2 + symbol % 2) << extraBits + 1, extraBits)
  }

  private static let fixedLiterals: HuffmanCode = {
    var lengths = [UInt8](repeating: 8, count: 288)
    for symbol in 144..<256 { lengths[symbol] = 9 }
    for symbol in 256..<280 { lengths[symbol] = 7 }
    return HuffmanCode(lengths: lengths[...], mayBeIncomplete: false) ?? HuffmanCode()
  }()

  /// Symbols 30 and 31 complete the code and are invalid where they occur.
  private static let fixedDistances =
    HuffmanCode(lengths: [UInt8](repeating: 5, count: 32)[...], mayBeIncomplete: false) ?? HuffmanCode()

  /// CRC-32 of RFC 1952.
  static func crc32(_ bytes: Span<UInt8>) -> UInt32 {
    var crc = UInt32.max
    let table = crcTable
    for index in 0..<bytes.count { crc = table[Int(UInt8(truncatingIfNeeded: crc) ^ bytes[index])] ^ crc >> 8 }
    return ~crc
  }

  private static let crcTable: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 != 0 ? 0xEDB8_8320 ^ crc >> 1 : crc >> 1 }
  }

  /// Adler-32 of RFC 1950.
  static func adler32(_ bytes: Span<UInt8>) -> UInt32 {
    var low: UInt32 = 1
    var high: UInt32 = 0
    for index in 0..<bytes.count {
      low = (low + UInt32(bytes[index])) % 65_521
      high = (high + low) % 65_521
    }
    return high << 16 | low
  }
}
