import Platform

/// Publishes to a broker through pika, a client that shares no code with ours; every publish is confirmed by the broker
/// before the call returns.
///
/// One Python process each (scripts/lib/publisher.py), started on creation and ended with this object. A test makes its
/// own: calls on one publisher wait for each other. After an error the publisher goes on working, on a fresh channel or
/// connection; so also after the broker was restarted.
public final class Publisher: Sendable {
  /// What the broker or the client refused.
  public struct Refusal: Error, CustomStringConvertible {
    /// The AMQP reply code, 404 or 406 for instance; 0 if there was none.
    public let code: Int
    public let description: String
  }

  private struct Answers {
    var lines: [[UInt8]] = []
    var error = ""
    var ended = false
  }

  private let child: ChildProcess
  private let answers: Monitor<Answers>
  private let turn = Monitor(())

  public init(_ broker: TestBroker) throws {
    let answers = Monitor(Answers())
    self.answers = answers
    let python = try pythonInterpreter()
    child = try ChildProcess(
      python, [repository + "/scripts/lib/publisher.py"], environment: broker.environment
    ) { event in
      answers.update {
        switch event {
        case .line(let line): $0.lines.append(line)
        case .end: $0.ended = true
        }
      }
    } onError: { event in
      if case .line(let line) = event {
        answers.update { $0.error += String(decoding: line, as: UTF8.self) + "\n" }
      }
    }
  }

  /// Runs one command; see scripts/lib/publisher.py.
  @discardableResult
  public func call(
    _ operation: String, _ members: [String: JSON], atMost limit: Duration = generousLimit
  ) throws -> JSON {
    try turn.update { _ in
      try child.write(line: JSON.object(members.merging(["op": .string(operation)]) { $1 }).text)
      let line = answers.wait(atMost: limit) { answers -> [UInt8]?? in
        if !answers.lines.isEmpty { return .some(answers.lines.removeFirst()) }
        return answers.ended ? .some(nil) : nil
      }
      guard let line else { throw SupportError("the publisher did not answer \(operation) within \(limit)") }
      guard let line else { throw SupportError("the publisher ended: \(answers.update { $0.error })") }
      let answer = try JSON(parsing: line)
      if let text = answer["error"]?.string { throw Refusal(code: answer["code"]?.int ?? 0, description: text) }
      return answer["ok"] ?? [:]
    }
  }

  /// A chunk of a stream, as a client of the stream protocol publishes it.
  public enum Chunk: Sendable {
    /// Entries of a message each.
    case batch([String])
    /// One entry of several messages.
    case packed([String])
    case compressed([String])
  }

  /// Publishes to a stream by its own protocol; a body that begins with "raw" is no AMQP message then. The broker is one with
  /// `streams`.
  public func publish(_ chunks: [Chunk], to stream: String) throws {
    let entries = chunks.map { chunk -> JSON in
      let (kind, bodies) =
        switch chunk {
        case .batch(let bodies): ("batch", bodies)
        case .packed(let bodies): ("packed", bodies)
        case .compressed(let bodies): ("compressed", bodies)
        }
      return [.string(kind), .array(bodies.map { .string($0) })]
    }
    try call("publish_entries", ["stream": .string(stream), "entries": .array(entries)])
  }

  /// Publishes a message over AMQP 1.0 that RabbitMQ 4 cannot send over 0-9-1; only to one queue for each publisher.
  public func publishUndeliverable(to queue: String) throws { try call("undeliverable", ["queue": .string(queue)]) }

  public func declare(
    _ queue: String, durable: Bool = true, exclusive: Bool = false, autoDelete: Bool = false, arguments: JSON = [:]
  ) throws {
    try call(
      "declare",
      [
        "queue": .string(queue), "durable": .bool(durable), "exclusive": .bool(exclusive),
        "auto_delete": .bool(autoDelete), "arguments": arguments,
      ])
  }

  /// Ready messages and consumers of a queue, from a passive declare; nil if there is no such queue.
  public func queueInfo(_ queue: String) throws -> (ready: Int, consumers: Int)? {
    let answer = try call("queue_info", ["queue": .string(queue)])
    guard let ready = answer["messages"]?.int, let consumers = answer["consumers"]?.int else { return nil }
    return (ready, consumers)
  }

  public func declareExchange(_ name: String, type: String = "topic", durable: Bool = false) throws {
    try call("exchange_declare", ["exchange": .string(name), "type": .string(type), "durable": .bool(durable)])
  }

  public func deleteExchange(_ name: String) throws {
    try call("exchange_delete", ["exchange": .string(name)])
  }

  public func bind(_ queue: String, to exchange: String, routingKey: String = "", arguments: JSON = [:]) throws {
    try call(
      "bind",
      [
        "queue": .string(queue), "exchange": .string(exchange), "routing_key": .string(routingKey),
        "arguments": arguments,
      ])
  }

  public func purge(_ queue: String) throws {
    try call("purge", ["queue": .string(queue)])
  }

  public func delete(_ queue: String) throws {
    try call("delete", ["queue": .string(queue)])
  }

  /// Publishes `count` messages like this one.
  ///
  /// - Returns: How many of them reached a queue.
  @discardableResult
  public func publish(
    _ body: [UInt8], properties: Properties = Properties(), exchange: String = "", routingKey: String, count: Int = 1
  ) throws -> Int {
    let answer = try call(
      "publish",
      [
        "body": ["b64": .string(base64(body))], "properties": properties.json, "exchange": .string(exchange),
        "routing_key": .string(routingKey), "count": JSON(count),
      ])
    return answer["routed"]?.int ?? 0
  }

  /// Publishes a text.
  @discardableResult
  public func publish(
    _ body: String, properties: Properties = Properties(), exchange: String = "", routingKey: String, count: Int = 1
  ) throws -> Int {
    try publish(
      Array(body.utf8), properties: properties, exchange: exchange, routingKey: routingKey, count: count)
  }

  /// What `publishMany` makes; both give message n of PREFIX the id `PREFIX-NNNNNNN`, seven digits.
  public enum Kind: Sendable {
    /// JSON, text, binary, compressed, empty, large; headers of all types. A header `digest` has the SHA-256 (hex) of the
    /// octets that the document's `body_raw` stands for. The same seed gives the same messages.
    case mixed(seed: Int)
    /// A JSON object of about this many bytes.
    case simple(bytes: Int)
  }

  /// Publishes messages number `start` to `start + count - 1`, some ten thousand a second.
  @discardableResult
  public func publishMany(
    _ count: Int, _ kind: Kind, prefix: String = "m", start: Int = 1, exchange: String = "", routingKey: String
  ) throws -> Int {
    var members: [String: JSON] = [
      "count": JSON(count), "prefix": .string(prefix), "start": JSON(start), "exchange": .string(exchange),
      "routing_key": .string(routingKey),
    ]
    switch kind {
    case .mixed(let seed): members.merge(["kind": "mixed", "seed": JSON(seed)]) { $1 }
    case .simple(let bytes): members.merge(["kind": "simple", "size": JSON(bytes)]) { $1 }
    }
    let answer = try call("publish_many", members, atMost: .seconds(600))
    return answer["routed"]?.int ?? 0
  }

  /// The id that `publishMany` gave to message `number`.
  public static func messageID(_ number: Int, prefix: String = "m") -> String {
    let digits = String(number)
    return prefix + "-" + String(repeating: "0", count: max(0, 7 - digits.count)) + digits
  }

  /// What becomes of a message that `take` fetched.
  public enum Settlement: String, Sendable {
    case ack, requeue, reject
    /// Neither: it stays unacknowledged until the publisher's channel or connection ends.
    case hold
  }

  /// A message as a competing consumer sees it.
  public struct Message: Sendable, Equatable {
    public let body: [UInt8]
    public let messageID: String?
    public let redelivered: Bool
  }

  /// Fetches up to `count` messages from a queue, as a competing consumer does.
  public func take(_ count: Int = 1, from queue: String, _ settlement: Settlement = .ack) throws -> [Message] {
    let answer = try call(
      "get", ["queue": .string(queue), "count": JSON(count), "settle": .string(settlement.rawValue)])
    return (answer["messages"]?.array ?? []).map {
      Message(
        body: decoded(base64: $0["body"]?.string ?? "") ?? [], messageID: $0["message_id"]?.string,
        redelivered: $0["redelivered"]?.bool ?? false)
    }
  }

  /// Ends the publisher's connection; the next call opens another.
  public func closeConnection() throws {
    try call("close", [:])
  }
}
