import Glibc
import Journal

// Writes a journal, says on stdout what is committed, and is killed while it does; `check` compares what is there with
// what was said. What scripts/powercut and scripts/syscalls run.
//
//   JournalWriter write PATH SEED TRANSACTIONS [normal]
//   JournalWriter check PATH LAST COMMITTED-AT-LEAST COMMITTED-AT-MOST
//
// `write` prints `last N` once everything up to position N is said to be on stable storage, `committing N` before and
// `committed N` after positions up to N are recorded as committed downstream, `closed` at the end. With `normal` commits
// are not synced, which a power cut must show. Status: 0, 2 if the journal failed, 64 for wrong usage.

/// SplitMix64: the same numbers for the same seed.
struct Seeded: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// The content of the message at a position: known to who wrote it and to who checks it.
func body(_ position: Int64) -> [UInt8] {
  var random = Seeded(state: UInt64(position))
  let size = Int.random(in: 0...3000, using: &random)
  return Array("position \(position) ".utf8) + (0..<size).map { _ in UInt8.random(in: 97...122, using: &random) }
}

/// One write a line, so that what was said is out whatever comes next, with the nanoseconds of CLOCK_MONOTONIC at which it
/// was true.
func say(_ line: String) {
  var now = timespec()
  unsafe _ = clock_gettime(CLOCK_MONOTONIC, &now)
  let bytes = Array("\(now.tv_sec * 1_000_000_000 + now.tv_nsec) \(line)\n".utf8)
  guard unsafe bytes.withUnsafeBytes({ unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }) == bytes.count
  else { exit(1) }
}

func fail(_ text: String, status: Int32) -> Never {
  say("failed \(text)")
  exit(status)
}

extension WriteTransaction {
  borrowing func append(_ body: [UInt8], consumer: Int64) throws {
    try append(
      consumer: consumer, deliveryTag: 1, redelivered: false, receivedAt: 1, exchange: Span(), routingKey: Span(),
      properties: Array("{}".utf8).span, rawProperties: Span(), body: body.span)
  }
}

/// Runs `body` a few times more where the journal says that this can help.
func retrying<R>(_ body: () throws -> R) throws -> R {
  for _ in 0..<3 {
    do { return try body() } catch let error as JournalError where error.isRetryable { continue }
  }
  return try body()
}

func write(_ path: String, seed: UInt64, transactions: Int, normal: Bool) throws {
  let journal = try retrying { try Journal.open(JournalSettings(path: path)) }
  if normal { try journal.stopSyncingCommits() }
  var random = Seeded(state: seed)
  let id = "s-\(random.next())-\(random.next())"
  _ = try retrying {
    let subscription = try journal.subscriptions([Journal.Wanted("q", queue: "q", virtualHost: "/")])[0]
    return try journal.beginSession(of: subscription, id: id, startedAt: 1)
  }
  let consumer = try retrying { try journal.beginConsumer(tag: id) }.id
  say("open \(journal.positions.last)")
  for _ in 0..<transactions {
    let count = Int.random(in: 1...40, using: &random)
    try retrying {
      try journal.write { tx in
        for _ in 0..<count { try tx.append(body(tx.positions.last.rawValue + 1), consumer: consumer) }
      }
    }
    say("last \(journal.positions.last)")
    if Int.random(in: 0..<3, using: &random) == 0 {
      let (from, to) = (journal.positions.committedThrough.rawValue, journal.positions.last.rawValue)
      let position = Int64.random(in: from...to, using: &random)
      say("committing \(position)")
      try retrying {
        try journal.write { tx in
          try tx.setEmitted(through: Position(rawValue: position))
          try tx.setCommitted(through: Position(rawValue: position))
          _ = try tx.prune(limit: 100)
        }
      }
      say("committed \(position)")
    }
    if Int.random(in: 0..<5, using: &random) == 0 { _ = try retrying { try journal.maintain(idle: true) } }
  }
  try journal.close()
  say("closed")
}

func check(_ path: String, last: Int64, committed: ClosedRange<Int64>) throws {
  let journal = try Journal.open(JournalSettings(path: path))
  let positions = journal.positions
  if positions.last.rawValue < last { fail("lost: position \(last) was said, \(positions.last) is there", status: 1) }
  guard committed.contains(positions.committedThrough.rawValue) else {
    fail("committed is \(positions.committedThrough), said was \(committed)", status: 1)
  }
  let reader = try JournalReader(path: path)
  let problems = try reader.verify()
  if !problems.isEmpty { fail("unsound: \(problems.joined(separator: "; "))", status: 1) }
  var expected = positions.committedThrough.rawValue
  while try reader.read(
    after: Position(rawValue: expected), limit: 1000,
    { row in
      expected += 1
      if row.position.rawValue != expected { fail("position \(row.position) instead of \(expected)", status: 1) }
      if Array(copying: row.body) != body(expected) { fail("position \(expected) has other content", status: 1) }
      return true
    }) > 0
  {}
  if expected != positions.last.rawValue { fail("positions end at \(expected), not \(positions.last)", status: 1) }
  try reader.close()
  try journal.close()
  say("sound \(positions.last) \(positions.committedThrough)")
}

let arguments = CommandLine.arguments
do {
  switch (arguments.dropFirst().first, arguments.count) {
  case ("write", 5...6):
    guard let seed = UInt64(arguments[3]), let count = Int(arguments[4]) else { exit(64) }
    try write(arguments[2], seed: seed, transactions: count, normal: arguments.count == 6)
  case ("check", 6):
    guard let last = Int64(arguments[3]), let low = Int64(arguments[4]), let high = Int64(arguments[5]), low <= high
    else { exit(64) }
    try check(arguments[2], last: last, committed: low...high)
  case ("old", 5):
    guard let version = Int(arguments[4]) else { exit(64) }
    try Journal.copy(arguments[2], asVersion: version, to: arguments[3])
  default:
    exit(64)
  }
} catch {
  fail("\(error)", status: 2)
}
