import Testing

@testable import Agent

/// Intake pauses at a limit and goes on at a distance from it.
struct SpaceGateTests {
  /// A gate with a cap of 100 MiB on a disk of 100 GiB.
  private var gate = SpaceGate(maxBytes: 100 << 20)

  private func space(_ mebibytes: Int64, pending: Bool = true, free: Int64 = 1000) -> SpaceGate.Space {
    SpaceGate.Space(
      inUse: mebibytes << 20, isShrinking: pending, free: free << 20, disk: 100 << 30)
  }

  @Test mutating func `at the cap it pauses, and goes on at three quarters`() {
    #expect(gate.check(space(99)) == nil)
    #expect(gate.check(space(100)) == "the journal is at journal.max_bytes (104857600 of 104857600 bytes in use)")
    #expect(gate.check(space(99)) != nil, "or it would pause again at once")
    #expect(gate.check(space(76)) != nil)
    #expect(gate.check(space(75)) == nil)
    #expect(gate.check(space(99)) == nil, "the way up is free again")
  }

  @Test mutating func `it does not wait for what will not shrink`() {
    #expect(gate.check(space(100)) != nil)
    #expect(gate.check(space(99, pending: false)) == nil)
  }

  @Test mutating func `before the disk is full it pauses, and goes on when twice as much is free`() {
    #expect(gate.check(space(1, free: 64)) == nil)
    #expect(
      gate.check(space(1, free: 63))
        == "the journal's disk is nearly full (66060288 of 107374182400 bytes free; intake goes on at 134217728)")
    #expect(gate.check(space(1, pending: false, free: 127)) != nil)
    #expect(gate.check(space(1, free: 128)) == nil)
    #expect(gate.check(space(1, free: 64)) == nil)
  }

  @Test mutating func `both have to have passed`() {
    #expect(gate.check(space(100, free: 10)) != nil)
    #expect(gate.check(space(10, free: 10)) != nil)
    #expect(gate.check(space(80, free: 500)) != nil)
    #expect(gate.check(space(75, free: 500)) == nil)
  }

  @Test(arguments: [(0, 0), (64 << 20, 3_355_443), (1280 << 20, 64 << 20), (1 << 40, 64 << 20)] as [(Int64, Int64)])
  func `the reserve is a twentieth of a small disk`(disk: Int64, reserve: Int64) {
    #expect(SpaceGate.reserve(of: disk) == reserve)
  }
}
