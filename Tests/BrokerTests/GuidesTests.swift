import Foundation
import Support
import Testing

/// The snippets of docs/guides, run as they stand there, one after the other, page by page: files are written, agents
/// started in the background, messages published, and what a command is shown to print is what it prints in the end.
///
/// Only the place of the broker differs. Every page has a virtual host of its own.
@Suite(.serialized, .timeLimit(.minutes(5))) struct GuidesTests {
  @Test(arguments: ["routing", "acknowledgement", "queues"])
  func `the snippets of a guide do what it says`(page: String) throws {
    let file = "docs/guides/\(page).md"
    let stage = try Stage()
    for (name, content) in try DocumentedCommand.files(in: file) { try stage.write(name, content) }
    let commands = try DocumentedCommand.all(in: file)
    #expect(commands.count >= 9)
    #expect(commands.contains { !$0.output.isEmpty })
    var block = 0
    for command in commands {
      if command.text.hasSuffix("&") { try stage.end() }
      block = command.block
      try stage.play(command)
    }
    #expect(block > 0)
    try stage.remove()
  }

  /// A virtual host, a directory and the programs that a page uses, which all know the virtual host.
  final class Stage {
    let broker: TestBroker
    let shell: DocumentedShell
    private var agent: Command?

    init() throws {
      let name = TestBroker.uniqueName("guide")
      broker = try TestBroker().adding(virtualHost: name, user: name, password: name)
      shell = try DocumentedShell(in: try temporaryDirectory())
      let url = "amqp://\(name):\(name)@\(broker.host):\(broker.port)/\(name)"
      for tool in ["amqp-publish", "amqp-get", "amqp-declare-queue"] {
        try shell.program(tool, "exec /usr/bin/\(tool) --url '\(url)' \"$@\"")
      }
      try shell.program("python3", "AMQP_URL='\(url)' exec '\(try pythonInterpreter())' \"$@\"")
      try shell.program(
        "rabbitmqctl",
        "command=$1; shift; exec '\(repository)/scripts/broker' ctl '\(broker.directory)' \"$command\" -p '\(name)' \"$@\""
      )
    }

    func write(_ name: String, _ content: String) throws {
      let place =
        "host: \(broker.host)\nport: \(broker.port)\nvirtual_host: \(broker.virtualHost)\nusername: \(broker.user)\n"
      if name.hasSuffix(".yaml") { #expect(content.contains("host: localhost\n")) }
      try content.replacingOccurrences(of: "host: localhost\n", with: place)
        .write(toFile: shell.directory + "/" + name, atomically: true, encoding: .utf8)
    }

    func play(_ command: DocumentedCommand) throws {
      if command.text == "kill %1" {
        #expect(agent != nil)
        try end()
      } else if command.text.hasSuffix("&") {
        let started = try Command(
          shell.arguments(String(command.text.dropLast()), replacing: true),
          environment: ["AMQP_PASSWORD": broker.password], executable: "/bin/bash")
        agent = started
        try started.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
      } else if command.output.isEmpty {
        try shell(command.text)
      } else {
        let expected = command.output.joined(separator: "\n") + "\n"
        let clock = ContinuousClock()
        let deadline = clock.now + generousLimit
        var output = try shell(command.text)
        while output != expected, clock.now < deadline { output = try shell(command.text) }
        #expect(output == expected, "\(command.section): \(command.text)")
      }
    }

    /// Ends the agent in the background, if there is one.
    func end() throws {
      agent?.child.signal(SIGTERM)
      if let agent { #expect(try agent.end().exit == .exited(0)) }
      agent = nil
    }

    func remove() throws {
      try end()
      try broker.ctl("delete_vhost", broker.virtualHost)
      try broker.ctl("delete_user", broker.user)
    }
  }
}
