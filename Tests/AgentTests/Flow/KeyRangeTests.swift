import Testing

@testable import Agent

@Suite struct KeyRangeTests {
  /// Of the byte strings [], [0], [0, 1] …, by the authors' own test.
  /// https://github.com/google/highwayhash/blob/master/highwayhash/highwayhash_test.cc
  private static let expected: [UInt64] = [
    0x907A_56DE_22C2_6E53, 0x7EAB_43AA_C7CD_DD78, 0xB8D0_569A_B0B5_3D62, 0x5C6B_EFAB_8A46_3D80,
    0xF205_A468_9300_7EDA, 0x2B8A_1668_E4A9_4541, 0xBD4C_CC32_5BEF_CA6F, 0x4D02_AE17_38F5_9482,
    0xE120_5108_E55F_3171, 0x32D2_644E_C77A_1584, 0xF6E1_0ACD_B103_A90B, 0xC3BB_F461_5B41_5C15,
    0x243C_C204_0063_FA9C, 0xA89A_58CE_65E6_41FF, 0x24B0_31A3_4845_5A23, 0x4079_3F86_A449_F33B,
    0xCFAB_3489_F97E_B832, 0x19FE_67D2_C8C5_C0E2, 0x04DD_90A6_9C56_5CC2, 0x75D9_518E_2371_C504,
    0x38AD_9B11_41D3_DD16, 0x0264_432C_CD8A_70E0, 0xA9DB_5A62_8868_3390, 0xD7B0_5492_003F_028C,
    0x205F_615A_EA59_E51E, 0xEEE0_C896_2105_2884, 0x1BFC_1A93_A728_4F4F, 0x5121_75B5_B70D_A91D,
    0xF71F_8976_A0A2_C639, 0xAE09_3FEF_1F84_E3E7, 0x22CA_92B0_1161_860F, 0x9FC7_007C_CF03_5A68,
    0xA0C9_64D9_ECD5_80FC, 0x2C90_F73C_A031_81FC, 0x185C_F84E_5691_EB9E, 0x4FC1_F5EF_2752_AA9B,
    0xF5B7_391A_5E0A_33EB, 0xB9B8_4B83_B4E9_6C9C, 0x5E42_FE71_2A5C_D9B4, 0xA150_F2F9_0C3F_97DC,
    0x7FA5_22D7_5E2D_637D, 0x181A_D0CC_0DFF_D32B, 0x3889_ED98_1E85_4028, 0xFB42_97E8_C586_EE2D,
    0x6D06_4A45_BB28_059C, 0x9056_3609_B3EC_860C, 0x7AA4_FCE9_4097_C666, 0x1326_BAC0_6B91_1E08,
    0xB926_168D_2B15_4F34, 0x9919_8489_45B1_948D, 0xA2A9_8FC5_3482_5EBE, 0xE980_9095_213E_F0B6,
    0x582E_5483_707B_C0E9, 0x086E_9414_A88A_6AF5, 0xEE86_B98D_20F6_743D, 0xF89B_7FF6_09B1_C0A7,
    0x4C7D_9CC1_9E22_C3E8, 0x9A97_0050_2456_2A6F, 0x5DD4_1CF4_23E6_EBEF, 0xDF13_609C_0468_E227,
    0x6E0D_A4F6_4188_155A, 0xB755_BA4B_50D7_D4A1, 0x887A_3484_6474_79BD, 0xAB8E_EBE9_BF21_39A0,
    0x7554_2C5D_4CD2_A6FF,
  ]

  @Test func `the hash is that of its authors`() {
    let key = SIMD4<UInt64>(0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908, 0x1716_1514_1312_1110, 0x1F1E_1D1C_1B1A_1918)
    for (count, hash) in Self.expected.enumerated() {
      #expect(HighwayHash.hash64((0..<count).map { UInt8($0) }, key: key) == hash, "\(count) bytes")
    }
    let other = SIMD4<UInt64>(1, 2, 3, 4)
    #expect(HighwayHash.hash64((0..<33).map { UInt8(128 + $0) }, key: other) == 0x53c5_16cc_e478_cad7)
    #expect(HighwayHash.hash64([255], key: other) == 0x7858_f24d_2d79_b2b2)
  }

  @Test(arguments: 1...9)
  func `every stream belongs to exactly one shard`(shards: UInt64) throws {
    let width = (UInt64(UInt32.max) + 1) / shards
    let ranges = try (0..<shards).map { shard in
      let end = shard == shards - 1 ? UInt64(UInt32.max) : (shard + 1) * width - 1
      return try KeyRange(json: ["keyBegin": .number("\(shard * width)"), "keyEnd": .number("\(end)")])
    }
    #expect(ranges.allSatisfy { $0.isWhole == (shards == 1) })
    for stream in (0..<200).map({ "stream-\($0)" }) + ["", "ü", "a/b"] {
      #expect(ranges.count { $0.holds(stream: stream) } == 1)
    }
  }

  @Test func `a range may leave out what is 0, or all`() throws {
    #expect(try KeyRange(json: nil) == .whole)
    #expect(try KeyRange(json: .null) == .whole)
    #expect(try KeyRange(json: ["rClockEnd": .number("4294967295")]) == .whole)
    #expect(try KeyRange(json: ["keyEnd": .number("4294967295"), "rClockEnd": .number("1")]) == .whole)
    #expect(try KeyRange(json: ["keyEnd": 5]) == KeyRange(begin: 0, end: 5))
    for wrong in [["keyBegin": 2, "keyEnd": 1], ["keyEnd": -1], ["keyEnd": .number("4294967296")], ["keyEnd": "x"]]
      as [JSONValue]
    {
      #expect(throws: FlowProtocolError.self) { try KeyRange(json: wrong) }
    }
  }
}
