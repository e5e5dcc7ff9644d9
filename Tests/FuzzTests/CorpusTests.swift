import Foundation
import Platform
import Support
import Testing

/// What fuzzing has found worth keeping (scripts/fuzz).
struct FuzzTests {
  private static let corpus = repository + "/Tests/FuzzTests/corpus"

  @Test(arguments: targets.keys.sorted())
  func `the kept inputs do no harm`(name: String) throws {
    let target = try #require(targets[name])
    let directory = Self.corpus + "/" + name
    let files = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    #expect(!files.isEmpty)
    for file in files { target(try readFile(directory + "/" + file, limit: .max)) }
    target([])
  }
}
