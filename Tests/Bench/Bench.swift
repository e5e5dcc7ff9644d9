import AMQP
import Glibc
import Journal

/// The broker-free parts of `scripts/bench`, through the modules' own front doors.
///
///     Bench journal PATH                       makes a journal with one session and one consumer
///     Bench append PATH MESSAGES SIZE BATCH    appends batches, each pruning the one before
///     Bench fill PATH MESSAGES SIZE [text]     appends a backlog; with `text`, of bodies that are no JSON
///     Bench decode MESSAGES                    reads the benchmark's property block, every field of it
///
/// Prints one JSON object to stderr, like the programs that it is compared with.
@main
struct Bench {
  static func main() throws {
    let arguments = CommandLine.arguments
    func number(_ index: Int) -> Int { Int(arguments[index])! }
    switch arguments.count > 1 ? arguments[1] : "" {
    case "journal": try Journal.open(JournalSettings(path: arguments[2])).withConsumer { _, _ in }
    case "append": try append(arguments[2], messages: number(3), size: number(4), batch: number(5))
    case "fill": try fill(arguments[2], messages: number(3), size: number(4), isText: arguments.count > 5)
    case "decode": try decode(messages: number(2))
    default: exit(64)
    }
  }

  private static let exchange = Array("amq.topic".utf8)
  private static let routingKey = Array("orders.new".utf8)
  private static let properties = Array(
    (#"{"content_type":"application/json","headers":{"attempt":1,"trace":"4bf92f3577b34da6a3ce929d"},"#
      + #""delivery_mode":2,"message_id":"o-1000001","timestamp":"2025-11-24T16:00:00Z","app_id":"shop"}"#).utf8)

  /// An order of so many bytes, at least 80: JSON, or text that is none.
  private static func body(_ size: Int, isText: Bool = false) -> [UInt8] {
    var text = isText ? "order 1000001 total 17.42 lines: " : #"{"order":1000001,"total":17.42,"lines":["#
    var line = 0
    while text.utf8.count + 80 < size {
      let (sku, quantity, price) = (line % 10_000, line % 9 + 1, line % 97 + 1)
      text += line > 0 ? "," : ""
      text +=
        isText
        ? "[sku, A-\(sku); quantity, \(quantity); price, \(price).9]"
        : #"{"sku":"A-\#(sku)","quantity":\#(quantity),"price":\#(price).9}"#
      line += 1
    }
    if !isText { text += #"],"note":""# }
    text += String(repeating: "x", count: max(0, size - 2 - text.utf8.count))
    return Array((text + (isText ? "xx" : #""}"#)).utf8)
  }

  private static func append(
    _ count: Int, after done: Int, _ body: [UInt8], _ consumer: Int64, to tx: borrowing WriteTransaction
  )
    throws
  {
    for index in 0..<count {
      try tx.append(
        consumer: consumer, deliveryTag: UInt64(done + index + 1), redelivered: false,
        receivedAt: 1_764_000_000_000_000, exchange: exchange.span, routingKey: routingKey.span,
        properties: properties.span, rawProperties: Span(), body: body.span)
    }
  }

  /// Steady state: what one transaction appends, the next one prunes.
  private static func append(_ path: String, messages: Int, size: Int, batch: Int) throws {
    let body = body(size)
    try Journal.open(JournalSettings(path: path)).withConsumer { journal, consumer in
      let clock = Clock()
      for done in stride(from: 0, to: messages, by: batch) {
        try journal.write { tx in
          let before = tx.positions.last
          try append(batch, after: done, body, consumer, to: tx)
          try tx.setEmitted(through: before)
          try tx.setCommitted(through: before)
          try tx.prune(limit: batch)
        }
        try journal.maintain()
      }
      clock.report(messages)
    }
  }

  /// A backlog; with `isText`, of bodies that are no JSON.
  private static func fill(_ path: String, messages: Int, size: Int, isText: Bool) throws {
    let body = body(size, isText: isText)
    try Journal.open(JournalSettings(path: path)).withConsumer { journal, consumer in
      for done in stride(from: 0, to: messages, by: 10_000) {
        try journal.write { tx in try append(min(10_000, messages - done), after: done, body, consumer, to: tx) }
      }
    }
  }

  /// Flags, properties, and both headers with their values.
  private static func decode(messages: Int) throws {
    var table: [UInt8] = [7] + Array("attempt".utf8) + [0x49, 0, 0, 0, 1]
    table += [5] + Array("trace".utf8) + [0x53, 0, 0, 0, 24] + Array("4bf92f3577b34da6a3ce929d".utf8)
    var block: [UInt8] = [0xB0, 0xC8, 16] + Array("application/json".utf8) + [0, 0, 0, UInt8(table.count)] + table
    block += [2, 9] + Array("o-1000001".utf8) + [0, 0, 0, 0, 0x69, 0x24, 0x7C, 0x80, 4] + Array("shop".utf8)
    let clock = Clock()
    var sum = 0
    for _ in 0..<messages {
      let properties = try BasicProperties(block: block.span)
      sum &+= properties.messageID?.count ?? 0
      var fields = FieldTable(properties.headers ?? 0..<0, of: block.span)
      while let field = try fields.next(block.span) {
        if case .integer(let value) = field.value { sum &+= Int(value) } else { sum &+= field.key.count }
      }
    }
    precondition(sum == messages * (9 + 1 + 5), "the block is not what it should be")
    clock.report(messages)
  }
}

extension Journal {
  /// Begins a session and a consumer, and closes the journal afterwards.
  fileprivate func withConsumer(_ body: (Journal, _ consumer: Int64) throws -> Void) throws {
    _ = try beginSession(
      id: "3677a7ff-0201-4708-b56f-49932a757c64", queue: "orders", virtualHost: "/", startedAt: 1_764_000_000_000_000)
    try body(self, try beginConsumer(tag: "bench").id)
    try close()
  }
}

/// Wall and CPU time since it was made.
private struct Clock {
  private let wall = Clock.seconds(CLOCK_MONOTONIC)
  private let cpu = Clock.seconds(CLOCK_PROCESS_CPUTIME_ID)

  private static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    unsafe clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  func report(_ messages: Int) {
    let (wall, cpu) = (Self.seconds(CLOCK_MONOTONIC) - wall, Self.seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)
    let line = Array(#"{"messages": \#(messages), "seconds": \#(wall), "cpu_seconds": \#(cpu)}"#.utf8) + [0x0A]
    _ = unsafe write(STDERR_FILENO, line, line.count)
  }
}
