import Platform
import Support
import Testing

/// A run of the source-amqp binary whose output is kept, for what `FlowRuntime` and `unary` do not do: command lines,
/// odd input, signals.
final class Command: Sendable {
  struct Output: Sendable {
    var lines: [String] = []
    var torn: [UInt8] = []
    var log: [String] = []
    var ended = 0
  }

  let child: ChildProcess
  private let output: Monitor<Output>

  /// - Parameter executable: Another program than source-amqp.
  init(_ arguments: [String] = [], environment: [String: String] = [:], executable: String? = nil) throws {
    let output = Monitor(Output())
    self.output = output
    child = try ChildProcess(
      try executable ?? connectorBinary(), arguments,
      environment: ["LOG_LEVEL": "info", "LOG_FORMAT": "json"].merging(environment) { $1 }
    ) { event in
      output.update {
        switch event {
        case .line(let line): $0.lines.append(String(decoding: line, as: UTF8.self))
        case .end(let torn):
          $0.torn = torn
          $0.ended += 1
        }
      }
    } onError: { event in
      output.update {
        switch event {
        case .line(let line): $0.log.append(String(decoding: line, as: UTF8.self))
        case .end: $0.ended += 1
        }
      }
    }
  }

  /// What was written so far.
  var written: Output { output.update { $0 } }

  /// Waits until what was written satisfies `condition`; throws if the process ends or the limit passes before that.
  func wait(_ what: String, until condition: (Output) -> Bool) throws {
    let found = output.wait(atMost: generousLimit) { output -> Bool? in
      condition(output) ? true : output.ended == 2 ? false : nil
    }
    guard found == true else {
      throw SupportError("waiting for \(what): \(written.log.suffix(10).joined(separator: "\n"))")
    }
  }

  /// Writes `chunks`, each in a write of its own, closes stdin, and waits for the end.
  func finish(_ chunks: [[UInt8]] = []) throws -> (output: Output, exit: ChildProcess.Exit) {
    // A command that refuses its input may end before it read all of it.
    for chunk in chunks { try? child.write(chunk) }
    child.closeInput()
    return try end()
  }

  /// Waits for the end of the process and of its output.
  func end() throws -> (output: Output, exit: ChildProcess.Exit) {
    let exit = try child.waitForExit()
    guard let all = output.wait(atMost: generousLimit, until: { $0.ended == 2 ? $0 : nil }) else {
      throw SupportError("the process ended, but its output stays open")
    }
    return (all, exit)
  }
}

/// The message of a log line in Flow's shape; records an issue where it is none.
@discardableResult
func logMessage(_ line: String, sourceLocation: SourceLocation = #_sourceLocation) -> String? {
  let json = try? JSON(parsing: line)
  let level = json?["level"]?.string ?? ""
  #expect(["trace", "debug", "info", "warn", "error"].contains(level), "\(line)", sourceLocation: sourceLocation)
  #expect(json?["ts"]?.string?.hasSuffix("Z") == true, "\(line)", sourceLocation: sourceLocation)
  #expect(json?["message"]?.string != nil, "\(line)", sourceLocation: sourceLocation)
  let known: Set = ["ts", "level", "message", "fields"]
  #expect(json?.object?.keys.allSatisfy(known.contains) == true, "\(line)", sourceLocation: sourceLocation)
  return json?["message"]?.string
}
