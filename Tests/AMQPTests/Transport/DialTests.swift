import Glibc
import Platform
import Support
import Testing

@testable import AMQP

/// Names with several addresses, and networks that come back.
@Suite struct DialTests {
  // MARK: The plan

  /// A second of a plan's life: what it says at this time, and what fails before it is asked.
  struct Step: Sendable {
    var at: Instant
    var failed: Int?
    var action: DialPlan.Action

    init(_ at: Instant, failed: Int? = nil, _ action: DialPlan.Action) {
      self.at = at
      self.failed = failed
      self.action = action
    }
  }

  @Test(arguments: [
    // One address that does not answer is dialled again every two seconds.
    (
      1,
      [Step(0, .dial(0)), Step(0, .wait(until: 2)), Step(2, .dial(0)), Step(2.5, .wait(until: 4)), Step(9, .dial(0))]
    ),
    // The second address does not wait for the first.
    (2, [Step(0, .dial(0)), Step(0, .wait(until: 0.25)), Step(0.25, .dial(1)), Step(0.25, .wait(until: 2.25))]),
    // A refusal makes room at once, and is final.
    (2, [Step(0, .dial(0)), Step(0.1, failed: 0, .dial(1)), Step(0.1, .wait(until: 2.1)), Step(2.1, .dial(1))]),
    (2, [Step(0, .dial(0)), Step(0.1, failed: 0, .dial(1)), Step(0.2, failed: 1, .giveUp)]),
    // What failed while it was waiting for its turn is left out.
    (3, [Step(0, .dial(0)), Step(0.25, .dial(1)), Step(0.3, failed: 2, .wait(until: 2.25)), Step(2.25, .dial(0))]),
    (0, [Step(0, .giveUp)]),
  ])
  func `addresses are dialled in turn, and again while they are silent`(count: Int, steps: [Step]) {
    var plan = DialPlan(addresses: count, at: 0)
    for step in steps {
      if let failed = step.failed { plan.failed(failed, at: step.at) }
      #expect(plan.next(at: step.at) == step.action, "at \(step.at)")
    }
  }

  // MARK: Sockets

  /// A listening socket on loopback; with a backlog of 0 and no `accept`, a few connections fill it, and what comes
  /// then gets no answer: SYNs are dropped, as in a network that is down.
  private func listen(backlog: Int32) throws -> (descriptor: Int32, port: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw -> Int32 in
        guard unsafe bind(descriptor, raw, size) == 0, Glibc.listen(descriptor, backlog) == 0 else { return -1 }
        return unsafe getsockname(descriptor, raw, &size)
      }
    }
    try #require(status == 0)
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  private func address(_ port: Int) throws -> SocketAddress {
    try Resolver.addresses(host: "127.0.0.1", port: port, deadline: Instant.now + .seconds(30))[0]
  }

  /// A dialer of one node with these ports for addresses; messages name its port 5672.
  private func dialer(_ ports: Int...) throws -> Dialer {
    Dialer(candidates: try ports.map { NodeAddress(index: 0, port: 5672, address: try address($0)) })
  }

  /// Fills the backlog of a listener that accepts nothing; the sockets keep it full.
  private func fill(_ port: Int) throws -> [Socket] {
    let target = try address(port)
    return try (0..<8).map { _ in try Socket.begin(target).get() }
  }

  @Test func `a dead first address costs a quarter of a second, not its share of the limit`() throws {
    let dead = try listen(backlog: 0)
    let alive = try listen(backlog: 16)
    defer { for descriptor in [dead.descriptor, alive.descriptor] { close(descriptor) } }
    let filling = try fill(dead.port)
    let dialer = try dialer(dead.port, alive.port)
    // The limit of a minute would leave the first address 30 s: the test's time limit is the assertion's.
    let begin = Instant.now
    _ = try dialer.dial(deadline: begin + 60).get()
    #expect(Instant.now - begin < 20)
    withExtendedLifetime(filling) {}
  }

  @Test func `a refused first address is no obstacle`() throws {
    let gone = try listen(backlog: 0)
    let alive = try listen(backlog: 16)
    close(gone.descriptor)
    defer { close(alive.descriptor) }
    let dialer = try dialer(gone.port, alive.port)
    _ = try dialer.dial(deadline: Instant.now + .seconds(60)).get()
  }

  @Test func `where every address refuses, the error names each and comes at once`() throws {
    let first = try listen(backlog: 0)
    let second = try listen(backlog: 0)
    for descriptor in [first.descriptor, second.descriptor] { close(descriptor) }
    let failure = #expect(throws: Dialer.Failure.self) {
      _ = try dialer(first.port, second.port).dial(deadline: Instant.now + .seconds(3600)).get()
    }
    #expect(
      failure?.texts == [0: "127.0.0.1 port 5672: Connection refused; 127.0.0.1 port 5672: Connection refused"])
  }

  @Test func `an address that never answers is an error at the deadline`() throws {
    let dead = try listen(backlog: 0)
    defer { close(dead.descriptor) }
    let filling = try fill(dead.port)
    let failure = #expect(throws: Dialer.Failure.self) {
      _ = try dialer(dead.port).dial(deadline: Instant.now + .seconds(0.1)).get()
    }
    #expect(failure?.texts == [0: "127.0.0.1 port 5672: no answer in time"])
    withExtendedLifetime(filling) {}
  }
}
