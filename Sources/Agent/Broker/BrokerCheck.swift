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
    /// Whose queue it is about, if several are looked at.
    var stream: String?

    /// What was looked at, for people.
    var name: String { (stream.map { "stream \"\($0)\", " } ?? "") + subject }
    /// The problem, and whose it is if several queues are looked at.
    var told: String? {
      problem.map { problem in (stream.map { "stream \"\($0)\": " } ?? "") + problem }
    }
  }

  /// For connections; of a subscription, what else is looked at.
  private let endpoint: Topology
  private let subscriptions: [(stream: String, topology: Topology)]
  /// Findings say of which stream's queue they are.
  private let namesStreams: Bool

  /// - Parameter name: What the broker's management shows after `source-amqp`.
  init(_ settings: CaptureConfiguration, name: String) {
    endpoint = Topology(settings.endpoint, name: name)
    subscriptions = settings.subscriptions.map { ($0.stream, Topology($0.configuration, name: name)) }
    namesStreams = subscriptions.count > 1
  }

  /// Connects and authenticates, and looks at each queue and its exchanges, and whether the user may read it. Every problem of
  /// every subscription is reported, not just the first.
  func run() -> [Finding] {
    run { (channel) in
      var findings: [Finding] = []
      for (stream, topology) in subscriptions {
        var own = [Self.queue(of: topology, on: channel)]
        var seen: Set<String> = []
        for binding in topology.configuration.bindings where seen.insert(binding.exchange).inserted {
          own.append(Self.exchange(binding.exchange, of: topology, on: channel))
        }
        if own.allSatisfy({ $0.problem == nil }), let problem = Self.readProblem(of: topology, on: channel) {
          own.append(Finding(subject: Self.subject(topology), problem: problem))
        }
        if namesStreams {
          for index in own.indices { own[index].stream = stream }
        }
        findings += own
      }
      return findings
    }
  }

  /// Connects and authenticates, and looks whether the user may read the endpoint's own queue, if it has one.
  func runAtEndpoint() -> [Finding] {
    run { (channel) in
      guard !endpoint.configuration.queue.name.isEmpty,
        let problem = Self.readProblem(of: endpoint, on: channel)
      else { return [] }
      return [Finding(subject: Self.subject(endpoint), problem: problem)]
    }
  }

  private func run(_ body: (AMQPChannel) -> [Finding]) -> [Finding] {
    let nodes = endpoint.nodes
    let subject =
      "broker \(nodes.map(\.text).joined(separator: ", ")), virtual host \"\(endpoint.configuration.virtualHost)\""
    let (connection, channel): (Connection, AMQPChannel)
    do throws(CaptureFailure) {
      connection = try endpoint.connect()
      channel = try endpoint.openChannel(on: connection)
    } catch {
      return [Finding(subject: subject, problem: error.description)]
    }
    let place = nodes.count > 1 ? " at \(connection.node.text)" : ""
    let findings = [
      Finding(subject: subject, note: "\(connection.server.product) \(connection.server.version)\(place)")
    ]
    let found = body(channel)
    try? connection.close()
    return findings + found
  }

  private static func subject(_ topology: Topology) -> String { "queue \"\(topology.configuration.queue.name)\"" }

  private static func queue(of topology: Topology, on channel: AMQPChannel) -> Finding {
    let configuration = topology.configuration
    var finding = Finding(subject: subject(topology))
    do throws(AMQPError) {
      let status = try channel.declareQueue(try topology.queue(), passive: true)
      finding.note =
        "exists, \(status.messages) message\(status.messages == 1 ? "" : "s") ready, "
        + "\(status.consumers) consumer\(status.consumers == 1 ? "" : "s")"
      if configuration.consumer.exclusive, status.consumers > 0 {
        finding.warning =
          "consumer.exclusive is wanted for queue \"\(configuration.queue.name)\", and others consume it (\(status.consumers)): "
          + "the capture waits until they are gone, unless it is this capture's own last connection"
      }
      // It is there, so declaring it creates nothing and only compares its properties.
      finding.nature = try topology.setUp(.nature, on: channel).1
    } catch {
      if case .channelClosed(let code, _) = error.kind {
        if code == 404 && configuration.queue.declaration == .active {
          finding.note = "does not exist yet, and will be declared; the broker looks at its properties then"
          if configuration.bindings.isEmpty {
            finding.warning =
              "queue \"\(configuration.queue.name)\" does not exist yet; it will be declared, and nothing is bound to it, so it "
              + "stays empty unless someone publishes to it by name. Is queue.name right?"
          }
        } else if code == 405 && configuration.queue.declaration == .active && configuration.queue.exclusive {
          // Most likely by this very capture, which goes on running while a new configuration is validated.
          finding.note = "exists, and is held by another connection"
        } else {
          finding.problem = topology.explained(error).description
        }
        try? channel.reopen()
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
  private static func readProblem(of topology: Topology, on channel: AMQPChannel) -> String? {
    let tag = "source-amqp-check"
    var arguments = ArgumentTable()
    arguments.append("x-priority", .string("check"))
    do throws(AMQPError) {
      try channel.setPrefetch(1)
      try channel.consume(
        Consumption(queue: topology.configuration.queue.name, noAck: false, exclusive: false, arguments: arguments),
        tag: tag)
      try channel.cancel(tag: tag)
    } catch {
      guard case .channelClosed(let code, _) = error.kind else { return nil }
      try? channel.reopen()
      return code == 403 ? topology.explained(error).description : nil
    }
    return nil
  }

  private static func exchange(_ name: String, of topology: Topology, on channel: AMQPChannel) -> Finding {
    var finding = Finding(subject: "exchange \"\(name)\"", note: "exists")
    do throws(AMQPError) {
      try channel.requireExchange(name)
    } catch {
      finding.problem = topology.explained(error).description
      if case .channelClosed = error.kind { try? channel.reopen() }
    }
    return finding
  }
}
