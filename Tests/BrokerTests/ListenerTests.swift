import Foundation
import Support
import Testing

/// The listener of a running agent among clients that mean no good: it goes on answering, and the capture does not notice (docs/production.md).
@Suite(.serialized) struct ListenerTests {
  /// What `scripts/lib/clients.py` did to the agent's address, a line each.
  private func clients(_ kind: String, _ agent: ListeningAgent, _ arguments: String...) throws -> String {
    let port = try #require(agent.url.split(separator: ":").last).filter(\.isNumber)
    return try run(
      try pythonInterpreter(),
      [repository + "/scripts/lib/clients.py", kind, port, "\(agent.command.child.pid)"] + arguments)
  }

  @Test(arguments: ["hold", "slow", "flood", "unread"])
  func `clients that hold, trickle, flood or do not read leave listener and capture alone`(kind: String) throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, ["heartbeat": 4], in: directory)
    let agent = try ListeningAgent([config, "--output", directory])
    try bench.publisher.publishMany(500, .simple(bytes: 100), routingKey: bench.queue)
    // Ends when it has asked for health beside its clients, a hundred times.
    #expect(try clients(kind, agent) == "answered 100, descriptors below 110\n")
    try bench.publisher.publishMany(500, .simple(bytes: 100), start: 501, routingKey: bench.queue)
    let page = try agent.page("metrics") { $0["committed_documents_total"] == 1000 }
    #expect(page["consumers_started_total"] == 1)
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `after it ran out of descriptors the listener answers again`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try ListeningAgent([config, "--output", directory])
    #expect(try agent.page("healthz") { $0.status == 200 }.body == "consuming\n")
    #expect(try clients("descriptors", agent) == "held up, answered\n")
    try bench.publisher.publishMany(20, .simple(bytes: 100), routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 20 }
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `only addresses, the machine and names that are allowed are answered`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let config = try RunTests.configuration(bench, in: directory)
    let agent = try ListeningAgent([config, "--output", directory, "--allow-host", "metrics.example"])
    _ = try agent.page("healthz") { $0.status == 200 }
    func status(_ host: String) throws -> String {
      try run(
        "/usr/bin/curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: \(host)", agent.url + "healthz"])
    }
    for host in ["metrics.example:9090", "127.0.0.1", "[::1]:80", "localhost", ProcessInfo.processInfo.hostName] {
      #expect(try status(host) == "200", "\(host)")
    }
    #expect(try status("evil.example") == "421")
    // As load balancers ask: on one connection, whose answers must stay in step.
    let heads = try run("/usr/bin/curl", ["-s", "-I", agent.url + "healthz", agent.url + "readyz"])
    #expect(heads.components(separatedBy: "HTTP/1.1 200 OK").count == 3 && !heads.contains("consuming"))
    // An offer to change the protocol is not taken, and holds up nothing.
    let offered = try run("/usr/bin/curl", ["-s", "--http2", "-m", "10", agent.url + "healthz", agent.url + "readyz"])
    #expect(offered == "consuming\nready\n")
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    try bench.publisher.delete(bench.queue)
  }
}
