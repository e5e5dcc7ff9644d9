import Foundation
import Glibc
import Journal
import Testing

@testable import Agent

/// Where documents are written to: a pipe, or a file that holds each one once.
struct EmitOutputTests {
  /// A directory of the test's own, removed with it.
  private final class Scratch {
    let path: String
    init() throws {
      path = NSTemporaryDirectory() + "output-\(randomUUID())"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var file: String { path + "/orders-000001.jsonl" }
    var content: String { String(decoding: FileManager.default.contents(atPath: file) ?? Data(), as: UTF8.self) }
    func put(_ text: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: file)) }
  }

  private static func write(_ text: String, through position: Int64, to sink: inout FileSink) throws -> Committed? {
    var bytes = Array(text.utf8)
    return try sink.write(
      &bytes, Checkpoint(through: Position(rawValue: position), releasable: Position(rawValue: position)))
  }

  @Test func `a new file grows, and every write tells its length`() throws {
    let scratch = try Scratch()
    var sink = try FileSink(path: scratch.file, record: nil)
    #expect(
      try Self.write("{}\n", through: 1, to: &sink)
        == Committed(through: Position(rawValue: 1), output: OutputMark(file: 1, length: 3)))
    #expect(try Self.write("[1]\n[2]\n", through: 3, to: &sink)?.output == OutputMark(file: 1, length: 11))
    #expect(scratch.content == "{}\n[1]\n[2]\n")
    var status = stat()
    #expect(unsafe stat(scratch.file, &status) == 0)
    #expect(status.st_mode & 0o027 == 0)
  }

  @Test func `what the journal does not know of is cut off and written again`() throws {
    let scratch = try Scratch()
    try scratch.put("{}\n{\"torn")
    var sink = try FileSink(path: scratch.file, record: OutputRecord(file: 1, length: 3))
    #expect(scratch.content == "{}\n")
    #expect(try Self.write("[]\n", through: 2, to: &sink)?.output == OutputMark(file: 1, length: 6))
    #expect(scratch.content == "{}\n[]\n")
  }

  @Test func `a file that lacks committed documents is refused and left alone`() throws {
    let scratch = try Scratch()
    try scratch.put("{}\n")
    let failure = #expect(throws: CaptureFailure.self) {
      _ = try FileSink(path: scratch.file, record: OutputRecord(file: 1, length: 4))
    }
    #expect(
      failure?.description == "\(scratch.file) has 3 bytes, but the journal has committed 4 of it; put the file back, "
        + "or give --output a new directory and a new journal")
    #expect(scratch.content == "{}\n")
  }

  @Test func `a file of another journal is refused and left alone`() throws {
    let scratch = try Scratch()
    try scratch.put("mine\n")
    let failure = #expect(throws: CaptureFailure.self) { _ = try FileSink(path: scratch.file, record: nil) }
    #expect(
      failure?.description == "\(scratch.file) holds 5 bytes that this journal did not write; give --output another "
        + "directory, or put the journal back that wrote them")
    #expect(failure?.needsUser == true)
    #expect(scratch.content == "mine\n")
  }

  @Test func `a link is not followed, and a directory is no file`() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(atPath: scratch.file, withDestinationPath: "elsewhere")
    let link = #expect(throws: CaptureFailure.self) { _ = try FileSink(path: scratch.file, record: nil) }
    #expect(link?.description.hasPrefix("opening \(scratch.file): ") == true)
    #expect(link?.description.hasSuffix("(errno 40)") == true)
    let directory = #expect(throws: CaptureFailure.self) { _ = try FileSink(path: scratch.path, record: nil) }
    #expect(directory?.description.hasSuffix("(errno 21)") == true)
  }

  @Test func `a reader that has gone away is named`() throws {
    signal(SIGPIPE, SIG_IGN)
    var ends: [Int32] = [0, 0]
    #expect(unsafe pipe(&ends) == 0)
    close(ends[0])
    defer { close(ends[1]) }
    let output = OutputDescriptor(descriptor: ends[1], name: "stdout")
    let failure = #expect(throws: CaptureFailure.self) { try output.write([1]) }
    #expect(
      failure
        == CaptureFailure(
          cause: "output",
          description: "writing to stdout: Broken pipe (errno 32); its reader has gone away", needsUser: true))
  }

  @Test func `nothing to write is nothing done, and a closed descriptor is an error`() {
    let output = OutputDescriptor(descriptor: -1, name: "nowhere")
    #expect(throws: Never.self) { try output.write([]) }
    let failure = #expect(throws: CaptureFailure.self) { try output.write([1]) }
    #expect(failure?.description == "writing to nowhere: Bad file descriptor (errno 9)")
  }

  @Test func `more than a pipe holds is written as its reader reads`() async throws {
    var ends: [Int32] = [0, 0]
    #expect(unsafe pipe(&ends) == 0)
    let (reading, writing) = (ends[0], ends[1])
    #expect(fcntl(writing, F_SETFL, O_NONBLOCK) == 0)
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    let writer = Thread {
      // An error shows as missing bytes below.
      try? OutputDescriptor(descriptor: writing, name: "pipe").write(bytes)
      close(writing)
    }
    writer.start()
    var received: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 10_000)
    while true {
      var polled = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&polled, 1, -1)
      let count = unsafe read(reading, &block, block.count)
      if count == 0 { break }
      if count > 0 { received += block[0..<count] }
    }
    close(reading)
    #expect(received == bytes)
  }
}
