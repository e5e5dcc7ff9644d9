import Foundation
import Journal
import Testing

@testable import Agent

/// Where a capture of a stream goes on.
struct CaptureStreamTests {
  @Test(arguments: [(nil, nil), (0, 1), (41, 42), (-5, -4), (.max - 1, .max), (.max, .max)] as [(Int64?, Int64?)])
  func `it goes on behind the newest offset, whatever a publisher made up`(offset: Int64?, next: Int64?) throws {
    let configuration = try ConfigSupport.parse(
      #"{"queue":{"name":"orders"},"consumer":{"arguments":{"x-stream-offset":"first"}}}"#)
    let journal = try Journal.open(.temporary(under: NSTemporaryDirectory()))
    let stream = try #require(
      try StreamResumption(configuration, journal: journal, isTemporary: true, state: nil))
    #expect(stream.next == nil)
    stream.captured(through: offset)
    #expect(stream.next == next)
  }
}
