import AMQP

/// What a sequence of digests says about itself, by the prefix function of Knuth, Morris and Pratt: in time that grows
/// with the sequence's length alone.
struct DigestSequence {
  private let digests: [DeliveryDigest]
  /// For each place the length of the longest proper prefix that ends there too.
  private let borders: [Int]

  init(_ digests: some Sequence<DeliveryDigest>) {
    self.digests = Array(digests)
    var borders: [Int] = []
    borders.reserveCapacity(self.digests.count)
    for digest in self.digests {
      guard var length = borders.last else {
        borders.append(0)
        continue
      }
      while length > 0, self.digests[length] != digest { length = borders[length - 1] }
      borders.append(self.digests[length] == digest ? length + 1 : length)
    }
    self.borders = borders
  }

  /// The smallest number of places by which the sequence can be shifted and equals itself while it still covers itself; its
  /// length if there is none.
  var period: Int { digests.count - (borders.last ?? 0) }

  /// Whether the sequence stands in `others`, one of its digests after the other.
  func isContained(in others: some Sequence<DeliveryDigest>) -> Bool {
    guard !digests.isEmpty else { return true }
    var length = 0
    for digest in others {
      while length > 0, digests[length] != digest { length = borders[length - 1] }
      if digests[length] == digest { length += 1 }
      if length == digests.count { return true }
    }
    return false
  }
}
