import Journal
import Platform
import Testing

@testable import Agent

/// Names that the command line makes up.
struct CLINameTests {
  @Test(arguments: [
    ("orders", "orders"), ("a/b", "a_b"), ("/", "_"), ("..", "_."), (".hidden", "_hidden"), ("../../etc", "_._.._etc"),
    ("a\0b", "a_b"), ("", ""), ("ü 😀", "ü 😀"), ("a.b", "a.b"),
  ])
  func `a stream's file stays in its directory, and a name that had to change has a digest`(
    stream: String, name: String
  ) {
    #expect(OutputSeries.plainStem(stream) == name)
    let stem = OutputSeries.stem(stream)
    #expect(stream == name ? stem == name : stem.hasPrefix(name + "-") && stem.utf8.count == name.utf8.count + 17)
  }

  @Test func `names that are long, or alike but for what a path forbids, have stems of their own that fit`() {
    let long = String(repeating: "q", count: 242)
    #expect(OutputSeries.stem(long) == long)
    let names =
      (243...255).map { String(repeating: "q", count: $0) } + (120...127).map { String(repeating: "ü", count: $0) }
      + (60...63).map { "a" + String(repeating: "😀", count: $0) } + [
        "../x", "_./x", "_._x", "a/b", "a_b", ".", "_", "/",
      ]
    let stems = names.map(OutputSeries.stem)
    #expect(Set(stems).count == names.count)
    for stem in stems {
      #expect(stem.utf8.count <= OutputSeries.maxStemBytes && !stem.contains("/") && !stem.hasPrefix("."))
    }
  }

  @Test(
    arguments: [
      ("o-000001.jsonl", 1), ("o-1234567.jsonl", 1_234_567), ("o-0123456.jsonl", nil), ("o-12345.jsonl", nil),
      ("o-000001-000002.jsonl", nil), ("o-000001.jsonl.gz", nil), ("p-000001.jsonl", nil),
      ("o-99999999999999999999.jsonl", nil), ("o-", nil),
    ] as [(String, Int64?)])
  func `only whole names belong to a series`(name: String, number: Int64?) {
    #expect(OutputSeries(directory: ".", stem: "o").number(of: Array(name.utf8)) == number)
  }

  @Test(
    arguments: [
      (["chek", "a.yaml"], "There is no command 'chek'; did you mean 'check'?"),
      (["RUN"], "There is no command 'RUN'; did you mean 'run'?"),
      (["journal", "stauts", "x"], "There is no command 'stauts'; did you mean 'status'?"),
      (["capture.yaml"], "There is no command 'capture.yaml'; there are: init, run, check, spec, journal."),
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

  /// Version 0.1.0 wrote `a/b` and `a_b` into one series.
  @Test func `a stream goes on under its first version's name only if that is no other's`() throws {
    func stems(_ streams: [String], others: [String] = [], _ known: [String]) -> [String] {
      (try? OutputSeries.stems(streams, others: others) { (name) throws(JournalError) in known.contains(name) }) ?? []
    }
    let own = OutputSeries.stem("a/b")
    #expect(stems(["a/b"], []) == [own])
    #expect(stems(["a/b"], ["a_b"]) == ["a_b"])
    #expect(stems(["a/b"], ["a_b", own]) == [own], "it has had its own since")
    #expect(stems(["a_b", "a/b"], ["a_b"]) == ["a_b", own])
    #expect(stems(["a/b", "a_b"], ["a_b"]) == [own, "a_b"])
    #expect(stems(["a/b"], others: ["a_b"], ["a_b"]) == [own], "the other one is not captured now")
    #expect(stems(["a/b"], others: ["a/b"], ["a_b"]) == ["a_b"])
    #expect(stems(["x/y", "x\0y"], ["x_y"]) == ["x_y", OutputSeries.stem("x\0y")])
  }
}
