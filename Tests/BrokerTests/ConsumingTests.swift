import Foundation
import Support
import Testing

/// The ways to use documents that docs/documents.md shows, with the tools themselves: each command prints what stands there.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ConsumingTests {
  @Test func `jq, DuckDB and PostgreSQL read what was captured as the page says`() throws {
    let commands = try DocumentedCommand.all(in: "docs/documents.md").filter { $0.section == "Using them" }
    #expect(Set(commands.map { $0.words[0] }) == ["jq", "duckdb", "psql", "cat"])
    let name = TestBroker.uniqueName("consuming")
    let broker = try TestBroker().adding(virtualHost: name, user: name, password: name)
    let shell = try DocumentedShell(in: try temporaryDirectory())
    let python = try pythonInterpreter()
    try shell.program("duckdb", "exec '\(python.dropLast("python".count))duckdb' \"$@\"")
    let postgres = try Postgres()
    defer { postgres.stop() }
    try shell.program(
      "psql", "exec '\(postgres.binaries)/psql' -X -h '\(postgres.directory)' -U test -d postgres \"$@\"")

    let config = broker.configuration(queue: "orders", ["consumer": ["exclusive": true]])
    try config.text.write(toFile: shell.directory + "/capture.yaml", atomically: true, encoding: .utf8)
    let agent = try Command(["run", shell.directory + "/capture.yaml", "--output", shell.directory + "/captured"])
    try agent.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
    let publisher = try Publisher(broker)
    for (number, total, country) in [(1, "10.5", "at"), (2, "99", "de"), (3, "12", "de")] {
      try publisher.publish(
        #"{"order": \#(number), "total": \#(total), "country": "\#(country)"}"#,
        properties: Properties(messageID: "o-\(number)", contentType: "application/json"), routingKey: "orders")
    }
    try waitForLines(3, in: shell.directory + "/captured/orders-000001.jsonl")
    agent.child.signal(SIGTERM)
    #expect(try agent.end().exit == .exited(0))

    for command in commands {
      let output = try shell(command.text).split(separator: "\n").map(String.init)
      #expect(output == command.output, "\(command.text)")
    }
    try broker.ctl("delete_vhost", name)
    try broker.ctl("delete_user", name)
  }

  /// A PostgreSQL of this test's own, on a socket in a directory of its own.
  private struct Postgres {
    let binaries: String
    let directory: String

    init() throws {
      binaries = try run("/bin/bash", ["-c", "ls -d /usr/lib/postgresql/*/bin | tail -n 1"])
        .trimmingCharacters(in: .newlines)
      // Not below TMPDIR, which its own user may not enter. It refuses to run as root.
      directory = try run("/bin/mktemp", ["-d", "/var/tmp/source-amqp-postgres.XXXXXX"]).trimmingCharacters(
        in: .newlines)
      try shell("[ $(id -u) != 0 ] || chown postgres \"$2\"")
      try shell("as \"$1/initdb\" -D \"$2/data\" -A trust -U test -E UTF8 --locale=C >\"$2/log\" 2>&1")
      try shell(
        "as \"$1/pg_ctl\" -D \"$2/data\" -o \"-k '$2' -h ''\" -l \"$2/server.log\" -w start >>\"$2/log\" 2>&1")
    }

    func stop() {
      try? shell("as \"$1/pg_ctl\" -D \"$2/data\" -m immediate stop >>\"$2/log\" 2>&1; rm -rf \"$2\"")
    }

    private func shell(_ script: String) throws {
      let who = "as() { if [ $(id -u) = 0 ]; then runuser -u postgres -- \"$@\"; else \"$@\"; fi; }; cd /; "
      try run("/bin/bash", ["-c", who + script, "postgres", binaries, directory])
    }
  }
}
