import Foundation
import Journal
import Support
import Testing

@testable import Agent

/// The README must not say something else than the program.
@Suite struct ReadmeTests {
  @Test func `the README's table of settings is the one that the parser and the schema come from`() throws {
    let readme = try text("README.md")
    let parts = readme.components(separatedBy: "\n<!-- settings -->\n")
    try #require(parts.count == 2, "one line <!-- settings -->")
    let table = parts[1].components(separatedBy: "\n<!-- /settings -->\n")
    try #require(table.count == 2, "one line <!-- /settings --> behind it")
    // A failure here is mended by scripts/docs.
    #expect(table[0] == "\n" + SettingsTable.markdown)
  }

  /// README.md and what lies below docs/, as paths from the repository's root.
  private func pages() throws -> [String] {
    let below = try FileManager.default.subpathsOfDirectory(atPath: repository + "/docs").filter { $0.hasSuffix(".md") }
    #expect(below.count >= 4)
    return ["README.md"] + below.sorted().map { "docs/" + $0 }
  }

  private func text(_ page: String) throws -> String {
    try String(contentsOfFile: repository + "/" + page, encoding: .utf8)
  }

  @Test func `every metric that the documentation names is one that is served`() throws {
    var counters = StatusBoard.Counters()
    counters.reconnects = ["heartbeat": 1]
    let journal = try Journal.open(.temporary(under: FileManager.default.temporaryDirectory.path))
    let reader = try JournalReader(path: journal.path)
    let status = try reader.status()
    try reader.close()
    try journal.close()
    let served = OperationsSnapshot(state: .consuming, counters: counters, journal: status, now: 0).prometheusText
    let names = Set(served.matches(of: /(?m)^(source_amqp_\w+)/).map { String($0.output.1) })
    var found = 0
    for page in try pages() {
      for match in try text(page).matches(of: /source_amqp_\w+/) {
        let name = String(match.output)
        found += 1
        #expect(names.contains(name) || names.contains(name + "_bucket"), "\(page): \(name)")
      }
    }
    #expect(found > 10)
  }

  @Test func `every link in the documentation leads somewhere`() throws {
    /// As GitHub makes anchors of headings.
    func anchors(_ page: String) throws -> Set<String> {
      Set(
        try text(page).split(separator: "\n").filter { $0.hasPrefix("#") }.map { line in
          line.drop { $0 == "#" || $0 == " " }.lowercased().filter { $0.isLetter || $0.isNumber || " -_".contains($0) }
            .replacing(" ", with: "-")
        })
    }
    for page in try pages() {
      let directory = page.split(separator: "/").dropLast().joined(separator: "/")
      for match in try text(page).matches(of: /\]\(([^)]+)\)/) where !match.output.1.contains("://") {
        let link = match.output.1.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        let resolved = URL(filePath: "/" + directory).appending(path: String(link[0])).standardized.path()
        let path = link[0].isEmpty ? page : String(resolved.dropFirst())
        #expect(FileManager.default.fileExists(atPath: repository + "/" + path), "\(page): \(match.output.1)")
        if link.count == 2, path.hasSuffix(".md") {
          #expect(try anchors(path).contains(String(link[1])), "\(page): \(match.output.1)")
        }
      }
    }
  }
}
