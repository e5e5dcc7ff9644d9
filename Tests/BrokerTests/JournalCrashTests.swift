import Foundation
import Support
import Testing

/// The short form of scripts/powercut and scripts/syscalls: what the journal reported as safe is there afterwards.
struct JournalCrashTests {
  private func script(_ name: String, _ arguments: String...) throws -> String {
    let writer = (try connectorBinary() as NSString).deletingLastPathComponent + "/JournalWriter"
    return try run(
      "/usr/bin/env", ["JOURNAL_WRITER=\(writer)", repository + "/scripts/" + name] + arguments)
  }

  @Test(.enabled(if: isRoot, "mounting a file system needs root"), arguments: [1, UInt64.random(in: 2...1_000_000)])
  func `a power cut costs nothing that was reported as safe`(seed: UInt64) throws {
    let text = try script("powercut", "--cuts", "6", "--seed", "\(seed)")
    #expect(text.contains("6 power cuts, seed \(seed): "), "\(text)")
    #expect(text.contains(" 0 cuts with something missing"))
  }

  @Test(.enabled(if: isRoot, "mounting a file system needs root"))
  func `a power cut costs something where commits are not synced`() throws {
    let text = try script("powercut", "--cuts", "60", "--control", "--first")
    #expect(text.contains(" 1 cuts with something missing"), "\(text)")
  }

  @Test(arguments: ["new", "crashed", "old", "former"])
  func `a kill at a system call costs nothing that was reported as safe`(start: String) throws {
    let text = try script("syscalls", "--fault", "kill", "--start", start, "--step", "19", "--transactions", "2")
    #expect(text.contains(" 0 journals lacked something"), "\(text)")
  }

  /// SQLite reports these as input/output errors, and only the system's error number tells that there is no space.
  @Test(arguments: ["EDQUOT", "EFBIG"])
  func `a quota and a limit for the size of a file are a full disk, and writing goes on after them`(fault: String)
    throws
  {
    let directory = try temporaryDirectory()
    let writer = (try connectorBinary() as NSString).deletingLastPathComponent + "/JournalWriter"
    // Some calls in a row, as while a disk is full: in transactions, at their commits and in checkpoints.
    for first in stride(from: 30, through: 90, by: 6) {
      let text = try run(
        "/usr/bin/strace",
        [
          "-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
          "inject=pwrite64:error=\(fault):when=\(first)..\(first + 2)",
          writer, "write", directory + "/j-\(first)", "\(first)", "12",
        ])
      #expect(text.hasSuffix(" closed\n"), "\(first): \(text.suffix(300))")
    }
  }

  /// The first calls make the journal, where a write that fails once left one without its tables.
  @Test(arguments: ["EIO", "ENOSPC"])
  func `a write that fails costs nothing that was reported as safe`(fault: String) throws {
    let text = try script(
      "syscalls", "--fault", fault, "--start", "new", "--call", "pwrite64", "--step", "15", "--transactions", "1")
    #expect(text.contains(" 0 journals lacked something"), "\(text)")
  }
}
