/// The keys of the objects (or header tables) that are open during a scan, to find those that occur twice.
///
/// One growing list serves all levels: an object remembers the count at its start, and its keys end with it. The memory
/// is kept from one scan to the next, so that a steady state allocates nothing.
struct JSONKeys {
  /// Keys that are remembered at a time. More would let a body of a few bytes a key take many times its own size.
  static let limit = 65_536

  /// A key's place, and a digest that equal keys share.
  private struct Key {
    var digest: UInt64
    var start: Int
    var count: Int
    /// Written with JSON escapes, so that the bytes alone do not tell whether it equals another.
    var escaped: Bool
  }

  /// The first ``count`` are remembered; what lies behind them is memory to be used again.
  private var keys: [Key] = []
  private var count = 0

  /// Where the keys of an object that begins now will start.
  var mark: Int { count }

  /// Room for another key is left.
  var hasRoom: Bool { count < Self.limit }

  mutating func removeAll() { count = 0 }

  /// Remembers the key at `range`, of JSON string content where `escaped`.
  mutating func append(_ range: Range<Int>, escaped: Bool = false, in bytes: Span<UInt8>) {
    let digest: UInt64
    if escaped {
      let content = Self.content(range, escaped: true, bytes)
      digest = Self.digest(0..<content.count, content.span)
    } else {
      digest = Self.digest(range, bytes)
    }
    let key = Key(digest: digest, start: range.lowerBound, count: range.count, escaped: escaped)
    if count < keys.count { keys[count] = key } else { keys.append(key) }
    count += 1
  }

  /// Forgets the keys since `mark`, and says whether they were all different.
  mutating func close(from mark: Int, in bytes: Span<UInt8>) -> Bool {
    let end = count
    count = mark
    if end - mark <= 16 {
      for right in mark..<end {
        for left in mark..<right where keys[left].digest == keys[right].digest {
          if content(left, bytes) == content(right, bytes) { return false }
        }
      }
      return true
    }
    keys[mark..<end].sort { $0.digest < $1.digest }
    var start = mark
    while start < end {
      var next = start + 1
      while next < end, keys[next].digest == keys[start].digest { next += 1 }
      // Equal digests are equal keys, unless somebody tries; a set keeps that from taking quadratic time.
      if next - start > 1 {
        var seen: Set<[UInt8]> = []
        for index in start..<next where !seen.insert(content(index, bytes)).inserted { return false }
      }
      start = next
    }
    return true
  }

  private func content(_ index: Int, _ bytes: Span<UInt8>) -> [UInt8] {
    let key = keys[index]
    return Self.content(key.start..<key.start + key.count, escaped: key.escaped, bytes)
  }

  private static func content(_ range: Range<Int>, escaped: Bool, _ bytes: Span<UInt8>) -> [UInt8] {
    var content: [UInt8] = []
    if escaped {
      JSONScanner.appendUnescaped(bytes, range, to: &content)
    } else {
      content.append(copying: bytes.extracting(range))
    }
    return content
  }

  /// Mixes the length, the first eight and the last eight bytes: different for nearly all keys that people choose.
  private static func digest(_ range: Range<Int>, _ bytes: Span<UInt8>) -> UInt64 {
    let odd: UInt64 = 0x9E37_79B9_7F4A_7C15
    let head = word(range.lowerBound, min(range.count, 8), bytes)
    var digest = head ^ (UInt64(truncatingIfNeeded: range.count) &* odd)
    if range.count > 8 { digest = (digest &* odd) ^ word(range.upperBound - 8, 8, bytes) }
    return digest
  }

  /// `count` bytes, at most eight, as an integer.
  private static func word(_ start: Int, _ count: Int, _ bytes: Span<UInt8>) -> UInt64 {
    if count == 0 { return 0 }
    if start + 8 <= bytes.count {
      // Inside the span, as just checked; any bytes are a UInt64.
      let word = unsafe bytes.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: start, as: UInt64.self)
      return word.littleEndian & (UInt64.max >> UInt64(64 - 8 * count))
    }
    var word: UInt64 = 0
    for offset in 0..<count { word |= UInt64(bytes[start + offset]) << UInt64(8 * offset) }
    return word
  }
}
