import Support
import Testing

/// The tests' own tools: a stand-in for Flow that were lenient would let everything pass.
@Suite struct SupportTests {
  // MARK: JSON

  @Test(arguments: [
    #"{"a":1,"a":2}"#, "", "[1,]", "{}x", "01", "1.", "+1", "nul", #""\ud800""#, #""\x""#, "\"\u{1}\"", "1e999",
    String(repeating: "[", count: 200) + String(repeating: "]", count: 200),
  ])
  func `text that is not strict JSON is refused`(text: String) {
    #expect(throws: SupportError.self) { try JSON(parsing: text) }
  }

  @Test func `octets that are no UTF-8 are refused`() {
    #expect(throws: SupportError.self) { try JSON(parsing: [0x22, 0xFF, 0x22]) }
  }

  @Test func `numbers keep their text and escapes are resolved`() throws {
    let value = try JSON(parsing: #" {"n": 12345678901234567890.10, "s": "\ud83d\ude9a\n\"é"} "#)
    #expect(value == ["n": .number("12345678901234567890.10"), "s": "🚚\n\"é"])
    #expect(try JSON(parsing: value.text) == value)
  }

  /// https://www.rfc-editor.org/rfc/rfc7396#appendix-A
  @Test(arguments: [
    (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
    (#"{"a":"b"}"#, #"{"a":null}"#, "{}"),
    (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
    (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
    (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
    ("[1,2]", #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
    ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
  ])
  func `a merge patch reduces as RFC 7396 says`(target: String, patch: String, result: String) throws {
    #expect(try JSON(parsing: target).merged(with: JSON(parsing: patch)) == JSON(parsing: result))
  }

  // MARK: The runtime

  /// A connector that says `script` after Open (with `STATE` replaced by the state that it was opened with) and then
  /// waits for the end of stdin.
  private func connector(_ script: String) throws -> String {
    let path = try run("/bin/mktemp", ["-t", "source-amqp-fake.XXXXXX"]).split(separator: "\n")[0]
    let program = """
      #!/bin/bash
      read -r spec; echo '{"spec":{"protocol":3032023,"configSchema":{},"resourceConfigSchema":{},"documentationUrl":"x"}}'
      read -r open; state=${open##*'"state":'}; state=${state%%,'"version"'*}
      echo '{"opened":{"explicitAcknowledgements":true}}'
      emit() { sed "s/STATE/$state/" <<'END'
      \(script)
      END
      }
      emit
      while read -r line; do echo "{\\"level\\":\\"info\\",\\"message\\":\\"got $line\\"}" | tr '"' "'" >&2; done
      """
    try run("/bin/sh", ["-c", "printf '%s\\n' \"$1\" >\"$0\"; chmod 755 \"$0\"", String(path), program])
    return String(path)
  }

  private func session(_ script: String) throws -> FlowRuntime {
    try FlowRuntime(config: [:], binary: try connector(script))
  }

  @Test func `a killed session leaves exactly what its checkpoints covered, and the next one gets their state`() throws
  {
    let runtime = try session(
      """
      {"captured":{"doc":{"n":1,"from":STATE}}}
      {"captured":{"doc":{"n":2}}}
      {"checkpoint":{"state":{"updated":{"at":2},"mergePatch":true}}}
      {"captured":{"doc":{"n":3}}}
      """)
    try runtime.start()
    try runtime.waitUntil(documentsRead: 3)
    try runtime.waitUntil(committedCount: 2)
    try runtime.kill()
    #expect(runtime.committed.map { $0.json["n"] } == [1, 2])
    #expect(runtime.committedState == ["at": 2])
    try runtime.start()
    try runtime.waitUntil(committedCount: 4)
    #expect(runtime.committed[2].json["from"] == ["at": 2])
    #expect(runtime.committed.map(\.session) == [1, 1, 2, 2])
    try runtime.kill()
  }

  @Test func `checkpoints are combined into one acknowledge when the policy says so`() throws {
    let checkpoint = #"{"checkpoint":{"state":{"updated":{},"mergePatch":true}}}"#
    let runtime = try session(Array(repeating: checkpoint, count: 3).joined(separator: "\n"))
    runtime.policy.checkpointsPerTransaction = 3
    try runtime.start()
    try runtime.waitForLog("the acknowledge") { $0.text.contains("'checkpoints':3") }
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.checkpoints == (3, 3))
  }

  @Test func `held acknowledgements come when released and dropped ones never`() throws {
    let runtime = try session(#"{"checkpoint":{"state":{"updated":{"a":1},"mergePatch":true}}}"#)
    runtime.policy.holdAcknowledgements = true
    try runtime.start()
    try runtime.waitUntil(committedState: ["a": 1])
    #expect(runtime.checkpoints == (1, 0))
    runtime.policy.holdAcknowledgements = false
    try runtime.waitUntilSettled()
    #expect(runtime.checkpoints == (1, 1))
    try runtime.kill()
    runtime.policy.dropAcknowledgements = true
    try runtime.start()
    #expect(try runtime.closeInput() == .exited(0))
    #expect(runtime.checkpoints == (2, 1))
  }

  @Test(arguments: [
    #"{"captured":{"doc":{},"extra":1}}"#, #"{"captured":{"doc":{"a":1,"a":2}}}"#, #"{"captured":{"doc":[]}}"#,
    #"{"captured":{"doc":{"_meta":1}}}"#, #"{"checkpoint":{"state":{"update":{}}}}"#, "{}", "", "[]",
    #"{"captured":{"doc":{}},"checkpoint":{}}"#, #"{"captured":{"binding":1,"doc":{}}}"#, "hello", #"{"opened":{}}"#,
  ])
  func `what Flow would refuse is a violation`(line: String) throws {
    let runtime = try session(line)
    // The violation may come in while the start still waits for its answer, or after.
    #expect(throws: SupportError.self) {
      try runtime.start()
      try runtime.waitUntil(committedCount: 1)
    }
    #expect(!runtime.violations.isEmpty)
    try runtime.kill()
  }

  @Test func `an end of output inside a checkpoint sequence is a violation`() throws {
    let runtime = try session(#"{"captured":{"doc":{}}}"#)
    try runtime.start()
    #expect(throws: SupportError.self) { try runtime.closeInput() }
    #expect(runtime.violations == ["the output ended inside a checkpoint sequence"])
  }

  // MARK: The publisher

  @Test func `the broker has what the publisher published and reports what it refused`() throws {
    let broker = try TestBroker()
    let queue = TestBroker.uniqueName()
    let publisher = try Publisher(broker)
    try publisher.declare(queue)
    let every: [Field] = [
      .bool(true), .int8(-1), .uint8(255), .int16(-1), .uint16(65535), .int32(-1), .uint32(.max), .int64(.min),
      .float(0.5), .double(-0.5), .decimal(scale: 2, value: -314), .timestamp(.max), .text("é"), .string([0xFF]),
      .bytes([0, 1]), .void, .array([.void, .array([])]), .table([("", .text("")), ("", .void)]),
    ]
    let headers = every.enumerated().map { ("h\($0.offset)", $0.element) }
    #expect(try publisher.publish([0, 255], properties: .init(headers: headers), routingKey: queue) == 1)
    #expect(try publisher.publish("x", routingKey: queue + "-nowhere") == 0)
    #expect(try publisher.publishMany(300, .mixed(seed: 7), prefix: "a", routingKey: queue) == 300)
    #expect(try publisher.queueInfo(queue)?.ready == 301)
    let depth = try broker.queueDepth(queue)
    #expect(depth == (301, 0))
    let taken = try publisher.take(2, from: queue, .hold)
    #expect(taken.map(\.messageID) == [nil, Publisher.messageID(1, prefix: "a")])
    #expect(taken[0].body == [0, 255])

    let refusal = try #require(throws: Publisher.Refusal.self) { try publisher.declare(queue, durable: false) }
    #expect(refusal.code == 406)
    #expect(try #require(throws: Publisher.Refusal.self) { try publisher.purge(queue + "-nowhere") }.code == 404)
    #expect(try publisher.queueInfo(queue + "-nowhere") == nil)
    try publisher.delete(queue)
  }
}
