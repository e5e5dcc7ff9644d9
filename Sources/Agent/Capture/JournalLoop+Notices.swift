import Logging

/// What the journal thread tells people of what came.
extension JournalLoop {
  func startStreamOver() {
    log.warning(
      """
      stream "\(stream?.queue.queue ?? "")" is not the one that was captured before: another message stands at offset \
      \(stream?.offset ?? 0), so it was deleted and made anew; it is read from consumer.stream_offset on
      """)
    stream?.forget()
  }

  /// Tells what a stream no longer had when the capture came to it.
  func report(gap: ClosedRange<Int64>) {
    let count = gap.upperBound - gap.lowerBound + 1
    log.warning(
      """
      stream "\(stream?.queue.queue ?? "")" has a gap: offsets \(gap.lowerBound) to \(gap.upperBound) (\(count)) were dropped \
      by its retention before they were captured; it goes on after them
      """,
      metadata: [
        "first_offset": .stringConvertible(gap.lowerBound), "last_offset": .stringConvertible(gap.upperBound),
        "count": .stringConvertible(count),
      ])
    status.count { $0.streamGap += Int(count) }
  }

  /// Tells that the queue will soon take captured messages for failures.
  func warn(returns: Int64, limit: Int64) {
    log.warning(
      """
      messages came back that the queue has taken back \(returns) times already; above its delivery limit (\(limit)) it drops or \
      dead-letters them, although they are captured. Each connection that ends before they are acknowledged counts: let the \
      capture run for some seconds, find out what stops it again and again, or raise x-delivery-limit
      """,
      metadata: ["deliveries": .stringConvertible(returns), "delivery_limit": .stringConvertible(limit)])
  }
}
