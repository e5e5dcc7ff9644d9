import Foundation
import Journal
import Testing

@testable import Agent

/// Builds AMQP's wire format for tests.
enum Wire {
  static func short(_ text: String) -> [UInt8] { short(Array(text.utf8)) }
  static func short(_ bytes: [UInt8]) -> [UInt8] { [UInt8(bytes.count)] + bytes }
  static func long(_ bytes: [UInt8]) -> [UInt8] { big(UInt32(bytes.count)) + bytes }
  static func big(_ value: some FixedWidthInteger) -> [UInt8] {
    (1...value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (value.bitWidth - 8 * $0)) }
  }

  /// A value: the type's letter and its content.
  static func value(_ type: Character, _ content: [UInt8] = []) -> [UInt8] { [type.asciiValue ?? 0] + content }
  static func string(_ text: String) -> [UInt8] { value("S", long(Array(text.utf8))) }
  static func table(_ fields: [UInt8]) -> [UInt8] { value("F", long(fields)) }
  static func array(_ values: [UInt8]) -> [UInt8] { value("A", long(values)) }
  static func field(_ key: String, _ value: [UInt8]) -> [UInt8] { short(key) + value }

  /// A property block with one property, by its number from 0 (`content_type`) to 13 (`cluster_id`).
  static func block(_ number: Int, _ content: [UInt8]) -> [UInt8] { big(UInt16(1) << (15 - number)) + content }
  static func headers(_ fields: [UInt8]) -> [UInt8] { block(2, long(fields)) }
}

/// Renders one property block.
func renderProperties(_ block: [UInt8]) -> (text: String, fidelity: PropertiesRenderer.Fidelity) {
  var renderer = PropertiesRenderer()
  var out: [UInt8] = []
  let fidelity = renderer.render(block.span, into: &out)
  return (String(decoding: out, as: UTF8.self), fidelity)
}

/// A message as the journal would hand it out.
struct TestMessage {
  var position: Int64 = 12
  var deliveryTag: UInt64 = 7
  var redelivered = false
  var receivedAt: Int64 = 1_767_607_200_000_123
  var exchange = Array("orders".utf8)
  var routingKey = Array("eu.new".utf8)
  var properties = "{}"
  var body: [UInt8] = []

  init(_ body: [UInt8], properties: String = "{}") {
    self.body = body
    self.properties = properties
  }

  init(_ body: String, properties: String = "{}") { self.init(Array(body.utf8), properties: properties) }

  static let consumer = ConsumerRecord(
    id: 1, sessionID: "0b9d7a52-54d7-4a46-9f59-0a8f0d3f3f3b", sessionBase: Position(rawValue: 10), tag: "tag-1",
    queue: "q \"1\"", virtualHost: "/")

  /// Calls `body` with the row.
  func withRow<Result>(_ body: (Row) throws -> Result) rethrows -> Result {
    let properties = Array(properties.utf8)
    return try body(
      Row(
        position: Position(rawValue: position), consumer: 1, deliveryTag: deliveryTag, redelivered: redelivered,
        receivedAt: receivedAt, exchange: exchange.span, routingKey: routingKey.span, properties: properties.span,
        body: self.body.span, bodyIsText: false))
  }

  /// The document's text and what became of the row.
  func document(_ options: DocumentOptions = DocumentOptions()) -> (text: String, outcome: DocumentRenderer.Outcome) {
    var renderer = DocumentRenderer(options: options)
    var out: [UInt8] = []
    let outcome = withRow { renderer.append($0, consumer: Self.consumer, to: &out) }
    return (String(decoding: out, as: UTF8.self), outcome)
  }

  /// The text from `"body":` up to, but without, `,"body_size"`.
  func bodyMembers(_ options: DocumentOptions = DocumentOptions()) -> String {
    let text = document(options).text
    guard let start = text.range(of: #""body":"#), let end = text.range(of: #","body_size":"#, options: .backwards)
    else {
      return text
    }
    return String(text[start.lowerBound..<end.lowerBound])
  }
}

/// Reads `text` with both readers, ours and Foundation's; records an issue where one refuses, or it is not one line.
@discardableResult
func expectJSON(_ text: String, _ location: Testing.SourceLocation = #_sourceLocation) -> JSONValue? {
  #expect(!text.utf8.contains(0x0A) && !text.utf8.contains(0x0D), sourceLocation: location)
  #expect(throws: Never.self, sourceLocation: location) {
    try JSONSerialization.jsonObject(with: Data(text.utf8))
  }
  do {
    return try JSONValue.parse(text)
  } catch {
    Issue.record("\(error): \(text.prefix(2000))", sourceLocation: location)
    return nil
  }
}

/// The bytes that hexadecimal digits stand for.
func bytes(hex: String) -> [UInt8] {
  let digits = hex.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}
