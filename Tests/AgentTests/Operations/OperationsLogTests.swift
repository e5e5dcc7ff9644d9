import Logging
import Support
import Synchronization
import Testing

@testable import Agent

/// Log lines as the Flow runtime and people read them.
struct OperationsLogTests {
  /// Lines that a handler wrote.
  private final class Lines: Sendable {
    private let bytes = Mutex<[[UInt8]]>([])
    func add(_ line: [UInt8]) { bytes.withLock { $0.append(line) } }
    var texts: [String] { bytes.withLock { $0.map { String(decoding: $0, as: UTF8.self) } } }
  }

  private static func logger(_ style: FlowLogHandler.Style, _ lines: Lines, level: Logger.Level = .trace) -> Logger {
    Logger(label: "test") { _ in FlowLogHandler(logLevel: level, style: style, write: { lines.add($0) }) }
  }

  @Test(
    arguments: [
      (nil, .info), ("", .info), ("trace", .trace), ("DEBUG", .debug), ("info", .info), ("warn", .warning),
      ("Warning", .warning), ("error", .error), ("fatal", .error), ("panic", .error), ("loud", nil), ("5", nil),
    ] as [(String?, Logger.Level?)])
  func `LOG_LEVEL names a level`(name: String?, level: Logger.Level?) {
    #expect(FlowLogHandler.level(named: name) == level)
  }

  @Test(
    arguments: [
      (.trace, "trace"), (.debug, "debug"), (.info, "info"), (.notice, "info"), (.warning, "warn"), (.error, "error"),
      (.critical, "error"),
    ] as [(Logger.Level, String)])
  func `a line has the levels of the runtime`(level: Logger.Level, name: String) throws {
    let lines = Lines()
    Self.logger(.json, lines).log(level: level, "hello")
    Self.logger(.plain, lines).log(level: level, "hello")
    let value = try JSONValue.parse(Array(lines.texts[0].utf8.dropLast()))
    #expect(value.objectValue?.keys == ["ts", "level", "message"])
    #expect(value["level"] == .string(name))
    #expect(lines.texts[1].hasSuffix("Z \(name): hello\n"))
  }

  @Test func `a line below the level is not written`() {
    let lines = Lines()
    let log = Self.logger(.json, lines, level: .warning)
    log.info("quiet")
    log.warning("loud")
    #expect(lines.texts.count == 1)
  }

  @Test func `the time is RFC 3339 in UTC with microseconds`() throws {
    let lines = Lines()
    Self.logger(.json, lines).info("x")
    let value = try JSONValue.parse(Array(lines.texts[0].utf8.dropLast()))
    let time = try #require(value["ts"]?.stringValue)
    let shape = String(time.map { $0.isNumber ? "0" : $0 })
    #expect(shape == "0000-00-00T00:00:00.000000Z")
  }

  @Test func `whatever a message holds, it is one line of JSON`() throws {
    let lines = Lines()
    let message = "a \"quoted\" \\ line\nwith\u{0}controls\u{1F}, ü and 😀"
    Self.logger(.json, lines).info("\(message)", metadata: ["k\n": "\(message)"])
    let line = Array(lines.texts[0].utf8)
    #expect(line.last == 0x0A)
    #expect(line.dropLast().allSatisfy { $0 >= 0x20 })
    let value = try JSONValue.parse(line.dropLast())
    #expect(value["message"] == .string(message))
    #expect(value["fields"]?["k\n"] == .string(message))
  }

  @Test func `fields are sorted, typed and nested`() throws {
    let lines = Lines()
    var log = Self.logger(.json, lines)
    log[metadataKey: "session"] = "outer"
    log[metadataKey: "queue"] = "q"
    log.info(
      "x",
      metadata: [
        "session": "inner", "count": .stringConvertible(Int64.max), "share": .stringConvertible(0.5),
        "eventType": "connectorStatus", "list": ["a", .stringConvertible(1)], "map": ["b": "c", "a": "d"],
      ])
    let value = try JSONValue.parse(Array(lines.texts[0].utf8.dropLast()))
    let fields =
      #"{"count":9223372036854775807,"eventType":"connectorStatus","list":["a",1],"map":{"a":"d","b":"c"},"#
      + #""queue":"q","session":"inner","share":"0.5"}"#
    #expect(value["fields"]?.text == fields)
  }

  @Test func `on a terminal fields follow time and message`() throws {
    let lines = Lines()
    Self.logger(.plain, lines).warning("slow", metadata: ["b": .stringConvertible(2), "a": "1"])
    #expect(lines.texts.count == 1)
    #expect(
      try #require(lines.texts.first).wholeMatch(of: /20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ warn: slow a=1 b=2\n/) != nil)
  }
}
