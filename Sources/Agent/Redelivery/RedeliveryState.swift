import AMQP

/// What recognises redeliveries, as a checkpoint's state carries it: for a connector whose disk goes away with it.
///
/// Counts are of captured messages over the life of the capture.
struct RedeliveryState: Hashable, Sendable {
  /// The queue that it speaks of, as ``QueueIdentity`` writes it.
  var queue: String
  /// How many messages were captured, this checkpoint's included.
  var captured: Int64
  /// Acknowledgements up to this one are allowed once this state is committed.
  var releasable: Int64
  /// If everything is releasable, those of up to this one are known to have arrived (``RedeliveryMachine/settled``).
  var settled: Int64
  /// The largest prefetch count whose deliveries may be unacknowledged.
  var prefetch: Int
  /// The newest message's priority, and the first message from which on all had it.
  var priority: UInt8?
  var prioritySince: Int64
  /// How many messages were captured before the newest line began (``RedeliveryMachine/lineStart``); 0 if that is not known.
  var lineStart: Int64 = 0
  /// Digests of the newest captured messages, the newest last. Nil in a patch that leaves them as they are.
  var window: [DeliveryDigest]?

  /// How far before a journal's first position a count may lie.
  private static let largestPast: Int64 = 1 << 40
  /// Version of digests and rule; a state of another one is not used.
  private static let version: Int64 = 1

  /// As a merge patch: a member for every field, so that none of an older state stays.
  var json: JSONValue {
    var members: JSONObject = [
      "v": .integer(Self.version), "queue": .string(queue), "captured": .integer(captured),
      "releasable": .integer(releasable), "settled": .integer(settled), "prefetch": .integer(prefetch),
      "priority": .integer(priority.map(Int.init) ?? -1), "prioritySince": .integer(prioritySince),
      "line": .integer(lineStart),
    ]
    if let window {
      var digests: [UInt8] = []
      for digest in window { digest.append(to: &digests) }
      var encoded: [UInt8] = []
      Base64.append(digests.span, to: &encoded)
      members["window"] = .string(String(decoding: encoded, as: UTF8.self))
    }
    return .object(members)
  }

  /// - Returns: Nil if there is none, it is of another version, or it does not hold together: then redeliveries are
  ///   captured again, which loses nothing.
  init?(json: JSONValue?) {
    guard let json, json["v"]?.int64Value == Self.version, let queue = json["queue"]?.stringValue,
      let captured = json["captured"]?.int64Value, let releasable = json["releasable"]?.int64Value,
      let prefetch = json["prefetch"]?.int64Value, let priority = json["priority"]?.int64Value,
      let prioritySince = json["prioritySince"]?.int64Value, let text = json["window"]?.stringValue,
      let digests = Base64.decoded(text), digests.count % 16 == 0,
      // The largest one is left out because messages are counted on from here.
      (0..<Int64.max / 2).contains(captured), (0...captured).contains(releasable),
      (0...65_535).contains(prefetch), (-Self.largestPast...captured + 1).contains(prioritySince)
    else { return nil }
    self.queue = queue
    self.captured = captured
    self.releasable = releasable
    self.prefetch = Int(prefetch)
    self.priority = UInt8(exactly: priority)
    self.prioritySince = prioritySince
    // States of older versions have neither.
    settled = min(max(json["settled"]?.int64Value ?? releasable, 0), releasable)
    lineStart = min(max(json["line"]?.int64Value ?? 0, 0), captured)
    window = DeliveryDigest.array(digests)
  }

  init(
    queue: String, captured: Int64, releasable: Int64, settled: Int64? = nil, prefetch: Int, priority: UInt8?,
    prioritySince: Int64, lineStart: Int64 = 0, window: [DeliveryDigest]?
  ) {
    self.settled = settled ?? releasable
    self.queue = queue
    self.captured = captured
    self.releasable = releasable
    self.prefetch = prefetch
    self.priority = priority
    self.prioritySince = prioritySince
    self.lineStart = lineStart
    self.window = window
  }
}

extension DeliveryDigest {
  /// Appends its 16 bytes, the higher half first.
  func append(to bytes: inout [UInt8]) {
    // Two integers are sixteen bytes, whatever their order.
    unsafe withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { unsafe bytes.append(contentsOf: $0) }
  }

  /// Digests of 16 bytes each; bytes after the last whole one are ignored.
  static func array(_ bytes: [UInt8]) -> [DeliveryDigest] {
    func word(_ from: Int) -> UInt64 { bytes[from..<from + 8].reduce(0) { $0 << 8 | UInt64($1) } }
    return stride(from: 0, to: bytes.count - 15, by: 16).map { DeliveryDigest(high: word($0), low: word($0 + 8)) }
  }
}
