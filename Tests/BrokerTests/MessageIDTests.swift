import Support
import Testing

/// `consumer.deduplicate_by: message_id` (docs/settings.md): redeliveries are recognised by the ids that publishers set.
@Suite struct MessageIDTests {
  /// Everything is captured and acknowledged to no one; the next process gets all of it again, out of order.
  @Test(arguments: [true, false])
  func `what comes again with its id is not captured again, in any order`(isJournalDurable: Bool) throws {
    let bench = try Bench(arguments: ["x-max-priority": 9])
    var journal: JSON = [:]
    if isJournalDurable {
      journal = ["path": .string(try temporaryDirectory() + "/journal.db"), "acknowledge": "committed"]
    }
    let options: JSON = ["journal": journal, "consumer": ["deduplicate_by": "message_id"], "max_priority": 9]
    let runtime = try FlowRuntime(config: bench.broker.configuration(queue: bench.queue, options))
    runtime.policy.dropAcknowledgements = true
    try runtime.start()
    for number in 1...40 {
      try publish(bench, number, id: number % 4 == 0 ? nil : "id-\(number)")
      // One at a time: captured in this order, whatever the priority.
      try runtime.waitUntil(committedCount: number)
    }
    // A publisher that uses an id twice: not a redelivery, so nothing is known about it.
    try publish(bench, 41, id: "id-1")
    try runtime.waitUntil(committedCount: 41)
    try runtime.kill()
    try bench.broker.waitForDepth(bench.queue, ready: 41, unacknowledged: 0)

    runtime.policy.dropAcknowledgements = false
    try publish(bench, 42, id: "id-42")
    try runtime.start()
    // Ten had no id, and they are captured twice; 42 is new.
    try runtime.waitUntil(committedCount: 41 + 10 + 1)
    try runtime.waitUntilSettled()
    try bench.broker.waitForDepth(bench.queue, ready: 0, unacknowledged: 0)
    #expect(try runtime.closeInput() == .exited(0))
    let again = runtime.committed.dropFirst(41)
    #expect(again.count == 11)
    for document in again where document.messageID == nil { #expect(document.redelivered == true) }
    #expect(again.compactMap(\.messageID) == ["id-42"])
    #expect(runtime.log.contains { $0.message?.contains("consumer.deduplicate_by") == true })
    try bench.publisher.delete(bench.queue)
  }

  private func publish(_ bench: Bench, _ number: Int, id: String?) throws {
    var properties = Properties(messageID: id)
    properties.priority = UInt8(number * 7 % 10)
    try bench.publisher.publish("message \(number)", properties: properties, routingKey: bench.queue)
  }
}
