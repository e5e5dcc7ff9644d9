import AMQP

/// Looks at a broker without changing it: the checks of Validate, Discover and `source-amqp check`.
struct BrokerCheck {
  /// One check: what was looked at, and what is wrong with it.
  struct Finding: Equatable, Sendable {
    var subject: String
    /// Nil if all is well.
    var problem: String?
    /// What there is to tell if all is well.
    var note = ""
    /// What works, and is probably not what was meant.
    var warning: String?
    /// Of the queue, if the broker says what kind it is.
    var nature: QueueNature?
  }

  let topology: Topology

  /// Connects and authenticates, and looks whether the user may read the queue; with `lookingAtQueue`, also for the queue
  /// itself and the exchanges. Every problem is reported, not just the first.
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
    if let problem = readProblem(on: connection), findings.allSatisfy({ $0.problem == nil }) {
      findings.append(Finding(subject: "queue \"\(configuration.queue.name)\"", problem: problem))
    }
    try? connection.close()
    return findings
  }

  private func queue(on connection: Connection) -> Finding {
    let configuration = topology.configuration
    var finding = Finding(subject: "queue \"\(configuration.queue.name)\"")
    do throws(AMQPError) {
      let status = try connection.declareQueue(try topology.queue(), passive: true)
      finding.note =
        "exists, \(status.messages) message\(status.messages == 1 ? "" : "s") ready, "
        + "\(status.consumers) consumer\(status.consumers == 1 ? "" : "s")"
      if configuration.consumer.exclusive, status.consumers > 0 {
        finding.warning =
          "consumer.exclusive is wanted for queue \"\(configuration.queue.name)\", and others consume it (\(status.consumers)): "
          + "the capture waits until they are gone, unless it is this capture's own last connection"
      }
      // It is there, so declaring it creates nothing and only compares its properties.
      if configuration.queue.declaration == .active { _ = try topology.declareQueue(on: connection) }
      finding.nature = try topology.nature(on: connection)
    } catch {
      if case .channelClosed(let code, _) = error.kind {
        if code == 404 && configuration.queue.declaration == .active {
          finding.note = "does not exist yet, and will be declared; the broker looks at its properties then"
          if configuration.bindings.isEmpty {
            finding.warning =
              "queue \"\(configuration.queue.name)\" does not exist yet; it will be declared, and nothing is bound to it, so it "
              + "stays empty unless somebody publishes to it by name. Is queue.name right?"
          }
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

  /// Why the user may not read the queue; nil if it may, or that can't be told.
  ///
  /// The broker asks no permission for a passive declaration, only for consuming. A consumer with an argument of a wrong type
  /// is refused with 403 without the permission to read and with 406 otherwise, before it is one, so that no message moves
  /// (tried with RabbitMQ 3.10.8, 4.0.5 and 4.3.6, for each type of queue). Only 403 is a verdict: other brokers may check in another
  /// order. https://www.rabbitmq.com/docs/access-control#authorisation
  private func readProblem(on connection: Connection) -> String? {
    let tag = "source-amqp-check"
    var arguments = ArgumentTable()
    arguments.append("x-priority", .string("check"))
    do throws(AMQPError) {
      try connection.setPrefetch(1)
      try connection.consume(
        Consumption(queue: topology.configuration.queue.name, noAck: false, exclusive: false, arguments: arguments),
        tag: tag)
      try connection.cancel(tag: tag)
    } catch {
      guard case .channelClosed(let code, _) = error.kind else { return nil }
      try? connection.reopenChannel()
      return code == 403 ? topology.explained(error).description : nil
    }
    return nil
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
