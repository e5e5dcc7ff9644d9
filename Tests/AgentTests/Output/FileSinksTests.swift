import Foundation
import Journal
import Support
import Testing

@testable import Agent

/// Documents of several subscriptions, each in its own files.
struct FileSinksTests {
  private static func documents(_ parts: [(Int, String)]) -> Documents {
    var documents = Documents()
    for (index, text) in parts {
      documents.belong(to: index)
      documents.bytes += Array(text.utf8)
    }
    return documents
  }

  @Test func `documents are told apart by whose they are, in order`() {
    var documents = Self.documents([(1, "a\n"), (0, "b\n"), (0, "c\n"), (2, ""), (1, "d\n")])
    let parts = documents.parts.mapValues { String(decoding: $0, as: UTF8.self) }
    #expect(parts == [0: "b\nc\n", 1: "a\nd\n"])
    documents.removeAll(keeping: 0)
    #expect(documents.isEmpty && documents.parts.isEmpty)
    documents.belong(to: 1)
    documents.bytes += Array("e\n".utf8)
    #expect(documents.parts == [1: Array("e\n".utf8)])
  }

  private struct Scratch: ~Copyable {
    let path: String
    init() throws {
      path = FileManager.default.temporaryDirectory.appending(path: "sinks-\(UUID().uuidString)").path()
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func sink(_ stem: String, _ now: @escaping @Sendable () -> Int64 = { 7 }) throws -> FileSink {
      try FileSink(OutputSeries(directory: path, stem: stem), record: nil, now: now)
    }

    func text(_ stem: String) -> String {
      String(decoding: FileManager.default.contents(atPath: "\(path)/\(stem)-000001.jsonl") ?? Data(), as: UTF8.self)
    }
  }

  @Test func `each gets its own, and only what has changed is reported`() throws {
    let scratch = try Scratch()
    let sinks = FileSinks(try ["a", "b", "c"].map { try scratch.sink($0) })
    var documents = Self.documents([(0, "1\n"), (2, "2\n"), (0, "3\n")])
    let committed = try sinks.write(&documents, Checkpoint(through: Position(rawValue: 3)))
    #expect(committed?.outputs.mapValues(\.length) == [0: 4, 2: 2])
    #expect(committed?.through.rawValue == 3)
    #expect(scratch.text("a") == "1\n3\n" && scratch.text("b") == "" && scratch.text("c") == "2\n")
    var none = Documents()
    #expect(try sinks.write(&none, Checkpoint(through: Position(rawValue: 3)))?.outputs == [:])
  }
}
