/// Which bodies are not kept whole: that one is larger than a document may be is known from its header, and it need not take memory.
public struct BodyLimit: Sendable, Equatable {
  /// A body of more bytes is cut.
  public var largest: Int
  /// How many of its first bytes are kept: at most `largest`.
  public var kept: Int

  /// Every body is kept.
  public static let none = BodyLimit(largest: .max, kept: .max)

  public init(largest: Int, kept: Int) {
    self.largest = largest
    self.kept = min(kept, largest)
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
    Dictionary(uniqueKeysWithValues: hashes.map { ($0.form, $0.hash.end()) })
  }
}
