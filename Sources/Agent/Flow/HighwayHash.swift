/// HighwayHash-64: a keyed hash whose authors have fixed its results for good.
/// https://github.com/google/highwayhash
struct HighwayHash {
  private var v0: SIMD4<UInt64>
  private var v1: SIMD4<UInt64>
  private var mul0 = SIMD4<UInt64>(
    0xdbe6_d5d5_fe4c_ce2f, 0xa409_3822_299f_31d0, 0x1319_8a2e_0370_7344, 0x243f_6a88_85a3_08d3)
  private var mul1 = SIMD4<UInt64>(
    0x3bd3_9e10_cb0e_f593, 0xc0ac_f169_b5f1_8a8c, 0xbe54_66cf_34e9_0c6c, 0x4528_21e6_38d0_1377)

  private init(_ key: SIMD4<UInt64>) {
    v0 = mul0 ^ key
    v1 = mul1 ^ Self.swappingHalves(key)
  }

  /// The hash of `bytes` under a key of 32 bytes, given as four numbers whose first bytes are the lowest.
  static func hash64(_ bytes: [UInt8], key: SIMD4<UInt64>) -> UInt64 {
    var state = HighwayHash(key)
    var rest = bytes[...]
    while rest.count >= 32 {
      state.update(rest.prefix(32))
      rest = rest.dropFirst(32)
    }
    if !rest.isEmpty { state.updateRemainder(rest) }
    for _ in 0..<4 { state.permuteAndUpdate() }
    return state.v0[0] &+ state.v1[0] &+ state.mul0[0] &+ state.mul1[0]
  }

  private mutating func update(_ packet: some Collection<UInt8>) {
    var lanes = SIMD4<UInt64>()
    for (index, byte) in packet.enumerated() { lanes[index / 8] |= UInt64(byte) << UInt64(index % 8 * 8) }
    update(lanes)
  }

  private mutating func update(_ lanes: SIMD4<UInt64>) {
    let low = SIMD4<UInt64>(repeating: 0xFFFF_FFFF)
    v1 &+= mul0 &+ lanes
    mul0 ^= (v1 & low) &* (v0 &>> 32)
    v0 &+= mul1
    mul1 ^= (v0 & low) &* (v1 &>> 32)
    for pair in [0, 2] {
      let (zero, one) = Self.zipperMerge(v1[pair + 1], v1[pair])
      v0[pair] &+= zero
      v0[pair + 1] &+= one
    }
    for pair in [0, 2] {
      let (zero, one) = Self.zipperMerge(v0[pair + 1], v0[pair])
      v1[pair] &+= zero
      v1[pair + 1] &+= one
    }
  }

  private static func zipperMerge(_ v1: UInt64, _ v0: UInt64) -> (UInt64, UInt64) {
    let zero =
      (((v0 & 0xff00_0000) | (v1 & 0xff_0000_0000)) >> 24)
      | (((v0 & 0xff00_0000_0000) | (v1 & 0xff_0000_0000_0000)) >> 16)
      | (v0 & 0xff_0000) | ((v0 & 0xff00) << 32) | ((v1 & 0xff00_0000_0000_0000) >> 8) | (v0 << 56)
    let one =
      (((v1 & 0xff00_0000) | (v0 & 0xff_0000_0000)) >> 24) | (v1 & 0xff_0000) | ((v1 & 0xff00_0000_0000) >> 16)
      | ((v1 & 0xff00) << 24) | ((v0 & 0xff_0000_0000_0000) >> 8) | ((v1 & 0xff) << 48) | (v0 & 0xff00_0000_0000_0000)
    return (zero, one)
  }

  /// The last 1 to 31 bytes.
  private mutating func updateRemainder(_ bytes: ArraySlice<UInt8>) {
    let bytes = Array(bytes)
    let (count, last) = (bytes.count, bytes.count % 4)
    v0 &+= SIMD4(repeating: UInt64(count) << 32 &+ UInt64(count))
    for index in 0..<4 {
      let (low, high) = (UInt32(truncatingIfNeeded: v1[index]), UInt32(truncatingIfNeeded: v1[index] >> 32))
      func rotated(_ half: UInt32) -> UInt64 { UInt64(half << UInt32(count) | half >> UInt32(32 - count)) }
      v1[index] = rotated(low) | rotated(high) << 32
    }
    var packet = bytes[..<(count - last)] + Array(repeating: 0, count: 32 - count + last)
    let rest = count - last
    if count & 16 != 0 {
      for index in 0..<4 { packet[28 + index] = bytes[rest + index + last - 4] }
    } else if last != 0 {
      packet[16] = bytes[rest]
      packet[17] = bytes[rest + last / 2]
      packet[18] = bytes[rest + last - 1]
    }
    update(packet)
  }

  private mutating func permuteAndUpdate() {
    update(Self.swappingHalves(SIMD4(v0[2], v0[3], v0[0], v0[1])))
  }

  private static func swappingHalves(_ lanes: SIMD4<UInt64>) -> SIMD4<UInt64> { lanes &>> 32 | lanes &<< 32 }
}
