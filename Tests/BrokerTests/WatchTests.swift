import Foundation
import Support
import Testing

/// What a broker's limits and other hands do to a consumer, and what the watch over silent ones makes of it (docs/troubleshooting.md).
@Suite(.timeLimit(.minutes(10))) struct WatchTests {
  /// A user with limits, that is deleted with this.
  private final class LimitedUser {
    let name = TestBroker.uniqueName("user")
    let broker: TestBroker

    init(_ broker: TestBroker, _ limits: JSON) throws {
      self.broker = broker
      try broker.ctl("add_user", name, "secret-of-it")
      try broker.ctl("set_permissions", "-p", broker.virtualHost, name, ".*", ".*", ".*")
      try broker.ctl("set_user_limits", name, limits.text)
    }

    func delete() throws { try broker.ctl("delete_user", name) }

    /// A capture as this user.
    func capture(_ queue: String) throws -> FlowRuntime {
      let user: JSON = ["username": .string(name), "password": "secret-of-it", "reconnect_delay": .number("0.2")]
      return try FlowRuntime(config: broker.configuration(queue: queue, user))
    }
  }

  @Test func `a limit of connections is waited for from the first start on, and named`() throws {
    let bench = try Bench()
    let user = try LimitedUser(bench.broker, ["max-connections": 1])
    let held = TestBroker.uniqueName("q")
    let (old, new) = (try user.capture(held), try user.capture(bench.queue))
    try old.startConsuming()
    try new.start()
    try new.waitForLog("the limit") {
      $0.message?.contains("raise max-connections (rabbitmqctl set_user_limits)") == true
    }
    #expect(try old.terminate() == .exited(0))
    try new.waitForLog("a consumer") { $0.message?.hasPrefix("consuming from queue") == true }
    #expect(try new.terminate() == .exited(0))
    try bench.publisher.delete(held)
    try bench.publisher.delete(bench.queue)
    try user.delete()
  }

  /// In one test, since each of them has to wait for the minute after which the watch looks.
  @Test func `one channel is enough, an exchange that is made again is bound again, and a standby says so`() throws {
    let bench = try Bench()
    let user = try LimitedUser(bench.broker, ["max-channels": 1])
    let alone = try user.capture(bench.queue)
    try alone.startConsuming()

    let exchange = TestBroker.uniqueName("x")
    try bench.publisher.declareExchange(exchange, type: "fanout")
    let bound = try Bench(bench.broker)
    let options: JSON = ["bindings": [["exchange": .string(exchange), "routing_key": ""]]]
    let binding = try FlowRuntime(config: bench.broker.configuration(queue: bound.queue, options))
    try binding.startConsuming()
    try bench.publisher.deleteExchange(exchange)

    let single = try Bench(bench.broker, arguments: ["x-single-active-consumer": true])
    let exclusive: JSON = ["queue": ["single_active_consumer": true]]
    let captures = try (0..<2).map { _ in
      try FlowRuntime(config: bench.broker.configuration(queue: single.queue, exclusive))
    }
    for capture in captures { try capture.startConsuming() }

    try alone.waitForLog("the limit") {
      $0.message?.contains("raise max-channels (rabbitmqctl set_user_limits)") == true
    }
    try alone.waitUntilConsuming(generation: 2)
    try bench.publisher.publish("a", routingKey: bench.queue)
    try alone.waitUntil(committedCount: 1)

    try binding.waitForLog("the exchange that is missing") {
      $0.message?.contains("can't be bound again as bindings say") == true && $0.message?.contains(exchange) == true
    }
    try bench.publisher.declareExchange(exchange, type: "fanout")
    var starts = 0
    try binding.waitForLog("that it is bound") { line in
      starts += line.message == "Capture started" ? 1 : 0
      return starts == 2
    }
    try bench.publisher.publish("b", exchange: exchange, routingKey: "")
    try binding.waitUntil(committedCount: 1)

    try captures[1].waitForLog("that it stands by") { $0.message?.hasPrefix("Standing by: another consumer") == true }
    #expect(try captures[0].terminate() == .exited(0))
    try single.publisher.publish("c", routingKey: single.queue)
    try captures[1].waitUntil(committedCount: 1)

    for capture in [alone, binding, captures[1]] { #expect(try capture.terminate() == .exited(0)) }
    for queue in [bench.queue, bound.queue, single.queue] { try bench.publisher.delete(queue) }
    try bench.publisher.deleteExchange(exchange)
    try user.delete()
  }

  @Test func `a stop during a silent handshake is not waited for`() throws {
    let broker = try ScriptedBroker([{ client in client.drain() }])
    let directory = try temporaryDirectory()
    let config: JSON = [
      "host": "127.0.0.1", "port": JSON(broker.port), "connection_timeout": 600, "queue": ["name": "q"],
    ]
    try config.text.write(toFile: directory + "/c.yaml", atomically: true, encoding: .utf8)
    let agent = try Command(["run", directory + "/c.yaml", "--output", directory + "/out"])
    try broker.wait(connections: 1)
    agent.child.signal(SIGTERM)
    let (output, exit) = try agent.end()
    #expect(exit == .exited(0))
    // Not given up because it took too long.
    #expect(output.log.contains { $0.contains(#""message":"stopped""#) })
    #expect(!output.log.contains { $0.contains("could not be closed in time") })
  }
}
