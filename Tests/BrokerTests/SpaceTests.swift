import Foundation
import Support
import Testing

/// A journal whose disk is nearly full (SPEC §8).
struct SpaceTests {
  @Test(.enabled(if: isRoot, "mounting a small disk needs root"))
  func `intake pauses before the journal's disk is full, and goes on when there is room`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let small = directory + "/small"
    try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: false)
    _ = try run("/bin/mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", small])
    defer { _ = try? run("/bin/umount", ["-l", small]) }
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["journal": ["path": .string(small + "/journal.db"), "acknowledge": "committed"]]))
    try runtime.start()
    try bench.publisher.publishMany(10, .simple(bytes: 1000), routingKey: bench.queue)
    try runtime.waitUntil(committedCount: 10)
    // Less than a twentieth is left.
    try run("/bin/sh", ["-c", "head -c 62M /dev/zero >\"$0/ballast\"", small])
    try bench.publisher.publishMany(100, .simple(bytes: 1000), start: 11, routingKey: bench.queue)
    try runtime.waitForLog("the pause") {
      $0.message?.hasPrefix("Intake is paused: the journal's disk is nearly full") == true
        && $0.json?[path: "fields", "eventType"] == "connectorStatus"
    }
    #expect(runtime.committed.count == 10, "nothing was taken from the queue")
    try FileManager.default.removeItem(atPath: small + "/ballast")
    try runtime.waitUntil(committedCount: 110)
    #expect(runtime.committed.map(\.sequence) == Array(1...110))
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
