/// Which bodies are not kept whole: that one is larger than a document may be is known from its header, and it need not take memory.
public struct BodyLimit: Sendable, Equatable {
  /// A body of more bytes is cut.
  public var largest: Int
  /// The same for one that begins as JSON does, which may be written again without its white space.
  public var largestJSON: Int
  /// How many of its first bytes are kept: at most `largest`.
  public var kept: Int

  /// Every body is kept.
  public static let none = BodyLimit(largest: .max, kept: .max)

  public init(largest: Int, largestJSON: Int? = nil, kept: Int) {
    self.largest = largest
    self.largestJSON = max(largest, largestJSON ?? largest)
    self.kept = min(kept, largest)
  }

  /// Whether a body of `size` bytes that begins with these is cut. What begins neither as JSON nor as text of another encoding than
  /// UTF-8 does is nothing that gets smaller.
  func cuts(_ size: UInt64, beginning: Span<UInt8>) -> Bool {
    if size > largestJSON { return true }
    guard size > largest else { return false }
    let blanks: [UInt8] = [0x20, 0x09, 0x0A, 0x0D]
    for index in beginning.indices where !blanks.contains(beginning[index]) {
      // { or [, and what precedes them in UTF-16 or follows a byte order mark.
      return ![0x7B, 0x5B, 0x00, 0xEF, 0xFE, 0xFF].contains(beginning[index])
    }
    return false
  }
}

/// Digests of a message whose body is not kept, made while it arrives: one of each form, since it is not known yet which will be
/// asked for.
///
/// Belongs to one thread.
final class BodyDigests {
  private let hashes: [(form: DigestForm, hash: DigestHash)]

  /// - Parameters:
  ///   - delivery: Whole but for its body.
  ///   - batch: What it is in.
  init(_ delivery: DeliveryBatch.Delivery, of batch: borrowing DeliveryBatch) {
    let maker = DigestMaker()
    let properties = try? BasicProperties(block: batch.arena.span.extracting(delivery.properties))
    var hashes: [(DigestForm, DigestHash)] = []
    for form in DigestForm.allCases {
      let hash = DigestHash()
      maker.begin(hash, delivery, of: batch, properties: properties, form: form)
      hashes.append((form, hash))
    }
    self.hashes = hashes
  }

  /// The next bytes of the body.
  func update(_ bytes: Span<UInt8>) {
    for entry in hashes { entry.hash.update(bytes) }
  }

  /// The digests, once the body has come to its end.
  func finish() -> [DigestForm: DeliveryDigest] {
    Dictionary(uniqueKeysWithValues: hashes.map { ($0.form, DeliveryDigest(ending: $0.hash)) })
  }
}
