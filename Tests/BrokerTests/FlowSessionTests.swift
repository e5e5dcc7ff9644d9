import Support
import Testing

/// Capture sessions of the Flow protocol: what Open accepts, how a session ends, and what it leaves (docs/guarantees.md, docs/production.md).
@Suite struct FlowSessionTests {
  /// Every line on stderr is a log of Flow's.
  private func checkLog(_ runtime: FlowRuntime) {
    for line in runtime.log { logMessage(line.text) }
  }

  @Test func `Open without a binding consumes nothing and ends with stdin`() throws {
    let broker = try TestBroker()
    let queue = TestBroker.uniqueName("idle")
    let runtime = try FlowRuntime(config: broker.configuration(queue: queue), stream: nil)
    try runtime.start()
    #expect(runtime.opened == ["explicitAcknowledgements": true])
    try runtime.waitForLog("no binding") { $0.message?.contains("no binding") == true }
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.documentsRead == 0)
    #expect(try Publisher(broker).queueInfo(queue) == nil)
    checkLog(runtime)
  }

  @Test(arguments: [true, false])
  func `the end of stdin and SIGTERM drain, and the rest of the queue stays`(byEndOfInput: Bool) throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]))
    runtime.policy.holdCommits = true
    try runtime.start()
    try bench.publisher.publishMany(500, .mixed(seed: 1), routingKey: bench.queue)
    try bench.publisher.waitForReady(bench.queue) { $0 == 0 }
    try runtime.waitUntil(documentsRead: 100)
    runtime.policy.holdCommits = false
    #expect(try byEndOfInput ? runtime.closeInput() == .exited(0) : runtime.terminate() == .exited(0))
    let first = Set(runtime.committed.compactMap(\.messageID))
    // What was not emitted any more is in the journal or in the queue.
    try runtime.start()
    try runtime.waitUntil(committedCount: 500)
    #expect(try runtime.closeInput() == .exited(0))
    let all = Set(runtime.committed.compactMap(\.messageID))
    #expect(first.count >= 100 && all.count == 500 && first.isSubset(of: all))
    checkLog(runtime)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `status events mark the way, and no log line has the password`() throws {
    let bench = try Bench()
    let user = TestBroker.uniqueName("user")
    let password = "s3cret-\(TestBroker.uniqueName("p"))"
    try bench.broker.ctl("add_user", user, password)
    try bench.broker.ctl("set_permissions", "-p", bench.broker.virtualHost, user, ".*", ".*", ".*")
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(
        queue: bench.queue, ["username": .string(user), "password": .string(password)]),
      environment: ["LOG_LEVEL": "trace"])
    try bench.publisher.publish("x", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.terminate() == .exited(0))
    let events = runtime.log.filter { $0.json?[path: "fields", "eventType"] == "connectorStatus" }.map(\.message)
    #expect(
      events == [
        "Starting the capture", "Connecting to the broker", "Capture started", "Stopping the capture",
      ])
    for line in runtime.log {
      logMessage(line.text)
      #expect(!line.text.contains(password))
    }
    try bench.broker.ctl("delete_user", user)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a state of another journal is warned about, and the capture goes on`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let state: JSON = ["bindingStateV1": ["orders.v0": ["journal": "another", "position": 1_000_000]]]
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]), state: state)
    try bench.publisher.publish("x", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.log.contains { $0.level == "warn" && $0.message?.contains("another journal") == true })
    #expect(runtime.committedState[path: "bindingStateV1", "orders.v0", "position"] == 1)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a journal that was in use and is another one now is missed, not forgotten`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let state: JSON = ["bindingStateV1": ["orders.v0": ["journal": "another", "position": 1_000_000, "kept": true]]]
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]), state: state)
    try runtime.start(awaitOpened: false)
    #expect(try runtime.waitForExit() == .exited(78))
    let cause = try #require(runtime.log.last?.message)
    #expect(cause.contains("is not the one that was in use (another,") && cause.contains("backfill the binding"))
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a journal older than the state is refused, and nothing is consumed`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let runtime = try FlowRuntime(
      config: bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]]))
    try bench.publisher.publish("x", routingKey: bench.queue)
    try runtime.start()
    try runtime.waitUntil(committedCount: 1)
    #expect(try runtime.closeInput() == .exited(0))
    let identifier = try #require(runtime.committedState[path: "bindingStateV1", "orders.v0", "journal"])
    try bench.publisher.publish("y", routingKey: bench.queue)
    let late = try FlowRuntime(
      config: runtime.configuration,
      state: ["bindingStateV1": ["orders.v0": ["journal": identifier, "position": 2]]])
    try late.start(awaitOpened: false)
    #expect(try late.waitForExit() == .exited(1))
    #expect(late.log.last?.message?.contains("went back in time") == true)
    #expect(late.documentsRead == 0)
    #expect(try bench.publisher.queueInfo(bench.queue)?.ready == 1)
    try bench.publisher.delete(bench.queue)
  }

  @Test func `a second process on the same journal is refused and told who has it`() throws {
    let bench = try Bench()
    let journal = try temporaryDirectory() + "/journal.db"
    let config = bench.broker.configuration(queue: bench.queue, ["journal": ["path": .string(journal)]])
    let first = try FlowRuntime(config: config)
    try first.start()
    let second = try FlowRuntime(config: config)
    try second.start(awaitOpened: false)
    #expect(try second.waitForExit() == .exited(1))
    let cause = try #require(second.log.last?.message)
    let holder = try #require(first.pid)
    #expect(cause.contains("in use by pid \(holder) on host "), "\(cause)")
    #expect(second.opened == nil)
    // The first one is not disturbed, and a killed one leaves no lock.
    try bench.publisher.publish("x", routingKey: bench.queue)
    try first.waitUntil(committedCount: 1)
    try first.kill()
    try second.start()
    #expect(try second.closeInput() == .exited(0))
    try bench.publisher.delete(bench.queue)
  }

  @Test(
    arguments: [
      (#"{"acknowledge":{"checkpoints":1}}"#, "only 0 are outstanding"),
      (#"{"spec":{}}"#, "only acknowledge may follow"),
      (#"{"acknowledge":{}}"#, "acknowledge.checkpoints"), ("nonsense", "a request is"),
    ])
  func `a wrong request behind Open ends the session with its cause`(line: String, words: String) throws {
    let bench = try Bench()
    let open: JSON = [
      "open": [
        "capture": [
          "name": "acmeCo/source-amqp", "config": bench.broker.configuration(queue: bench.queue),
          "bindings": [FlowRuntime.binding(stream: "orders")],
        ]
      ]
    ]
    let command = try Command()
    try command.child.write(line: open.text)
    try command.wait("opened") { !$0.lines.isEmpty }
    try command.child.write(line: line)
    let (output, exit) = try command.end()
    #expect(exit == .exited(1))
    #expect(output.lines == [#"{"opened":{"explicitAcknowledgements":true}}"#])
    let text = output.log.map { logMessage($0) }.last.flatMap(\.self) ?? ""
    #expect(text.contains("protocol error") && text.contains(words), "\(text)")
    try bench.publisher.delete(bench.queue)
  }

  @Test(
    arguments: [
      (["password": "wrong-secret"], 1, "ACCESS_REFUSED"), (["queue": ["declare": "passive"]], 1, "NOT_FOUND"),
      (["port": 0], 78, "port"), (["journal": ["path": "/nowhere/at/all/journal.db"]], 1, "/nowhere/at/all"),
      (
        ["max_reconnect_attempts": 1, "reconnect_delay": .number("0.1"), "port": 1], 1,
        "gave up after 1 failed attempt in a row"
      ),
    ] as [(JSON, Int32, String)])
  func `what a user must fix ends the session at once`(change: JSON, status: Int32, words: String) throws {
    let queue = TestBroker.uniqueName("missing")
    let runtime = try FlowRuntime(config: try TestBroker().configuration(queue: queue, change))
    try runtime.start(awaitOpened: false)
    #expect(try runtime.waitForExit() == .exited(status))
    let cause = runtime.log.last?.message ?? ""
    #expect(cause.contains(words), "\(cause)")
    #expect(runtime.documentsRead == 0)
    for line in runtime.log { #expect(!line.text.contains("wrong-secret")) }
  }
}
