// What has to be there before messages can be consumed: calls that wait for the broker's answer.

extension AMQPChannel {
  /// Declares the queue, or with `passive` only asks for it. Idempotent.
  ///
  /// - Throws: `.channelClosed` with 404 (passive: no such queue), 405 (another connection's exclusive queue), 406 (it
  ///   exists with other properties) or 403.
  public func declareQueue(_ queue: QueueDeclaration, passive: Bool = false) throws(AMQPError) -> QueueStatus {
    let operation = passive ? "looking for queue \"\(queue.name)\"" : "declaring queue \"\(queue.name)\""
    return try call(.queueDeclare(queue, passive: passive), during: operation) {
      if case .queueDeclareOk(let status) = $0 { status } else { nil }
    }
  }

  /// Binds the queue to an exchange that exists. Idempotent.
  ///
  /// - Throws: `.channelClosed` with 404 (no such exchange or queue) or 403.
  public func bind(queue: String, _ binding: Binding) throws(AMQPError) {
    let operation =
      "binding queue \"\(queue)\" to exchange \"\(binding.exchange)\" with routing key \"\(binding.routingKey)\""
    try call(.queueBind(queue: queue, binding), during: operation) { $0 == .queueBindOk ? true : nil }
  }

  /// Makes sure that an exchange is there.
  ///
  /// - Throws: `.channelClosed` with 404 (no such exchange) or 403.
  public func requireExchange(_ exchange: String) throws(AMQPError) {
    try call(.exchangeDeclarePassive(exchange: exchange), during: "looking for exchange \"\(exchange)\"") {
      $0 == .exchangeDeclareOk ? true : nil
    }
  }

  /// Bounds the deliveries that are not acknowledged yet; 0 is no bound.
  public func setPrefetch(_ count: UInt16) throws(AMQPError) {
    try call(.qos(prefetchCount: count), during: "setting the prefetch count to \(count)") { $0 == .qosOk ? true : nil }
  }
}
