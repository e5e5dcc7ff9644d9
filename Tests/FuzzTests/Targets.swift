import Glibc
import Journal
import Platform

@testable import AMQP
@testable import Agent

/// What can be fuzzed, by name; the folders of `corpus` have the same names.
let targets: [String: @Sendable ([UInt8]) -> Void] = [
  "frames": frames, "properties": properties, "requests": requests, "state": state, "journal": journal,
  "wal": wal, "broker": broker, "bodies": bodies,
]

/// The payloads of a channel's frames, in any order: a kind octet, two octets of length, the payload.
private func frames(_ input: [UInt8]) {
  var assembler = DeliveryAssembler(consumer: "")
  var batch = DeliveryBatch()
  var rest = input[...]
  do throws(AMQPError) {
    while rest.count >= 3 {
      let kind = rest.removeFirst()
      let length = min(Int(rest.removeFirst()) << 8 | Int(rest.removeFirst()), rest.count)
      let payload = Array(rest.prefix(length))
      rest = rest.dropFirst(length)
      switch kind % 3 {
      case 0: try assembler.deliver(payload.span, into: &batch)
      case 1: try assembler.header(payload.span, at: 0, into: &batch)
      default: try assembler.body(payload.span, at: 0, into: &batch)
      }
    }
  } catch {
    precondition(!"\(error)".isEmpty)
  }
}

/// A property block, with its field tables: whatever it holds becomes JSON.
private func properties(_ input: [UInt8]) {
  var renderer = PropertiesRenderer()
  var out: [UInt8] = []
  _ = renderer.render(input.span, into: &out)
  do { _ = try JSONValue.parse(out) } catch {
    fatalError("no JSON: \(String(decoding: out, as: UTF8.self)): \(error)")
  }
}

/// A body, after an octet that says what its properties call it: whatever it is becomes a document, of JSON and within the bound.
private func bodies(_ input: [UInt8]) {
  guard let first = input.first else { return }
  let encodings = [
    "gzip", "deflate", "gzip, deflate", "application/x-gzip", "utf-16", "iso-8859-1", "identity", "none",
  ]
  let types = ["application/json", "text/plain", "application/octet-stream", "application/x-ndjson; charset=utf-16"]
  let properties = Array(
    #"{"content_encoding":"\#(encodings[Int(first & 7)])","content_type":"\#(types[Int(first >> 3 & 3)])"}"#.utf8)
  let body = Array(input.dropFirst())
  let isTruncating = first & 0x20 != 0
  var renderer = DocumentRenderer(
    options: DocumentOptions(
      body: first & 0x40 != 0 ? .base64 : .auto, maxBytes: DocumentSettings.minimumMaxBytes,
      oversize: isTruncating ? .truncate : .fail))
  let consumer = ConsumerRecord(
    id: 1, sessionID: "s", sessionBase: .origin, tag: "t", queue: "q", virtualHost: "/")
  var out: [UInt8] = []
  let row = Row(
    position: Position(rawValue: 1), consumer: 1, deliveryTag: 1, redelivered: false, receivedAt: 0,
    exchange: Span(), routingKey: Span(), properties: properties.span, body: body.span, bodyIsText: false)
  switch renderer.append(row, consumer: consumer, to: &out) {
  case .damaged: fatalError("the properties are sound")
  case .tooLarge: precondition(!isTruncating && out.isEmpty)
  case .appended, .truncated:
    precondition(out.count <= DocumentSettings.minimumMaxBytes, "\(out.count) bytes")
    do { _ = try JSONValue.parse(out) } catch {
      fatalError("no JSON: \(String(decoding: out.prefix(2000), as: UTF8.self)): \(error)")
    }
  }
}

/// Lines of the runtime, in two pieces.
private func requests(_ input: [UInt8]) {
  var splitter = LineSplitter()
  var machine = FlowMachine()
  let half = input.count / 2
  for line in splitter.feed(input[..<half]) + splitter.feed(input[half...]) {
    guard case .open(let capture, _, _) = machine.received(line) else { continue }
    let resources = capture.bindings.map { CaptureConfiguration.Resource(path: "r", value: $0.resource) }
    _ = try? CaptureConfiguration.parse(capture.config, resources: .given(resources))
  }
  _ = machine.ended(remainder: splitter.remainder)
}

/// The state of a checkpoint as the runtime gives it back.
private func state(_ input: [UInt8]) {
  guard let value = try? JSONValue.parse(input) else { return }
  let state = FlowState(value, stateKey: "s.v1")
  if let mark = try? state.mark() {
    _ = ResumeDecision.decide(
      state: mark, journal: "j", last: Position(rawValue: 9), committed: Position(rawValue: 3))
  }
  _ = state.stale
  if let redelivery = state.redelivery { use(redelivery) }
  if let stream = state.stream {
    var place = StreamPlace(offset: stream.offset, digest: stream.digest)
    for offset in [stream.offset, 0, .max, stream.offset] {
      _ = place.delivered(offset, DeliveryDigest(high: 0, low: 1))
    }
  }
  // What was understood is written again as JSON that is understood again.
  guard (try? JSONValue.parse(value.text)) != nil else { fatalError("not read again: \(value.text)") }
}

/// A session of messages, old and new, that goes on from the state.
private func use(_ state: RedeliveryState) {
  var machine = RedeliveryMachine(
    anchor: 8, windowLimit: 64, captured: state.captured, releasable: state.releasable, window: state.window ?? [],
    priority: state.priority, prioritySince: state.prioritySince, prefetch: state.prefetch, lineStart: state.lineStart,
    settled: state.settled)
  machine.channelBegan(.sole, on: QueueNature(kind: .quorum, hasPriorities: false, countsAcquisitions: false))
  let old = (state.window ?? []).suffix(8).map { RedeliveryMachine.Delivery(digest: $0, redelivered: true) }
  let new = (0..<20).map {
    RedeliveryMachine.Delivery(digest: DeliveryDigest(high: 0, low: $0 % 3), redelivered: false)
  }
  for delivery in old + new {
    _ = machine.delivered(delivery)
    _ = machine.committing()
  }
  machine.settling()
  machine.confirmSettled()
}

/// A journal's file with changes: four octets of place and one of content each. It is opened, or salvaged, or refused.
private func journal(_ input: [UInt8]) {
  var bytes = soundJournal
  var rest = input[...]
  while rest.count >= 5 {
    let place = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    bytes[place % bytes.count] = rest[rest.startIndex + 4]
    rest = rest.dropFirst(5)
  }
  examine(bytes, wal: nil)
}

/// A journal as a killed process leaves it, the WAL's newest frames not in the file yet, with changes in both: as in ``journal(_:)``, places
/// count through both; a place of 2^31 or more cuts the WAL there.
private func wal(_ input: [UInt8]) {
  var (bytes, wal) = killedJournal
  var rest = input[...]
  while rest.count >= 5 {
    let place = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    let at = place % (bytes.count + wal.count)
    if place >= 1 << 31 {
      wal = Array(wal.prefix(place % (wal.count + 1)))
    } else if at < bytes.count {
      bytes[at] = rest[rest.startIndex + 4]
    } else if at - bytes.count < wal.count {
      wal[at - bytes.count] = rest[rest.startIndex + 4]
    }
    rest = rest.dropFirst(5)
  }
  examine(bytes, wal: wal)
}

/// Opens it, or salvages it, or has it refused; what comes out of that is sound.
private func examine(_ bytes: [UInt8], wal: [UInt8]?) {
  let path = scratch + "/j.db"
  for suffix in ["", "-wal", "-shm", ".damaged", ".lock"] { unsafe unlink(path + suffix) }
  writeFile(path, bytes)
  if let wal { writeFile(path + "-wal", wal) }
  do throws(JournalError) {
    do throws(JournalError) {
      try look(path)
    } catch {
      guard case .corrupt = error.kind else { return }
      let report = try Journal.salvage(JournalSettings(path: path), acceptLoss: true)
      guard let aside = report.setAside else { fatalError("loss was accepted") }
      for suffix in ["", "-wal"] { unsafe unlink(aside + suffix) }
      let reader = try JournalReader(path: path)
      let problems = try reader.verify()
      precondition(problems.isEmpty, "salvaged, and not sound: \(problems)")
      try reader.close()
    }
  } catch {
    precondition(!"\(error)".isEmpty)
  }
}

private func look(_ path: String) throws(JournalError) {
  let journal = try Journal.open(JournalSettings(path: path))
  let reader = try JournalReader(path: path)
  do { _ = try reader.read(after: .origin, limit: 1000) { _ in true } } catch let error as JournalError {
    throw error
  } catch { fatalError("\(error)") }
  guard try reader.verify().isEmpty else {
    throw JournalError(kind: .corrupt("verify"), operation: "fuzz", object: path)
  }
  try journal.close()
}

private let scratch: String = {
  var template = Array("/tmp/source-amqp-fuzz-XXXXXX".utf8CString)
  return unsafe template.withUnsafeMutableBufferPointer { buffer in
    guard let base = buffer.baseAddress, let name = unsafe mkdtemp(base) else { fatalError("no scratch directory") }
    return unsafe String(cString: name)
  }
}()

/// Forty messages, ten of them committed, at the smallest page size, so that there are many pages.
private let soundJournal: [UInt8] = made(after: { path in try? readFile(path, limit: .max) })

/// The same, before it was closed.
private let killedJournal: (file: [UInt8], wal: [UInt8]) = made(before: { path in
  guard let file = try? readFile(path, limit: .max), let wal = try? readFile(path + "-wal", limit: .max) else {
    return nil
  }
  return (file, wal)
})

/// Makes a journal and reads it before it is closed, or after.
private func made<Files>(before: (String) -> Files? = { _ in nil }, after: (String) -> Files? = { _ in nil }) -> Files {
  let path = scratch + "/sound.db"
  for suffix in ["", "-wal", "-shm", ".lock"] { unsafe unlink(path + suffix) }
  do {
    let journal = try Journal.open(JournalSettings(path: path, pageSize: 512))
    try journal.beginSession(id: "s", queue: "q", virtualHost: "/", startedAt: 1)
    let consumer = try journal.beginConsumer(tag: "c").id
    let (properties, body) = (Array("{}".utf8), [UInt8](repeating: 120, count: 300))
    for batch in 0..<4 {
      try journal.write { tx in
        for tag in 1...10 {
          try tx.append(
            consumer: consumer, deliveryTag: UInt64(batch * 10 + tag), redelivered: false, receivedAt: 1,
            exchange: Span(),
            routingKey: Span(), properties: properties.span, rawProperties: Span(), body: body.span)
        }
        if batch == 2 {
          try tx.setEmitted(through: Position(rawValue: 20))
          try tx.setCommitted(through: Position(rawValue: 10))
        }
      }
    }
    let early = before(path)
    try journal.close()
    guard let files = early ?? after(path) else { fatalError("cannot read \(path)") }
    return files
  } catch { fatalError("\(error)") }
}
