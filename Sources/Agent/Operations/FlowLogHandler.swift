import Glibc
import Logging
import Platform

/// Logs as the Flow runtime reads them: one JSON object a line on stderr, with `ts`, `level`, `message` and `fields`.
/// On a terminal the same in plain words, one line each, in which nothing moves the cursor (``PrintableText``). What has the shape of credentials is hidden, in messages of others too.
/// https://github.com/estuary/flow/blob/master/crates/ops/src/decode.rs
struct FlowLogHandler: LogHandler {
  enum Style: Sendable {
    case json, plain
  }

  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level
  let style: Style
  /// Where lines go; they are written whole, so that those of several threads do not mix.
  let write: @Sendable ([UInt8]) -> Void

  /// The level that a `LOG_LEVEL` means: `info` if there is none; nil if it is unknown.
  static func level(named name: String?) -> Logger.Level? {
    switch name?.lowercased() {
    case nil, "", "info": .info
    case "trace": .trace
    case "debug": .debug
    case "warn", "warning": .warning
    case "error", "fatal", "panic": .error
    default: nil
    }
  }

  func log(event: LogEvent) {
    write(line(event.level, event.message, metadata.merging(event.metadata ?? [:]) { _, new in new }))
  }

  /// A line as it is written.
  private func line(_ level: Logger.Level, _ message: Logger.Message, _ merged: Logger.Metadata) -> [UInt8] {
    var line: [UInt8] = []
    switch style {
    case .json:
      line.append(contentsOf: #"{"ts":""#.utf8)
      RFC3339.append(SystemClock.wallMicroseconds(), fractionalDigits: 6, to: &line)
      line.append(contentsOf: #"","level":"\#(Self.name(level))","message":"#.utf8)
      appendJSONString(Disclosure.text(message.description), to: &line)
      if !merged.isEmpty {
        line.append(contentsOf: #","fields":"#.utf8)
        JSONValue.object(Self.fields(merged)).append(to: &line)
      }
      line.append(contentsOf: "}\n".utf8)
    case .plain:
      let fields = merged.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
      let words = PrintableText.escaped(Disclosure.text("\(message)\(fields)"))
      RFC3339.append(SystemClock.wallMicroseconds() / 1_000_000, fractionalDigits: 0, to: &line)
      line.append(contentsOf: " \(Self.name(level)): \(words)\n".utf8)
    }
    return line
  }

  /// The line that says how many were left out (``LogQueue``).
  func line(leftOut count: Int) -> [UInt8] {
    line(
      .warning, "\(count) line\(count == 1 ? "" : "s") of the log left out here: no one read stderr", metadata)
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  private static func name(_ level: Logger.Level) -> String {
    switch level {
    case .trace: "trace"
    case .debug: "debug"
    case .info, .notice: "info"
    case .warning: "warn"
    case .error, .critical: "error"
    }
  }

  private static func fields(_ metadata: Logger.Metadata) -> JSONObject {
    var object = JSONObject()
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) { object[key] = json(value) }
    return object
  }

  private static func json(_ value: Logger.MetadataValue) -> JSONValue {
    switch value {
    case .string(let text): .string(Disclosure.text(text))
    case .stringConvertible(let number as any FixedWidthInteger): .number("\(number)")
    case .stringConvertible(let other): .string(other.description)
    case .array(let values): .array(values.map(json))
    case .dictionary(let inner): .object(fields(inner))
    }
  }
}
