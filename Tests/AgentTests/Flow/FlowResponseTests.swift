import Journal
import Testing

@testable import Agent

/// The connector's lines, letter by letter: the runtime decodes them strictly.
struct FlowResponseTests {
  private static func text(_ line: [UInt8]) -> String { String(decoding: line, as: UTF8.self) }

  @Test func `short answers are these lines`() {
    #expect(Self.text(FlowResponse.opened) == #"{"opened":{"explicitAcknowledgements":true}}"# + "\n")
    #expect(Self.text(FlowResponse.applied("")) == #"{"applied":{"actionDescription":""}}"# + "\n")
    #expect(
      Self.text(FlowResponse.applied("Declared \"q\"\nand more"))
        == #"{"applied":{"actionDescription":"Declared \"q\"\nand more"}}"# + "\n")
    #expect(Self.text(FlowResponse.validated(streams: [])) == #"{"validated":{"bindings":[]}}"# + "\n")
    #expect(
      Self.text(FlowResponse.validated(streams: ["a/b", "ü"]))
        == #"{"validated":{"bindings":[{"resourcePath":["a/b"]},{"resourcePath":["ü"]}]}}"# + "\n")
    #expect(
      Self.text(FlowBinding(7, stateKey: "").prefix + Array("{}".utf8) + FlowResponse.capturedSuffix)
        == #"{"captured":{"binding":7,"doc":{}}}"# + "\n")
  }

  @Test func `a checkpoint is a merge patch under the state key`() {
    #expect(
      Self.text(
        FlowResponse.checkpoint(
          Checkpoint(through: Position(rawValue: .max), releasable: .origin), [FlowBinding(stateKey: "a\"b")],
          journal: "j-1"))
        == #"{"checkpoint":{"state":{"updated":{"bindingStateV1":{"a\"b":{"journal":"j-1","#
        + #""position":9223372036854775807}}},"mergePatch":true}}}"# + "\n")
  }

  @Test func `a checkpoint carries the bindings of which it covers anything new, and no others`() {
    let checkpoint = Checkpoint(
      through: Position(rawValue: 9),
      parts: [
        .init(index: 2, releasable: .origin, stream: .init(queue: "q", offset: 4)),
        .init(index: 0, releasable: .origin),
      ])
    let bindings = ["a", "b", "c"].enumerated().map { FlowBinding($0, stateKey: $1) }
    #expect(
      Self.text(FlowResponse.checkpoint(checkpoint, bindings, journal: "j", isKept: true))
        == #"{"checkpoint":{"state":{"updated":{"bindingStateV1":{"c":{"journal":"j","position":9,"kept":true,"#
        + #""stream":{"queue":"q","offset":4,"digest":null}},"a":{"journal":"j","position":9,"kept":true}}},"#
        + #""mergePatch":true}}}"# + "\n")
  }

  @Test func `what any binding has committed of a journal is committed`() throws {
    let state = try JSONValue.parse(
      Array(
        #"{"bindingStateV1":{"a.v1":{"journal":"j","position":5},"b.v1":{"journal":"j","position":7},"c.v1":null,"#
          .utf8) + Array(#""d.v1":{"journal":"k","position":9},"e.v1":{"journal":"j","position":-1}}}"#.utf8))
    #expect(FlowState.position(in: state, of: "j") == Position(rawValue: 7))
    #expect(FlowState.position(in: state, of: "none") == .origin)
    #expect(FlowState.position(in: nil, of: "j") == .origin)
  }

  @Test func `a journal with parked messages is in use, whatever is emitted`() {
    let last = Checkpoint(through: .origin, parts: [.init(index: 0, releasable: .origin)], isLast: true)
    for hasParked in [false, true] {
      let line = FlowResponse.checkpoint(
        last, [FlowBinding(stateKey: "k")], journal: "j", isKept: true, hasParked: hasParked)
      #expect(Self.text(line).contains(#""kept":\#(hasParked)"#))
    }
  }

  @Test func `a checkpoint's state is read back`() throws {
    let position = Position(rawValue: 42)
    let line = FlowResponse.checkpoint(
      Checkpoint(through: position, releasable: .origin), [FlowBinding(stateKey: "k")], journal: "j")
    let value = try JSONValue.parse(line.dropLast())
    let state = try #require(value["checkpoint"]?["state"]?["updated"])
    #expect(try FlowState(state, stateKey: "k").mark() == ResumeDecision.Mark(journal: "j", position: position))
    #expect(try FlowState(state, stateKey: "other").mark() == nil)
  }

  @Test(
    arguments: [[:], nil, ["bindingStateV1": nil], ["bindingStateV1": [:]], ["bindingStateV1": ["k": nil]]]
      as [JSONValue])
  func `no state under the key is none`(state: JSONValue) throws {
    #expect(try FlowState(state, stateKey: "k").mark() == nil)
  }

  @Test(
    arguments: [
      [:], 1, "x", [], ["journal": "j"], ["position": 1], ["journal": 1, "position": 1],
      ["journal": "j", "position": -1],
      ["journal": "j", "position": "1"], ["journal": "j", "position": 1.5],
    ] as [JSONValue])
  func `a state of somebody else is refused`(state: JSONValue) {
    #expect(
      throws: FlowProtocolError(
        "the state under bindingStateV1 / k was not written by this connector: backfill the binding to begin without it"
      )
    ) { try FlowState(["bindingStateV1": ["k": state]], stateKey: "k").mark() }
  }

  @Test(arguments: [
    ("-1", "0", "0"), ("-1", "-1", "0"), ("9223372036854775807", "0", "0"), ("-9223372036854775808", "0", "0"),
    ("5", "-1", "0"), ("5", "6", "0"), ("5", "0", "9223372036854775807"),
  ])
  func `a state with counts out of range recognises nothing`(
    captured: String, releasable: String, since: String
  ) throws {
    let text =
      #"{"bindingStateV1":{"k":{"redelivery":{"v":1,"queue":"q","captured":\#(captured),"releasable":\#(releasable),"#
      + #""prefetch":1,"priority":-1,"prioritySince":\#(since),"window":""}}}}"#
    #expect(FlowState(try JSONValue.parse(text), stateKey: "k").redelivery == nil)
  }

  @Test func `spec is one line with the fields that the runtime knows`() throws {
    let line = FlowResponse.spec
    #expect(line.last == 0x0A)
    #expect(line.dropLast().allSatisfy { $0 != 0x0A })
    let spec = try #require(try JSONValue.parse(line.dropLast())["spec"])
    #expect(
      spec.objectValue?.keys == [
        "protocol", "configSchema", "resourceConfigSchema", "documentationUrl", "resourcePathPointers",
      ])
    #expect(spec["protocol"] == 3_032_023)
    #expect(spec["resourcePathPointers"] == ["/stream"])
    #expect(spec["configSchema"]?["type"] == "object")
    #expect(spec["resourceConfigSchema"]?["required"] == ["stream"])
  }

  @Test func `discovered offers the queue as one binding`() throws {
    let line = FlowResponse.discovered(queue: "orders \"1\"\n")
    #expect(line.last == 0x0A)
    #expect(line.dropLast().allSatisfy { $0 != 0x0A })
    let bindings = try JSONValue.parse(line.dropLast())["discovered"]?["bindings"]?.arrayValue
    let binding = try #require(bindings?.first)
    #expect(bindings?.count == 1)
    #expect(binding["recommendedName"] == "orders \"1\"\n")
    #expect(binding["resourceConfig"] == ["stream": "orders \"1\"\n"])
    #expect(binding["resourcePath"] == ["orders \"1\"\n"])
    #expect(binding["key"] == ["/session_id", "/sequence"])
    #expect(binding["isFallbackKey"] == true)
    #expect(binding["documentSchema"]?["x-infer-schema"] == true)
    #expect(binding.objectValue?.members.count == 6)
  }

  // MARK: Backfill

  private static func carried(_ text: String) throws -> JSONValue {
    try JSONValue.parse(#"{"bindingStateV1":{\#(text)}}"#)
  }

  private static let window = #""window":"AAAAAAAAAAAAAAAAAAAAAA==""#
  private static func state(_ captured: Int) -> String {
    #"{"journal":"j","position":\#(captured),"stream":{"queue":"q","offset":\#(captured)},"redelivery":{"v":1,"queue":"q","#
      + #""captured":\#(captured),"releasable":0,"prefetch":1,"priority":-1,"prioritySince":0,\#(window)}}"#
  }

  @Test func `a backfill keeps what recognises redeliveries, and reads a stream again`() throws {
    let state = FlowState(
      try Self.carried(
        #""a.v1":\#(Self.state(1)),"a.v9":\#(Self.state(9)),"a.v10":\#(Self.state(10)),"a.v12":\#(Self.state(12)),"#
          + #""b.v5":\#(Self.state(5)),"a.b.v6":\#(Self.state(6))"#), stateKey: "a.v11")
    #expect(state.former == "a.v10")
    #expect(state.redelivery?.captured == 10)
    #expect(state.stream == nil)
    #expect(try state.mark() == ResumeDecision.Mark(journal: "j", position: Position(rawValue: 10)))
    #expect(state.stale.isEmpty)
  }

  @Test(arguments: ["c.v1", "a", "a.v1", "a.vx", "a.v", ".v11"])
  func `a state key without an older version is no backfill`(stateKey: String) throws {
    let state = FlowState(try Self.carried(#""a.v1":\#(Self.state(1)),"a.v2":null,"vx":{}"#), stateKey: stateKey)
    #expect(state.former == nil)
    #expect((state.stream?.offset == 1) == (stateKey == "a.v1"))
  }

  @Test func `a state of its own counts, however old the others`() throws {
    let state = FlowState(try Self.carried(#""a.v1":\#(Self.state(1)),"a.v2":\#(Self.state(2))"#), stateKey: "a.v2")
    #expect(state.former == nil && state.stream?.offset == 2 && state.redelivery?.captured == 2)
    #expect(state.stale == ["redelivery", "stream"])
    let line = FlowResponse.checkpoint(
      Checkpoint(through: .origin, releasable: .origin), [FlowBinding(stateKey: "k", stale: state.stale)], journal: "j")
    #expect(Self.text(line).contains(#""position":0,"redelivery":null,"stream":null}"#))
  }
}
