import AMQP

/// Looks at a broker without changing it: the checks behind Validate, Discover and `source-amqp check`.
struct BrokerCheck {
  /// One check: what was looked at, and what is wrong with it.
  struct Finding: Equatable, Sendable {
    var subject: String
    /// Nil where all is well.
    var problem: String?
    /// What there is to tell where all is well.
    var note = ""
  }

  let topology: Topology

  /// Connects and authenticates; with `queue`, also looks for the queue and the exchanges. Every problem is reported,
  /// not just the first.
  func run(lookingAtQueue: Bool) -> [Finding] {
    let configuration = topology.configuration
    let nodes = topology.nodes
    let endpoint =
      "broker \(nodes.map(\.text).joined(separator: ", ")), virtual host \"\(configuration.virtualHost)\""
    let connection: Connection
    do throws(CaptureFailure) {
      connection = try topology.connect()
    } catch {
      return [Finding(subject: endpoint, problem: error.description)]
    }
    let place = nodes.count > 1 ? " at \(connection.node.text)" : ""
    var findings = [
      Finding(subject: endpoint, note: "\(connection.server.product) \(connection.server.version)\(place)")
    ]
    if lookingAtQueue {
      findings.append(queue(on: connection))
      var seen: Set<String> = []
      for binding in configuration.bindings where seen.insert(binding.exchange).inserted {
        findings.append(exchange(binding.exchange, on: connection))
      }
    }
    try? connection.close()
    return findings
  }

  private func queue(on connection: Connection) -> Finding {
    let configuration = topology.configuration
    var finding = Finding(subject: "queue \"\(configuration.queue.name)\"")
    do throws(AMQPError) {
      let status = try connection.declareQueue(try topology.queue(), passive: true)
      finding.note = "exists, \(status.messages) messages ready, \(status.consumers) consumers"
      // It is there, so declaring it creates nothing and only compares its properties.
      if configuration.queue.declaration == .active { _ = try topology.declareQueue(on: connection) }
    } catch {
      if case .channelClosed(let code, _) = error.kind {
        if code == 404 && configuration.queue.declaration == .active {
          finding.note = "does not exist yet, and will be declared"
        } else if code == 405 && configuration.queue.declaration == .active && configuration.queue.exclusive {
          // Most likely by this very capture, which goes on running while a new configuration is validated.
          finding.note = "exists, and is held by another connection"
        } else {
          finding.problem = topology.explained(error).description
        }
        try? connection.reopenChannel()
      } else {
        finding.problem = topology.explained(error).description
      }
    }
    return finding
  }

  private func exchange(_ name: String, on connection: Connection) -> Finding {
    var finding = Finding(subject: "exchange \"\(name)\"", note: "exists")
    do throws(AMQPError) {
      try connection.requireExchange(name)
    } catch {
      finding.problem = topology.explained(error).description
      if case .channelClosed = error.kind { try? connection.reopenChannel() }
    }
    return finding
  }
}
