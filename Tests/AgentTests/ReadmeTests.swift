import Foundation
import Testing

@testable import Agent

/// The README must not say something else than the program.
@Suite struct ReadmeTests {
  @Test func `the README's table of settings is the one that the parser and the schema come from`() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
    let parts = readme.components(separatedBy: "\n<!-- settings -->\n")
    try #require(parts.count == 2, "one line <!-- settings -->")
    let table = parts[1].components(separatedBy: "\n<!-- /settings -->\n")
    try #require(table.count == 2, "one line <!-- /settings --> behind it")
    // A failure here is mended by scripts/docs.
    #expect(table[0] == "\n" + SettingsTable.markdown)
  }
}
