/// One queue whose messages a journal keeps, and the name under which its documents go on.
///
/// Its messages have numbers, 1, 2, 3 … over the journal's whole life; as a type they are ``Position``s. Sequences, redeliveries and
/// digests count by them. If the journal has never had another subscription, numbers and positions are the same.
public struct SubscriptionRecord: Equatable, Hashable, Sendable {
  /// Its key in the file: from 0, never used again.
  public let key: Int64
  /// Its name, compared by its bytes; nil in a journal of before version 6, until it is captured again.
  public internal(set) var stream: String?
  /// The queue that it captured from last.
  public internal(set) var queue: String
  /// The queue's virtual host.
  public internal(set) var virtualHost: String

  /// What a session has instead of a key, if a salvage could not tell whose messages they are.
  static let noKey: Int64 = -1
  /// The largest key. Together with ``SubscriptionRecord/origin`` it keeps every sum below what SQLite's integers hold.
  static let largestKey: Int64 = 1 << 14 - 1
  static let span: Int64 = 1 << 46

  /// What `digest.last` adds to numbers: a subscription's rows are one range of the table's keys. 2^46 messages are 22 years of 100,000 a
  /// second. Numbers of before the journal are negative.
  var origin: Int64 { key * Self.span }

  /// The keys of its rows in `digest`. Those of the first reach as far as they did when it was the only one.
  var digestKeys: ClosedRange<Int64> {
    let half = Self.span / 2
    return (key == 0 ? -Statement.numbers.upperBound : origin - half)...(origin + half - 1)
  }

  /// Names are compared by their bytes, like AMQP's.
  public static func == (one: Self, other: Self) -> Bool {
    func isSame(_ one: String, _ other: String) -> Bool { one.utf8.elementsEqual(other.utf8) }
    return one.key == other.key && isSame(one.queue, other.queue) && isSame(one.virtualHost, other.virtualHost)
      && one.isUnnamed == other.isUnnamed && isSame(one.stream ?? "", other.stream ?? "")
  }

  /// Equal ones have the same key.
  public func hash(into hasher: inout Hasher) { hasher.combine(key) }

  /// Whether it is captured from this queue.
  func isOf(queue: String, virtualHost: String) -> Bool {
    self.queue.utf8.elementsEqual(queue.utf8) && self.virtualHost.utf8.elementsEqual(virtualHost.utf8)
  }

  /// The first of a journal that knows none yet.
  static let first = SubscriptionRecord(key: 0, queue: "", virtualHost: "")

  var isUnnamed: Bool { stream == nil }

  func isNamed(_ name: String) -> Bool { stream.map { $0.utf8.elementsEqual(name.utf8) } ?? false }
}
