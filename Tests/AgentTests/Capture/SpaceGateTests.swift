import Journal
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
    #expect(gate.check(space(100)) == .cap(inUse: 104_857_600, of: 104_857_600))
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
        == .disk(free: 66_060_288, of: 107_374_182_400, resume: 134_217_728))
    #expect(gate.check(space(1, pending: false, free: 127)) != nil)
    #expect(gate.check(space(1, free: 128)) == nil)
    #expect(gate.check(space(1, free: 64)) == nil)
  }

  @Test mutating func `a reader is the cause if intake would go on without what it holds`() {
    func held(_ held: Int64, of mebibytes: Int64, free: Int64 = 1000) -> SpaceGate.Space {
      SpaceGate.Space(
        inUse: mebibytes << 20, held: held << 20, isShrinking: true, free: free << 20, disk: 100 << 30)
    }
    #expect(gate.check(held(80, of: 99)) == nil)
    #expect(gate.check(held(90, of: 110)) == .reader(held: 90 << 20, disk: false))
    #expect(gate.check(held(10, of: 110)) == .cap(inUse: 110 << 20, of: 100 << 20), "there is too much without it")
    #expect(gate.check(held(20, of: 100)) == .cap(inUse: 100 << 20, of: 100 << 20), "or it would not go on yet")
    #expect(gate.check(held(0, of: 20)) == nil)
    #expect(gate.check(held(90, of: 95, free: 10)) == .reader(held: 90 << 20, disk: true))
    #expect(gate.check(held(10, of: 20, free: 10)) == .disk(free: 10 << 20, of: 100 << 30, resume: 128 << 20))
  }

  @Test(
    arguments: [
      (.cap(inUse: 5, of: 4), "the journal is at journal.max_bytes (5 of 4 bytes in use)"),
      (
        .disk(free: 1, of: 100, resume: 10),
        "the journal's disk is nearly full (1 of 100 bytes free; intake goes on at 10)"
      ),
      (
        .reader(held: 7, disk: false),
        "another program holds an old snapshot of the journal: sqlite3 (pid 1), pid 2; until it closes it the journal's -wal "
          + "file cannot be emptied: that has 7 bytes too many, and journal.max_bytes is reached"
      ),
    ] as [(SpaceGate.Reason, String)])
  func `each cause has words of its own`(reason: SpaceGate.Reason, text: String) {
    let holders = [SnapshotHolder(pid: 1, name: "sqlite3"), SnapshotHolder(pid: 2, name: "")]
    #expect(reason.text(holders: holders) == text)
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
