/// Writes a broker's half of AMQP 0-9-1 by the specification's words alone, without the module's codec.
/// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2
public enum Wire {
  public static func integer(_ value: some FixedWidthInteger, _ width: Int) -> [UInt8] {
    (0..<width).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }

  public static func short(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

  public static func long(_ text: String) -> [UInt8] { long(Array(text.utf8)) }

  public static func long(_ bytes: [UInt8]) -> [UInt8] { integer(bytes.count, 4) + bytes }

  /// Class and method number, then fields.
  public static func method(_ classID: Int, _ methodID: Int, _ fields: [UInt8]...) -> [UInt8] {
    integer(classID, 2) + integer(methodID, 2) + fields.flatMap(\.self)
  }

  /// A table of long strings.
  public static func table(_ entries: (String, String)...) -> [UInt8] {
    long(entries.flatMap { short($0.0) + Array("S".utf8) + long($0.1) })
  }

  public static func frame(_ type: UInt8, _ payload: [UInt8], channel: Int = 1) -> [UInt8] {
    [type] + integer(channel, 2) + long(payload) + [0xCE]
  }

  public static let heartbeat = frame(8, [], channel: 0)

  /// The frames of one delivery, its body cut into frames of at most `frameBody` bytes.
  public static func delivery(
    _ message: Message, frameBody: Int = 131_064, consumer: String = "tag", channel: Int = 1
  ) -> [[UInt8]] {
    let deliver = method(
      60, 60, short(consumer), integer(message.tag, 8), [message.redelivered ? 1 : 0], short(message.exchange),
      short(message.routingKey))
    let header = integer(60, 2) + integer(0, 2) + integer(message.body.count, 8) + message.properties
    let bodies = stride(from: 0, to: message.body.count, by: frameBody).map { start in
      frame(3, Array(message.body[start..<min(start + frameBody, message.body.count)]), channel: channel)
    }
    return [frame(1, deliver, channel: channel), frame(2, header, channel: channel)] + bodies
  }

  /// `connection.start`, with the mechanisms that a RabbitMQ has.
  public static func start(properties: [UInt8] = table(("product", "Peer"))) -> [UInt8] {
    frame(1, method(10, 10, [0, 9], properties, long("AMQPLAIN PLAIN"), long("en_US")), channel: 0)
  }
  public static func tune(channels: UInt16 = 2047, frame size: UInt32 = 131_072, heartbeat: UInt16 = 0) -> [UInt8] {
    frame(1, method(10, 30, integer(channels, 2), integer(size, 4), integer(heartbeat, 2)), channel: 0)
  }
  public static let openOk = frame(1, method(10, 41, [0]), channel: 0)
  public static let channelOk = frame(1, method(20, 11, integer(0, 4)))
  public static let qosOk = frame(1, method(60, 11))
  public static func consumeOk(_ tag: String = "tag") -> [UInt8] { frame(1, method(60, 21, short(tag))) }
  public static func cancelOk(_ tag: String = "tag") -> [UInt8] { frame(1, method(60, 31, short(tag))) }
  public static func close(_ code: UInt16, _ text: String) -> [UInt8] {
    frame(1, method(10, 50, integer(code, 2), short(text), [0, 0, 0, 0]), channel: 0)
  }
  public static func channelClose(_ code: UInt16, _ text: String, channel: Int = 1) -> [UInt8] {
    frame(1, method(20, 40, integer(code, 2), short(text), [0, 0, 0, 0]), channel: channel)
  }
  public static func blocked(_ reason: String) -> [UInt8] { frame(1, method(10, 60, short(reason)), channel: 0) }

  /// A delivery with its parts as bytes.
  public struct Message: Equatable, Sendable {
    public var tag: UInt64
    public var redelivered = false
    public var exchange = "events"
    public var routingKey = "eu.new"
    public var properties: [UInt8] = [0, 0]
    public var body: [UInt8]

    public init(
      tag: UInt64, redelivered: Bool = false, exchange: String = "events", routingKey: String = "eu.new",
      properties: [UInt8] = [0, 0], body: [UInt8]
    ) {
      self.tag = tag
      self.redelivered = redelivered
      self.exchange = exchange
      self.routingKey = routingKey
      self.properties = properties
      self.body = body
    }
  }
}
