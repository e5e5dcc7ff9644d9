import AMQP
import Glibc
import Journal
import NIOCore
import NIOHTTP1
import NIOPosix

/// `run --listen`: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts or routes.
///
/// It answers from what other threads have counted, and shares nothing with the capture but that. One thread serves all clients, and
/// another one reads the journal for `/metrics`, so that a disk that does not answer holds up neither health nor readiness. Whoever
/// connects can have a bounded number of places (``StatusPlaces``), bytes and seconds, and no more: nothing that a client does or
/// leaves undone reaches the capture.
struct StatusServer {
  private let source: OperationsSource
  private let names: HostNames
  private let clients = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  /// The thread that reads the journal.
  private let journal = NIOThreadPool(numberOfThreads: 1)

  /// Listens, and serves for as long as the process lives.
  ///
  /// - Parameter names: Names of hosts that clients may ask for, besides addresses, `localhost` and the machine's own name.
  /// - Returns: The address in use, with the port that the system chose where that was left to it.
  /// - Throws: Where the address cannot be listened on.
  static func start(
    _ address: ListenAddress, names: [String], source: OperationsSource
  ) throws(CaptureFailure) -> String {
    let server = StatusServer(source: source, names: HostNames(names + [FileLock.hostName].compactMap(\.self)))
    server.journal.start()
    do {
      let channel = try server.bootstrap().bind(to: address.socketAddress()).wait()
      return channel.localAddress.map(text) ?? address.description
    } catch {
      try? server.journal.syncShutdownGracefully()
      try? server.clients.syncShutdownGracefully()
      throw failure(address, error)
    }
  }

  private init(source: OperationsSource, names: HostNames) {
    self.source = source
    self.names = names
  }

  private func bootstrap() -> ServerBootstrap {
    let room = StatusClient.Room(limit: StatusPlaces<ObjectIdentifier>.limit(descriptors: SystemLimit.openFiles()))
    return ServerBootstrap(group: clients)
      .serverChannelOption(.backlog, value: 128)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelOption(
        .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: StatusClient.Limits.readBytes)
      )
      .childChannelOption(.writeBufferWaterMark, value: .init(low: 1, high: StatusClient.Limits.waitingBytes))
      // A client may close its side behind the request and wait for the answer.
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(
            StatusClient.handlers(names: names, room: room, answer: answer))
        }
      }
  }

  /// Answers, on a thread where that does not hold up anybody.
  @Sendable private func answer(_ page: StatusRequest.Page, on eventLoop: any EventLoop) -> EventLoopFuture<
    StatusAnswer
  > {
    switch page {
    case .health:
      let health = source.now().health
      return eventLoop.makeSucceededFuture(
        StatusAnswer(status: health.isHealthy ? .ok : .serviceUnavailable, text: health.reason + "\n"))
    case .readiness:
      let now = source.now()
      return eventLoop.makeSucceededFuture(
        now.isReady
          ? StatusAnswer(status: .ok, text: "ready\n")
          : StatusAnswer(status: .serviceUnavailable, text: "not ready: \(now.state.message)\n"))
    case .metrics:
      return journal.runIfActive(eventLoop: eventLoop) { [source] in
        StatusAnswer(
          status: .ok, text: source.withJournal().prometheusText, type: "text/plain; version=0.0.4; charset=utf-8")
      }
    }
  }

  private static func text(_ address: SocketAddress) -> String {
    let host = address.ipAddress ?? ""
    return (address.protocol == .inet6 ? "[\(host)]" : host) + ":\(address.port ?? 0)"
  }

  private static func failure(_ address: ListenAddress, _ error: any Error) -> CaptureFailure {
    let reason: String
    switch error {
    case let error as IOError: reason = error.errnoCode == EADDRINUSE ? ListenAddress.taken : errnoText(error.errnoCode)
    case SocketAddressError.failedToParseIPString: reason = "that is no address in numbers"
    default: reason = "\(error)"
    }
    return CaptureFailure(
      cause: "listen",
      description:
        "listening on \(address): \(reason); --listen needs ADDRESS:PORT of this host that is free, for example "
        + "127.0.0.1:9090 or [::1]:9090", needsUser: true)
  }
}
