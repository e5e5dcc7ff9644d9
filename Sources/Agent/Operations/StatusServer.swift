import AMQP
import Glibc
import Journal
import NIOCore
import NIOHTTP1
import NIOPosix
import Platform

/// `run --listen`: `/metrics` for Prometheus, `/healthz` and `/readyz` for a supervisor or a load balancer.
///
/// It answers from what other threads have counted, and shares nothing with the capture but that. One thread serves all clients, and
/// another one reads the journal for `/metrics`, so that a disk that does not answer holds up neither health nor readiness. Whoever
/// connects can have a bounded number of places (``StatusPlaces``), bytes and seconds, and no more: nothing that a client does or
/// leaves undone reaches the capture.
enum StatusServer {
  /// Listens, and serves for as long as the process lives.
  ///
  /// - Parameter names: Names of hosts that clients may ask for, besides addresses, `localhost` and the machine's own name.
  /// - Returns: The address in use, with the port that the system chose if that was left to it.
  /// - Throws: If the address cannot be listened on.
  static func start(
    _ address: ListenAddress, names: [String], source: OperationsSource
  ) throws(CaptureFailure) -> String {
    // What NIO cannot have it ends the process for.
    if let number = SystemLimit.shortage(descriptors: descriptors) { throw failure(address, errnoText(number)) }
    let (clients, journal) = (MultiThreadedEventLoopGroup(numberOfThreads: 1), NIOThreadPool(numberOfThreads: 1))
    journal.start()
    let names = HostNames(names + [FileLock.hostName].compactMap(\.self))
    let pages = SourcePages(source, journal: journal, eventLoop: clients.next())
    do {
      let channel = try bootstrap(clients, names, pages).bind(to: address.socketAddress()).wait()
      return channel.localAddress.map(text) ?? address.description
    } catch {
      try? journal.syncShutdownGracefully()
      try? clients.syncShutdownGracefully()
      switch error {
      case let error as IOError where error.errnoCode == EADDRINUSE: throw failure(address, ListenAddress.taken)
      case let error as IOError: throw failure(address, errnoText(error.errnoCode))
      case SocketAddressError.failedToParseIPString: throw failure(address, "that is no address in numbers")
      default: throw failure(address, "\(error)")
      }
    }
  }

  /// How many the listener itself needs.
  private static let descriptors = 8

  private static func bootstrap(
    _ group: MultiThreadedEventLoopGroup, _ names: HostNames, _ pages: SourcePages
  ) -> ServerBootstrap {
    let room = StatusClient.Room(limit: StatusPlaces<ObjectIdentifier>.limit(descriptors: SystemLimit.openFiles()))
    return ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 128)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(AcceptPause()) }
      }
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(
        .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: StatusClient.Limits.readBytes)
      )
      .childChannelOption(.writeBufferWaterMark, value: .init(low: 1, high: StatusClient.Limits.waitingBytes))
      // A client may close its side after the request and wait for the answer.
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(StatusClient.handlers(names: names, room: room, pages: pages))
        }
      }
  }

  private static func text(_ address: SocketAddress) -> String {
    let host = address.ipAddress ?? ""
    return (address.protocol == .inet6 ? "[\(host)]" : host) + ":\(address.port ?? 0)"
  }

  private static func failure(_ address: ListenAddress, _ reason: String) -> CaptureFailure {
    CaptureFailure(
      cause: "listen",
      description:
        "listening on \(address): \(reason); --listen needs ADDRESS:PORT of this host that is free, for example "
        + "127.0.0.1:9090 or [::1]:9090", needsUser: true)
  }
}

/// What a capture says of itself, for the clients of one listener.
///
/// The journal is read on a thread of its own, once for all who ask meanwhile. `@unchecked Sendable`: everything else happens on the
/// thread of `eventLoop`.
private final class SourcePages: StatusPages, @unchecked Sendable {
  private let source: OperationsSource
  private let journal: NIOThreadPool
  private let eventLoop: any EventLoop
  private var isReading = false
  /// Who asked for metrics before the journal is read for them, and since.
  private var asking: [ObjectIdentifier: (StatusAnswer) -> Void] = [:]
  private var awaiting: [ObjectIdentifier: (StatusAnswer) -> Void] = [:]

  init(_ source: OperationsSource, journal: NIOThreadPool, eventLoop: any EventLoop) {
    (self.source, self.journal, self.eventLoop) = (source, journal, eventLoop)
  }

  func ask(_ page: StatusRequest.Page, _ client: ObjectIdentifier, reply: @escaping (StatusAnswer) -> Void) {
    switch page {
    case .health:
      let now = source.now()
      let health = now.health
      reply(
        StatusAnswer(
          status: health.isHealthy ? .ok : .serviceUnavailable, text: health.reason + "\n" + now.details))
    case .readiness:
      let now = source.now()
      reply(
        now.isReady
          ? StatusAnswer(status: .ok, text: "ready\n" + now.details)
          : StatusAnswer(status: .serviceUnavailable, text: "not ready: \(now.state.message)\n" + now.details))
    case .metrics:
      asking[client] = reply
      read()
    }
  }

  func left(_ client: ObjectIdentifier) {
    asking[client] = nil
    awaiting[client] = nil
  }

  private func read() {
    guard !isReading, !asking.isEmpty else { return }
    isReading = true
    (awaiting, asking) = (asking, [:])
    journal.runIfActive(eventLoop: eventLoop) { [source] in source.withJournal().prometheusText }
      .whenSuccess { [self] text in
        let answer = StatusAnswer(status: .ok, text: text, type: "text/plain; version=0.0.4; charset=utf-8")
        let replies = awaiting.values
        awaiting = [:]
        isReading = false
        for reply in replies { reply(answer) }
        read()
      }
  }
}

/// Stops accepting for a second when the process has no descriptor left, instead of trying as fast as it can.
private final class AcceptPause: ChannelInboundHandler {
  typealias InboundIn = any Channel

  private static let pause = TimeAmount.seconds(1)

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let options = context.channel.syncOptions else { return context.fireErrorCaught(error) }
    try? options.setOption(.autoRead, value: false)
    context.channel.eventLoop.assumeIsolated().scheduleTask(in: Self.pause) {
      try? options.setOption(.autoRead, value: true)
    }
  }
}
