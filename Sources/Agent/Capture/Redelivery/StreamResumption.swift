import AMQP
import Journal
import Synchronization

/// Where a capture of a stream queue goes on: behind the newest offset that was captured.
///
/// A stream keeps its messages and gives each an offset, so nothing has to be recognised: a consumer asks for what lies
/// behind the last one, and passes over what the broker sends from before it. Acknowledgements are only credit. The
/// offset is stored in the transaction of the messages, or in the checkpoint that covers them.
/// https://www.rabbitmq.com/docs/streams#consuming
final class StreamResumption: Sendable {
  /// The header that every delivery of a stream carries, and the argument to consume from.
  static let key = "x-stream-offset"

  /// The queue that the offset is of.
  let queue: QueueIdentity
  /// True where the journal does not outlive the process, so that the checkpoints' state has to carry the offset.
  let isCarriedByCheckpoints: Bool
  private let newest: Mutex<Int64?>

  /// - Parameter state: The offset that the committed checkpoint carries; looked at only where the journal is temporary.
  /// - Returns: Nil where the queue is no stream.
  init?(
    _ configuration: EndpointConfiguration, journal: Journal, isTemporary: Bool, state: State?
  ) throws(JournalError) {
    guard Self.isStream(configuration) else { return nil }
    let queue = QueueIdentity(configuration)
    self.queue = queue
    isCarriedByCheckpoints = isTemporary
    if isTemporary {
      newest = Mutex(state.flatMap { queue.matches($0.queue) ? $0.offset : nil })
    } else {
      let record = try journal.redelivery()
      newest = Mutex(record.flatMap { queue.matches($0.queue) ? $0.streamOffset : nil })
    }
  }

  /// A stream is declared as one, or consumed from an offset. Headers prove nothing: any publisher can set them.
  static func isStream(_ configuration: EndpointConfiguration) -> Bool {
    configuration.queue.arguments["x-queue-type"] == .string("stream")
      || configuration.consumer.arguments[key] != nil
  }

  /// The newest captured offset; nil before the first.
  var offset: Int64? { newest.withLock { $0 } }

  /// The offset to consume from; nil before the first. On a queue that is no stream a publisher can make up any number,
  /// also the largest one.
  var next: Int64? { offset.map { min($0, .max - 1) + 1 } }

  /// Messages up to `offset` are durable in the journal.
  func captured(through offset: Int64?) {
    guard let offset else { return }
    newest.withLock { $0 = max($0 ?? offset, offset) }
  }

  /// What the journal has to remember, in the transaction that appends the messages up to `offset`.
  func record(of offset: Int64?, last: Position) -> RedeliveryRecord {
    RedeliveryRecord(
      queue: queue.text, releasable: last, prefetch: 0, priority: nil, prioritySince: last, streamOffset: offset)
  }

  /// An offset as a checkpoint's state carries it.
  struct State: Equatable, Sendable {
    var queue: String
    var offset: Int64

    var json: JSONValue { ["queue": .string(queue), "offset": .integer(offset)] }

    init(queue: String, offset: Int64) {
      self.queue = queue
      self.offset = offset
    }

    /// Nil where there is none.
    init?(json: JSONValue?) {
      guard let queue = json?["queue"]?.stringValue, let offset = json?["offset"]?.int64Value else { return nil }
      self.init(queue: queue, offset: offset)
    }
  }

  /// The state for a checkpoint that ends with a message of these properties (JSON); nil where they have no offset.
  func state(from properties: [UInt8]) -> State? {
    guard let properties = try? JSONValue.parse(properties),
      let offset = properties["headers"]?[Self.key]?.int64Value
    else { return nil }
    return State(queue: queue.text, offset: offset)
  }
}
