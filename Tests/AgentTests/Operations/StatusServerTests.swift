import NIOCore
import NIOEmbedded
import NIOHTTP1
import Synchronization
import Testing

@testable import Agent

/// What a client of `run --listen` gets, without a network and on a clock of the test's own.
struct StatusServerTests {
  @Test(arguments: [
    ("127.0.0.1:9090", true), ("10.0.0.7", true), ("[::1]:9090", true), ("localhost", true),
    ("LocalHost.:80", true), ("Agent:9090", true), ("agent", true),
    ("evil.example", false), ("agent.evil.example", false), ("127.0.0.1.evil.example", false), ("1.2.3", false),
    ("1.2.3.999", false), ("1.2.3.+4", false), ("[]", false), ("[::ffff:1.2.3.4]", true), ("[1.2.3.4]", false),
    ("127.0.0.1:9090@evil.example", false), ("[::1", false), ("[evil.example]", false),
    ("agent:port", false), ("", false), (" agent", false), ("agent, evil.example", false),
  ])
  func `only addresses and names of the listener are answered`(host: String, isAccepted: Bool) {
    #expect(HostNames(["aGent"]).accept(authority: host) == isAccepted, "\(host)")
  }

  private static func decide(
    _ method: HTTPMethod = .GET, _ uri: String = "/healthz", version: HTTPVersion = .http1_1,
    _ headers: HTTPHeaders = ["Host": "localhost"]
  ) -> StatusRequest {
    StatusRequest(
      HTTPRequestHead(version: version, method: method, uri: uri, headers: headers), names: HostNames([]))
  }

  @Test func `what a request gets is decided from its head`() {
    func status(_ request: StatusRequest) -> UInt? {
      guard case .refused(let status, _) = request else { return nil }
      return status.code
    }
    #expect(Self.decide() == .page(.health))
    #expect(Self.decide(.HEAD, "/readyz") == .page(.readiness))
    #expect(Self.decide(.GET, "/metrics?a=b") == .page(.metrics))
    #expect(Self.decide(version: .http1_0, [:]) == .page(.health))
    #expect(Self.decide(.GET, "/healthz", ["Host": "localhost", "Content-Length": "0"]) == .page(.health))
    #expect(status(Self.decide(.GET, "/healthz/")) == 404)
    // An absolute address counts, whatever Host says.
    #expect(status(Self.decide(.GET, "http://evil.example/healthz")) == 421)
    #expect(Self.decide(.GET, "HTTP://127.0.0.1:9090/healthz?a", ["Host": "evil.example"]) == .page(.health))
    #expect(Self.decide(.GET, "/healthz", ["Host": " localhost\t", "Content-Length": "0 "]) == .page(.health))
    #expect(status(Self.decide(.POST)) == 405)
    #expect(status(Self.decide(.GET, "/healthz", [:])) == 400)
    #expect(status(Self.decide(.GET, "/healthz", ["Host": "localhost", "host": "localhost"])) == 400)
    #expect(status(Self.decide(.GET, "/healthz", ["Host": "localhost", "Content-Length": "1"])) == 400)
    #expect(status(Self.decide(.GET, "/healthz", ["Host": "localhost", "Transfer-Encoding": "chunked"])) == 400)
    #expect(status(Self.decide(.GET, "/healthz", ["Host": "evil.example"])) == 421)
    #expect(status(Self.decide(version: .init(major: 2, minor: 0))) == 505)
  }

  @Test func `the next client takes the place of the one that has waited longest`() {
    var places = StatusPlaces<Int>(limit: 3)
    for client in 1...3 { #expect(places.arrived(client) == nil) }
    places.served(1)
    #expect(places.arrived(4) == 2)
    // Of one that has gone.
    places.served(2)
    #expect(places.arrived(5) == 3 && places.count == 3)
    places.left(1)
    #expect(places.arrived(6) == nil && places.arrived(7) == 4)
  }

  @Test func `most descriptors are the capture's`() {
    #expect([20, 60, 100, 1024, 1 << 20].map(StatusPlaces<Int>.limit) == [4, 6, 26, 64, 64])
  }

  /// Pages that say their names, or wait until ``reply(_:)``.
  private final class Pages: StatusPages {
    let waits: Bool
    private(set) var waiting: [ObjectIdentifier: (StatusAnswer) -> Void] = [:]

    init(waits: Bool = false) { self.waits = waits }

    func ask(_ page: StatusRequest.Page, _ client: ObjectIdentifier, reply: @escaping (StatusAnswer) -> Void) {
      if waits { waiting[client] = reply } else { reply(StatusAnswer(status: .ok, text: "\(page)\n")) }
    }

    func left(_ client: ObjectIdentifier) { waiting[client] = nil }

    func reply(_ text: String) {
      let replies = waiting.values
      waiting = [:]
      for reply in replies { reply(StatusAnswer(status: .ok, text: text)) }
    }
  }

  /// A client's connection without a socket.
  private struct Connection {
    let channel = EmbeddedChannel()

    init(room: StatusClient.Room = .init(limit: 4), pages: any StatusPages = Pages()) throws {
      try channel.pipeline.syncOperations.addHandlers(
        StatusClient.handlers(names: HostNames([]), room: room, pages: pages))
      try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    }

    func endInput() { channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }

    func send(_ text: String) throws { try channel.writeInbound(ByteBuffer(string: text)) }

    /// What was written since the last look.
    func received() throws -> String {
      var text = ""
      while let bytes = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: bytes) }
      return text
    }

    func wait(seconds: Int64) { channel.embeddedEventLoop.advanceTime(by: .seconds(seconds)) }
  }

  @Test func `HEAD is answered by the head of GET alone`() throws {
    let connection = try Connection()
    try connection.send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    let head = try connection.received()
    try connection.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    #expect(try connection.received() == head + "health\n")
    #expect(
      head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 7\r\n") && head.hasSuffix("\r\n\r\n"))
    #expect(connection.channel.isActive)
  }

  @Test func `requests that come together are answered in their order`() throws {
    let connection = try Connection()
    let request = { (path: String) in "GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n" }
    try connection.send(request("/healthz") + request("/readyz") + request("/metrics"))
    let text = try connection.received()
    let places = try ["health\n", "readiness\n", "metrics\n"].map { try #require(text.ranges(of: $0).first).lowerBound }
    #expect(places == places.sorted())
  }

  @Test func `a head that does not come to its end has thirty seconds`() throws {
    let connection = try Connection()
    for second in 1...29 {
      try connection.send(second == 1 ? "GET /healthz HTTP/1.1\r\n" : "X-Slow-\(second): 1\r\n")
      connection.wait(seconds: 1)
    }
    #expect(connection.channel.isActive)
    connection.wait(seconds: 1)
    #expect(!connection.channel.isActive)
    #expect(try !connection.received().contains("200 OK"))
  }

  @Test func `an answer begins the time anew, and silence ends a connection`() throws {
    let connection = try Connection()
    for _ in 1...5 {
      connection.wait(seconds: 20)
      try connection.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }
    connection.wait(seconds: 89)
    #expect(connection.channel.isActive)
    connection.wait(seconds: 1)
    #expect(!connection.channel.isActive)
  }

  @Test func `a page that does not come to be ends the connection, and is forgotten`() throws {
    let pages = Pages(waits: true)
    let connection = try Connection(pages: pages)
    try connection.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    #expect(pages.waiting.count == 1)
    connection.wait(seconds: 30)
    #expect(!connection.channel.isActive && pages.waiting.isEmpty)
    #expect(try connection.received() == "")
  }

  @Test func `who has closed its side behind the request gets the answer`() throws {
    let pages = Pages(waits: true)
    let connection = try Connection(pages: pages)
    try connection.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.endInput()
    #expect(connection.channel.isActive)
    pages.reply("late\n")
    #expect(try connection.received().hasSuffix("late\n"))
    #expect(!connection.channel.isActive)
    // Without a request, or with half of one, there is nothing to wait for.
    for text in ["", "GET /healthz HTTP/1.1\r\n"] {
      let connection = try Connection()
      try connection.send(text)
      connection.endInput()
      #expect(!connection.channel.isActive)
    }
  }

  @Test(arguments: ["Connection: close", "Connection: Upgrade\r\nUpgrade: h2c"])
  func `behind the last answer nothing is answered or kept`(field: String) throws {
    let pages = Pages(waits: true)
    let connection = try Connection(pages: pages)
    let next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try connection.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\(field)\r\n\r\n" + next)
    pages.reply("last\n")
    _ = try? connection.send(next)
    for _ in 0..<100 { _ = try? connection.send(String(repeating: "x", count: 2048)) }
    let text = try connection.received()
    #expect(text.contains("Connection: close\r\n") && text.hasSuffix("last\n"), "\(text)")
    connection.wait(seconds: 2)
    #expect(!connection.channel.isActive)
  }

  @Test func `what waits to be parsed is bounded`() throws {
    let pages = Pages(waits: true)
    let connection = try Connection(pages: pages)
    try connection.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    for _ in 0..<17 where connection.channel.isActive { _ = try? connection.send(String(repeating: "x", count: 2048)) }
    #expect(!connection.channel.isActive)
  }

  @Test func `the date is that of HTTP`() {
    #expect(HTTPDate.text(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
  }

  @Test(arguments: [
    "GET /healthz\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: \(String(repeating: "x", count: 9 << 10))\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
      + String(repeating: "X: \(String(repeating: "y", count: 300))\r\n", count: 60) + "\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + String(repeating: "X: 1\r\n", count: 200) + "\r\n",
    "GET /\(String(repeating: "x", count: 32 << 10)) HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
  ])
  func `what is no request of this listener ends the connection`(text: String) throws {
    let connection = try Connection()
    _ = try? connection.send(text)
    let answer = try connection.received()
    #expect(answer.contains("Connection: close") && !answer.contains("200 OK"), "\(answer)")
    connection.wait(seconds: 2)
    #expect(!connection.channel.isActive, "\(text.prefix(60))")
  }

  @Test func `the client that is displaced is disconnected`() throws {
    let room = StatusClient.Room(limit: 2)
    let first = try Connection(room: room)
    let second = try Connection(room: room)
    try first.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    let third = try Connection(room: room)
    #expect(first.channel.isActive && !second.channel.isActive && third.channel.isActive)
    #expect(room.places.count == 2 && room.channels.count == 2)
  }
}
