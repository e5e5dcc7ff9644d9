import Foundation
import Support

/// A new directory below the run's own temporary one, which is deleted with the run's broker.
func temporaryDirectory() throws -> String {
  let path = FileManager.default.temporaryDirectory.path + "/" + TestBroker.uniqueName("dir")
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  return path
}

extension TestBroker {
  /// Asks until the queue has so many ready and unacknowledged messages; each question takes rabbitmqctl half a second.
  func waitForDepth(_ queue: String, ready: Int, unacknowledged: Int) throws {
    try waitForDepth(queue, "\((ready, unacknowledged))") { $0 == (ready, unacknowledged) }
  }

  /// Asks until the queue has at most so many messages, ready and unacknowledged together.
  func waitForDepth(_ queue: String, atMost count: Int) throws {
    try waitForDepth(queue, "\(count) at most") { $0.ready + $0.unacknowledged <= count }
  }

  private func waitForDepth(
    _ queue: String, _ wanted: String, _ condition: ((ready: Int, unacknowledged: Int)) -> Bool
  ) throws {
    var last = (ready: -1, unacknowledged: -1)
    for _ in 0..<120 {
      last = try queueDepth(queue)
      if condition(last) { return }
    }
    throw SupportError("queue \(queue): \(last), not \(wanted)")
  }
}

extension Publisher {
  /// Asks until `condition` holds for the ready messages of a queue; gives up where `consumer` has ended.
  func waitForReady(_ queue: String, consumer: Command? = nil, _ condition: (Int) -> Bool) throws {
    let clock = ContinuousClock()
    let deadline = clock.now + generousLimit
    while clock.now < deadline {
      if let ready = try queueInfo(queue)?.ready, condition(ready) { return }
      if consumer?.child.exitStatus != nil { break }
    }
    let log = consumer?.written.log.suffix(10).joined(separator: "\n") ?? ""
    throw SupportError("queue \(queue) does not get there: \(String(describing: try queueInfo(queue)))\n\(log)")
  }
}

extension FlowRuntime {
  /// Waits until each of messages 1 to `count`, as `publishMany` numbers them, is committed. Duplicates may be among them,
  /// so that their number says nothing.
  func waitUntilCommitted(messages count: Int) throws {
    var missing = Set((1...count).map { Publisher.messageID($0) })
    var seen = 0
    while true {
      let committed = self.committed
      for document in committed[seen...] { missing.remove(document.messageID ?? "") }
      seen = committed.count
      if missing.isEmpty { return }
      try waitUntil(committedCount: seen + 1)
    }
  }
}

/// The lines of a file; none if there is no such file.
func lines(_ path: String) -> [String] {
  String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self).split(separator: "\n").map(
    String.init)
}

/// Waits until the file has `count` lines.
func wait(for count: Int, in path: String, _ agent: Command) throws {
  let clock = ContinuousClock()
  let deadline = clock.now + generousLimit
  while lines(path).count < count {
    guard clock.now < deadline, agent.written.ended < 2 else {
      throw SupportError("\(path) has \(lines(path).count) lines: \(agent.written.log.suffix(5))")
    }
    _ = try run("/bin/true", [])
  }
}
