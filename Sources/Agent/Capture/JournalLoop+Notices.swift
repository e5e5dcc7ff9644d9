import Journal
import Logging

/// What the journal thread tells people of what came.
extension JournalLoop {
  func notify(_ notice: SubscriptionMachine.Notice, of index: Int) {
    switch notice {
    case .alike: warnOfAlike(index)
    case .gap(let gap): report(gap: gap, of: index)
    case .jump(let jump): report(jump: jump, of: index)
    case .nearLimit(let returns, let limit): warn(returns: returns, limit: limit, of: index)
    case .anotherStream: notifyOfAnother(index)
    }
  }

  private func notifyOfAnother(_ index: Int) {
    let stream = subscriptions[index].stream
    subscriptions[index].log.warning(
      """
      stream "\(stream?.queue.queue ?? "")" is not the one that was captured before: another message stands at offset \
      \(stream?.offset ?? 0), so it was deleted and made anew; it is read from consumer.stream_offset on
      """)
  }

  /// Tells what a stream no longer had when the capture came to it.
  private func report(gap: ClosedRange<Int64>, of index: Int) {
    let (count, stream) = (gap.upperBound - gap.lowerBound + 1, subscriptions[index].stream)
    subscriptions[index].log.warning(
      """
      stream "\(stream?.queue.queue ?? "")" has a gap: offsets \(gap.lowerBound) to \(gap.upperBound) (\(count)) were dropped \
      by its retention before they were captured; it goes on after them
      """,
      metadata: [
        "first_offset": .stringConvertible(gap.lowerBound), "last_offset": .stringConvertible(gap.upperBound),
        "count": .stringConvertible(count),
      ])
    status.count(of: index) { $0.streamGap += Int(count) }
  }

  /// Tells that a stream has offsets without a message, the first time on a channel; all are counted.
  private func report(jump: ClosedRange<Int64>, of index: Int) {
    let stream = subscriptions[index].stream
    subscriptions[index].log.warning(
      """
      stream "\(stream?.queue.queue ?? "")" goes on at offset \(jump.upperBound + 1), and offsets \(jump.lowerBound) to \
      \(jump.upperBound) (\(jump.count)) are of no message that the broker sends over AMQP 0-9-1: what clients of the stream protocol have \
      compressed, which RabbitMQ 4 leaves out without a word, or what the broker keeps there of its own. More are counted in \
      source_amqp_stream_jumped_offsets_total
      """,
      metadata: [
        "first_offset": .stringConvertible(jump.lowerBound), "last_offset": .stringConvertible(jump.upperBound),
      ])
  }

  /// Tells what `document.oversize: reject` did not capture.
  func reportRefused(_ plan: Intake.Plan, of index: Int) {
    let rejected = plan.decision.rejected.count
    let (log, stream) = (subscriptions[index].log, subscriptions[index].stream)
    status.count(of: index) { $0.rejected += rejected + plan.oversizeOffsets.count }
    if rejected > 0 {
      log.warning(
        """
        rejected without requeue, since their documents would be larger than document.max_bytes (document.oversize: reject): \
        \(rejected) message\(rejected == 1 ? "" : "s"); the queue's dead-letter exchange has them, if it \
        has one
        """)
    }
    if let first = plan.oversizeOffsets.first, let last = plan.oversizeOffsets.last {
      log.warning(
        """
        gone past in stream "\(stream?.queue.queue ?? "")", since their documents would be larger than document.max_bytes \
        (document.oversize: reject; nothing can be rejected to a stream): \(plan.oversizeOffsets.count) \
        message\(plan.oversizeOffsets.count == 1 ? "" : "s")
        """,
        metadata: ["first_offset": .stringConvertible(first), "last_offset": .stringConvertible(last)])
    }
  }

  /// Tells that what comes again may not be recognised, since the messages are too much alike.
  private func warnOfAlike(_ index: Int) {
    subscriptions[index].log.warning(
      """
      the last captured messages cannot be told apart (they are alike, or the same ones were captured before in the same order), \
      so if the broker delivers them again they are captured again, marked redelivered, rather than taken for old. Publishers that give \
      each message a message_id, or a body of its own, prevent it
      """)
  }

  /// Tells whose intake waits alone, since it has more than its share of the journal.
  func notifyOfWaiting(_ writer: inout Writer) {
    let waiting = writer.machine.share.waiting
    guard waiting != writer.waiting else { return }
    for index in waiting.subtracting(writer.waiting) {
      let reason =
        "the queue has more than its share of journal.max_bytes in the journal, and waits until some of that is committed; the others "
        + "go on. Give the journal more room, or the documents a faster way out"
      subscriptions[index].log.debug("intake waits: \(reason)")
      status.waits(index, reason: reason)
    }
    for index in writer.waiting.subtracting(waiting) { status.waits(index, reason: nil) }
    writer.waiting = waiting
  }

  /// Tells why intake is paused, as far as that is news.
  func notify(_ reason: SpaceGate.Reason, _ report: inout PauseReport) {
    let holders = reason.isReader ? journal.snapshotHolders() : []
    guard report.found(isReader: reason.isReader, holders) else { return }
    let text = reason.text(holders: holders)
    log.warning("intake is paused: \(text)")
    status.paused(.intake, reason: text)
  }

  /// Tells that the queue will soon take captured messages for failures.
  private func warn(returns: Int64, limit: Int64, of index: Int) {
    subscriptions[index].log.warning(
      """
      messages came back that the queue has taken back \(returns) times already; above its delivery limit (\(limit)) it drops or \
      dead-letters them, although they are captured. Each connection that ends before they are acknowledged counts: let the \
      capture run for some seconds, find out what stops it again and again, or raise x-delivery-limit
      """,
      metadata: ["deliveries": .stringConvertible(returns), "delivery_limit": .stringConvertible(limit)])
  }
}
