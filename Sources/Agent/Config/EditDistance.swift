/// Finds what a mistyped word was meant to be.
enum EditDistance {
  /// The candidate that is nearest to `word`, or nil if none is near: at most a third of the longer word may differ.
  /// Case and `-` against `_` do not count; of equally near ones the first.
  static func nearest(to word: String, among candidates: [String]) -> String? {
    let word = folded(word)
    // A key of a kilobyte is no typing error, and the table below would be large.
    guard word.count <= 64 else { return nil }
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let other = folded(candidate)
      let distance = between(word, other)
      guard distance * 3 <= max(word.count, other.count), distance < best?.distance ?? .max else { continue }
      best = (candidate, distance)
    }
    return best?.candidate
  }

  /// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
  static func between(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var before: [Int] = []
    var last = Array(0...right.count)
    for row in 0..<left.count {
      var current = [row + 1]
      for column in 0..<right.count {
        let replaced = last[column] + (left[row] == right[column] ? 0 : 1)
        var distance = min(replaced, last[column + 1] + 1, current[column] + 1)
        if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
          distance = min(distance, before[column - 1] + 1)
        }
        current.append(distance)
      }
      before = last
      last = current
    }
    return last[right.count]
  }

  /// Lower case, `_` for `-`, and `camelCase` as `camel_case`.
  static func folded(_ word: String) -> [UInt8] {
    var result: [UInt8] = []
    var afterLower = false
    for byte in word.utf8 {
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"):
        if afterLower { result.append(UInt8(ascii: "_")) }
        result.append(byte + 32)
        afterLower = false
      case UInt8(ascii: "-"):
        result.append(UInt8(ascii: "_"))
        afterLower = false
      default:
        result.append(byte)
        afterLower = byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z")
      }
    }
    return result
  }
}
