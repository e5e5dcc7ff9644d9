/// What a journal holds of one subscription.
public struct StreamStatus: Equatable, Sendable {
  /// The subscription's key, which consumers name (``ConsumerRecord/subscription``); -1 is what a salvage could not tell whose it is.
  public var key: Int64
  /// Its name; nil if the journal knows none.
  public var stream: String?
  /// The queue that it captured from last; empty if it is not known.
  public var queue: String
  /// Messages that are not yet committed downstream.
  public var pendingRows = 0
  /// Bytes of their bodies.
  public var pendingBytes: Int64 = 0
  /// When the oldest of them was received, microseconds since 1970; nil if none is pending.
  public var oldestReceivedAt: Int64?
  /// Messages that wait since it is not captured.
  public var parkedRows = 0
  /// Bytes of their bodies.
  public var parkedBytes: Int64 = 0
}

extension JournalReader {
  /// What the journal holds of each subscription that it knows, in the order in which they came; none in a journal of before version 6.
  /// It takes time with what is pending.
  public func streams() throws(JournalError) -> [StreamStatus] {
    guard version >= 6 else { return [] }
    var streams: [StreamStatus] = []
    // All of one moment.
    try database.execute("BEGIN", "begin to read")
    defer { try? database.execute("ROLLBACK", "end reading") }
    try database.with("SELECT key, stream, queue FROM subscription ORDER BY key", "read the subscriptions") {
      (row) throws(JournalError) in
      while try row.step() {
        streams.append(
          StreamStatus(
            key: row.integer(0), stream: row.isNull(1) ? nil : row.string(1), queue: row.string(2)))
      }
    }
    func count(
      _ table: String, _ condition: String, _ body: (inout StreamStatus, Int, Int64, Int64) -> Void
    ) throws(JournalError) {
      try database.with(
        """
        SELECT s.subscription, count(*), sum(m.size), min(m.received_at) FROM \(table) m
        JOIN consumer c ON c.id = m.consumer JOIN session s ON s.number = c.session \(condition) GROUP BY s.subscription
        """, "count messages"
      ) { (row) throws(JournalError) in
        while try row.step() {
          let key = row.integer(0)
          let index = streams.firstIndex { $0.key == key } ?? streams.endIndex
          if index == streams.endIndex { streams.append(StreamStatus(key: key, queue: "")) }
          body(&streams[index], Int(row.integer(1)), row.integer(2), row.integer(3))
        }
      }
    }
    try count("message", "WHERE m.position > (SELECT committed FROM journal)") {
      ($0.pendingRows, $0.pendingBytes, $0.oldestReceivedAt) = ($1, $2, $3)
    }
    try count("parked", "") { (stream, rows, bytes, _) in (stream.parkedRows, stream.parkedBytes) = (rows, bytes) }
    return streams
  }
}
