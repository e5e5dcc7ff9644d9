internal import Platform

/// A connected stream of bytes that never blocks: plain TCP, or TLS over it.
protocol ByteStream: AnyObject {
  /// The socket's descriptor, to poll.
  var descriptor: Int32 { get }
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(AMQPError) -> Socket.Progress
  func write(_ buffer: UnsafeRawBufferPointer) throws(AMQPError) -> Socket.Progress
  /// What to poll for in order to go on with `events`: TLS may have to read in order to write, and the other way round.
  func interest(in events: Int16) -> Int16
  /// Waits until one of `events` (of `poll`) or an error is there; false at the deadline.
  func wait(for events: Int16, until deadline: Instant) -> Bool
}

extension Socket: ByteStream {
  func interest(in events: Int16) -> Int16 { events }
}
