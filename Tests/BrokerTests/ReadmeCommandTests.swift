import Foundation
import Support
import Testing

/// Every command that the README and the pages that it leads to print works as printed there. Those that are answers to a question to the journal are
/// run by JournalTests.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ReadmeCommandTests {
  let commands: [DocumentedCommand]

  init() throws {
    commands = try ["README.md", "docs/standalone.md", "docs/journal.md", "docs/guarantees.md"].flatMap {
      try DocumentedCommand.all(in: $0)
    }.filter { $0.question == nil }
  }

  @Test func `every command is of a kind that a test knows`() {
    let known = [
      "scripts/", "source-amqp ", "sqlite3 ", "curl ", "export ", "swift build ", "amqp-publish ",
      "tail ", "sudo apt-get install ",
    ]
    for command in commands {
      #expect(known.contains { command.text.hasPrefix($0) }, "\(command.section): \(command.text)")
    }
    #expect(commands.count > 20, "the blocks are found")
  }

  /// Some run for minutes, so it is their help that is asked.
  @Test func `every script is there, has help, and has the options that it is shown with`() throws {
    var help: [String: String] = [:]
    let table =
      try String(contentsOfFile: repository + "/CONTRIBUTING.md", encoding: .utf8)
    let listed = table.matches(of: /`(scripts\/[^`]*)`/).map { String($0.output.1) }
    for text in commands.map(\.text).filter({ $0.hasPrefix("scripts/") }) + listed {
      let words = text.split(separator: " ").map { $0.trimmingCharacters(in: ["[", "]"]) }
      let script = words[0]
      // The help of scripts/broker is what it says of wrong usage.
      let status = script == "scripts/broker" ? "|| true" : ""
      let page =
        try help[script] ?? run("/bin/bash", ["-c", "\"$0\" --help 2>&1 \(status)", "\(repository)/\(script)"])
      help[script] = page
      #expect(page.split(separator: "\n").count > 2, "\(script) --help: \(page)")
      // Where the options are taken: the script, or the programs that it runs.
      let library = repository + "/scripts/lib/"
      let programs = try FileManager.default.contentsOfDirectory(atPath: library).filter {
        $0.hasPrefix(script.dropFirst("scripts/".count)) && $0.hasSuffix(".py")
      }
      let source = try (["\(repository)/\(script)"] + programs.map { library + $0 }).map {
        try String(contentsOfFile: $0, encoding: .utf8)
      }.joined()
      for option in words.dropFirst() where option.hasPrefix("--") {
        #expect(source.contains(option), "\(script) has no \(option)")
      }
    }
    #expect(help.count >= 8, "\(help.keys)")
  }

  @Test func `the build command builds a product that there is`() throws {
    let builds = commands.filter { $0.text.hasPrefix("swift build") }
    #expect(builds.map(\.text) == ["swift build -c release --product source-amqp"])
    let manifest = try String(contentsOfFile: repository + "/Package.swift", encoding: .utf8)
    #expect(manifest.contains(#".executable(name: "source-amqp""#))
  }

  @Test func `the commands of the standalone agent and of its journal do what is said, one after the other`() throws {
    let name = TestBroker.uniqueName("readme")
    let broker = try TestBroker().adding(virtualHost: name, user: name, password: name)
    let publisher = try Publisher(broker)
    let directory = try temporaryDirectory()
    let shell = try DocumentedShell(in: directory)
    let url = "amqp://\(broker.user):\(name)@\(broker.host):\(broker.port)/\(name)"
    try shell.program("amqp-publish", "exec /usr/bin/amqp-publish --url '\(url)' \"$@\"")
    let environment = ["AMQP_PASSWORD": broker.password]
    for (file, content) in try DocumentedCommand.files(in: "README.md") {
      // The broker's place is all that differs.
      let place = "host: \(broker.host)\nport: \(broker.port)\nvirtual_host: \(name)\nusername: \(name)\n"
      #expect(file == "capture.yaml" && content.contains("host: localhost\n"))
      try content.replacingOccurrences(of: "host: localhost\n", with: place)
        .write(toFile: directory + "/" + file, atomically: true, encoding: .utf8)
    }
    var published = 0
    var agent: Command?
    var address: String?

    func stop() throws {
      agent?.child.signal(SIGTERM)
      if let agent { #expect(try agent.end().exit == .exited(0)) }
      agent = nil
    }
    for command in commands {
      // Those are for a second terminal.
      if !["curl", "amqp-publish", "tail"].contains(command.words[0]) { try stop() }
      switch command.words[0] {
      case "sudo":
        // What README says to install is what the tests' own script does.
        #expect(command.words.contains("librabbitmq-dev"))
      case "export":
        #expect(command.text.contains("AMQP_PASSWORD="))
      case "source-amqp" where command.words[1] == "run":
        let text = command.text.replacingOccurrences(of: "127.0.0.1:9090", with: "127.0.0.1:0")
        let running = try Command(
          shell.arguments(text, replacing: true), environment: environment, executable: "/bin/bash")
        agent = running
        try running.wait("the consumer") { $0.log.contains { $0.contains("Capture started") } }
        for number in 1...3 {
          published += try publisher.publish(#"{"order":\#(number)}"#, exchange: "amq.topic", routingKey: "orders.new")
        }
        let file = directory + "/captured/orders-000001.jsonl"
        try waitForLines(published, in: file)
        if text.contains("--listen") {
          let line = try #require(running.written.log.first { $0.contains("metrics and health are served") })
          address = try #require(
            try JSON(parsing: line)[path: "fields", "url"]?.string?.replacing("/metrics", with: "/"))
        }
      case "source-amqp":
        try check(command, shell, environment, published: published)
      case "curl":
        let url = try #require(address)
        let page = try shell(command.text.replacingOccurrences(of: "http://127.0.0.1:9090/", with: url))
        let expected = [
          "metrics": "source_amqp_received_messages_total 3\n", "healthz": "consuming\n", "readyz": "ready\n",
        ]
        let wanted = try #require(expected.first { command.text.hasSuffix("/" + $0.key) }?.value)
        #expect(page.contains(wanted), "\(command.text): \(page)")
      case "amqp-publish":
        try shell(command.text)
        published += 1
        try waitForLines(published, in: directory + "/captured/orders-000001.jsonl")
      case "tail":
        let last = try JSON(parsing: try shell(command.text).trimmingCharacters(in: .newlines))
        #expect(last["sequence"] == JSON(published) && last[path: "body", "order"] == 17)
      case "sqlite3":
        try FileManager.default.copyItem(atPath: directory + "/captured/journal.db", toPath: directory + "/journal.db")
        defer { try? FileManager.default.removeItem(atPath: directory + "/journal.db") }
        let output = try shell(command.text)
        // Everything is committed.
        #expect(output.isEmpty != command.text.contains("FROM summary"), "\(command.text): \(output)")
      default:
        // Those are looked at by the other tests.
        #expect(["swift"].contains(command.words[0]) || command.text.hasPrefix("scripts/"))
      }
    }
    try stop()
    #expect(published == 7, "two runs, and one by hand")
    try broker.ctl("delete_vhost", name)
    try broker.ctl("delete_user", name)
  }

  /// Runs a command that ends by itself, after a capture of `published` messages.
  private func check(
    _ command: DocumentedCommand, _ shell: DocumentedShell, _ environment: [String: String], published: Int
  ) throws {
    let word = command.words[1] == "journal" ? command.words[2] : command.words[1]
    let isKnown = ["init", "check", "status", "pending", "export", "verify", "backup"].contains(word)
    // What is only for damaged journals is asked for its help.
    let text =
      isKnown
      ? command.text.replacingOccurrences(of: "127.0.0.1:9090", with: "127.0.0.1:0")
      : command.words.prefix { $0 == "source-amqp" || $0 == "journal" || $0 == word }
        .joined(separator: " ") + " --help"
    let (output, exit) = try Command(shell.arguments(text), environment: environment, executable: "/bin/bash").finish()
    #expect(exit == .exited(0), "\(text): \(output.log)")
    switch word {
    case "init": #expect(text.hasSuffix("> template.yaml"))
    case "check" where text.hasSuffix("--json"):
      let guarantees = try #require(try JSON(parsing: output.lines.joined())["guarantees"]?.object)
      #expect(guarantees.count == 3 && guarantees.values.allSatisfy { $0 == "once and in order" })
    case "check" where text.hasSuffix("--print"): #expect(output.lines.contains("password: \"********\""))
    case "check":
      #expect(output.lines.count == (text.contains("--listen") ? 18 : 14), "\(output.lines)")
      #expect(output.lines.allSatisfy { $0.hasPrefix("ok     ") }, "\(output.lines)")
    case "status" where text.hasSuffix("--json"):
      #expect(try JSON(parsing: output.lines.joined())["last_position"] == JSON(published))
    case "status": #expect(output.lines.contains { $0.hasPrefix("last position") && $0.hasSuffix(" \(published)") })
    case "export": #expect(output.lines == [], "all is committed")
    case "pending": #expect(output.lines == ["nothing is pending"])
    case "verify": #expect(output.lines.first?.hasPrefix("sound: ") == true)
    case "backup": #expect(output.lines.first?.hasPrefix("copied to ") == true)
    default: #expect(output.lines.contains { $0.hasPrefix("USAGE: source-amqp") })
    }
  }
}

/// Looks until a file has so many lines.
func waitForLines(_ count: Int, in file: String) throws {
  let clock = ContinuousClock()
  let deadline = clock.now + generousLimit
  var found = -1
  while found < count, clock.now < deadline {
    found = (try? Data(contentsOf: URL(filePath: file)))?.filter { $0 == 0x0A }.count ?? -1
    if found < count { _ = try run("/bin/true", []) }
  }
  guard found == count else { throw SupportError("\(file) has \(found) lines, not \(count)") }
}
