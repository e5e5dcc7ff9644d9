import Foundation
import Journal
import Platform
import Support
import Testing

@testable import Agent

/// The pages must not say something else than the program; what needs no program is checked by scripts/docs.
@Suite struct ReadmeTests {
  @Test func `the page of settings is the table that the parser and the schema come from`() throws {
    let page = try text("docs/settings.md")
    let parts = page.components(separatedBy: "\n<!-- settings -->\n")
    try #require(parts.count == 2, "one line <!-- settings -->")
    let table = parts[1].components(separatedBy: "\n<!-- /settings -->\n")
    try #require(table.count == 2, "one line <!-- /settings --> behind it")
    // A failure here is mended by scripts/docs.
    #expect(table[0] == "\n" + SettingsTable.markdown)
  }

  /// README.md and what lies below docs/, as paths from the repository's root.
  private func pages() throws -> [String] {
    let below = try FileManager.default.subpathsOfDirectory(atPath: repository + "/docs").filter { $0.hasSuffix(".md") }
    #expect(below.count >= 15)
    return ["README.md"] + below.sorted().map { "docs/" + $0 }
  }

  private func text(_ page: String) throws -> String {
    try String(contentsOfFile: repository + "/" + page, encoding: .utf8)
  }

  @Test func `every metric that the documentation names is served, and each that is served is named`() throws {
    var counters = StatusBoard.Counters()
    counters.reconnects = ["heartbeat": 1]
    let journal = try Journal.open(.temporary(under: FileManager.default.temporaryDirectory.path))
    let reader = try JournalReader(path: journal.path)
    let status = try reader.status()
    try reader.close()
    try journal.close()
    var subscription = StatusBoard.Subscription(stream: "orders", queue: "orders")
    subscription.backlog = 1
    let snapshot = OperationsSnapshot(
      state: .consuming, counters: counters, journal: status, backlog: 1, subscriptions: [subscription], now: 0)
    let served = snapshot.prometheusText
    let names = Set(served.matches(of: /(?m)^(source_amqp_\w+)/).map { String($0.output.1) })
    var found: Set<String> = []
    for page in try pages() {
      for match in try text(page).matches(of: /source_amqp_\w+/) {
        let name = String(match.output)
        found.insert(name)
        #expect(names.contains(name) || names.contains(name + "_bucket"), "\(page): \(name)")
      }
    }
    let families = Set(served.matches(of: /# TYPE (\w+)/).map { String($0.output.1) })
    #expect(families.subtracting(found).isEmpty && families.count > 20)
  }

  @Test func `every configuration on a page is one that is taken`() throws {
    let inputs = ConfigurationInputs(environment: { _ in "x" }, contents: { _ in .success("x") })
    var found = 0
    for page in try pages() where page != "docs/settings.md" {
      for match in try text(page).matches(of: /(?ms)^```yaml\n(.*?)^```$/) {
        let yaml = String(match.output.1)
        guard yaml.contains("queue:") else { continue }
        found += 1
        #expect(throws: Never.self, "\(page): \(yaml)") {
          try ConfigurationFile.load(text: yaml, name: page, inputs: inputs)
        }
      }
    }
    #expect(found >= 8)
  }
}
