/// A header's value with its type on the wire, in RabbitMQ's dialect of AMQP 0-9-1
/// (https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3).
///
/// RabbitMQ reads every field of a message that it routes. It ends the connection with 541 over a NaN or an infinity and
/// over an unknown type octet, so those never reach a consumer; all else here arrives.
public indirect enum Field: Sendable, Equatable {
  case bool(Bool)
  case int8(Int8)
  case uint8(UInt8)
  case int16(Int16)
  case uint16(UInt16)
  case int32(Int32)
  case uint32(UInt32)
  case int64(Int64)
  case float(Float)
  case double(Double)
  /// value · 10^-scale
  case decimal(scale: UInt8, value: Int32)
  case timestamp(UInt64)
  case text(String)
  /// A long string (`S`) that need not be UTF-8.
  case string([UInt8])
  /// Type `x`.
  case bytes([UInt8])
  case void
  case array([Field])
  case table([(String, Field)])
  /// Octets put on the wire as they are, the type octet included.
  case raw([UInt8])

  public static func == (left: Field, right: Field) -> Bool {
    left.json == right.json
  }

  /// The form that scripts/lib/fields.py reads.
  var json: JSON {
    switch self {
    case .bool(let value): ["t": "t", "v": .bool(value)]
    case .int8(let value): ["t": "b", "v": .number(value.description)]
    case .uint8(let value): ["t": "B", "v": .number(value.description)]
    case .int16(let value): ["t": "s", "v": .number(value.description)]
    case .uint16(let value): ["t": "u", "v": .number(value.description)]
    case .int32(let value): ["t": "I", "v": .number(value.description)]
    case .uint32(let value): ["t": "i", "v": .number(value.description)]
    case .int64(let value): ["t": "l", "v": .number(value.description)]
    // As text: JSON knows neither NaN nor infinities.
    case .float(let value): ["t": "f", "v": .string(value.description)]
    case .double(let value): ["t": "d", "v": .string(value.description)]
    case .decimal(let scale, let value):
      ["t": "D", "v": ["scale": .number(scale.description), "value": .number(value.description)]]
    case .timestamp(let value): ["t": "T", "v": .number(value.description)]
    case .text(let text): ["t": "S", "v": .string(text)]
    case .string(let bytes): ["t": "S", "b64": .string(base64(bytes))]
    case .bytes(let bytes): ["t": "x", "b64": .string(base64(bytes))]
    case .void: ["t": "V"]
    case .array(let items): ["t": "A", "v": .array(items.map(\.json))]
    case .table(let entries): ["t": "F", "v": Self.json(entries)]
    case .raw(let bytes): ["t": "raw", "b64": .string(base64(bytes))]
    }
  }

  static func json(_ entries: [(String, Field)]) -> JSON {
    .array(entries.map { .array([.string($0.0), $0.1.json]) })
  }
}

/// The properties of a message to publish; what is nil is not sent.
public struct Properties: Sendable {
  public var contentType: String?
  public var contentEncoding: String?
  /// Order and repetitions are kept.
  public var headers: [(String, Field)]?
  /// 2 is persistent.
  public var deliveryMode: UInt8?
  public var priority: UInt8?
  public var correlationID: String?
  public var replyTo: String?
  /// Milliseconds, as decimal text; RabbitMQ refuses anything else.
  public var expiration: String?
  public var messageID: String?
  /// Seconds since 1970, by the book.
  public var timestamp: UInt64?
  public var type: String?
  /// RabbitMQ refuses any but the publisher's own name.
  public var userID: String?
  public var appID: String?
  public var clusterID: String?
  /// Short-string properties by their AMQP name (`message_id`) as octets that need not be UTF-8.
  public var octets: [String: [UInt8]] = [:]

  public init(messageID: String? = nil, contentType: String? = nil, headers: [(String, Field)]? = nil) {
    self.messageID = messageID
    self.contentType = contentType
    self.headers = headers
  }

  /// The form that scripts/lib/fields.py reads.
  var json: JSON {
    var members: [String: JSON] = [:]
    let texts = [
      "content_type": contentType, "content_encoding": contentEncoding, "correlation_id": correlationID,
      "reply_to": replyTo, "expiration": expiration, "message_id": messageID, "type": type, "user_id": userID,
      "app_id": appID, "cluster_id": clusterID,
    ]
    for (name, text) in texts { members[name] = text.map { .string($0) } }
    members["headers"] = headers.map(Field.json)
    members["delivery_mode"] = deliveryMode.map { .number($0.description) }
    members["priority"] = priority.map { .number($0.description) }
    members["timestamp"] = timestamp.map { .number($0.description) }
    for (name, bytes) in octets { members[name] = ["b64": .string(base64(bytes))] }
    return .object(members)
  }
}
