/// Questions for a queue that nothing waits for.
extension AMQPChannel {
  /// Asks for a queue without waiting, on a channel of its own; ``takeAnswer()`` has what comes of it. Nothing happens
  /// while an earlier question has no answer. If only one channel is allowed, it is asked on the consumer's.
  public func ask(for queue: String) throws(AMQPError) {
    if connection.allowsProbe {
      guard let method = probe.ask(queue) else { return }
      try connection.send(method, channel: connection.probeNumberOrNew(of: self))
    } else {
      guard !questions.contains(.aside) else { return }
      try send(.queueDeclare(QueueDeclaration(name: queue), passive: true))
      questions.append(.aside)
    }
    try connection.flush()
  }

  /// Binds the queue without waiting, on the channel of ``ask(for:)``; ``takeAnswer()`` has what comes of it. To be called after an
  /// answer to that.
  ///
  /// - Returns: False if there is no such channel; nothing happens then.
  public func bindAside(queue: String, _ bindings: [Binding]) throws(AMQPError) -> Bool {
    guard let number = connection.probeNumber(of: self) else { return false }
    let methods = probe.bind(queue, bindings)
    for method in methods { try connection.send(method, channel: number) }
    try connection.flush()
    return !methods.isEmpty
  }

  /// What a question of ``ask(for:)`` or a binding of ``bindAside(queue:_:)`` led to, once.
  public func takeAnswer() -> QueueAnswer? { probe.takeAnswer() }

  /// Asks for a queue on the consumer's own channel, without waiting: the queue's process gets the question after everything
  /// that was sent on this channel before, and its answer comes after everything that the queue delivered before. Asking
  /// needs no permission. An error closes the channel.
  ///
  /// - Parameter isForDepth: Only to know how many messages wait; ``takeDepth()`` has the answer.
  public func askInOrder(for queue: String, isForDepth: Bool = false) throws(AMQPError) {
    try send(.queueDeclare(QueueDeclaration(name: queue), passive: true))
    try connection.flush()
    questions.append(isForDepth ? .depth : .ordered)
  }

  /// The answer to a question for the depth, once.
  public func takeDepth() -> QueueStatus? { depth.take() }

  /// The answer to the newest question of ``askInOrder(for:)``, once.
  public func takeOrderedAnswer() -> QueueStatus? { orderedAnswer.take() }
}
