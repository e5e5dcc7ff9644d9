internal import Glibc
public import Platform

/// What a broker tells without being asked.
public enum ConnectionEvent: Equatable, Sendable {
  /// The broker ended our consumer: its queue was deleted, or moved to another node.
  case consumerCancelled(tag: String)
  /// The broker asks publishers to wait, for lack of memory or disk.
  case blocked(reason: String)
  case unblocked
}

/// One connection with one channel, made for one consumer.
///
/// Belongs to the thread that opened it; nothing of it is `Sendable`. After any error but `.channelClosed` it is over.
public final class Connection {
  /// How a call to ``receive(deliveries:bytes:)`` ended.
  public enum Received: Equatable, Sendable {
    /// The socket is empty.
    case drained
    /// The batch is at its limit; more may be waiting.
    case full
  }

  /// The node that this connection is to.
  public let node: BrokerNode
  /// What the broker says about itself.
  public internal(set) var server = ServerIdentity()
  /// The heartbeat interval in force, in seconds; 0 is off.
  public internal(set) var heartbeatSeconds: UInt16 = 0
  /// The largest frame in bytes, as agreed on.
  public internal(set) var frameMax: UInt32 = 0
  /// The deliveries that have arrived since the last ``takeBatch(refilling:)``.
  public private(set) var batch = DeliveryBatch()

  let settings: ConnectionSettings
  let stream: any ByteStream
  private let codec = MethodCodec()
  var input = FrameBuffer()
  var output: [UInt8] = []
  var written = 0
  private var assembler: DeliveryAssembler
  var heartbeat = Heartbeat(intervalSeconds: 0, at: Instant.now)
  private var events: [ConnectionEvent] = []
  private var received: Int64 = 0
  private var listening = true
  /// `connection.start` has come, so the peer is a broker.
  var hasStarted = false
  /// The largest payload of a frame that the broker takes from us.
  var largestPayload = MethodCodec.largestPayload
  /// The channel was not opened yet, or the broker closed it.
  private var channelIsClosed = true
  /// The consumer that was asked for last.
  private var consumerTag: String?
  private var notices = NoticeLimit()
  var probe = QueueProbe()
  /// Questions for the queue on the consumer's channel that have no answer yet, in order: by whom they were asked.
  var questions: [Question] = []
  enum Question { case behind, aside, depth }
  /// The answer to the newest question of ``askBehind(for:)``.
  var answerBehind: QueueStatus?
  var depth: QueueStatus?
  /// The broker allows a second channel.
  var allowsProbe = false
  /// Nobody takes deliveries any more.
  private var isClosing = false
  /// Bytes of the frame with the login.
  var loginBytes = 0
  /// The password or token that the broker has.
  private var secret: String?
  /// How often it was changed without an answer yet.
  private var updates = 0
  /// A consumer was made, so what is called from now on is waited for.
  private var hasConsumed = false

  static let channel: UInt16 = 1

  convenience init(
    _ settings: ConnectionSettings, over socket: Socket, to node: BrokerNode, deadline: Instant
  ) throws(AMQPError) {
    let stream = try Self.stream(over: socket, settings, node, deadline: deadline)
    try self.init(settings, over: stream, to: node, deadline: deadline)
    if heartbeatSeconds > 0 {
      socket.setUserTimeout(milliseconds: Int32(heartbeatSeconds) * 2000)
    }
  }

  /// The same over a stream that is connected.
  init(
    _ settings: ConnectionSettings, over stream: any ByteStream, to node: BrokerNode, deadline: Instant
  ) throws(AMQPError) {
    assembler = DeliveryAssembler(limit: settings.bodyLimit)
    secret = settings.credentials.secret
    self.settings = settings
    self.node = node
    self.stream = stream
    try handshake(deadline: deadline)
    try call(.channelOpen, during: "opening a channel", deadline: deadline) { $0 == .channelOpenOk ? true : nil }
    channelIsClosed = false
  }

  private static func stream(
    over socket: Socket, _ settings: ConnectionSettings, _ node: BrokerNode, deadline: Instant
  ) throws(AMQPError) -> any ByteStream {
    guard let tls = settings.tls else { return socket }
    return try TLSStream(socket, tls, node: node, deadline: deadline, isAbandoned: settings.isAbandoned)
  }
}

// MARK: - Consuming

extension Connection {
  /// Begins to consume. Deliveries may already be in ``batch`` when it returns.
  ///
  /// - Parameter tag: A tag that was never used before on this queue; some brokers mix up reused ones.
  public func consume(_ consumption: Consumption, tag: String) throws(AMQPError) {
    consumerTag = tag
    assembler.consumerAsked(tag: tag)
    try call(.consume(consumption, tag: tag), during: "consuming from queue \"\(consumption.queue)\"") {
      $0 == .consumeOk(tag: tag) ? true : nil
    }
    assembler.consumerStarted()
    hasConsumed = true
  }

  /// Ends the consumer. What the broker had sent before it knew is in ``batch`` when this returns.
  public func cancel(tag: String) throws(AMQPError) {
    try call(.cancel(tag: tag), during: "cancelling the consumer") { $0 == .cancelOk ? true : nil }
    assembler.consumerEnded()
  }

  /// Acknowledges `tag`, with `multiple` everything up to it. The broker does not answer; ``close()`` shows that it was handled.
  public func acknowledge(_ tag: UInt64, multiple: Bool) throws(AMQPError) {
    try send(.ack(tag: tag, multiple: multiple), channel: Self.channel)
    try flush()
  }

  /// Hands the broker a new password or token, unless it has this one: a token that expires ends the connection.
  /// https://www.rabbitmq.com/docs/oauth2#token-expiration
  ///
  /// - Returns: True if it went out. The broker's answer is not waited for; if it refuses, it closes the connection.
  public func updateSecret(_ secret: String) throws(AMQPError) -> Bool {
    // Others may not know the method, and would close the connection.
    guard let known = self.secret, secret != known, server.product == "RabbitMQ" else { return false }
    self.secret = secret
    updates += 1
    try send(.updateSecret(Array(secret.utf8), reason: "it changed"), channel: 0)
    try flush()
    return true
  }

  /// Refuses one delivery without requeueing it: it goes to the queue's dead-letter exchange, or away.
  public func reject(_ tag: UInt64) throws(AMQPError) {
    try send(.reject(tag: tag, requeue: false), channel: Self.channel)
    try flush()
  }

  /// Opens the channel again after `.channelClosed`; nothing happens if it is open.
  public func reopenChannel() throws(AMQPError) {
    guard channelIsClosed else { return }
    assembler = DeliveryAssembler(limit: settings.bodyLimit)
    consumerTag = nil
    questions.removeAll()
    try call(.channelOpen, during: "opening a channel") { $0 == .channelOpenOk ? true : nil }
    channelIsClosed = false
  }

  /// Says goodbye and waits for the answer; the broker has then handled everything sent before. What it delivers until
  /// then is dropped, and returns to the queue with all else that is unacknowledged.
  public func close() throws(AMQPError) {
    isClosing = true
    try call(.channelClose(code: 200, text: "done"), during: "closing the channel") {
      $0 == .channelCloseOk ? true : nil
    }
    try call(.close(code: 200, text: "done"), channel: 0, during: "closing the connection") {
      $0 == .closeOk ? true : nil
    }
  }
}

// MARK: - Receiving

extension Connection {
  /// A delivery has begun to arrive, and is not whole yet.
  public var isArriving: Bool { assembler.isInside }

  /// Reads what the socket has into ``batch``, without waiting, until it is empty or the batch has `deliveries` or
  /// `bytes` in it (the last delivery may go beyond). A broker that sends without end and nothing of use is left after a
  /// while, as if the socket were empty, so that the caller does what else there is to do.
  public func receive(deliveries: Int, bytes: Int) throws(AMQPError) -> Received {
    for _ in 0..<Self.readLimit {
      while batch.deliveries.count < deliveries && batch.byteCount < bytes {
        guard let method = try nextMethod(within: (deliveries, bytes)) else { break }
        throw AMQPError(.malformed(text: "\(Self.text(method)) out of turn"), during: "consuming")
      }
      if batch.deliveries.count >= deliveries || batch.byteCount >= bytes { return .full }
      if try !read() { return .drained }
    }
    return .drained
  }

  /// How often ``receive(deliveries:bytes:)`` reads at the most.
  private static let readLimit = 64

  /// Takes the whole deliveries; ``batch`` goes on in the memory of `spare`.
  public func takeBatch(refilling spare: consuming DeliveryBatch) -> DeliveryBatch {
    let offset = batch.completeBytes
    let taken = batch.split(continuingIn: spare)
    assembler.moved(by: offset)
    return taken
  }

  /// Takes what the broker told without being asked, oldest first.
  public func takeEvents() -> [ConnectionEvent] {
    defer { events.removeAll() }
    return events
  }

  /// Sends what is due, and waits until the socket has something to read (if `reading`), `wakeup` was signalled, or the
  /// deadline passed. Heartbeats go out and are watched here; with `reading` false, silence proves nothing.
  ///
  /// - Throws: `.heartbeatsMissed` where the broker is silent for two intervals.
  public func wait(until deadline: Instant, wakeup: Wakeup, reading: Bool) throws(AMQPError) {
    try beat(reading: reading)
    try flush()
    let now = Instant.now
    let until = min(deadline, heartbeat.nextDeadline(listening: reading, blocked: written < output.count) ?? deadline)
    if until > now {
      var events = reading ? Int16(POLLIN) : 0
      if written < output.count { events |= Int16(POLLOUT) }
      var polled = [
        pollfd(fd: stream.descriptor, events: stream.interest(in: events), revents: 0),
        pollfd(fd: wakeup.descriptor, events: Int16(POLLIN), revents: 0),
      ]
      // A socket in error is always ready; while we do not read, only its error is of interest.
      let milliseconds = (until - now).pollMilliseconds
      if unsafe poll(&polled, 2, milliseconds) > 0, polled[1].revents != 0 { wakeup.drain() }
      if polled[0].revents & Int16(POLLERR) != 0 && !reading {
        throw AMQPError(.endOfStream(hint: "the connection broke"), during: "waiting for the broker")
      }
    }
    try beat(reading: reading)
    try flush()
  }

  private func beat(reading: Bool) throws(AMQPError) {
    let now = Instant.now
    if reading && !listening { heartbeat.resumedListening(at: now) }
    listening = reading
    switch heartbeat.action(at: now, listening: reading, blocked: written < output.count) {
    case .none: break
    case .send: FrameBuffer.append(.heartbeat, channel: 0, payload: [], to: &output)
    case .giveUp:
      // The silence may be ours: what came while this thread was not running is still in the socket.
      if try !read() {
        throw AMQPError(.heartbeatsMissed(intervalSeconds: heartbeatSeconds), during: "waiting for the broker")
      }
    }
  }
}

// MARK: - Frames and calls

extension Connection {
  /// Reads once; false if there was nothing.
  private func read() throws(AMQPError) -> Bool {
    let stream = self.stream
    let progress = unsafe try input.fill { (buffer) throws(AMQPError) -> (count: Int, result: Socket.Progress) in
      let progress = unsafe try stream.read(into: buffer)
      if case .bytes(let count) = progress { return (count, progress) }
      return (0, progress)
    }
    switch progress {
    case .wouldBlock: return false
    case .endOfStream: throw AMQPError(.endOfStream(hint: ""), during: "reading from the broker")
    case .bytes:
      received = SystemClock.wallMicroseconds()
      heartbeat.heard(at: Instant.now)
      return true
    }
  }

  /// Handles whole frames until one is a method that somebody waits for; nil when there is none, or the batch is full.
  private func nextMethod(
    within limit: (deliveries: Int, bytes: Int) = (.max, .max)
  ) throws(AMQPError) -> ServerMethod? {
    // In variables while frames are read: each use of a class's property would be checked for its exclusiveness. What
    // is copied of `input` is where it stands; nothing writes to its bytes before this returns.
    var input = self.input
    var batch = exchange(&self.batch, with: DeliveryBatch())
    var assembler = self.assembler
    defer {
      self.input = input
      self.batch = batch
      self.assembler = assembler
    }
    let bytes = input.bytes
    while batch.deliveries.count < limit.deliveries, batch.byteCount < limit.bytes, let frame = try input.next() {
      let payload = bytes.span.extracting(frame.payload)
      try Self.checkChannel(of: frame, payload)
      switch frame.type {
      case .heartbeat: break
      case .header: try assembler.header(payload, at: received, into: &batch)
      case .body: try assembler.body(payload, at: received, into: &batch)
      case .method:
        if Self.isDelivery(payload) {
          let fields = frame.payload.lowerBound + 4..<frame.payload.upperBound
          try assembler.deliver(bytes.span.extracting(fields), into: &batch)
        } else if frame.channel == QueueProbe.channel {
          if let next = try probe.received(try codec.decode(payload)) { try send(next, channel: QueueProbe.channel) }
        } else if let method = try unsolicited(try codec.decode(payload)) {
          return method
        }
      }
    }
    return nil
  }

  /// Deals with what a broker may send at any time; gives back what it may not.
  private func unsolicited(_ method: ServerMethod) throws(AMQPError) -> ServerMethod? {
    switch method {
    case .close(let code, let text):
      try? send(.closeOk, channel: 0)
      try? flush()
      throw AMQPError(.connectionClosed(code: code, text: text), during: "using the connection")
    case .channelClose(let code, let text) where !channelIsClosed:
      channelIsClosed = true
      try send(.channelCloseOk, channel: Self.channel)
      try flush()
      throw AMQPError(.channelClosed(code: code, text: text), during: "using the channel")
    case .cancel(let tag):
      guard tag == consumerTag else {
        throw AMQPError(
          .malformed(text: "basic.cancel of consumer \"\(tag)\", which is not ours"), during: "using the channel")
      }
      try note(.consumerCancelled(tag: tag))
    case .blocked(let reason): try note(.blocked(reason: reason))
    case .unblocked: try note(.unblocked)
    case .updateSecretOk where updates > 0: updates -= 1
    case .queueDeclareOk(let status) where !questions.isEmpty:
      switch questions.removeFirst() {
      case .aside: probe.answered(status)
      // The answer to an older question came before what the newest one waits for.
      case .behind: if !questions.contains(.behind) { answerBehind = status }
      case .depth: depth = status
      }
    default: return method
    }
    return nil
  }

  private func note(_ event: ConnectionEvent) throws(AMQPError) {
    guard notices.allows(at: Instant.now) else {
      throw AMQPError(
        .malformed(text: "a flood of connection.blocked, connection.unblocked or basic.cancel"),
        during: "using the connection")
    }
    if events.last != event { events.append(event) }
  }

  func send(_ method: ClientMethod, channel: UInt16) throws(AMQPError) {
    var payload: [UInt8] = []
    try codec.encode(method, into: &payload, atMost: largestPayload)
    FrameBuffer.append(.method, channel: channel, payload: payload, to: &output)
  }

  /// Writes as much as the socket takes.
  func flush() throws(AMQPError) {
    while written < output.count {
      var failure: AMQPError?
      let progress: Socket.Progress = unsafe output.withUnsafeBytes { buffer in
        do throws(AMQPError) {
          return unsafe try stream.write(UnsafeRawBufferPointer(rebasing: buffer[written...]))
        } catch {
          failure = error
          return .wouldBlock
        }
      }
      if let failure { throw failure }
      guard case .bytes(let count) = progress else { return }
      written += count
      heartbeat.sent(at: Instant.now)
    }
    output.removeAll(keepingCapacity: true)
    written = 0
  }

  /// Sends `method` and waits for the answer that `accept` takes; deliveries that come meanwhile go to ``batch``.
  @discardableResult
  func call<Answer>(
    _ method: ClientMethod, channel: UInt16 = Connection.channel, during operation: String, deadline: Instant? = nil,
    accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer {
    do throws(AMQPError) {
      try send(method, channel: channel)
      return try answer(until: deadline ?? Instant.now + settings.timeout, accept: accept)
    } catch {
      throw AMQPError(error.kind, during: operation)
    }
  }

  func answer<Answer>(until deadline: Instant, accept: (ServerMethod) -> Answer?) throws(AMQPError) -> Answer {
    while true {
      if let method = try nextMethod() {
        if let answer = accept(method) { return answer }
        throw AMQPError(
          .malformed(text: "an unexpected answer, \(Self.text(method))"), during: "waiting for an answer")
      }
      if isClosing && !batch.isEmpty { _ = takeBatch(refilling: DeliveryBatch()) }
      guard batch.byteCount < Self.waitingBytes, batch.deliveries.count < Self.waitingDeliveries else {
        throw AMQPError(
          .malformed(text: "deliveries without end instead of an answer"), during: "waiting for an answer")
      }
      // A broker may take its time, and send other things meanwhile: neither ends the heartbeats nor moves the deadline.
      try beat(reading: true)
      try flush()
      let now = Instant.now
      guard now < deadline else { throw AMQPError(.timedOut, during: "waiting for an answer") }
      let canBeAbandoned = !hasConsumed && !isClosing
      if canBeAbandoned, settings.isAbandoned() { throw AMQPError(.abandoned, during: "waiting for an answer") }
      if try !read() {
        let events = Int16(POLLIN) | (written < output.count ? Int16(POLLOUT) : 0)
        let limit = canBeAbandoned ? min(deadline, now + Socket.look) : deadline
        let beat = heartbeat.nextDeadline(listening: true, blocked: written < output.count)
        _ = stream.wait(for: events, until: min(limit, beat ?? limit))
      }
    }
  }

  /// Deliveries, and bytes of them, that may come before an answer: a whole prefetch window of ordinary ones.
  private static let waitingDeliveries = 1 << 17
  private static let waitingBytes = 32 << 20
}
