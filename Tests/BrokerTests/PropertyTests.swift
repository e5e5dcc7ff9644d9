import Foundation
import Support
import Testing

/// What properties and headers become, through the real broker and the real process: the whole document, octet by octet
/// (docs/documents.md).
@Suite struct PropertyTests {
  /// Every header type on the wire, its letter in the name.
  static let headers: [Sample] = [
    .header("t", .bool(true), is: "true"), .header("t, false", .bool(false), is: "false"),
    .header("b", .int8(-128), is: "-128"), .header("B", .uint8(255), is: "255"),
    .header("s", .int16(-32768), is: "-32768"), .header("u", .uint16(65535), is: "65535"),
    .header("I", .int32(.min), is: "-2147483648"), .header("i", .uint32(.max), is: "4294967295"),
    .header("l", .int64(.min), is: "-9223372036854775808"),
    .header("L", .raw([0x4C, 0x7F] + [UInt8](repeating: 0xFF, count: 7)), is: "9223372036854775807"),
    .header("l beyond 2^53", .int64(9_007_199_254_740_993), is: "9007199254740993"),
    .header("f", .float(0.1), is: "0.1"), .header("d", .double(0.1 + 0.2), is: "0.30000000000000004"),
    .header("d, tiny", .double(.leastNonzeroMagnitude), is: "5e-324"),
    .header("d, negative zero", .double(-0.0), is: "-0.0"),
    .header("D", .decimal(scale: 2, value: -12345), is: "-123.45"),
    .header("D, small", .decimal(scale: 7, value: 12345), is: "0.0012345"),
    .header("D, extreme", .decimal(scale: 255, value: .max), is: "2147483647e-255"),
    .header("S", .text("é\"\\\n\u{1}"), is: #""é\"\\\n\u0001""#), .header("S, empty", .text(""), is: #""""#),
    .header("S, no UTF-8", .string([0xED, 0xA0, 0x80]), is: #"{"base64":"7aCA"}"#),
    .header("A", .array([.void, .bool(true), .text("a"), .array([])]), is: #"[null,true,"a",[]]"#),
    .header("T", .timestamp(1_767_607_200), is: #""2026-01-05T10:00:00Z""#),
    .header("T, milliseconds", .timestamp(1_767_607_200_123), is: #""2026-01-05T10:00:00.123Z""#),
    .header("T, absurd", .timestamp(.max), is: "18446744073709551615"),
    .header("F", .table([("a", .int32(1)), ("b", .table([("c", .void)]))]), is: #"{"a":1,"b":{"c":null}}"#),
    .header("V", .void, is: "null"), .header("x", .bytes([0, 1, 2, 3]), is: #"{"base64":"AAECAw=="}"#),
    .header("64 levels", nested(63), is: text(63, "[]")),
    .header("65 levels", nested(64), is: text(63, #"[{"_note":"too deep"}]"#)),
    .header("20,000 levels", nested(20_000), is: text(63, #"[{"_note":"too deep"}]"#)),
    Sample(
      name: "an empty key", properties: Properties(headers: [("", .int8(1)), ("a", .int8(2))]),
      propertiesText: #"{"headers":{"":1,"a":2}}"#),
    Sample(
      name: "a key that is no UTF-8",
      properties: Properties(headers: [("f", .raw([0x46, 0, 0, 0, 3, 1, 0xFF, 0x56]))]),
      propertiesText: #"{"headers":{"f":{"_fields":[[{"base64":"/w=="},null]]}}}"#),
    Sample(name: "no header", properties: Properties(headers: []), propertiesText: #"{"headers":{}}"#),
  ]

  /// Up to 3.13 a key that is there twice stays so; RabbitMQ 4 passes on the first of them alone.
  private static func keyTwice(_ release: BrokerRelease) -> Sample {
    Sample(
      name: "a key twice", properties: Properties(headers: [("a", .int8(1)), ("b", .void), ("a", .text("x"))]),
      propertiesText: release < .v40
        ? #"{"headers":{"a":1,"b":null,"_fields":[["a","x"]]}}"# : #"{"headers":{"a":1,"b":null}}"#)
  }

  /// Arrays in arrays: `depth` of them in all, the innermost empty. The headers themselves are one more level.
  private static func nested(_ depth: Int) -> Field {
    // As octets: a value this deep would overflow the tests' own stack on its way to the wire.
    var reversed: [UInt8] = []
    for level in 0..<depth {
      // What an array of this level has inside it takes five octets a level.
      let count = UInt32(level * 5)
      reversed += [UInt8(count & 0xFF), UInt8(count >> 8 & 0xFF), UInt8(count >> 16 & 0xFF), UInt8(count >> 24), 0x41]
    }
    return .raw(reversed.reversed())
  }

  private static func text(_ depth: Int, _ innermost: String) -> String {
    String(repeating: "[", count: depth - 1) + innermost + String(repeating: "]", count: depth - 1)
  }

  private static func property(_ name: String, _ text: String, _ set: (inout Properties) -> Void) -> Sample {
    var properties = Properties()
    set(&properties)
    return Sample(name: name, properties: properties, propertiesText: "{\(text)}")
  }

  static let properties: [Sample] = [
    property("content_type", #""content_type":"a/b""#) { $0.contentType = "a/b" },
    property("content_encoding", #""content_encoding":"br""#) { $0.contentEncoding = "br" },
    property("delivery_mode", #""delivery_mode":2"#) { $0.deliveryMode = 2 },
    property("priority", #""priority":255"#) { $0.priority = 255 },
    property("correlation_id", #""correlation_id":"c""#) { $0.correlationID = "c" },
    property("reply_to", #""reply_to":"r""#) { $0.replyTo = "r" },
    property("expiration", #""expiration":"3600000""#) { $0.expiration = "3600000" },
    property("message_id", #""message_id":"m\"\n""#) { $0.messageID = "m\"\n" },
    property("message_id that is no UTF-8", #""message_id":"//4=","_base64":["message_id"]"#) {
      $0.octets = ["message_id": [0xFF, 0xFE]]
    },
    property("timestamp", #""timestamp":"2026-01-05T10:00:00Z""#) { $0.timestamp = 1_767_607_200 },
    property("timestamp 0", #""timestamp":"1970-01-01T00:00:00Z""#) { $0.timestamp = 0 },
    property(
      "timestamp in milliseconds", #""timestamp":"2026-01-05T10:00:00.123Z","timestamp_raw":1767607200123"#
    ) { $0.timestamp = 1_767_607_200_123 },
    property("timestamp in microseconds", #""timestamp_raw":1767607200123456"#) {
      $0.timestamp = 1_767_607_200_123_456
    },
    property("absurd timestamp", #""timestamp_raw":18446744073709551615"#) { $0.timestamp = .max },
    property("type", #""type":"t""#) { $0.type = "t" },
    property("app_id", #""app_id":"a""#) { $0.appID = "a" },
    property("cluster_id", #""cluster_id":"k""#) { $0.clusterID = "k" },
    property("the empty string", #""app_id":"""#) { $0.appID = "" },
  ]

  @Test func `every header type on the wire becomes typed JSON`() throws {
    let broker = try TestBroker()
    try Bench(broker).check(Self.headers + [Self.keyTwice(broker.release)])
  }

  @Test func `every property appears under its name, in the protocol's order`() throws {
    let broker = try TestBroker()
    let all = Self.property(
      "all",
      #""content_type":"a/b","content_encoding":"br","headers":{"h":null},"delivery_mode":2,"priority":9,"#
        + #""correlation_id":"c","reply_to":"r","expiration":"3600000","message_id":"m","#
        + #""timestamp":"2026-01-05T10:00:00Z","type":"t","user_id":"\#(broker.user)","app_id":"a","cluster_id":"k""#
    ) {
      $0 = Properties(messageID: "m", contentType: "a/b", headers: [("h", .void)])
      ($0.contentEncoding, $0.deliveryMode, $0.priority, $0.correlationID) = ("br", 2, 9, "c")
      ($0.replyTo, $0.expiration, $0.timestamp, $0.type) = ("r", "3600000", 1_767_607_200, "t")
      ($0.userID, $0.appID, $0.clusterID) = (broker.user, "a", "k")
    }
    try Bench(broker).check(Self.properties + [all])
  }

  @Test func `a dead-lettered message brings its x-death`() throws {
    let bench = try Bench()
    let source = bench.queue + "-source"
    try bench.publisher.declare(
      source,
      arguments: ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(bench.queue)])
    try bench.publisher.publish("x", properties: Properties(messageID: "m"), routingKey: source)
    _ = try bench.publisher.take(1, from: source, .reject)
    let document = try JSON(parsing: try bench.capture(1)[0])
    let headers = try #require(document[path: "properties", "headers"])
    let death = try #require(headers["x-death"]?.array?.first)
    #expect(death["time"]?.string?.wholeMatch(of: /20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ/) != nil)
    var expected: JSON = [
      "x-death": [
        [
          "count": 1, "reason": "rejected", "queue": .string(source), "exchange": "",
          "routing-keys": [.string(source)], "time": death["time"] ?? .null,
        ]
      ],
      "x-first-death-exchange": "", "x-first-death-queue": .string(source), "x-first-death-reason": "rejected",
    ]
    if try TestBroker().release >= .v40 {
      expected = expected.merged(with: [
        "x-last-death-exchange": "", "x-last-death-queue": .string(source), "x-last-death-reason": "rejected",
      ])
    }
    #expect(headers == expected)
    #expect(document["properties"]?["message_id"] == "m")
    try bench.publisher.delete(source)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `exchange, routing key and redelivery are those of the delivery`() throws {
    let bench = try Bench()
    let exchange = bench.queue + "-exchange"
    try bench.publisher.declareExchange(exchange)
    try bench.publisher.bind(bench.queue, to: exchange, routingKey: "#")
    try bench.publisher.publish("1", exchange: exchange, routingKey: "eu.\"new\"")
    try bench.publisher.publish("2", exchange: exchange, routingKey: "")
    _ = try bench.publisher.take(1, from: bench.queue, .requeue)
    let deliveries = try bench.capture(2).map { try #require(try JSON(parsing: $0)["delivery"]) }
    #expect(deliveries.map { $0["exchange"] } == [.string(exchange), .string(exchange)])
    #expect(deliveries.map { $0["routing_key"] } == ["eu.\"new\"", ""])
    #expect(deliveries.map { $0["redelivered"] } == [true, false])
    #expect(deliveries.map { $0["delivery_tag"] } == [1, 2])
    try bench.publisher.deleteExchange(exchange)
    try bench.publisher.delete(bench.queue)
  }
}
