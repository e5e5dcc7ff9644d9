/// One value of an argument table that we send, for example `x-message-ttl` of a queue.
///
/// The wire types are those that RabbitMQ's own argument checks expect: integers go out as signed 64-bit (`l`), text
/// as a long string (`S`). https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3
public enum Argument: Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int64)
  case double(Double)
  /// Seconds since 1970.
  case timestamp(UInt64)
  case string(String)
  case array([Argument])
  case table(ArgumentTable)
}

/// A table of arguments, in order. Keys are at most 255 bytes of UTF-8 (a short string).
public struct ArgumentTable: Equatable, Sendable, ExpressibleByDictionaryLiteral {
  /// A key of at most 255 bytes, and its value.
  public struct Entry: Equatable, Sendable {
    /// A field's name: at most 255 bytes on the wire.
    public var key: String
    /// Its value.
    public var value: Argument
  }
  /// In the order they are sent; a name may occur twice.
  public var entries: [Entry]

  public init(_ entries: [Entry] = []) { self.entries = entries }

  public init(dictionaryLiteral elements: (String, Argument)...) {
    entries = elements.map { Entry(key: $0.0, value: $0.1) }
  }

  /// Adds an argument after the others; a key that is there already is not looked for.
  public mutating func append(_ key: String, _ value: Argument) { entries.append(Entry(key: key, value: value)) }
}
