/// A canonical Huffman code of DEFLATE (RFC 1951, 3.2.2), made for decoding.
///
/// Codes of up to ``fastLength`` bits, nearly all in practice, are found in one look-up; longer ones bit by bit.
struct HuffmanCode {
  /// The longest code.
  static let maxLength = 15
  /// Codes up to this length are in the look-up table.
  private static let fastLength = 10

  /// For each value of the next ten bits, the symbol and, in the low four bits, its length; zero where it is longer.
  private var fast = [UInt16](repeating: 0, count: 1 << HuffmanCode.fastLength)
  /// Number of codes of each length.
  private var counts = [Int](repeating: 0, count: HuffmanCode.maxLength + 1)
  /// Symbols in the order of their codes.
  private var symbols: [UInt16] = []

  /// A code without symbols.
  init() {}

  /// - Parameters:
  ///   - lengths: The code length of each symbol, at most 15, zero for none; at most 288.
  ///   - mayBeIncomplete: Allow a code that leaves bit patterns unused, as DEFLATE does with no distance or one.
  /// - Returns: Nil for lengths that no prefix code has, and for an incomplete code where that is not allowed.
  init?(lengths: ArraySlice<UInt8>, mayBeIncomplete: Bool) {
    for length in lengths where length > 0 { counts[Int(length)] += 1 }
    var left = 1
    for length in 1...Self.maxLength {
      left = left << 1 - counts[length]
      guard left >= 0 else { return nil }
    }
    // An incomplete code is meant for a single symbol, of one bit, or for none.
    let used = counts.reduce(0, +)
    guard left == 0 || mayBeIncomplete && used == counts[1] else { return nil }
    var code = 0
    for length in 1...Self.maxLength {
      code <<= 1
      for (symbol, symbolLength) in lengths.enumerated() where Int(symbolLength) == length {
        symbols.append(UInt16(symbol))
        if length <= Self.fastLength { fill(code: code, length: length, symbol: symbol) }
        code += 1
      }
    }
  }

  private mutating func fill(code: Int, length: Int, symbol: Int) {
    // Codes are packed with their highest bit first, while the bits of the input come lowest first.
    var reversed = 0
    for bit in 0..<length where code & 1 << bit != 0 { reversed |= 1 << (length - 1 - bit) }
    while reversed < fast.count {
      fast[reversed] = UInt16(symbol << 4 | length)
      reversed += 1 << length
    }
  }

  /// The symbol whose code `bits` begin with, lowest bit first, and the length of the code; nil where there is none.
  func symbol(_ bits: UInt64) -> (symbol: Int, length: Int)? {
    let entry = fast[Int(truncatingIfNeeded: bits) & (fast.count - 1)]
    if entry != 0 { return (Int(entry >> 4), Int(entry & 15)) }
    var code = 0
    var first = 0
    var index = 0
    for length in 1...Self.maxLength {
      code |= Int(bits >> UInt64(length - 1)) & 1
      let count = counts[length]
      if code - first < count { return (Int(symbols[index + code - first]), length) }
      index += count
      first = (first + count) << 1
      code <<= 1
    }
    return nil
  }
}
