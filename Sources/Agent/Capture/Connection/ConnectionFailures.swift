import Journal

/// What a failure of a channel means, beyond what the broker says.
extension CaptureFailure {
  /// Too many attempts in a row have failed.
  static func exhausted(_ attempts: Int, last: CaptureFailure) -> CaptureFailure {
    CaptureFailure(
      cause: "attempts_exhausted",
      description:
        "gave up after \(attempts) failed attempt\(attempts == 1 ? "" : "s") in a row (max_reconnect_attempts): \(last)",
      needsUser: true)
  }

  static func cancelled(by queue: String) -> CaptureFailure {
    CaptureFailure(
      cause: "consumer_cancelled",
      description:
        "the broker cancelled the consumer of queue \"\(queue)\": the queue was deleted, or its node went away",
      needsUser: false)
  }

  /// The broker cannot send what stands at the front of a queue.
  ///
  /// - Parameter position: The journal's newest position when the channel began; nil if something was acknowledged on it.
  static func undeliverable(
    frontOf queue: String, _ kind: QueueNature.Kind, after position: Position?, attempts: Int, _ failure: CaptureFailure
  ) -> CaptureFailure {
    let place = position.map { ", after position \($0) of the journal" } ?? ""
    let limit =
      switch kind {
      case .quorum:
        "A quorum queue drops or dead-letters it after its delivery limit (20 by default from RabbitMQ 4.0 on; else set the policy "
          + "delivery-limit)"
      case .unknown:
        "If the queue has a delivery limit it drops or dead-letters it then; else take it out with a client that speaks the protocol "
          + "it was published by"
      case .classic, .stream:
        "Queues of this type never give it up: take it out of the queue with a client that speaks the protocol it was published by"
      }
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send the message at the front of queue \"\(queue)\"\(place) (attempt \(attempts) with this message "
        + "alone): \(failure). \(limit)", needsUser: false, kind: .undeliverable)
  }

  /// The broker cannot send what stands at an offset of a stream.
  ///
  /// - Parameters:
  ///   - offset: Nil if none can be named.
  ///   - captured: The newest captured offset; nil before the first.
  static func undeliverable(
    _ offset: Int64?, ofStream stream: String, captured: Int64?, _ failure: String
  ) -> CaptureFailure {
    let place =
      offset.map { "what stands at offset \($0)" } ?? captured.map { "what stands at or after offset \($0)" }
      ?? "the first message from consumer.stream_offset on"
    let advice =
      offset == nil
      ? "Nothing names an offset that could be gone past: capture the stream anew, with consumer.stream_offset set to an offset "
        + "after it; or read it with a client of the stream protocol"
      : "consumer.undeliverable: skip goes past it; with wait it is tried again. To have it, read it with a client of the stream "
        + "protocol"
    return CaptureFailure(
      cause: "undeliverable",
      description:
        "the broker cannot send \(place) of stream \"\(stream)\": \(failure). A client of the stream protocol wrote it as "
        + "bytes that are no AMQP message, or compressed (RabbitMQ 3). \(advice)",
      needsUser: false, kind: .undeliverable)
  }

  /// The broker cannot send what stands at a stream's end, though nothing comes of what was captured.
  static func unknownEnd(ofStream stream: String, captured: Int64, _ failure: CaptureFailure) -> CaptureFailure {
    CaptureFailure(
      cause: "undeliverable",
      description:
        "nothing comes from offset \(captured) of stream \"\(stream)\", which was captured, and the broker cannot send what stands at the "
        + "stream's end (\(failure)), so nothing shows whether the stream was made anew. If it was, capture it anew (a backfill in "
        + "Flow; another journal and output for source-amqp run)", needsUser: false, kind: .undeliverable)
  }
}
