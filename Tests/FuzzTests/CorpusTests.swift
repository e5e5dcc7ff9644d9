import Foundation
import Support
import Testing

/// What fuzzing has found worth keeping, and a door for scripts/fuzz.
struct FuzzTests {
  private static let corpus = repository + "/Tests/FuzzTests/corpus"

  @Test(arguments: targets.keys.sorted())
  func `the kept inputs do no harm`(name: String) throws {
    let target = try #require(targets[name])
    let directory = Self.corpus + "/" + name
    let files = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    #expect(!files.isEmpty)
    for file in files { target(try #require(readFile(directory + "/" + file), "\(file)")) }
    target([])
  }

  /// Ends the process: the whole run is libFuzzer's.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["FUZZ_TARGET"] != nil, "only scripts/fuzz runs libFuzzer"))
  func libFuzzer() throws {
    let environment = ProcessInfo.processInfo.environment
    let target = try #require(targets[environment["FUZZ_TARGET"] ?? ""])
    runLibFuzzer(target, (environment["FUZZ_ARGUMENTS"] ?? "").split(separator: "\n").map(String.init))
  }
}
