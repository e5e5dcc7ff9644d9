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

  @Test(
    arguments: [
      (["chek", "a.yaml"], "There is no command 'chek'; did you mean 'check'?"),
      (["RUN"], "There is no command 'RUN'; did you mean 'run'?"),
      (["journal", "stauts", "x"], "There is no command 'stauts'; did you mean 'status'?"),
      (["capture.yaml"], "There is no command 'capture.yaml'; there are: run, check, spec, journal."),
      (["journal", "delete"], "There is no command 'delete'; there are: "), ([], nil), (["--version"], nil),
      (["help", "chek"], nil), (["run", "chek", "--output", "x"], nil), (["journal", "status", "stauts"], nil),
      (["journal", "--help"], nil), (["journal"], nil),
    ] as [([String], String?)])
  func `a misspelt command gets a suggestion`(arguments: [String], beginning: String?) {
    let mistake = SourceAMQP.misspeltCommand(arguments)
    #expect((mistake == nil) == (beginning == nil) && mistake?.hasPrefix(beginning ?? "") != false, "\(mistake ?? "")")
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
