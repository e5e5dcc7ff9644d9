import Support
import Testing

@testable import Agent

/// The runtime's lines, however they arrive, and what is wrong with wrong ones.
struct FlowRequestTests {
  /// One session of each kind of request: line and action.
  private static let transcript: [(line: String, action: FlowMachine.Action)] = [
    (#"{"spec":{"connectorType":"IMAGE","config":{"sops":{}}}}"#, .replySpec),
    (#"{"spec":{}}"#, .replySpec),
    (#"{"discover":{"config":{"host":"h"},"lastDiscover":null},"$internal":"eA=="}"#, .discover(config: ["host": "h"])),
    (#"{"discover":{}}"#, .discover(config: nil)),
    (
      #"{"validate":{"name":"a/b","config":{"n":1e3},"bindings":[{"resourceConfig":{"stream":"s"},"collection":{}}]}}"#,
      .validate(.init(config: .object(["n": .number("1e3")]), bindings: [.init(resource: ["stream": "s"])]))
    ),
    (#"{"validate":{"config":{},"bindings":null}}"#, .validate(.init(config: [:], bindings: []))),
    (
      #"{"validate":{"connectorType":"IMAGE","bindings":[{"collection":{"name":"a/c","key":["/x","/y"]}}]}}"#,
      .validate(
        .init(
          config: nil, bindings: [.init(resource: nil, collection: "a/c", key: ["/x", "/y"])], isContainer: true))
    ),
    (
      #"{"apply":{"capture":{"name":"a/b","config":{},"bindings":[{"resourceConfig":{},"resourcePath":["x","y"]}]}}}"#,
      .apply(.init(name: "a/b", config: [:], bindings: [.init(resource: [:], stateKey: "x/y")]))
    ),
    (
      #"{"open":{"capture":{"name":"a","config":{},"bindings":[{"resourceConfig":{"stream":"ü"},"stateKey":"k.v1"}],"#
        + #""more":[1]},"version":"1","range":{"keyEnd":4294967295},"state":{"bindingStateV1":{}}},"spec":null}"#,
      .open(
        .init(name: "a", config: [:], bindings: [.init(resource: ["stream": "ü"], stateKey: "k.v1")]), range: .whole,
        state: ["bindingStateV1": [:]])
    ),
    (#"{"acknowledge":{"checkpoints":1}}"#, .acknowledge(checkpoints: 1)),
    (#" { "acknowledge" : { "checkpoints" : 4294967295 , "other" : {} } } "#, .acknowledge(checkpoints: 4_294_967_295)),
  ]

  private static func actions(_ lines: [[UInt8]]) -> [FlowMachine.Action] {
    var machine = FlowMachine()
    return lines.map { machine.received($0) }
  }

  @Test(arguments: [1, 2, 7, 64, 1 << 20])
  func `requests are the same in pieces of any size`(size: Int) {
    let bytes = Array(Self.transcript.map { $0.line + "\n" }.joined().utf8)
    var splitter = LineSplitter()
    var lines: [[UInt8]] = []
    for start in stride(from: 0, to: bytes.count, by: size) {
      lines += splitter.feed(bytes[start..<min(start + size, bytes.count)])
    }
    #expect(lines == Self.transcript.map { Array($0.line.utf8) })
    #expect(splitter.remainder.isEmpty)
    #expect(Self.actions(lines) == Self.transcript.map(\.action))
  }

  @Test func `lines may be empty, and what has no end is kept`() {
    var splitter = LineSplitter()
    #expect(splitter.feed([0x0A, 0x0A, 0x61]) == [[], []])
    #expect(splitter.remainder == [0x61])
    #expect(splitter.feed([]) == [])
    #expect(splitter.feed([0x62, 0x0A, 0x63]) == [[0x61, 0x62]])
    #expect(splitter.remainder == [0x63])
  }

  @Test func `an input that ends inside a request is an error`() {
    #expect(FlowMachine().ended(remainder: []) == nil)
    #expect(
      FlowMachine().ended(remainder: Array("{\"sp".utf8))?.description
        == "protocol error: the input ended inside a request (4 bytes of it)")
  }

  @Test func `an open without a state or with null begins with an empty one`() {
    for state in ["", #","state":null"#] {
      #expect(
        Self.actions([Array(#"{"open":{"capture":{"config":null}\#(state)}}"#.utf8)])
          == [.open(.init(name: "", config: nil, bindings: []), range: .whole, state: [:])])
    }
  }

  private static let kinds = "a request must hold exactly one of spec, discover, validate, apply, open, acknowledge; "

  @Test(arguments: [
    ("", "a request is not valid JSON at byte 0: "), ("hello", "a request is not valid JSON at byte 0: "),
    (#"{"spec":{}}{}"#, "a request is not valid JSON at byte 11: "), ("[]", "a request is not a JSON object"),
    ("null", "a request is not a JSON object"), ("{}", kinds + "this one holds none"),
    (#"{"spec":null}"#, kinds + "this one holds none"), (#"{"Spec":{}}"#, kinds + "this one holds none"),
    (#"{"open":{},"spec":{}}"#, kinds + "this one holds spec and open"), (#"{"spec":1}"#, "spec is not a JSON object"),
    (#"{"validate":{"bindings":{}}}"#, "validate.bindings is not a list"),
    (#"{"validate":{"bindings":[1]}}"#, "validate.bindings holds what is no object"),
    (#"{"apply":{}}"#, "apply.capture is missing"), (#"{"open":{"capture":null}}"#, "open.capture is missing"),
    (#"{"open":{"capture":{"bindings":"x"}}}"#, "open.capture.bindings is not a list"),
    (#"{"open":{"capture":{"bindings":[null]}}}"#, "open.capture.bindings holds what is no object"),
    (#"{"acknowledge":{}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":0}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":-1}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":1.5}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":"1"}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":4294967296}}"#, "acknowledge.checkpoints must be a number of at least 1"),
    (#"{"acknowledge":{"checkpoints":1}}"#, "acknowledge came before open"),
  ])
  func `a wrong request is refused with its reason`(line: String, reason: String) {
    guard case .fail(let error) = Self.actions([Array(line.utf8)])[0] else {
      Issue.record("accepted: \(line)")
      return
    }
    // Of JSON errors the reader's own words follow, which its tests hold.
    if reason.hasSuffix(": ") { #expect(error.reason.hasPrefix(reason)) } else { #expect(error.reason == reason) }
  }

  @Test(arguments: Self.transcript.prefix(8).map(\.line))
  func `only acknowledge may follow open`(line: String) {
    let open = Array(#"{"open":{"capture":{}}}"#.utf8)
    let actions = Self.actions([open, Array(line.utf8), Array(#"{"acknowledge":{"checkpoints":1}}"#.utf8)])
    #expect(actions[1] == .fail(FlowProtocolError("only acknowledge may follow open")))
    #expect(actions[2] == .fail(FlowProtocolError("a request after a failure")))
  }

  @Test func `errors never quote what may be a credential`() {
    let request = Array(
      #"{"open":{"capture":{"name":"a","config":{"password":"s3cret"},"bindings":[{"stateKey":"k"}]}}}"#.utf8)
    for count in 0..<request.count {
      for byte in [0x00, 0x22, 0x5D, 0xFF] as [UInt8] {
        guard case .fail(let error) = Self.actions([request[..<count] + [byte]])[0] else {
          Issue.record("accepted a request cut at byte \(count)")
          continue
        }
        #expect(!error.description.contains("s3c"))
      }
    }
  }

  @Test(arguments: 0..<50 as Range<UInt64>)
  func `damaged requests are actions or errors, never a trap`(seed: UInt64) {
    var random = Seeded(seed)
    for line in Self.transcript.map(\.line) {
      var bytes = Array(line.utf8)
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      var machine = FlowMachine()
      if case .fail = machine.received(bytes) {
        #expect(machine.received(Array(#"{"spec":{}}"#.utf8)) == .fail(FlowProtocolError("a request after a failure")))
      }
    }
  }
}
