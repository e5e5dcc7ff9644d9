import Foundation
import Support

/// A library in place of the C library's that lies to one process about its clocks and its disk (`scripts/lib/shim.c`).
struct Shim {
  private let directory: String

  /// - Parameter directory: Of this shim alone; made.
  init(in directory: String) throws {
    self.directory = directory
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let source = repository + "/scripts/lib/shim.c"
    try run(
      "/usr/bin/env", ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", directory + "/shim.so", source, "-ldl"])
  }

  /// Of the process that is to be lied to.
  var environment: [String: String] { ["LD_PRELOAD": directory + "/shim.so", "SHIM": directory] }

  enum Lie: String {
    /// Seconds added to the wall clock.
    case wall
    /// Seconds added to the clock that is never set.
    case later
    /// Seconds that syncing a file takes longer whose path contains the text.
    case slow
    /// The errno with which such a file cannot be written.
    case refuse
    /// The same, from the next sync of such a file on, which does nothing and says that all is well.
    case dying
    /// Any number: half of the next write that is to fail is written.
    case half
  }

  func tell(_ lie: Lie, _ number: Int, of text: String = "") throws {
    // In one step, since it is read at any moment.
    try "\(number) \(text)\n".write(toFile: "\(directory)/\(lie.rawValue)", atomically: true, encoding: .utf8)
  }

  func stop(_ lie: Lie) throws { try FileManager.default.removeItem(atPath: "\(directory)/\(lie.rawValue)") }
}
