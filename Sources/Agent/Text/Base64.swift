/// Base64 with padding (RFC 4648, section 4), for bytes that are no text.
enum Base64 {
  /// Characters that `count` bytes take.
  static func encodedCount(_ count: Int) -> Int { (count + 2) / 3 * 4 }

  /// Appends `bytes` encoded, without quotes.
  static func append<Output: TextOutput & ~Copyable>(_ bytes: Span<UInt8>, to out: inout Output) {
    // In chunks of whole groups of three, so that each is reserved and written in one go.
    var start = 0
    while start < bytes.count {
      let end = min(bytes.count, start + 3 * 1024)
      out.append(addingCapacity: encodedCount(end - start)) { output in
        var index = start
        while index < end {
          let second = index + 1 < end
          let third = index + 2 < end
          let group =
            UInt32(bytes[index]) << 16 | (second ? UInt32(bytes[index + 1]) << 8 : 0)
            | (third ? UInt32(bytes[index + 2]) : 0)
          output.append(character(group >> 18))
          output.append(character(group >> 12))
          output.append(second ? character(group >> 6) : UInt8(ascii: "="))
          output.append(third ? character(group) : UInt8(ascii: "="))
          index += 3
        }
      }
      start = end
    }
  }

  private static let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

  /// The character for the six low bits of `value`.
  private static func character(_ value: UInt32) -> UInt8 {
    // Six bits are an index of the 64 characters.
    unsafe alphabet.utf8Start[Int(value & 0x3F)]
  }

  /// The bytes of standard base64 with padding; nil if the text is none.
  static func decoded(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    var bits: UInt32 = 0
    var count = 0
    let characters = Array(text.utf8)
    guard characters.count % 4 == 0 else { return nil }
    let padding = characters.suffix(2).count { $0 == UInt8(ascii: "=") }
    for character in characters.dropLast(padding) {
      let value: UInt8
      switch character {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - 65
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - 71
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character + 4
      case UInt8(ascii: "+"): value = 62
      case UInt8(ascii: "/"): value = 63
      default: return nil
      }
      bits = bits << 6 | UInt32(value)
      count += 6
      if count >= 8 {
        count -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
    return bytes
  }
}
