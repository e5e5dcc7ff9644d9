import Testing

@testable import Agent

/// Names that the command line makes up.
struct CLINameTests {
  @Test(arguments: [
    ("orders", "orders"), ("a/b", "a_b"), ("/", "_"), ("..", "_."), (".hidden", "_hidden"), ("../../etc", "_._.._etc"),
    ("a\0b", "a_b"), ("", ""), ("ü 😀", "ü 😀"), ("a.b", "a.b"),
  ])
  func `a stream's file stays in its directory`(stream: String, name: String) {
    #expect(RunCommand.fileName(stream) == name)
  }

  @Test func `identifiers are random UUIDs of version 4`() {
    var seen = Set<String>()
    for _ in 0..<500 {
      let text = randomUUID()
      let parts = text.split(separator: "-", omittingEmptySubsequences: false)
      #expect(parts.map(\.count) == [8, 4, 4, 4, 12])
      #expect(text.allSatisfy { "0123456789abcdef-".contains($0) })
      #expect(parts[2].first == "4")
      #expect("89ab".contains(parts[3].first ?? " "))
      seen.insert(text)
    }
    #expect(seen.count == 500)
  }
}
