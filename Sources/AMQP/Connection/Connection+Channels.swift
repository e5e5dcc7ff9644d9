/// How channels begin, and how all of them end.
extension Connection {
  /// A channel: the one that was opened with the connection, then further ones, each with the lowest number that is free. It lives as long as
  /// the connection, and is opened again if the broker closes it.
  ///
  /// - Throws: `.connectionClosed` with 530 if the user or the node has as many as it may.
  public func openChannel() throws(AMQPError) -> AMQPChannel {
    if let first = first.take() { return first }
    let channel = AMQPChannel(freeNumber, of: self)
    channels[channel.number] = channel
    try channel.reopen()
    return channel
  }

  func probeNumber(of channel: AMQPChannel) -> UInt16? { probed.first { $0.value === channel }?.key }

  func probeNumberOrNew(of channel: AMQPChannel) -> UInt16 {
    if let known = probeNumber(of: channel) { return known }
    let number = freeNumber
    probed[number] = channel
    return number
  }

  /// Whether a queue is asked for on the channel of this number.
  func isProbe(_ number: UInt16) -> Bool { probed[number] != nil }

  private var freeNumber: UInt16 {
    var number: UInt16 = 1
    while channels[number] != nil || probed[number] != nil { number += 1 }
    return number
  }

  func consumed() { hasConsumed = true }

  /// Says goodbye and waits for the answers; the broker has then handled everything sent before. What it delivers until
  /// then is dropped, and returns to the queues with all else that is unacknowledged.
  ///
  /// - Throws: `.channelClosed` if the broker had closed a channel, so that no one knows what it has handled there.
  public func close() throws(AMQPError) {
    isClosing = true
    let open = channels.values.sorted { $0.number < $1.number }
    for channel in open { try channel.sayGoodbye() }
    var failure: AMQPError?
    for channel in open {
      do throws(AMQPError) { try channel.awaitGoodbye() } catch {
        guard case .channelClosed = error.kind else { throw AMQPError(error.kind, during: "closing the channel") }
        failure = failure ?? error
      }
    }
    do throws(AMQPError) {
      try send(.close(code: 200, text: "done"), channel: 0)
      try answer(on: nil, until: nil) { $0 == .closeOk ? true : nil }
    } catch {
      throw AMQPError(error.kind, during: "closing the connection")
    }
    if let failure { throw failure }
  }
}
