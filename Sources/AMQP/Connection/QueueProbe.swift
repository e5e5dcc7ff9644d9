/// Asks for a queue on a channel of its own, beside the consumer's, or binds it, and never waits: a queue without a leader may
/// not answer for long, and an error there closes that channel alone.
///
/// A value without I/O: methods in, methods to send out.
struct QueueProbe {
  private enum State: Equatable {
    /// Leaves by `ask`.
    case closed
    /// `channel.open` was sent. Leaves by its answer.
    case opening(queue: String)
    /// The channel is open. Leaves by `ask`, or by the broker's closing it.
    case open
    /// The question was sent. Leaves by its answer, or by the broker's closing the channel.
    case asking
    /// So many bindings were sent that have no answer yet. Leaves by their answers, or by the broker's closing the channel.
    case binding(left: Int)
  }

  private var state = State.closed
  /// What the last question led to, until it is taken.
  private var answer: QueueAnswer?

  /// - Returns: What to send; nil while an earlier question has no answer yet.
  mutating func ask(_ queue: String) -> ClientMethod? {
    switch state {
    case .closed:
      state = .opening(queue: queue)
      return .channelOpen
    case .open:
      state = .asking
      return .queueDeclare(QueueDeclaration(name: queue), passive: true)
    case .opening, .asking, .binding: return nil
    }
  }

  /// - Returns: What to send; nothing if the channel is not open or an answer is missing.
  mutating func bind(_ queue: String, _ bindings: [Binding]) -> [ClientMethod] {
    guard state == .open, !bindings.isEmpty else { return [] }
    state = .binding(left: bindings.count)
    return bindings.map { .queueBind(queue: queue, $0) }
  }

  /// The question was answered on another channel.
  mutating func answered(_ status: QueueStatus) { answer = .status(status) }

  /// A method on this channel.
  ///
  /// - Returns: What to send.
  /// - Throws: `.malformed` if the method does not belong here.
  mutating func received(_ method: ServerMethod, on number: UInt16) throws(AMQPError) -> ClientMethod? {
    switch (state, method) {
    case (.opening(let queue), .channelOpenOk):
      state = .open
      return ask(queue)
    case (.asking, .queueDeclareOk(let status)):
      state = .open
      answer = .status(status)
      return nil
    case (.binding(let left), .queueBindOk):
      state = left > 1 ? .binding(left: left - 1) : .open
      if left == 1 { answer = .bound }
      return nil
    case (.opening, .channelClose(let code, let text)), (.open, .channelClose(let code, let text)),
      (.asking, .channelClose(let code, let text)), (.binding, .channelClose(let code, let text)):
      state = .closed
      answer = .refused(code: code, text: text)
      return .channelCloseOk
    case (.closed, _), (.opening, _), (.open, _), (.asking, _), (.binding, _):
      throw AMQPError(
        .malformed(text: "\("\(method)".prefix(300)) on channel \(number)"), during: "asking for the queue")
    }
  }

  mutating func takeAnswer() -> QueueAnswer? { answer.take() }
}

/// What a question for a queue, or binding it, led to.
public enum QueueAnswer: Equatable, Sendable {
  /// All bindings are there.
  case bound
  /// What the broker says about it.
  case status(QueueStatus)
  /// The broker closed the question's channel: no such queue or exchange, its node is down, or another connection has it.
  case refused(code: UInt16, text: String)
}
