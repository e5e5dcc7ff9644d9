/// Cuts a stream of bytes into lines at 0x0A, however the bytes arrive. Lines have no bound: requests grow with a
/// capture's specification.
struct LineSplitter {
  private var partial: [UInt8] = []

  /// Bytes after the last newline.
  var remainder: [UInt8] { partial }

  /// Takes the next bytes of the stream and gives the lines that they complete, without their newlines.
  mutating func feed(_ bytes: ArraySlice<UInt8>) -> [[UInt8]] {
    var lines: [[UInt8]] = []
    var rest = bytes
    while let end = rest.firstIndex(of: 0x0A) {
      partial.append(contentsOf: rest[rest.startIndex..<end])
      lines.append(partial)
      partial = []
      rest = rest[(end + 1)...]
    }
    partial.append(contentsOf: rest)
    return lines
  }
}
