import Support
import Testing

@testable import AMQP

/// Methods as the specification writes them.
struct MethodTests {
  private static func encoded(_ method: ClientMethod) throws -> [UInt8] {
    var bytes: [UInt8] = []
    try MethodCodec().encode(method, into: &bytes)
    return bytes
  }

  private static let none = Wire.integer(0, 4)

  @Test(
    arguments: [
      (
        .startOk(properties: ["a": .string("b")], mechanism: "PLAIN", response: [0, 1, 255]),
        Wire.method(10, 11, Wire.table(("a", "b")), Wire.short("PLAIN"), Wire.long([0, 1, 255]), Wire.short("en_US"))
      ),
      (
        .tuneOk(channelMax: 1, frameMax: 131_072, heartbeatSeconds: 65_535),
        Wire.method(10, 31, [0, 1, 0, 2, 0, 0, 255, 255])
      ),
      (.open(virtualHost: "/ü"), Wire.method(10, 40, Wire.short("/ü"), [0], [0])),
      (.updateSecret([1, 0, 255], reason: "r"), Wire.method(10, 70, Wire.long([1, 0, 255]), Wire.short("r"))),
      (.close(code: 200, text: "done"), Wire.method(10, 50, [0, 200], Wire.short("done"), [0, 0, 0, 0])),
      (.closeOk, Wire.method(10, 51)), (.channelOpen, Wire.method(20, 10, [0])),
      (.channelClose(code: 541, text: ""), Wire.method(20, 40, [2, 29], [0], [0, 0, 0, 0])),
      (.channelCloseOk, Wire.method(20, 41)),
      (
        .queueDeclare(QueueDeclaration(name: "q"), passive: false),
        Wire.method(50, 10, [0, 0], Wire.short("q"), [0b0010], none)
      ),
      (
        .queueDeclare(
          QueueDeclaration(
            name: "q", durable: false, exclusive: true, autoDelete: true, arguments: ["x": .string("y")]),
          passive: false), Wire.method(50, 10, [0, 0], Wire.short("q"), [0b1100], Wire.table(("x", "y")))
      ),
      // A passive declaration asks for the name alone: arguments would be compared by some brokers.
      (
        .queueDeclare(QueueDeclaration(name: "q", arguments: ["x": .null]), passive: true),
        Wire.method(50, 10, [0, 0], Wire.short("q"), [0b0011], none)
      ),
      (
        .queueBind(queue: "q", Binding(exchange: "e", routingKey: "#")),
        Wire.method(50, 20, [0, 0], Wire.short("q"), Wire.short("e"), Wire.short("#"), [0], none)
      ),
      (
        .exchangeDeclarePassive(exchange: "e"),
        Wire.method(40, 10, [0, 0], Wire.short("e"), Wire.short("direct"), [1], none)
      ),
      (.qos(prefetchCount: 65_535), Wire.method(60, 10, none, [255, 255], [0])),
      (
        .consume(Consumption(queue: "q"), tag: "t"),
        Wire.method(60, 20, [0, 0], Wire.short("q"), Wire.short("t"), [0], none)
      ),
      (
        .consume(Consumption(queue: "q", noAck: true, exclusive: true), tag: "t"),
        Wire.method(60, 20, [0, 0], Wire.short("q"), Wire.short("t"), [0b0110], none)
      ),
      (.cancel(tag: "t"), Wire.method(60, 30, Wire.short("t"), [0])),
      (.ack(tag: .max, multiple: true), Wire.method(60, 80, [UInt8](repeating: 255, count: 8), [1])),
      (.ack(tag: 1, multiple: false), Wire.method(60, 80, Wire.integer(1, 8), [0])),
      (.reject(tag: 258, requeue: false), Wire.method(60, 90, Wire.integer(258, 8), [0])),
    ] as [(ClientMethod, [UInt8])])
  func `every method of ours has these bytes`(method: ClientMethod, bytes: [UInt8]) throws {
    #expect(try Self.encoded(method) == bytes)
  }

  @Test func `arguments keep their types, also nested`() throws {
    let inner: ArgumentTable = ["deep": .array([.integer(-1), .table([:]), .array([])])]
    let arguments: ArgumentTable = [
      "n": .null, "t": .bool(true), "f": .bool(false), "i": .integer(.min), "d": .double(-2), "s": .string("ü"),
      "": .string(""), "F": .table(inner),
    ]
    let deep = Array("l".utf8) + Wire.integer(-1, 8) + Array("F".utf8) + Self.none + Array("A".utf8) + Self.none
    let content: [[UInt8]] = [
      Wire.short("n") + Array("V".utf8), Wire.short("t") + Array("t".utf8) + [1],
      Wire.short("f") + Array("t".utf8) + [0], Wire.short("i") + Array("l".utf8) + Wire.integer(Int64.min, 8),
      Wire.short("d") + Array("d".utf8) + [0xC0, 0, 0, 0, 0, 0, 0, 0],
      Wire.short("s") + Array("S".utf8) + Wire.long("ü"),
      Wire.short("") + Array("S".utf8) + Wire.long(""),
      Wire.short("F") + Array("F".utf8) + Wire.long(Wire.short("deep") + Array("A".utf8) + Wire.long(deep)),
    ]
    let method = ClientMethod.queueBind(queue: "", Binding(exchange: "", routingKey: "", arguments: arguments))
    let expected = Wire.method(50, 20, [0, 0, 0, 0, 0, 0], Wire.long(content.flatMap(\.self)))
    #expect(try Self.encoded(method) == expected)
  }

  @Test func `a name may have 255 bytes and no more`() throws {
    let longest = String(repeating: "ü", count: 127) + "x"
    #expect(try Self.encoded(.cancel(tag: longest)) == Wire.method(60, 30, Wire.short(longest), [0]))
    let text = longest + "x"
    let methods: [ClientMethod] = [
      .cancel(tag: text), .open(virtualHost: text), .exchangeDeclarePassive(exchange: text),
      .queueDeclare(QueueDeclaration(name: text), passive: true), .consume(Consumption(queue: text), tag: "t"),
      .queueBind(queue: "q", Binding(exchange: "e", routingKey: text)),
      .queueBind(
        queue: "q", Binding(exchange: "e", routingKey: "", arguments: ArgumentTable([.init(key: text, value: .null)]))),
    ]
    for method in methods {
      let error = #expect(throws: AMQPError.self) { try Self.encoded(method) }
      let start = String(repeating: "ü", count: 40)
      #expect(
        error?.description == "encoding a method: cannot be sent: a name of 256 bytes; AMQP allows 255 (\(start)…)")
    }
  }

  @Test func `a method beyond the frame limit is an error, and the codec goes on`() throws {
    let codec = MethodCodec()
    let large: ArgumentTable = ["x": .string(String(repeating: "y", count: 200_000))]
    var bytes: [UInt8] = []
    let error = #expect(throws: AMQPError.self) {
      try codec.encode(.consume(Consumption(queue: "q", arguments: large), tag: "t"), into: &bytes)
    }
    #expect(error?.operation == "encoding basic.consume")
    #expect(bytes.isEmpty)
    try codec.encode(.closeOk, into: &bytes)
    #expect(bytes == Wire.method(10, 51))
  }

  private static let server: [(payload: [UInt8], method: ServerMethod)] = [
    (
      Wire.method(
        10, 10, [0, 9], Wire.table(("product", "RabbitMQ"), ("version", "4.1"), ("cluster_name", "c"), ("other", "o")),
        Wire.long("PLAIN AMQPLAIN"), Wire.long("en_US")),
      .start(
        mechanisms: "PLAIN AMQPLAIN",
        server: ServerIdentity(product: "RabbitMQ", version: "4.1", clusterName: "c"))
    ),
    (Wire.method(10, 20, Wire.long("challenge")), .secure),
    (
      Wire.method(10, 30, [7, 255, 0, 2, 0, 0, 0, 60]), .tune(channelMax: 2047, frameMax: 131_072, heartbeatSeconds: 60)
    ),
    (Wire.method(10, 41, Wire.short("")), .openOk), (Wire.method(10, 71), .updateSecretOk),
    (Wire.method(10, 50, [1, 64], Wire.short("bye"), [0, 0, 0, 0]), .close(code: 320, text: "bye")),
    (Wire.method(10, 51), .closeOk), (Wire.method(10, 60, Wire.short("low on disk")), .blocked(reason: "low on disk")),
    (Wire.method(10, 61), .unblocked), (Wire.method(20, 11, Wire.long("")), .channelOpenOk),
    (Wire.method(20, 40, [1, 148], Wire.short("no"), [0, 50, 0, 10]), .channelClose(code: 404, text: "no")),
    (Wire.method(20, 41), .channelCloseOk), (Wire.method(40, 11), .exchangeDeclareOk),
    (
      Wire.method(50, 11, Wire.short("q"), Wire.integer(UInt32.max, 4), Wire.integer(2, 4)),
      .queueDeclareOk(QueueStatus(name: "q", messages: .max, consumers: 2))
    ),
    (Wire.method(50, 21), .queueBindOk), (Wire.method(60, 11), .qosOk),
    (Wire.method(60, 21, Wire.short("t")), .consumeOk(tag: "t")), (Wire.method(60, 31, Wire.short("t")), .cancelOk),
    (Wire.method(60, 30, Wire.short("t"), [1]), .cancel(tag: "t")),
  ]

  @Test func `every method of the broker is read, and every shorter form is an error`() throws {
    let codec = MethodCodec()
    for (payload, method) in Self.server {
      #expect(try codec.decode(payload.span) == method)
      for count in 0..<payload.count {
        let error = #expect(throws: AMQPError.self) { try codec.decode(payload.span.extracting(0..<count)) }
        guard case .malformed = error?.kind else {
          Issue.record("\(method) cut at \(count) gave \(String(describing: error))")
          continue
        }
      }
    }
  }

  @Test func `a method that a consumer has no use for is not decoded`() throws {
    let codec = MethodCodec()
    // Its table nests deeply enough to take a thread's stack, if it were read by recursion.
    var table: [UInt8] = []
    while table.count < 130_000 { table = [0] + Array("F".utf8) + Wire.long(table) }
    let declare = Wire.method(50, 10, [0, 0], Wire.short("q"), [0], Wire.long(table))
    #expect(try codec.decode(declare.span) == .other(id: 50 << 16 | 10))
    #expect(try codec.decode(Wire.method(60, 80).span) == .other(id: 60 << 16 | 80))
  }

  @Test func `a method that nobody knows is a value`() throws {
    let codec = MethodCodec()
    let payload = Wire.method(99, 7, [1, 2, 3])
    #expect(try codec.decode(payload.span) == .other(id: 99 << 16 | 7))
    #expect(MethodCodec.name(99 << 16 | 7) == "method 99.7")
    #expect(MethodCodec.name(60 << 16 | 20) == "basic.consume")
    #expect(MethodCodec.name(10 << 16 | 11) == "connection.start-ok")
  }

  @Test func `texts that are no UTF-8 are read with replacements`() throws {
    let payload = Wire.method(10, 60, [2, 0xFF, 0x61])
    #expect(try MethodCodec().decode(payload.span) == .blocked(reason: "\u{FFFD}a"))
  }

  @Test(arguments: 0..<100 as Range<UInt64>)
  func `damaged methods are values or errors, never a trap`(seed: UInt64) {
    var random = Seeded(seed)
    let codec = MethodCodec()
    for (payload, _) in Self.server {
      var bytes = payload
      for _ in 0..<3 {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      _ = try? codec.decode(bytes.span)
    }
    // The codec is none the worse for it.
    #expect((try? codec.decode(Wire.method(10, 51).span)) == .closeOk)
  }
}
