import AMQP
import Journal

/// How the journal thread does what `SettlingMachine` says.
extension JournalLoop {
  /// The next step of a settling, if one is due.
  func goOnSettling(_ writer: inout Writer) throws {
    guard let redelivery = writer.intake.redelivery else { return }
    try perform(writer.settling.due(redelivery, at: SystemClock.now()), &writer)
  }

  /// The broker has answered behind an acknowledgement.
  func take(_ answer: SettlingAnswer, _ writer: inout Writer) throws {
    guard answer.generation == writer.consumer?.generation else { return }
    let action = writer.settling.answered(
      consumers: answer.consumers, messages: answer.messages, at: SystemClock.now())
    try perform(action, &writer)
  }

  private func perform(_ action: SettlingMachine.Action?, _ writer: inout Writer) throws {
    switch action {
    case nil: break
    case .release: try settle(&writer)
    case .ask:
      let generation = writer.consumer?.generation
      mailbox.post { $0.question = generation }
    case .conclude:
      writer.intake.redelivery?.confirmSettled()
      if acknowledgementMode == .journaled { try writeSettling(writer) }
      ask(for: .settled, &writer)
    }
  }

  /// Acknowledges everything that was captured. Deliveries that wait for a verdict stay what they are. Where nothing can
  /// be acknowledged the anchor is kept: it is what recognises the messages when they come again.
  func settle(_ writer: inout Writer) throws {
    guard writer.intake.redelivery?.canSettle == true else { return }
    guard acknowledgementMode == .journaled else { return ask(for: .settling, &writer) }
    writer.intake.redelivery?.settling()
    try writeSettling(writer)
    acknowledge(&writer)
  }

  /// The emitter's next checkpoint carries it, if a runtime is there to commit it.
  private func ask(for step: Settlement.Step, _ writer: inout Writer) {
    guard !inbox.read({ $0.acknowledgementsEnded }) else { return }
    writer.steps += 1
    let settlement = Settlement(
      position: journal.positions.last, step: step, isCarried: acknowledgementMode == .committed, number: writer.steps)
    progress.update { $0.settlement = settlement }
  }

  private func writeSettling(_ writer: Writer) throws {
    let intake = writer.intake
    try retrying { try journal.write { (tx) in try writeRedelivery(intake, to: tx) } }
  }

  /// The broker has shown, otherwise than by an answer, that it has all acknowledgements of the newest channel.
  func takeSettled(_ writer: inout Writer) {
    guard let generation = inbox.read({ $0.settledGeneration }), generation == writer.consumer?.generation else {
      return
    }
    writer.intake.redelivery?.confirmSettled()
  }

  /// Tells the connection what matters to it of a plan on a narrow channel, before anything of it is acknowledged.
  func tell(_ plan: Intake.Plan, _ writer: Writer) {
    guard let channel = writer.channel, let prefetch = channel.narrowPrefetch,
      writer.intake.redelivery?.isHolding != true
    else { return }
    if channel.isDoubtful ? plan.count > 0 : plan.hasFresh { mailbox.post { $0.fresh = channel.generation } }
    // Also where something else came: more of it at a time could come back out of order.
    if prefetch > 1, plan.count > 0 || !plan.recognised.isEmpty { mailbox.post { $0.cleared = channel.generation } }
  }

  /// True where the broker may be waiting for acknowledgements: as much is unacknowledged as half the prefetch count.
  func isShort(_ writer: Writer) -> Bool {
    let prefetch = writer.channel?.narrowPrefetch ?? prefetch
    return prefetch > 0 && (writer.machine?.waiting ?? 0) * 2 >= prefetch
  }
}
