import AMQP
import Platform
import Support
import Testing

/// Many channels on one connection to a real broker: what happens on one is no other's.
@Suite struct ChannelTests {
  private struct Consumer {
    let queue: String
    let channel: AMQPChannel
    var bodies: [String] = []
    var newest: UInt64 = 0
  }

  @Test func `twenty queues on one connection, of which one is deleted, one is not there, and one is acknowledged`()
    throws
  {
    let broker = try TestBroker()
    let publisher = try Publisher(broker)
    var settings = ConnectionSettings(
      nodes: [BrokerNode(host: broker.host, port: broker.port)], virtualHost: broker.virtualHost,
      credentials: .plain(username: broker.user, password: broker.password))
    settings.channels = 20
    let connection = try Connection.open(settings)
    var consumers: [Consumer] = []
    for number in 0..<20 {
      let queue = TestBroker.uniqueName("channel")
      let channel = try connection.openChannel()
      // What comes for the ones before arrives while this waits for its answers.
      _ = try channel.declareQueue(QueueDeclaration(name: queue))
      try channel.setPrefetch(200)
      try channel.consume(Consumption(queue: queue), tag: "channel-\(queue)")
      consumers.append(Consumer(queue: queue, channel: channel))
      for consumer in consumers { try publisher.publish("\(number)", routingKey: consumer.queue, count: 3) }
    }
    let wakeup = Wakeup()
    func receive(until condition: () -> Bool) throws {
      let deadline = Instant.now + generousLimit
      while !condition() {
        guard Instant.now < deadline else {
          throw SupportError("the broker did not deliver: \(consumers.map(\.bodies.count))")
        }
        _ = try connection.receive(deliveries: 1000, bytes: 1 << 20)
        for index in consumers.indices {
          let batch = consumers[index].channel.takeBatch(refilling: DeliveryBatch())
          for delivery in batch.deliveries {
            consumers[index].bodies.append(String(decoding: batch.arena[delivery.body], as: UTF8.self))
            #expect(delivery.tag == consumers[index].newest + 1)
            consumers[index].newest = delivery.tag
          }
        }
        if !condition() { try connection.wait(until: Instant.now + .milliseconds(100), wakeup: wakeup, reading: true) }
      }
    }
    let wanted = (0..<20).map { first in (first..<20).flatMap { number in [String](repeating: "\(number)", count: 3) } }
    try receive { zip(consumers, wanted).allSatisfy { $0.bodies.count >= $1.count } }
    #expect(consumers.map(\.bodies) == wanted)

    // One's acknowledgement is not another's.
    try consumers[3].channel.acknowledge(consumers[3].newest, multiple: true)
    try broker.waitForDepth(consumers[3].queue, ready: 0, unacknowledged: 0)
    #expect(try broker.queueDepth(consumers[4].queue) == (0, wanted[4].count))

    // A queue that is deleted, and one that is not there.
    try publisher.delete(consumers[5].queue)
    var ended = [Int](repeating: 0, count: consumers.count)
    try receive {
      for (index, consumer) in consumers.enumerated() { ended[index] += consumer.channel.takeEvents().count }
      return ended.contains { $0 > 0 }
    }
    #expect(ended == (0..<20).map { $0 == 5 ? 1 : 0 })
    let error = #expect(throws: AMQPError.self) {
      try consumers[6].channel.declareQueue(QueueDeclaration(name: "is-not-there"), passive: true)
    }
    if case .channelClosed(404, _)? = error?.kind {} else { Issue.record("\(String(describing: error))") }
    for (index, consumer) in consumers.enumerated() where index != 6 { try consumer.channel.check() }
    for consumer in consumers where consumer.queue != consumers[5].queue {
      try publisher.publish("last", routingKey: consumer.queue)
    }
    try receive {
      consumers.enumerated().allSatisfy { [5, 6].contains($0.offset) || $0.element.bodies.last == "last" }
    }

    // It consumes again, from the first message on, since nothing was acknowledged.
    consumers[6].bodies = []
    consumers[6].newest = 0
    try consumers[6].channel.reopen()
    try consumers[6].channel.consume(Consumption(queue: consumers[6].queue), tag: "channel-again")
    try receive { consumers[6].bodies.count == wanted[6].count + 1 }
    #expect(consumers[6].bodies == wanted[6] + ["last"])
    #expect(
      consumers.enumerated().allSatisfy { $0.offset == 6 || $0.element.bodies.filter { $0 == "last" }.count <= 1 })
    try connection.close()
    for consumer in consumers where consumer.queue != consumers[5].queue { try publisher.delete(consumer.queue) }
  }
}
