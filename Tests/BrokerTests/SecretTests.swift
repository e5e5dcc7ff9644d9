import Foundation
import Support
import Testing

/// Passwords and tokens that change while the agent runs (docs/standalone.md).
@Suite(.serialized) struct SecretTests {
  /// An agent whose password is in a file, and that waits an hour between attempts: only a new password brings it back.
  private func agent(_ bench: Bench, _ directory: String, user: String) throws -> ListeningAgent {
    let options: JSON = [
      "username": .string(user), "password": .string("${file:\(directory)/secret}"), "reconnect_delay": 3600,
    ]
    let config = try RunTests.configuration(bench, options, in: directory)
    return try ListeningAgent([config, "--output", directory + "/out"])
  }

  private func write(_ secret: String, in directory: String) throws {
    try secret.write(toFile: directory + "/secret", atomically: true, encoding: .utf8)
  }

  @Test func `a password that was rotated is read again for each connection, and brings the capture back at once`()
    throws
  {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let user = TestBroker.uniqueName("user")
    try bench.broker.ctl("add_user", user, "old password")
    try bench.broker.ctl("set_permissions", user, ".*", ".*", ".*")
    try write("old password\n", in: directory)
    let agent = try agent(bench, directory, user: user)
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 5 }

    // The broker's first, as it is done by hand: the connection lives on, and ends later.
    try bench.broker.ctl("change_password", user, "new password")
    try bench.broker.closeConnections(of: user)
    _ = try agent.page("healthz") { $0.status == 503 }
    try write("new password\n", in: directory)
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 10 }

    // A wrong one leads to an attempt at once, too, and a file that is gone to an error that passes when it is back.
    try bench.broker.closeConnections(of: user)
    _ = try agent.page("healthz") { $0.status == 503 }
    try write("wrong password", in: directory)
    _ = try agent.page("healthz") { $0.body.contains("403 ACCESS_REFUSED") }
    try FileManager.default.removeItem(atPath: directory + "/secret")
    try write("new password", in: directory)
    _ = try agent.page("healthz") { $0.status == 200 }
    agent.command.child.signal(SIGTERM)
    let (output, exit) = try agent.command.end()
    #expect(exit == .exited(0))
    #expect(
      !output.log.contains { $0.contains(" password\"") || $0.contains("old password") || $0.contains("new password") })
    try bench.broker.ctl("delete_user", user)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a token is handed over before it expires, and one that has expired is waited out`() throws {
    let broker = try TestBroker.own(oauth: true)
    let bench = try Bench(broker)
    let directory = try temporaryDirectory()
    let first = try broker.token(expiresIn: 1800)
    try write(first, in: directory)
    let agent = try agent(bench, directory, user: "agent")
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 1, routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 5 }

    try write(try broker.token(expiresIn: 3600), in: directory)
    let news = "the password has changed, and was handed to the broker"
    try agent.command.wait("the hand-over") { $0.log.contains { $0.contains(news) } }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 6, routingKey: bench.queue)
    let page = try agent.page("metrics") { $0["committed_documents_total"] == 10 }
    #expect(page["consumers_started_total"] == 1, "on the same connection")
    // And back.
    try write(first, in: directory)
    try agent.command.wait("the second hand-over") { $0.log.count { $0.contains(news) } == 2 }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 11, routingKey: bench.queue)
    #expect(try agent.page("metrics") { $0["committed_documents_total"] == 15 }["consumers_started_total"] == 1)

    // A connection that ended meanwhile is refused until there is a good one.
    try broker.closeConnections(of: "agent")
    _ = try agent.page("healthz") { $0.status == 503 }
    try write(try broker.token(expiresIn: -1), in: directory)
    _ = try agent.page("healthz") { $0.body.contains("403 ACCESS_REFUSED") }
    try write(try broker.token(expiresIn: 3600), in: directory)
    _ = try agent.page("healthz") { $0.status == 200 }
    try bench.publisher.publishMany(5, .simple(bytes: 20), start: 16, routingKey: bench.queue)
    _ = try agent.page("metrics") { $0["committed_documents_total"] == 20 }
    agent.command.child.signal(SIGTERM)
    #expect(try agent.command.end().exit == .exited(0))
    try broker.remove()
  }

  @Test func `a token that is too long for the first frame is called so`() throws {
    let bench = try Bench()
    let directory = try temporaryDirectory()
    let length = bench.broker.release < BrokerRelease.v43 ? 4100 : 8192
    try write(String(repeating: "x", count: length), in: directory)
    let options: JSON = ["password": .string("${file:\(directory)/secret}")]
    let config = try RunTests.configuration(bench, options, in: directory)
    let (output, exit) = try Command(["check", config]).end()
    #expect(exit == .exited(1))
    #expect(
      output.lines.contains { $0.contains("initial_frame_max") && $0.contains("fewer scopes") }, "\(output.lines)")
    try bench.publisher.delete(bench.queue)
  }
}
