import Support

@testable import AMQP

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
