/// Deliveries of one channel, in the order in which the broker sent them, in one block of memory.
///
/// It is filled by a ``Connection``, handed as a value to the thread that journals it, and handed back to be filled
/// again, so that a steady state allocates nothing. A delivery that has only begun to arrive is in ``arena`` after the
/// whole ones, and is not counted.
public struct DeliveryBatch: Sendable {
  /// One whole delivery: where its parts lie in the arena, one after the other.
  public struct Delivery: Equatable, Sendable {
    /// Delivery tag, unique and growing within one channel.
    public var tag: UInt64
    /// The broker's word that it may have sent this message before.
    public var redelivered: Bool
    /// Microseconds since 1970-01-01T00:00:00Z when its last byte was read from the socket.
    public var receivedAt: Int64
    var start: Int
    var exchangeCount: Int
    var routingKeyCount: Int
    var propertiesCount: Int
    var bodyCount: Int
    /// How many bytes the body has; more than ``body`` if it is cut (``BodyLimit``).
    public var bodySize: Int

    /// The exchange's name in the arena.
    public var exchange: Range<Int> { start..<start + exchangeCount }
    /// The routing key in the arena.
    public var routingKey: Range<Int> { exchange.upperBound..<exchange.upperBound + routingKeyCount }
    /// The property block in the arena, as it stood in the content header: flags, then fields.
    public var properties: Range<Int> { routingKey.upperBound..<routingKey.upperBound + propertiesCount }
    /// The body in the arena, or the beginning of one that is cut.
    public var body: Range<Int> { properties.upperBound..<properties.upperBound + bodyCount }
    /// The body was not kept whole.
    public var isCut: Bool { bodySize > bodyCount }
  }

  /// The whole deliveries.
  public internal(set) var deliveries: [Delivery] = []
  /// The bytes that the deliveries point into.
  public internal(set) var arena: [UInt8] = []
  /// Digests of those whose bodies are cut, by their tags.
  var cutDigests: [UInt64: [DigestForm: DeliveryDigest]] = [:]
  /// Bytes of the arena that belong to whole deliveries.
  var completeBytes = 0

  public init() {}

  /// No whole delivery is in it.
  public var isEmpty: Bool { deliveries.isEmpty }

  /// Bytes of exchange names, routing keys, properties and bodies of the whole deliveries.
  public var byteCount: Int { completeBytes }

  /// Forgets everything but the memory, of which at most `keeping` bytes are kept.
  public mutating func removeAll(keeping limit: Int) {
    deliveries.removeAll(keepingCapacity: true)
    cutDigests = [:]
    completeBytes = 0
    if arena.capacity > limit { arena = [] } else { arena.removeAll(keepingCapacity: true) }
  }

  /// Forgets what has only begun to arrive: its channel has ended.
  mutating func forgetPartial() { arena.removeLast(arena.count - completeBytes) }

  /// Takes the whole deliveries out; what has only begun to arrive goes on in `replacement`, whose content is dropped.
  mutating func split(continuingIn replacement: consuming DeliveryBatch) -> DeliveryBatch {
    var next = replacement
    next.deliveries.removeAll(keepingCapacity: true)
    next.arena.removeAll(keepingCapacity: true)
    next.cutDigests = [:]
    next.completeBytes = 0
    next.arena.append(contentsOf: arena[completeBytes...])
    arena.removeLast(arena.count - completeBytes)
    swap(&self, &next)
    return next
  }
}
