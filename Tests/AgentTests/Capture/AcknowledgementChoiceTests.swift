import Journal
import Testing

@testable import Agent

@Suite struct AcknowledgementChoiceTests {
  private static func choice(
    _ journal: String, path: String? = "/j/journal.db", isContainer: Bool = false, disk: DiskKind = .other
  ) throws -> AcknowledgementChoice {
    let settings = try ConfigSupport.parse(#"{"queue":{"name":"q"},"journal":{\#(journal)}}"#).journal
    return AcknowledgementChoice(settings, path: path, isContainer: isContainer, disk: disk)
  }

  private static let path = #""path":"/j/journal.db""#
  private static let journaled = #""path":"/j/journal.db","acknowledge":"journaled""#

  @Test func `what is not chosen is what is safe`() throws {
    #expect(try Self.choice("", path: nil).mode == .committed)
    #expect(try Self.choice("", path: nil, isContainer: true).mode == .committed)
    #expect(try Self.choice(Self.path).mode == .journaled)
    let container = try Self.choice(Self.path, isContainer: true)
    #expect(container.mode == .committed && container.mayLoseJournal)
    #expect(container.warnings.count == 1 && container.warnings[0].contains("journal.acknowledge: journaled"))
  }

  @Test func `what is chosen is done, and a container warned about`() throws {
    let container = try Self.choice(Self.journaled, isContainer: true)
    #expect(container.mode == .journaled && !container.mayLoseJournal && container.problem == nil)
    #expect(container.warnings.count == 1 && container.warnings[0].contains("/j/journal.db must be on a volume"))
    #expect(try Self.choice(Self.journaled).warnings.isEmpty)
    let committed = try Self.choice(#""path":"/j/journal.db","acknowledge":"committed""#)
    #expect(committed.mode == .committed && !committed.mayLoseJournal && committed.warnings.isEmpty)
  }

  @Test func `memory is no disk, and layers are warned about`() throws {
    for journal in [Self.path, Self.journaled] {
      let memory = try Self.choice(journal, disk: .memory("tmpfs"))
      #expect(memory.problem?.contains("is on tmpfs, which is memory") == true)
      let overlay = try Self.choice(journal, disk: .overlay)
      #expect(overlay.problem == nil && overlay.warnings.count == 1 && overlay.warnings[0].contains("overlayfs"))
    }
    // Nothing rests on it there.
    #expect(try Self.choice(Self.path, isContainer: true, disk: .memory("tmpfs")).problem == nil)
    #expect(try Self.choice("", path: nil, disk: .memory("tmpfs")).problem == nil)
  }

  @Test func `the disk is that of the nearest directory that exists`() {
    #expect(AcknowledgementChoice.disk(ofJournal: "/dev/shm/not/there/journal.db") == .memory("tmpfs"))
    #expect(AcknowledgementChoice.disk(ofJournal: "/dev/shm/journal.db") == .memory("tmpfs"))
    #expect(AcknowledgementChoice.disk(ofJournal: nil) == .other)
    #expect(AcknowledgementChoice.disk(ofJournal: "/proc/journal.db") == .other)
  }
}
