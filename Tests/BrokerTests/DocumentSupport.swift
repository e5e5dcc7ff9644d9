import Foundation
import Support
import Testing

/// A message to publish, and what its document says.
struct Sample: Sendable {
  /// For the report of a failure.
  var name: String
  var body: [UInt8] = []
  var properties = Properties()
  /// The members `body`, `body_raw` and `body_encoding`, as they stand in the document.
  var bodyText = #""body":"","body_raw":"""#
  /// The value of `properties`, as it stands in the document.
  var propertiesText = "{}"
  /// Whether `body` is parsed JSON, and so another text than `body_raw`.
  var isParsed = false
}

extension Sample {
  /// A sample about its body, whose `body_raw` is another text than its `body`.
  static func body(
    _ name: String, _ body: String, type: String? = nil, is text: String, raw: String? = nil
  ) -> Sample {
    bytes(name, Array(body.utf8), type: type, is: text, raw: raw)
  }

  /// The same for any octets, possibly encoded.
  static func bytes(
    _ name: String, _ body: [UInt8], type: String? = nil, encoding: String? = nil, is text: String, raw: String? = nil,
    isBase64: Bool = false
  ) -> Sample {
    var properties = Properties(contentType: type)
    properties.contentEncoding = encoding
    let members = [type.map { #""content_type":"\#($0)""# }, encoding.map { #""content_encoding":"\#($0)""# }]
    return Sample(
      name: name, body: body, properties: properties,
      bodyText: #""body":\#(text),"body_raw":\#(raw ?? text)"# + (isBase64 ? #","body_encoding":"base64""# : ""),
      propertiesText: "{" + members.compactMap(\.self).joined(separator: ",") + "}",
      isParsed: raw != nil)
  }

  /// A sample about one header, `h`.
  static func header(_ name: String, _ value: Field, is text: String) -> Sample {
    Sample(
      name: name, properties: Properties(headers: [("h", value)]), propertiesText: #"{"headers":{"h":\#(text)}}"#)
  }

  /// The whole document, with `*` for what differs from run to run.
  func document(number: Int, queue: String, virtualHost: String) -> String {
    #"{"received_at":"*",\#(bodyText),"body_size":\#(body.count),"properties":\#(propertiesText),"#
      + #""delivery":{"consumer_tag":"*","delivery_tag":\#(number),"redelivered":false,"exchange":"","#
      + #""routing_key":"\#(queue)"},"queue":"\#(queue)","virtual_host":"\#(virtualHost)","sequence":\#(number),"#
      + #""session_id":"*"}"#
  }
}

/// A queue of its own on the run's broker, with a publisher.
struct Bench {
  let broker: TestBroker
  let publisher: Publisher
  let queue: String

  init(_ broker: TestBroker? = nil, arguments: JSON = [:]) throws {
    self.broker = try broker ?? TestBroker()
    publisher = try Publisher(self.broker)
    queue = TestBroker.uniqueName("q")
    try publisher.declare(queue, arguments: arguments)
  }

  /// Captures `count` messages from the queue with the real connector and returns the documents' texts.
  func capture(_ count: Int, _ options: JSON = [:]) throws -> [String] {
    let runtime = try FlowRuntime(config: broker.configuration(queue: queue, options))
    try runtime.start()
    try runtime.waitUntil(committedCount: count)
    // Or the end of stdin may overtake the acknowledgement, and the broker keeps the messages.
    try runtime.waitUntilSettled()
    #expect(try runtime.closeInput() == .exited(0))
    return try runtime.committed.map { try documentText($0.line) }
  }

  /// Publishes the samples, captures them, and compares each document, octet by octet.
  func check(_ samples: [Sample], _ options: JSON = [:]) throws {
    for sample in samples {
      #expect(
        try publisher.publish(sample.body, properties: sample.properties, routingKey: queue) == 1, "\(sample.name)")
    }
    let documents = try capture(samples.count, options)
    #expect(documents.count == samples.count)
    for (index, (document, sample)) in zip(documents, samples).enumerated() {
      let expected = sample.document(number: index + 1, queue: queue, virtualHost: broker.virtualHost)
      #expect(masked(document) == expected, "\(sample.name)")
    }
    try publisher.delete(queue)
  }
}

/// The document in a `captured` line, as it was written.
func documentText(_ line: [UInt8]) throws -> String {
  let text = String(decoding: line, as: UTF8.self)
  let prefix = text.prefixMatch(of: /\{"captured":\{"binding":\d+,"doc":/)?.output ?? ""
  guard !prefix.isEmpty, text.hasSuffix("}}") else { throw SupportError("an odd line: \(text.prefix(200))") }
  return String(text.dropFirst(prefix.count).dropLast(2))
}

/// The document with `*` for the time of arrival, the consumer tag and the session; what does not look like one stays.
func masked(_ document: String) -> String {
  var text = document
  // Backwards, because a body or a header may hold the same words.
  let patterns = [
    #""session_id":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"\}$"#: #""session_id":"*"}"#,
    #"^\{"received_at":"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{6}Z","#: #"{"received_at":"*","#,
  ]
  for (pattern, replacement) in patterns {
    guard let range = text.range(of: pattern, options: .regularExpression) else { continue }
    text.replaceSubrange(range, with: replacement)
  }
  if let start = text.range(of: #""delivery":{"consumer_tag":"source-amqp-"#, options: .backwards),
    let end = text.range(of: "\"", range: start.upperBound..<text.endIndex)
  {
    text.replaceSubrange(start.lowerBound..<end.lowerBound, with: #""delivery":{"consumer_tag":"*"#)
  }
  return text
}

/// Standard base64 as a JSON string.
func quotedBase64(_ bytes: [UInt8]) -> String { "\"\(Data(bytes).base64EncodedString())\"" }

/// The octets of a text of hexadecimal digits.
func octets(hex: String) -> [UInt8] {
  var digits = hex[...]
  var bytes: [UInt8] = []
  while !digits.isEmpty {
    bytes.append(UInt8(digits.prefix(2), radix: 16)!)
    digits = digits.dropFirst(2)
  }
  return bytes
}
