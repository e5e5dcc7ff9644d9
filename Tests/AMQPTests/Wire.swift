@testable import AMQP

/// Writes AMQP 0-9-1 by the specification's words alone, without the module's codec.
/// https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf §4.2
enum Wire {
  static func integer(_ value: some FixedWidthInteger, _ width: Int) -> [UInt8] {
    (0..<width).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }

  static func short(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

  static func long(_ text: String) -> [UInt8] { long(Array(text.utf8)) }

  static func long(_ bytes: [UInt8]) -> [UInt8] { integer(bytes.count, 4) + bytes }

  /// Class and method number, then fields.
  static func method(_ classID: Int, _ methodID: Int, _ fields: [UInt8]...) -> [UInt8] {
    integer(classID, 2) + integer(methodID, 2) + fields.flatMap(\.self)
  }

  /// A table of long strings.
  static func table(_ entries: (String, String)...) -> [UInt8] {
    long(entries.flatMap { short($0.0) + Array("S".utf8) + long($0.1) })
  }

  static func frame(_ type: UInt8, _ payload: [UInt8], channel: Int = 1) -> [UInt8] {
    [type] + integer(channel, 2) + long(payload) + [0xCE]
  }

  static let heartbeat = frame(8, [], channel: 0)

  /// The frames of one delivery, its body cut into frames of at most `frameBody` bytes.
  static func delivery(_ message: Message, frameBody: Int) -> [[UInt8]] {
    let deliver = method(
      60, 60, short("tag"), integer(message.tag, 8), [message.redelivered ? 1 : 0], short(message.exchange),
      short(message.routingKey))
    let header = integer(60, 2) + integer(0, 2) + integer(message.body.count, 8) + message.properties
    let bodies = stride(from: 0, to: message.body.count, by: frameBody).map { start in
      frame(3, Array(message.body[start..<min(start + frameBody, message.body.count)]))
    }
    return [frame(1, deliver), frame(2, header)] + bodies
  }

  /// A delivery with its parts as bytes.
  struct Message: Equatable {
    var tag: UInt64
    var redelivered = false
    var exchange = "events"
    var routingKey = "eu.new"
    var properties: [UInt8] = [0, 0]
    var body: [UInt8]
  }
}

extension DeliveryBatch {
  /// The whole deliveries, with what their ranges point at.
  var messages: [Wire.Message] {
    deliveries.map { delivery in
      Wire.Message(
        tag: delivery.tag, redelivered: delivery.redelivered,
        exchange: String(decoding: arena[delivery.exchange], as: UTF8.self),
        routingKey: String(decoding: arena[delivery.routingKey], as: UTF8.self),
        properties: Array(arena[delivery.properties]), body: Array(arena[delivery.body]))
    }
  }
}
