/// The keys of the objects (or header tables) that are open during a scan, to find those that occur twice.
///
/// One list serves all levels: an object remembers the count at its start, and its keys end with it. The memory is kept
/// from one scan to the next, so that a steady state allocates nothing. What it held is kept as well: objects that
/// follow each other often have the same keys in the same order; such keys are recognised without a search for their
/// end, and what was found different is not compared again.
struct JSONKeys {
  /// Keys that are remembered at a time. More would let a body of a few bytes a key take many times its own size.
  static let limit = 65_536

  /// A key's place, and a digest that equal keys share.
  struct Key {
    fileprivate var digest: UInt64
    /// The first eight bytes; without meaning if it has fewer.
    fileprivate var head: UInt64
    fileprivate var start: Int
    /// Twice the count, and one more if it is written with JSON escapes, so that the bytes alone do not tell whether
    /// it equals another.
    fileprivate var countAndEscaped: Int

    /// Stands where no key was yet.
    fileprivate static var none: Key { Key(digest: 0, head: 0, start: 0, countAndEscaped: 1) }

    fileprivate var range: Range<Int> { start..<start + countAndEscaped / 2 }
    fileprivate var escaped: Bool { countAndEscaped & 1 != 0 }
  }

  /// What is known of the keys, apart from their memory, so that a scan can borrow both.
  struct Open {
    /// The first ones in memory are remembered; what lies after them is memory to be used again.
    fileprivate(set) var count = 0
    /// The digests at the places from here up to `distinctEnd`, remembered or not, are all different from each other:
    /// an object that puts the same ones there has different keys.
    fileprivate var distinctStart = 0
    fileprivate var distinctEnd = 0
  }

  private var memory = [Key](repeating: .none, count: 64)
  private var open = Open()

  /// Where the keys of an object that begins now will start.
  var mark: Int { open.count }

  /// Room for another key is left.
  var hasRoom: Bool { open.count < Self.limit }

  mutating func removeAll() { open.count = 0 }

  /// Remembers the key at `range`, of JSON string content if `escaped`; also beyond the limit, if the caller means it.
  mutating func append(_ range: Range<Int>, escaped: Bool = false, in bytes: Span<UInt8>) {
    if open.count == memory.count { grow(to: 4 * memory.count) }
    var known = open
    var span = memory.mutableSpan
    Self.append(range, escaped: escaped, in: bytes, to: &span, &known)
    open = known
  }

  /// Forgets the keys since `mark`, and says whether they were all different.
  mutating func close(from mark: Int, in bytes: Span<UInt8>) -> Bool {
    var known = open
    var span = memory.mutableSpan
    let areDifferent = Self.close(from: mark, in: bytes, &span, &known)
    open = known
    return areDifferent
  }

  /// Calls `scan` with the memory and what is known of it, without any keys, and again with more memory if it says
  /// that it had too little, up to the limit.
  ///
  /// To begin again costs less than to ask, for each key, whether someone shares the memory. Since memory is kept, it
  /// happens a few times at most.
  @inline(__always) mutating func withMemory<Result>(
    _ scan: (inout MutableSpan<Key>, inout Open) -> Result, hadTooLittle: (Result) -> Bool
  ) -> Result {
    while true {
      var known = open
      known.count = 0
      var span = memory.mutableSpan
      let result = scan(&span, &known)
      open = known
      guard hadTooLittle(result), memory.count < Self.limit else { return result }
      grow(to: min(4 * memory.count, Self.limit))
    }
  }

  private mutating func grow(to count: Int) {
    memory.append(contentsOf: repeatElement(.none, count: count - memory.count))
  }
}

/// The same on borrowed memory.
extension JSONKeys {
  /// Remembers the key at `range`, of JSON string content if `escaped`. Traps without room.
  static func append(
    _ range: Range<Int>, escaped: Bool, in bytes: Span<UInt8>, to keys: inout MutableSpan<Key>, _ open: inout Open
  ) {
    let digest: UInt64
    if escaped {
      let content = content(range, escaped: true, bytes)
      digest = Self.digest(0..<content.count, content.span)
    } else {
      digest = Self.digest(range, bytes)
    }
    let head = range.count < 8 ? 0 : JSONScanner.word(bytes, range.lowerBound)
    append(
      Key(
        digest: digest, head: head, start: range.lowerBound, countAndEscaped: range.count << 1 | (escaped ? 1 : 0)),
      to: &keys, &open)
  }

  /// Remembers the key of `count` bytes, at most sixteen and without escapes, at `start`. Traps without room.
  ///
  /// The caller has made sure that there are seventeen bytes.
  @inline(__always) static func append(
    _ bytes: Span<UInt8>, start: Int, count: Int, to keys: inout MutableSpan<Key>, _ open: inout Open
  ) {
    let head = JSONScanner.word(bytes, start)
    let digest =
      count < 8
      ? digest(head, quoteAt: count)
      : digest(head: head, tail: JSONScanner.word(bytes, start &+ count &- 8), count: count)
    append(Key(digest: digest, head: head, start: start, countAndEscaped: count << 1), to: &keys, &open)
  }

  /// If what begins at `start` is the key that was last at the next place, and a quote, remembers it.
  ///
  /// So it is as valid as that one was. A processor goes on with what follows as soon as it knows where that is: here
  /// from memory, long before it would have found the quote. The caller has made sure that there are seventeen bytes,
  /// and room.
  ///
  /// - Returns: How many bytes the key has; nil if it is another one, or has more than sixteen or escapes.
  @inline(__always) static func appendRepeated(
    _ bytes: Span<UInt8>, start: Int, to keys: inout MutableSpan<Key>, _ open: inout Open
  ) -> Int? {
    let place = open.count
    assert(place < keys.count && start + 17 <= bytes.count)
    // There is room for it, as the caller promises; so for the others.
    let countAndEscaped = unsafe keys[unchecked: place].countAndEscaped
    let count = countAndEscaped &>> 1
    let head = JSONScanner.word(bytes, start)
    if countAndEscaped & ~14 == 0 {
      // An even number below sixteen. The digest is the key itself, and the quote.
      guard unsafe digest(head, quoteAt: count) == keys[unchecked: place].digest else { return nil }
    } else {
      guard countAndEscaped & 1 == 0, count <= 16, unsafe head == keys[unchecked: place].head else { return nil }
      // With count and head, the digest tells the tail. It and the quote are inside of the seventeen bytes.
      let digest = digest(head: head, tail: JSONScanner.word(bytes, start &+ count &- 8), count: count)
      guard unsafe digest == keys[unchecked: place].digest,
        unsafe bytes[unchecked: start &+ count] == UInt8(ascii: "\"")
      else { return nil }
    }
    unsafe keys[unchecked: place].start = start
    open.count = place &+ 1
    return count
  }

  @inline(__always) private static func append(_ key: Key, to keys: inout MutableSpan<Key>, _ open: inout Open) {
    let place = open.count
    if keys[place].digest != key.digest, open.distinctStart <= place, place < open.distinctEnd {
      open.distinctEnd = place
    }
    keys[place] = key
    open.count = place &+ 1
  }

  /// Forgets the keys since `mark`, and says whether they were all different.
  @inline(__always) static func close(
    from mark: Int, in bytes: Span<UInt8>, _ keys: inout MutableSpan<Key>, _ open: inout Open
  ) -> Bool {
    let end = open.count
    open.count = mark
    // An object with the keys of one before, in the same order.
    if open.distinctStart <= mark, end <= open.distinctEnd { return true }
    if areDigestsDifferent(keys, mark..<end) {
      open.distinctStart = mark
      open.distinctEnd = end
      return true
    }
    return areDifferent(keys, mark..<end, bytes)
  }

  @inline(never) private static func areDigestsDifferent(_ keys: borrowing MutableSpan<Key>, _ range: Range<Int>)
    -> Bool
  {
    if range.count <= 32 {
      for right in range {
        let digest = keys[right].digest
        for left in range.lowerBound..<right where keys[left].digest == digest { return false }
      }
      return true
    }
    var digests: [UInt64] = []
    digests.reserveCapacity(range.count)
    for index in range { digests.append(keys[index].digest) }
    digests.sort()
    for index in 1..<digests.count where digests[index - 1] == digests[index] { return false }
    return true
  }

  /// Equal digests are equal keys, unless someone tries; a set keeps that from taking quadratic time.
  @inline(never) private static func areDifferent(
    _ keys: borrowing MutableSpan<Key>, _ range: Range<Int>, _ bytes: Span<UInt8>
  ) -> Bool {
    var seen: Set<[UInt8]> = []
    for index in range where !seen.insert(content(keys[index].range, escaped: keys[index].escaped, bytes)).inserted {
      return false
    }
    return true
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

  /// The digest of a key of less than eight bytes: its bytes and a quote, which tells its length.
  ///
  /// - Parameters:
  ///   - word: The key, a quote and anything after it, the first byte in the lowest bits.
  ///   - count: Where the quote is: at most 7.
  @inline(__always) private static func digest(_ word: UInt64, quoteAt count: Int) -> UInt64 {
    word & (UInt64.max &>> UInt64(truncatingIfNeeded: 56 &- 8 &* count))
  }

  /// The digest of a key of eight to sixteen bytes mixes its count, its first and its last eight bytes: any two of the
  /// digest and those, and the count, tell the third.
  @inline(__always) private static func digest(head: UInt64, tail: UInt64, count: Int) -> UInt64 {
    ((head ^ (UInt64(truncatingIfNeeded: count) &* odd)) &* odd) ^ tail
  }

  private static var odd: UInt64 { 0x9E37_79B9_7F4A_7C15 }

  /// The digest of any key; that of a longer one than the above mixes the words between as well. So digests of different
  /// keys are equal only by a rare chance, or because someone means it.
  private static func digest(_ range: Range<Int>, _ bytes: Span<UInt8>) -> UInt64 {
    if range.count < 8 {
      var word = UInt64(UInt8(ascii: "\""))
      for index in range.reversed() { word = word << 8 | UInt64(bytes[index]) }
      return word
    }
    let head = JSONScanner.word(bytes, range.lowerBound)
    var digest = head ^ (UInt64(truncatingIfNeeded: range.count) &* odd)
    var index = range.lowerBound + 8
    while index + 8 < range.upperBound {
      digest = (digest &* odd) ^ JSONScanner.word(bytes, index)
      index += 8
    }
    return (digest &* odd) ^ JSONScanner.word(bytes, range.upperBound - 8)
  }
}
