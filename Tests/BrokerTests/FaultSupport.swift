import Foundation
import Platform
import Support
import Testing

/// Everything between the connector and its messages fails, one thing at a time, while the connector stays the same
/// process: each test publishes before, during and after the fault, and wants all of it captured.
///
/// One after the other: they share a broker of their own, which they hurt, and measure how long recovery takes.
@Suite(.serialized, .timeLimit(.minutes(5))) enum FaultTests {
  /// Started by the first test that needs it, stopped by scripts/test.
  static let hurtBroker = Result { try TestBroker.own() }
}

/// A queue, a publisher, and one session of the connector that has to live through a fault.
final class FaultyCapture {
  /// Seconds, the `reconnect_delay` of these tests.
  static let reconnectDelay = 1.0
  /// Seconds, their `heartbeat`.
  static let heartbeat = 1.0

  let broker: TestBroker
  let queue = TestBroker.uniqueName("fault")
  let publisher: Publisher
  let runtime: FlowRuntime
  private var published = 0

  /// - Parameters:
  ///   - extra: Members of the endpoint configuration, merged over the tests' own.
  ///   - arguments: What the queue is declared with.
  init(_ broker: TestBroker, _ extra: JSON = [:], arguments: JSON = [:], binary: String? = nil) throws {
    self.broker = broker
    publisher = try Publisher(broker)
    try publisher.declare(queue, arguments: arguments)
    let short: JSON = ["heartbeat": 1, "reconnect_delay": 1, "connection_timeout": 3]
    runtime = try FlowRuntime(
      config: broker.configuration(
        queue: queue, short.merged(with: ["queue": ["arguments": arguments]]).merged(with: extra)),
      name: "acmeCo/" + queue, binary: binary)
  }

  func publish(_ count: Int = 20, bytes: Int = 200) throws {
    let routed = try publisher.publishMany(count, .simple(bytes: bytes), start: published + 1, routingKey: queue)
    try #require(routed == count)
    published += count
  }

  /// Waits until every message published so far is committed; what comes twice has to be marked.
  func captureAll(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let wanted = Set((1...published).map { Publisher.messageID($0) })
    var count = published
    while true {
      try runtime.waitUntil(committedCount: count)
      let missing = wanted.subtracting(runtime.committed.compactMap(\.messageID))
      if missing.isEmpty { break }
      count = runtime.committed.count + 1
    }
    var seen: Set<String> = []
    for document in runtime.committed {
      let isNew = seen.insert(document.messageID ?? "").inserted
      #expect(isNew || document.redelivered == true, "a duplicate that is not marked", sourceLocation: sourceLocation)
    }
  }

  /// Waits until the connector says that it lost, or cannot reach, the broker for this reason; returns when that was.
  @discardableResult
  func awaitFailure(_ cause: String) throws -> Date {
    let line = try runtime.waitForLog("a failure, \(cause)") { $0.json?[path: "fields", "cause"]?.string == cause }
    return try date(line.json?["ts"])
  }

  /// How many consumers the connector has started.
  var consumersStarted: Int {
    runtime.log.count { $0.message?.hasPrefix("consuming from queue") == true }
  }

  /// Expects that the first message captured after `reachable`, which is when the broker could be reached again, was
  /// received at most `reconnect_delay` and a second later, and prints how much later it was.
  func expectRecovery(since reachable: Date, _ fault: String, sourceLocation: SourceLocation = #_sourceLocation) throws
  {
    let times = try runtime.committed.map { try date($0.json["received_at"]) }
    let first = try #require(times.first { $0 > reachable }, "nothing was captured", sourceLocation: sourceLocation)
    let seconds = first.timeIntervalSince(reachable)
    print("recovered: \(fault): captured again \(String(format: "%.2f", seconds)) s after the broker was there again")
    #expect(seconds <= Self.reconnectDelay + 1 + Self.allowance, sourceLocation: sourceLocation)
  }

  /// Seconds granted beside what is promised. Time is the machine's as much as ours: promises are held to on a machine that
  /// does nothing else, which SOURCE_AMQP_TEST_TIMES=1 says; elsewhere only that it happens at all.
  static let allowance: Double = ProcessInfo.processInfo.environment["SOURCE_AMQP_TEST_TIMES"] == "1" ? 0 : 60

  /// Expects that the loss of the broker at `begin` was noticed after two heartbeat intervals and a second, and prints it.
  func expectNoticed(
    _ noticed: Date, since begin: Date, _ fault: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let seconds = noticed.timeIntervalSince(begin)
    print("recovered: \(fault) noticed after \(String(format: "%.2f", seconds)) s")
    #expect(seconds <= 2 * Double(Self.heartbeat) + 1 + Self.allowance, sourceLocation: sourceLocation)
  }

  /// A time as documents and log lines have it, with microseconds.
  private func date(_ value: JSON?) throws -> Date {
    let parts = (value?.string ?? "").dropLast().split(separator: ".")
    try #require(parts.count == 2, "no time: \(value?.text ?? "")")
    let seconds = try Date(parts[0] + "Z", strategy: .iso8601)
    return seconds.addingTimeInterval(Double("0." + parts[1]) ?? 0)
  }

  /// The broker's process for our connection, and how many packets it has received from us. It is the broker's own
  /// word on whether the connection is the same, and whether heartbeats arrive.
  func brokerConnection() throws -> (process: String, packets: Int)? {
    let output = try broker.ctl("list_connections", "--no-table-headers", "pid", "recv_cnt", "client_properties")
    for line in output.split(separator: "\n") where line.contains("source-amqp acmeCo/\(queue)\"") {
      let columns = line.split(separator: "\t")
      if columns.count == 3, let packets = Int(columns[1]) { return (String(columns[0]), packets) }
    }
    return nil
  }

  /// Waits for three heartbeat intervals as the broker sees them: six packets, one every half interval.
  func expectHeartbeatsForThreeIntervals(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let begin = try #require(try brokerConnection(), sourceLocation: sourceLocation)
    // Asking takes half a second or more, so this is far more time than six heartbeats need.
    for _ in 0..<200 {
      let now = try #require(try brokerConnection(), "the connection is gone", sourceLocation: sourceLocation)
      try #require(now.process == begin.process, "the connection is another one", sourceLocation: sourceLocation)
      if now.packets >= begin.packets + 6 { return }
    }
    Issue.record("no heartbeats arrive at the broker", sourceLocation: sourceLocation)
  }
}

/// Something of the system that is changed for a test, and put back in any case: a shell script makes the change, says
/// `ready`, reads stdin to its end, and undoes it. The end of this process is the end of that stdin, too.
final class Arrangement {
  private let child: ChildProcess
  private let lines = Monitor<[String]>([])

  /// - Parameter script: Calls `ready` in the middle; arguments are `$1`, `$2`, ….
  init(_ script: String, _ arguments: String...) throws {
    let lines = self.lines
    @Sendable func take(_ event: ChildProcess.Output) {
      switch event {
      case .line(let line): lines.update { $0.append(String(decoding: line, as: UTF8.self)) }
      case .end: lines.update { $0.append("end") }
      }
    }
    let program = "set -e; ready() { echo ready; cat >/dev/null; }; \(script)"
    child = try ChildProcess(
      "/bin/sh", ["-c", program, "sh"] + arguments, onOutput: { take($0) }, onError: { take($0) })
    // Its output ends if the script failed.
    guard
      lines.wait(atMost: generousLimit, until: { $0.contains("ready") ? true : $0.contains("end") ? false : nil })
        == true
    else { throw SupportError("not arranged: \(lines.update { $0.joined(separator: "\n") })") }
  }

  /// Puts everything back; more than once is fine.
  func undo() throws {
    child.closeInput()
    let status = try child.waitForExit()
    guard status == .exited(0) else {
      throw SupportError("not undone (\(status)): \(lines.update { $0.joined(separator: "\n") })")
    }
  }

  deinit { try? undo() }
}

extension Tag {
  /// Needs root: name spaces, loop devices.
  @Tag static var root: Self
}

/// Whether this process may make network name spaces and mount file systems.
let isRoot = geteuid() == 0
