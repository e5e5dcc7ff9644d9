import FlyingFox
import FlyingSocks
import Foundation
import Logging

/// `run --listen`: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts or routes.
///
/// It answers from what other threads have counted, and shares nothing with the capture but that: a slow client costs
/// the capture nothing.
enum StatusServer {
  /// Listens, and serves for as long as the process lives.
  ///
  /// - Returns: The address in use, with the port that the system chose where that was left to it.
  /// - Throws: Where the address cannot be listened on.
  static func start(
    _ address: ListenAddress, log: Logger, snapshot: @escaping @Sendable () -> OperationsSnapshot
  ) throws(CaptureFailure) -> String {
    let server: HTTPServer
    do {
      server =
        switch address.host {
        case .any: HTTPServer(address: sockaddr_in.inet(port: address.port), logger: .disabled)
        case .ip4(let ip): HTTPServer(address: try sockaddr_in.inet(ip4: ip, port: address.port), logger: .disabled)
        case .ip6(let ip): HTTPServer(address: try sockaddr_in6.inet6(ip6: ip, port: address.port), logger: .disabled)
        }
    } catch {
      throw failure(address, error)
    }
    let outcome = Monitor<Result<String, any Error>?>(nil)
    Task.detached {
      await route(server, snapshot)
      do {
        try await server.run()
      } catch {
        let wasListening = outcome.update { outcome in
          if outcome == nil { outcome = .failure(error) }
          if case .success = outcome { return true }
          return false
        }
        if wasListening { log.warning("--listen \(address) is served no longer: \(error)") }
      }
    }
    Task.detached {
      // Where it does not come to listening, `run` has the cause.
      guard (try? await server.waitUntilListening(timeout: startLimit)) != nil else { return }
      let found = await server.listeningAddress
      outcome.update { if $0 == nil { $0 = .success(found.map(text) ?? address.description) } }
    }
    switch outcome.wait(atMost: startLimit + 1, until: { $0 }) {
    case .success(let text): return text
    case .failure(let error): throw failure(address, error)
    case nil: throw failure(address, SocketError.timeout(message: "not listening after \(Int(startLimit)) seconds"))
    }
  }

  /// How long it may take until the socket listens, in seconds.
  private static let startLimit = 30.0

  private static func route(_ server: HTTPServer, _ snapshot: @escaping @Sendable () -> OperationsSnapshot) async {
    await server.appendRoute("GET,HEAD /metrics") { _ in
      reply(.ok, snapshot().prometheusText, type: "text/plain; version=0.0.4; charset=utf-8")
    }
    await server.appendRoute("GET,HEAD /healthz") { _ in
      let health = snapshot().health
      return reply(health.isHealthy ? .ok : .serviceUnavailable, health.reason + "\n")
    }
    await server.appendRoute("GET,HEAD /readyz") { _ in
      let now = snapshot()
      return now.isReady ? reply(.ok, "ready\n") : reply(.serviceUnavailable, "not ready: \(now.state.message)\n")
    }
    await server.appendRoute("*") { _ in reply(.notFound, "here are /metrics, /healthz and /readyz\n") }
  }

  private static func reply(
    _ status: HTTPStatusCode, _ text: String, type: String = "text/plain; charset=utf-8"
  ) -> HTTPResponse {
    HTTPResponse(statusCode: status, headers: [.contentType: type], body: Data(text.utf8))
  }

  private static func text(_ address: Socket.Address) -> String {
    switch address {
    case .ip4(let ip, let port): "\(ip):\(port)"
    case .ip6(let ip, let port): "[\(ip)]:\(port)"
    case .unix(let path): path
    }
  }

  /// An error in the words of the system.
  private static func text(_ error: any Error) -> String {
    guard case SocketError.failed(_, let number, let message) = error else { return "\(error)" }
    return number == EADDRINUSE ? ListenAddress.taken : message
  }

  private static func failure(_ address: ListenAddress, _ error: any Error) -> CaptureFailure {
    CaptureFailure(
      cause: "listen",
      description:
        "listening on \(address): \(Self.text(error)); --listen needs ADDRESS:PORT of this host that is free, for example "
        + "127.0.0.1:9090 or [::1]:9090", needsUser: true)
  }
}
