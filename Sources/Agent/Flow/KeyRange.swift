/// The part of the key space that is this shard's: the runtime splits a task into shards, each with a range of 32-bit hashes.
/// https://docs.estuary.dev/reference/Connectors/capture-connectors
struct KeyRange: Equatable, Sendable {
  let begin: UInt32
  let end: UInt32

  static let whole = KeyRange(begin: 0, end: .max)

  init(begin: UInt32, end: UInt32) {
    self.begin = begin
    self.end = end
  }

  /// - Parameter json: `open.range`; numbers that are 0 may be left out, and without any it is the whole.
  init(json: JSONValue?) throws(FlowProtocolError) {
    guard let fields = json?.objectValue, fields["keyBegin"] != nil || fields["keyEnd"] != nil else {
      self = .whole
      return
    }
    func number(_ name: String) throws(FlowProtocolError) -> UInt32 {
      guard let value = fields[name], value != .null else { return 0 }
      guard let number = value.int64Value.flatMap({ UInt32(exactly: $0) }) else {
        throw FlowProtocolError("open.range.\(name) must be a number of 32 bits")
      }
      return number
    }
    begin = try number("keyBegin")
    end = try number("keyEnd")
    guard begin <= end else { throw FlowProtocolError("open.range ends before it begins") }
  }

  var isWhole: Bool { self == .whole }

  /// Whether a stream's messages are captured by this shard: by exactly one of those that share the key space.
  func holds(stream: String) -> Bool { (begin...end).contains(Self.hash(stream: stream)) }

  /// The upper half of HighwayHash-64 of the name, under the key that Flow hashes keys with.
  static func hash(stream: String) -> UInt32 {
    // ba737e89155238d47d8067c35aad4d25ecdd1c3488227e011ffa480c022bd3ba
    let key = SIMD4<UInt64>(
      0xd438_5215_897e_73ba, 0x254d_ad5a_c367_807d, 0x017e_2288_341c_ddec, 0xbad3_2b02_0c48_fa1f)
    return UInt32(truncatingIfNeeded: HighwayHash.hash64(Array(stream.utf8), key: key) >> 32)
  }
}
