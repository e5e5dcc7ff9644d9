import AMQP

/// Carries out what ``ConsumerSetup`` asks, and waits for each answer.
extension Topology {
  /// Declares as `queue.declare` says, binds, sets the prefetch count and consumes.
  ///
  /// - Returns: What the broker says about the queue, nil if it is not asked (`queue.declare: none`), and what kind of
  ///   queue it is.
  func consume(on channel: AMQPChannel, tag: String) throws(CaptureFailure) -> (QueueStatus?, QueueNature) {
    do throws(AMQPError) {
      let (status, nature) = try setUp(.consuming(tag: tag), on: channel)
      return (status, nature ?? .unknown)
    } catch {
      throw explained(error)
    }
  }

  /// How many messages are ready in the queue; nil if there is none of that name. The channel is open after it.
  func messages(on channel: AMQPChannel) throws(CaptureFailure) -> UInt32? {
    do throws(AMQPError) {
      do throws(AMQPError) {
        return try channel.declareQueue(QueueDeclaration(name: configuration.queue.name), passive: true).messages
      } catch {
        guard case .channelClosed(404, _) = error.kind else { throw error }
        try channel.reopen()
        return nil
      }
    } catch {
      throw explained(error)
    }
  }

  /// Asks what ``ConsumerSetup`` wants to know, and waits for each answer.
  func setUp(_ goal: ConsumerSetup.Goal, on channel: AMQPChannel) throws(AMQPError) -> (QueueStatus?, QueueNature?) {
    var topology = self
    topology.brokerVersion = channel.server.version
    var setup = ConsumerSetup(topology, goal)
    var step = try setup.begin()
    while true {
      switch step {
      case .end(let status, let nature): return (status, nature)
      case .ask(let question):
        let answer: ConsumerSetup.Answer
        do throws(AMQPError) { answer = try ask(question, on: channel) } catch {
          guard case .channelClosed = error.kind else { throw error }
          answer = .refused(error)
        }
        step = try setup.answered(answer)
      }
    }
  }

  private func ask(_ question: ConsumerSetup.Question, on channel: AMQPChannel) throws(AMQPError)
    -> ConsumerSetup.Answer
  {
    switch question {
    case .declare(let queue, let passive): return .queue(try channel.declareQueue(queue, passive: passive))
    case .bind(let binding): try channel.bind(queue: configuration.queue.name, binding)
    case .prefetch(let count): try channel.setPrefetch(count)
    case .consume(let consumption, let tag): try channel.consume(consumption, tag: tag)
    case .reopen: try channel.reopen()
    }
    return .done
  }

  /// What can be declared ahead of the capture: queue and bindings as `queue.declare` says, save that an exclusive queue would be
  /// gone with this connection, and is held by a capture that still runs.
  func apply(on channel: AMQPChannel) throws(AMQPError) {
    if configuration.queue.declaration == .active && configuration.queue.exclusive { return }
    _ = try setUp(.declared, on: channel)
  }
}
