import Testing

@testable import Agent

/// Vectors made with the modules zlib and gzip of Python 3.11 from `{"order":17,"items":["a","b"]}`, unless said otherwise.
@Suite struct BodyInflateTests {
  static let text = #"{"order":17,"items":["a","b"]}"#
  static let gzip =
    "1f8b0800000000000203ab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad050049c0f17c1e000000"
  static let zlib = "78daab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad050090d808f6"

  @Test(
    arguments: [
      // gzip.compress(text, 9)
      (gzip, text),
      // The same with a file name and a time.
      (
        "1f8b08080100000002ff6e616d652e6a736f6e00ab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad050049c0f1"
          + "7c1e000000", text
      ),
      // Two members.
      (
        "1f8b0800000000000203ab564a54b20200f37fb06a050000001f8b080000000000020333ac0500cc1830a902000000", #"{"a":1}"#
      ),
      // Nothing.
      ("1f8b080000000000020303000000000000000000", ""),
      // compressobj(9, DEFLATED, 31, 9, Z_FIXED): one block with the fixed codes and matches.
      (
        "1f8b0800000000000203ab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aadad1e2059008839b50596000000",
        String(repeating: text, count: 5)
      ),
    ] as [(String, String)])
  func `gzip is decoded`(hex: String, text: String) throws {
    #expect(try gunzip(bytes(hex: hex)) == Array(text.utf8))
  }

  @Test(
    arguments: [
      zlib,
      // compressobj(9, DEFLATED, -15)
      "ab56ca2f4a492d52b23234d751ca2c49cd2d56b28a564a54d2514a528aad0500",
      // compressobj(0, DEFLATED, -15)
      "011e00e1ff7b226f72646572223a31372c226974656d73223a5b2261222c2262225d7d",
    ])
  func `deflate is decoded with the wrapper, without, and stored`(hex: String) throws {
    #expect(try inflate(bytes(hex: hex)) == Array(Self.text.utf8))
  }

  /// 3,000 pseudo-random letters: blocks with dynamic codes, codes longer than the look-up table.
  @Test func `dynamic codes are decoded`() throws {
    var state: UInt32 = 1
    let letters = Array("etaoin shrdlucmfw,.{}\"0123".utf8)
    let expected = (0..<3000).map { _ in
      state = (state &* 1_103_515_245 &+ 12345) & 0x7FFF_FFFF
      return (state >> 8) % 5 != 0 ? letters[Int(state >> 16) % 26] : 0x61
    }
    #expect(try inflate(bytes(hex: Self.dynamic)) == expected)
  }

  @Test func `output never exceeds the bound`() throws {
    // gzip.compress(bytes(100000), 9)
    let bomb =
      "1f8b0800000000000203edc13101000000c2a0f54f6d0d0fa0" + String(repeating: "0", count: 192)
      + "8057037d9511d4a0860100"
    #expect(try gunzip(bytes(hex: bomb)).count == 100_000)
    #expect(throws: BodyInflate.Failure.tooLarge) { try gunzip(bytes(hex: bomb), limit: 99_999) }
    #expect(throws: BodyInflate.Failure.tooLarge) { try inflate(bytes(hex: Self.zlib), limit: 29) }
    #expect(try inflate(bytes(hex: Self.zlib), limit: 30).count == 30)
  }

  @Test func `every cut and every flipped bit of a gzip file is refused`() {
    let whole = bytes(hex: Self.gzip)
    for count in 0..<whole.count {
      #expect(throws: BodyInflate.Failure.self) { try gunzip(Array(whole[..<count])) }
    }
    // Flags, time and system in the header may change without effect on the content, and so may the six bits that fill
    // the last byte before the checksum.
    let padding = (whole.count - 8) * 8 - 6..<(whole.count - 8) * 8
    for bit in (0..<whole.count * 8) where !(24..<80).contains(bit) && !padding.contains(bit) {
      var damaged = whole
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: BodyInflate.Failure.self) { try gunzip(damaged) }
    }
    #expect(throws: BodyInflate.Failure.self) { try gunzip(whole + [0]) }
    #expect(throws: BodyInflate.Failure.self) { try inflate(bytes(hex: Self.zlib) + [0]) }
  }

  @Test(arguments: 0..<64 as Range<UInt64>)
  func `damaged input is decoded or refused within the bound`(seed: UInt64) {
    var random = JSONRandom(seed)
    let whole = bytes(hex: Self.dynamic)
    for _ in 0..<30 {
      var damaged = Bool.random(using: &random) ? Array(whole.dropFirst(2)) : whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        damaged[Int.random(in: 0..<100, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if let out = try? inflate(damaged, limit: 5000) { #expect(out.count <= 5000) }
      let noise = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
      if let out = try? inflate(noise, limit: 5000) { #expect(out.count <= 5000) }
    }
  }

  static let dynamic = """
      78da1d56596a042110bd8af82de272a2c205051770c10ff1eef37a924026a1b5abde5675b6a559c2a07c97a772e9f29469c6661649a241
      c447c5af9c1791292e67edc9b240ba716a8d4898d11fa34dde273de8d6a588773a234d1dae255e71b0f6dd09e785a2ff071249327ee575
      6ac6e493b4ca3ba589afa349149a4485ccc53f6e59b90ecf8ca944914ada4b04790a0dd49d0ba7386d616e53de45105ac0ab9d0f2f1349
      c93d53f3096eeba3f7bd9fe80ee6b3c015f54a514652e6d6d9a6cf8b7d759d5aa8182f3c3e2ff26d3a22cfc74cb71c4e9c4232d2d92d50
      a45f77659dd328b793713dd26a68b559d32aee12de3947c0f21eefe30ee801784eedd4e244c14c958f9bec83f618bcf752d49e138bf446
      bfb88d03d323ccd30099f604248a2f9ced560c024aa2e175cda44d453d72a43ad5c707b033a2304d8529ab28c88287c18fa73c4aca862c
      8af417ffe4ec811e3096f047a2862a5394c49ff1c3305a35b9bceb7e94c21eb3f80cba5f2a1e57af431d7c8083b212ad4289477784fd20
      6c3b777a8c53f58327f9a19ed6ab94522e6e50d371447293fa4443a40b186383cc7b47ea900047137c679c07dfe83d55dcd668451ea8a2
      6bdf652bae452035a32a51383a11ca90432aaf3888d38282c66974cee26d6dc774c6397ea4d84e934770b625b7118fcc473dae15bd4b2f
      ea1ccf7dfd9333001ed4f561a4b9e336f115647720d03c271f09bc848cdc068d246293cea7717c5329e228b2356a0a4c8fb78ca767075f
      97883d822a57a32d670ae100fb01457229035417a827f0ed280731d586521b67b1a62c5f624a6502750ad764aa1b1c2bf2cf696ef99354
      ebbebd3648097812b99329a27cf4a7588c1997c51a63e20c40664f6284482a5baf47ee67e0be722bf144322cf0990d5e0efbf9835bf6bb
      772fb00697524df3c4aa1431a9fbe1f2e460c1592d9d4f9a4cd5a2caf1000d6d68c8444ce444129fb114e7852aebda575c64228a65e43b
      779bc16132d6c96bb6cebe4103f2d8f1167452cd2b6bce269980cc17da86d5725102151abf912d78810016d503bf4c7ed5a66deb83a469
      1b19209896d954e6acee70e4d7d88c64da5477c2712f185f6663f9741f7cdb4e193d51d9bcb61af4024fb629c5774af46eece4c9511494
      5a8ca789406e184b1f399d4a4d777db2c3176cecc843af192cc31ddfd7d2081c3881268213b4ce558935527b52d9cf3a692244245df012
      6aa6da0624133de3969089774cb3ad4b5d7092b395a944572d0b185f0ae5195c57bf782375f27d81ef03441a45a4e3cc6ffff3ecec02f5
      75c04567c2877f07505f5dbfb97c5b6629dc30e1f88e4ab4f12128d48e12f0200c6cea2cefba15e90b197462003b783012982d7225fc35
      87daa54de911c4117bdaaaa946de38187a342a2ddc49087e28f5147f0e5bd2fbd72d07b1020865cd1b268e38cb3fd2dace34e332733471
      a0509f88f2524ee0894be9a5bf545bfc6b0ce9ec3014a6d6a42504a1c1f5e823bc0b337ede6b50d45ac275c066fe38d0d00e4ddcecb361
      dd51851a91853d708950ee1cd9bbd848c787d40a7d709c98cf7beb35a683f8a64a991223ce4c118f78019484383c8e67727b65a58c651b
      516ecac6f5a1c6ea952b5f1bd9d1e325398bf4ac91aea73406740ea922cdc015c6d94c3b58d124fc4a02f16b9e4749aaba3a234ad56116
      004f0501d75431676851356ddeee29b84122e8b7eec5bbcc8bd9f92cc70a04e9be2065f3209e0dfef01f5eb8f80c69782c99ac3dfd9353
      c2705aed7331940d8c8b8228bf593a90eb5b41b1479225a7f1232d52a9c09409c0625a61d6a76654141a8188d3370f9840e4157c8c981e
      9d91326c2afd3ca989a18f7dc30545c7a0207e1096f59bac274a3cabbe399c0422b6d1f4d3c0934fe6a3b1462caf3fc71bfb1e5ebb0f76
      031d1eb1f5a97615fd847be48167492a06d0eb15e6f76bb8b17fc3d24eccdf2f378fb2cc21467242371f43334836ad618b622a6248e1c7
      378aa95fb16497efe18a0547ea7ad2eb0aebd0d43d6b332d49bebe24fb1486bc89fdcc2b2e42fec03470244b7fa3d83cbc6901738e7364
      0106e1d2a7391bd4c426d6309014c318824eb0a5556438348cfdaab1a685017725a7ddd86bc25adb9186069c454c1fb6ca85c4a74568da
      55a0180e470b66d12664e1bd76cdb4c70e18f5184be721f907ed4017bcde6f7aeaa572bceedb9a8092a9f5d5224963a7802ef3765ec1f3
      7ae589b3c019ad3e4ef3be3de2c1b682ec79d5960c4e9e41f4c28ded7eeb24c6b05bc68c37d502c667df219aab472cee50681bc82d5e29
      220ff41dc4cabfaa49193a3be043b28fab2bc47eb064e4d8ddd417d029667119222259b1a88e8a0afca7d95a842b059875443180106102
      29554736b8167b44eab17641fb49a181aeef8195c8029030d9aff5cd17e77983f504a61016cd84de23720a40672c99b75e173a8206d3b8
      1fec004a238ea38bdfb4d9f0115db5bb04835f455fb45211c1e5e9b74f6e6199ab7af36fd9c62e11202f8c65c9c24e0f3ef5b284ed2364
      e40588c1ba2270cda2fb03b5663024
    """
}

private func gunzip(_ bytes: [UInt8], limit: Int = 1 << 20) throws -> [UInt8] {
  // The bytes before are no window for matches.
  var out: [UInt8] = [1, 2, 3]
  try BodyInflate.gunzip(bytes.span, limit: limit, to: &out)
  return Array(out[3...])
}

private func inflate(_ bytes: [UInt8], limit: Int = 1 << 20) throws -> [UInt8] {
  var out: [UInt8] = [1, 2, 3]
  try BodyInflate.inflate(bytes.span, limit: limit, to: &out)
  return Array(out[3...])
}
