import Glibc

/// Where a batch of lines stands in what a file holds beyond its recorded length, after someone else has written into it as well.
enum BatchPlace: Equatable {
  /// On lines of its own: it stays, and is whole.
  case inPlace
  /// Its first line is the end of one of someone else's, and nothing comes after it: it can be cut off.
  case gluedAtEnd
  /// The same, with something after it: it stays, but for its first line, which no reader finds.
  case glued
  /// It is not there as a whole.
  case missing

  /// - Parameters:
  ///   - batch: Whole lines, at least one.
  ///   - region: The file from its recorded length on, where a line begins.
  init(of batch: [UInt8], in region: [UInt8]) {
    guard let place = Self.find(batch, in: region) else {
      self = .missing
      return
    }
    let isAlone = place == 0 || region[place - 1] == UInt8(ascii: "\n")
    self = isAlone ? .inPlace : place + batch.count == region.count ? .gluedAtEnd : .glued
  }

  /// Where `batch` begins in `region` first.
  private static func find(_ batch: [UInt8], in region: [UInt8]) -> Int? {
    guard let first = batch.first else { return nil }
    // The pointers are used only during the call, inside of the arrays.
    return unsafe region.withUnsafeBytes { region in
      unsafe batch.withUnsafeBytes { batch -> Int? in
        guard let all = region.baseAddress, let sought = batch.baseAddress else { return nil }
        var start = 0
        while start + batch.count <= region.count {
          let left = region.count - batch.count + 1 - start
          guard let found = unsafe memchr(all + start, Int32(first), left) else { return nil }
          let place = unsafe UnsafeRawPointer(found) - all
          if unsafe memcmp(all + place, sought, batch.count) == 0 { return place }
          start = place + 1
        }
        return nil
      }
    }
  }
}
