import Platform

/// How what was captured comes to rest: see ``SettlingMachine``.
extension SubscriptionMachine {
  /// The next step of a settling, if one is due.
  mutating func goOnSettling(at now: Instant) -> [Action] {
    guard let redelivery else { return [] }
    return perform(settling.due(redelivery, at: now))
  }

  /// The broker has answered after an acknowledgement.
  mutating func answered(_ answer: SettlingAnswer, at now: Instant) -> [Action] {
    guard answer.generation == channel?.generation || Mutant.settlesByAnyAnswer.isOn, !reports.failed else { return [] }
    return perform(settling.answered(consumers: answer.consumers, messages: answer.messages, at: now))
  }

  /// The record that was asked for is durable.
  mutating func recorded(at now: Instant) -> [Action] {
    let concluded = isConcluding ? carry(.settled) : []
    isConcluding = false
    return acknowledge(at: now) + concluded
  }

  private mutating func perform(_ action: SettlingMachine.Action?) -> [Action] {
    switch action {
    case nil: return []
    case .release: return settle()
    case .ask where Mutant.settlesWithoutAnAnswer.isOn: return perform(.conclude)
    case .ask: return channel.map { [.ask($0.generation)] } ?? []
    case .conclude:
      redelivery?.confirmSettled()
      if Mutant.neverSettles.isOn { return [] }
      guard settings.mode == .journaled else { return carry(.settled) }
      isConcluding = true
      return [.record]
    }
  }

  /// Acknowledges everything that was captured. Deliveries that wait for a verdict stay what they are. If nothing can
  /// be acknowledged the anchor is kept: it is what recognises the messages when they come again.
  mutating func settle() -> [Action] {
    guard redelivery?.canSettle == true else { return [] }
    guard settings.mode == .journaled else {
      if Mutant.settlesBeforeItIsDurable.isOn {
        redelivery?.settling()
        return acknowledge(at: lastBatch) + carry(.settling)
      }
      return carry(.settling)
    }
    redelivery?.settling()
    return Mutant.settlesBeforeItIsDurable.isOn ? acknowledge(at: lastBatch) + [.record] : [.record]
  }

  /// The emitter's next checkpoint carries it, if a runtime is there to commit it.
  private mutating func carry(_ step: Settlement.Step) -> [Action] {
    guard !reports.acknowledgementsEnded || Mutant.settlesWithoutARuntime.isOn else { return [] }
    steps += 1
    return [
      .carry(
        Settlement(
          index: settings.index, position: journaled, captured: captured, step: step,
          isCarried: settings.mode == .committed, number: steps))
    ]
  }
}
