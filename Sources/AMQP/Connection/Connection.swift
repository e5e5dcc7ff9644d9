internal import Glibc
public import Platform

/// One connection to a broker, and its channels.
///
/// Belongs to the thread that opened it; nothing of it is `Sendable`. After any error but `.channelClosed` it is over.
public final class Connection: ChannelLink {
  /// How a call to ``receive(deliveries:bytes:)`` ended.
  public enum Received: Equatable, Sendable {
    /// The socket is empty.
    case drained
    /// The batches are at their limit; more may be waiting.
    case full
    /// There may be more, and what was read last was not looked at yet: to be called again at once, after what else there is to do.
    case more
  }

  /// The node that this connection is to.
  public let node: BrokerNode
  /// What the broker says about itself.
  public internal(set) var server = ServerIdentity()
  /// The heartbeat interval in force, in seconds; 0 is off.
  public internal(set) var heartbeatSeconds: UInt16 = 0
  /// Bytes that have come, frames and all.
  public private(set) var receivedBytes: UInt64 = 0
  /// The largest frame in bytes, as agreed on.
  public internal(set) var frameMax: UInt32 = 0

  let settings: ConnectionSettings
  let stream: any ByteStream
  private let codec = MethodCodec()
  var input: FrameBuffer
  var output: [UInt8] = []
  var written = 0
  var heartbeat = Heartbeat(intervalSeconds: 0, at: Instant.now)
  private var events: [ConnectionEvent] = []
  private var received: Int64 = 0
  private var listening = true
  /// `connection.start` has come, so the peer is a broker.
  var hasStarted = false
  /// The largest payload of a frame that the broker takes from us.
  var largestPayload = MethodCodec.largestPayload
  /// The first channel, which was opened with the connection, until someone takes it.
  var first: AMQPChannel?
  /// The broker has closed a channel since ``receive(deliveries:bytes:)`` was called.
  private var hasClosedOne = false
  /// The end of the connection, which came right after that.
  private var end: AMQPError?
  /// Its channels, by their numbers.
  var channels: [UInt16: AMQPChannel] = [:]
  /// The same of those on which their queues are asked for (``AMQPChannel/ask(for:)``).
  var probed: [UInt16: AMQPChannel] = [:]
  /// The one that something came for last.
  private var current: AMQPChannel?
  private var notices = NoticeLimit()
  /// The broker allows a second channel beside each consumer's.
  var allowsProbe = false
  /// No one takes deliveries any more.
  var isClosing = false
  /// Bytes of the frame with the login.
  var loginBytes = 0
  /// The password or token that the broker has.
  private var secret: String?
  /// How often it was changed without an answer yet.
  private var updates = 0
  /// A consumer was made, so what is called from now on is waited for.
  var hasConsumed = false

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
    secret = settings.credentials.secret
    self.settings = settings
    input = FrameBuffer(readSize: settings.readSize)
    self.node = node
    self.stream = stream
    try handshake(deadline: deadline)
    // Within the time of the handshake: a node that has no channel to give is as good as none.
    let channel = AMQPChannel(1, of: self)
    channels[1] = channel
    try channel.open(deadline: deadline)
    first = channel
  }

  private static func stream(
    over socket: Socket, _ settings: ConnectionSettings, _ node: BrokerNode, deadline: Instant
  ) throws(AMQPError) -> any ByteStream {
    guard let tls = settings.tls else { return socket }
    return try TLSStream(socket, tls, node: node, deadline: deadline, isAbandoned: settings.isAbandoned)
  }
}

// MARK: - The login

extension Connection {
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
}

// MARK: - Receiving

extension Connection {
  /// Reads what the socket has into the channels' batches, without waiting, until it is empty or they have `deliveries` or
  /// `bytes` in them together (the last delivery may go beyond). A broker that sends without end is left after a while, so that the
  /// caller does what else there is to do.
  ///
  /// A channel that the broker closes says so itself (``AMQPChannel/check()``); the others are not concerned.
  public func receive(deliveries: Int, bytes: Int) throws(AMQPError) -> Received {
    if let end { throw end }
    hasClosedOne = false
    do throws(AMQPError) { return try receive(within: (deliveries, bytes)) } catch {
      // Why the channel was closed says more than that the connection ended after it.
      guard hasClosedOne else { throw error }
      end = error
      return .drained
    }
  }

  private func receive(within limit: (deliveries: Int, bytes: Int)) throws(AMQPError) -> Received {
    for _ in 0..<Self.readLimit {
      while isBelow(limit.deliveries, limit.bytes) {
        guard let (_, method) = try nextMethod(within: limit) else { break }
        throw AMQPError(.malformed(text: "\(Self.text(method)) out of turn"), during: "consuming")
      }
      if !isBelow(limit.deliveries, limit.bytes) { return .full }
      if try !read() { return .drained }
    }
    return .more
  }

  private func isBelow(_ deliveries: Int, _ bytes: Int) -> Bool {
    let waiting = waiting(except: nil)
    return waiting.deliveries < deliveries && waiting.bytes < bytes
  }

  /// Whole deliveries that no one has taken yet, and bytes of them.
  private func waiting(except channel: AMQPChannel?) -> (deliveries: Int, bytes: Int) {
    var sum = (deliveries: 0, bytes: 0)
    for other in channels.values where other !== channel {
      sum.deliveries += other.batch.deliveries.count
      sum.bytes += other.batch.byteCount
    }
    return sum
  }

  /// How often ``receive(deliveries:bytes:)`` reads at the most.
  private static let readLimit = 64

  /// Takes what the broker told of the connection without being asked, oldest first.
  public func takeEvents() -> [ConnectionEvent] {
    defer { events.removeAll() }
    return events
  }

  /// Sends what is due, and waits until the socket has something to read (if `reading`), `wakeup` was signalled, or the
  /// deadline passed. Heartbeats go out and are watched here; with `reading` false, silence proves nothing.
  ///
  /// - Throws: `.heartbeatsMissed` if the broker is silent for two intervals.
  public func wait(until deadline: Instant, wakeup: Wakeup, reading: Bool) throws(AMQPError) {
    // What it has read is to be looked at before anything is waited for.
    let hasRead = try beat(reading: reading)
    try flush()
    if hasRead { return }
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

  /// Sends a heartbeat if one is due.
  ///
  /// - Returns: Whether something was read, since the peer seemed to be silent.
  @discardableResult
  private func beat(reading: Bool) throws(AMQPError) -> Bool {
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
      return true
    }
    return false
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
    case .bytes(let count):
      receivedBytes &+= UInt64(count)
      received = SystemClock.wallMicroseconds()
      heartbeat.heard(at: Instant.now)
      return true
    }
  }

  /// Handles whole frames until one is a method that someone waits for; nil when there is none, or the batches are full.
  ///
  /// - Returns: The method with the channel that it came on; nil for the connection itself.
  private func nextMethod(
    within limit: (deliveries: Int, bytes: Int) = (.max, .max)
  ) throws(AMQPError) -> (channel: AMQPChannel?, method: ServerMethod)? {
    // In variables while frames are read: each use of a class's property would be checked for its exclusiveness. What
    // is copied of `input` is where it stands; nothing writes to its bytes before this returns.
    var input = self.input
    var channel = current
    var (batch, assembler) = Self.lend(channel)
    var others = waiting(except: channel)
    defer {
      self.input = input
      Self.giveBack(batch, assembler, to: channel)
      current = channel
    }
    let bytes = input.bytes
    while others.deliveries + batch.deliveries.count < limit.deliveries,
      others.bytes + batch.byteCount < limit.bytes, let frame = try input.next()
    {
      let payload = bytes.span.extracting(frame.payload)
      if frame.channel != channel?.number, let next = channels[frame.channel] {
        others.deliveries += batch.deliveries.count - next.batch.deliveries.count
        others.bytes += batch.byteCount - next.batch.byteCount
        Self.giveBack(batch, assembler, to: channel)
        channel = next
        (batch, assembler) = Self.lend(channel)
      }
      let isOfChannel = frame.channel == channel?.number
      try checkChannel(of: frame, payload, isOfConsumer: isOfChannel)
      switch frame.type {
      case .heartbeat: break
      case .header: try assembler.header(payload, at: received, into: &batch)
      case .body: try assembler.body(payload, at: received, into: &batch)
      case .method:
        if Self.isDelivery(payload) {
          let fields = frame.payload.lowerBound + 4..<frame.payload.upperBound
          try assembler.deliver(bytes.span.extracting(fields), into: &batch)
        } else if let asked = probed[frame.channel] {
          if let next = try asked.probe.received(try codec.decode(payload), on: frame.channel) {
            try send(next, channel: frame.channel)
          }
        } else {
          let method = try codec.decode(payload)
          let of = isOfChannel ? channel : nil
          let wasClosed = of?.isClosed ?? false
          let left = if let of { try of.unsolicited(method) } else { try unsolicited(method) }
          if let of, of.isClosed, !wasClosed {
            assembler = DeliveryAssembler(limit: settings.bodyLimit)
            batch.forgetPartial()
            hasClosedOne = true
          }
          if let left { return (of, left) }
        }
      }
    }
    return nil
  }

  /// What frames of a channel are put into, taken out of it.
  private static func lend(_ channel: AMQPChannel?) -> (DeliveryBatch, DeliveryAssembler) {
    guard let channel else { return (DeliveryBatch(), DeliveryAssembler()) }
    return (exchange(&channel.batch, with: DeliveryBatch()), channel.assembler)
  }

  private static func giveBack(
    _ batch: consuming DeliveryBatch, _ assembler: consuming DeliveryAssembler, to channel: AMQPChannel?
  ) {
    guard let channel else { return }
    channel.batch = batch
    channel.assembler = assembler
  }

  /// Deals with what a broker may send at any time of the connection; gives back what it may not.
  private func unsolicited(_ method: ServerMethod) throws(AMQPError) -> ServerMethod? {
    switch method {
    case .close(let code, let text):
      try? send(.closeOk, channel: 0)
      try? flush()
      throw AMQPError(.connectionClosed(code: code, text: text), during: "using the connection")
    case .blocked(let reason): try note(.blocked(reason: reason))
    case .unblocked: try note(.unblocked)
    case .updateSecretOk where updates > 0: updates -= 1
    default: return method
    }
    return nil
  }

  private func note(_ event: ConnectionEvent) throws(AMQPError) {
    try notices.check(at: Instant.now)
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

  @discardableResult
  func answer<Answer>(
    on channel: AMQPChannel?, until deadline: Instant?, or other: () -> Answer? = { nil },
    accept: (ServerMethod) -> Answer?
  ) throws(AMQPError) -> Answer {
    let deadline = deadline ?? Instant.now + settings.timeout
    while true {
      let next: (channel: AMQPChannel?, method: ServerMethod)?
      do throws(AMQPError) { next = try nextMethod() } catch {
        try channel?.check()
        throw error
      }
      if let (of, method) = next {
        if of === channel, let answer = accept(method) { return answer }
        try channel?.check()
        throw AMQPError(
          .malformed(text: "an unexpected answer, \(Self.text(method))"), during: "waiting for an answer")
      }
      try channel?.check()
      if let answer = other() { return answer }
      if isClosing {
        for channel in channels.values where !channel.batch.isEmpty {
          _ = channel.takeBatch(refilling: DeliveryBatch())
        }
      }
      let isFlooded = channels.values.contains {
        $0.batch.byteCount >= Self.waitingBytes || $0.batch.deliveries.count >= Self.waitingDeliveries
      }
      guard !isFlooded else {
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

  /// Deliveries, and bytes of them, that may come on a channel before an answer: a whole prefetch window of ordinary ones.
  private static let waitingDeliveries = 1 << 17
  private static let waitingBytes = 32 << 20
}
