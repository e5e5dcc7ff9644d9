import Foundation
import Support
import Testing

/// Limits of the process are errors with words, never a trap (SPEC §5). Memory is another thing: what Swift cannot allocate ends a
/// process by a signal.
@Suite struct LimitTests {
  /// From too few descriptors for anything to enough for all; nothing listens on the port, so that each run comes to its end.
  @Test func `a process with too few descriptors says so and ends`() throws {
    let directory = try temporaryDirectory()
    let config: JSON = ["host": "127.0.0.1", "port": 1, "queue": ["name": "q"], "max_reconnect_attempts": 1]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    let binary = try connectorBinary()
    for limit in 6...24 {
      let command = "ulimit -n \(limit); exec '\(binary)' run '\(directory)/c.yaml' --output '\(directory)/\(limit)'"
      let (output, exit) = try Command(["-c", command], executable: "/bin/bash").finish()
      #expect(exit == .exited(1), "ulimit -n \(limit)")
      #expect(output.log.last?.isEmpty == false, "ulimit -n \(limit)")
    }
  }
}
