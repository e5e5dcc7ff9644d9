import Journal
import Testing

@testable import Agent

/// What a checkpoint covers of the rows that were read for it.
struct EmissionChunkTests {
  typealias Chunk = EmissionMachine.Chunk

  private static func chunk(after start: Int64, through last: Int64) -> Chunk {
    Chunk(after: Position(rawValue: start), through: Position(rawValue: last))
  }

  private func took(_ chunk: inout Chunk, _ position: Int64, _ number: Int64, of index: Int?) -> Int? {
    chunk.took(Position(rawValue: position), Position(rawValue: number), of: index)
  }

  @Test func `a checkpoint has the newest number of each subscription, and each is known when its first row comes`() {
    var chunk = Self.chunk(after: 10, through: 50)
    #expect(chunk.limit == 40)
    #expect(took(&chunk, 11, 3, of: 0) == 0)
    #expect(took(&chunk, 12, 4, of: 0) == nil)
    #expect(took(&chunk, 13, 9, of: 2) == 2)
    #expect(took(&chunk, 15, 5, of: 0) == 0)
    #expect(took(&chunk, 16, 1, of: nil) == nil, "a row of no subscription counts for none")
    #expect(took(&chunk, 17, 10, of: 2) == 2)
    #expect(chunk.ended() == .covers)
    #expect(chunk.numbers.mapValues(\.rawValue) == [0: 5, 2: 10])
    #expect(chunk.emitted.rawValue == 17)
  }

  @Test func `at most so many documents lie between two checkpoints`() {
    #expect(Self.chunk(after: 0, through: 5000).limit == EmissionMachine.checkpointDocuments)
  }

  @Test func `rows that are not there are gone past only if the journal knows that it lacks them`() {
    var chunk = Self.chunk(after: 10, through: 50)
    #expect(chunk.ended() == .looksForGap)
    #expect(chunk.skips(through: Position(rawValue: 10)) == false)
    #expect(chunk.skips(through: Position(rawValue: 20)) == true)
    #expect(chunk.emitted.rawValue == 20)
  }
}
