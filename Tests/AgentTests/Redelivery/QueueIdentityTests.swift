import Testing

@testable import Agent

/// Whose state it is: that of a virtual host's queue, wherever its broker is found.
struct QueueIdentityTests {
  @Test func `each queue has a text of its own, whatever is in the names`() {
    let names = ["", "/", "a", "b", "a/b", "\"", "[\"a\",\"b\"]", "a\",\"b", "\\", "\u{0}", "ä", "h:1"]
    let identities = names.flatMap { host in names.map { QueueIdentity(virtualHost: host, queue: $0) } }
    #expect(Set(identities.map(\.text)).count == identities.count)
    for identity in identities {
      #expect(identities.filter { $0.matches(identity.text) } == [identity])
    }
  }

  @Test(arguments: ["127.0.0.1:5672", "localhost:5671", "::1:5672", "[::1]:5672", "mq.example.com:1"])
  func `what version 0_1_0 wrote is read, and its address counts no more`(address: String) {
    let identity = QueueIdentity(virtualHost: "/", queue: "a/b")
    #expect(identity.matches("\(address)///a/b"))
    #expect(!identity.matches("\(address)///a/c"))
    #expect(!identity.matches("\(address)/other/a/b"))
    #expect(!identity.matches(address))
    #expect(!identity.matches(""))
  }
}
