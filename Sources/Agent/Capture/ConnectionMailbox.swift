import AMQP
import Journal
import Platform

/// How other threads reach the connection thread, which waits in `poll` and for nothing else.
final class ConnectionMailbox: Sendable {
  /// A batch's memory above this is freed instead of being used again.
  private let spareBytes: Int

  private let commands = Locked(ConnectionCommands())
  /// Polled by the connection thread together with its socket.
  let wakeup: Wakeup

  /// - Parameters:
  ///   - wakeup: That of the other subscriptions' mailboxes.
  ///   - batchBytes: A batch of this size is an ordinary one.
  init(_ wakeup: Wakeup = Wakeup(), batchBytes: Int = Gathering.largestBytes) {
    (self.wakeup, spareBytes) = (wakeup, batchBytes * 2)
  }

  /// Adds to what the connection thread is to do, and wakes it.
  func post(_ change: (inout ConnectionCommands) -> Void) {
    commands.withLock { change(&$0) }
    wakeup.signal()
  }

  /// Gives the memory of a batch back that no one reads any more. No one waits for it, so no one is woken.
  func reuse(_ batch: consuming DeliveryBatch) {
    batch.removeAll(keeping: spareBytes)
    commands.withLock { [batch] in $0.spare = batch }
  }

  /// True once it was told to stop.
  var isStopping: Bool { commands.withLock { $0.stop } }

  /// Takes the new login, if there is one, and leaves all else.
  func takeLogin() -> Login? { commands.withLock { $0.login.take() } }

  /// Takes the answer to ``SubscriptionInbox/asksForReturning``, if it is there, and leaves all else.
  func takeReturning() -> (Int, Position)? { commands.withLock { $0.returning.take() } }

  /// Takes what there is to do; `stop` and `mayClose` stay set.
  func take() -> ConnectionCommands {
    commands.withLock { commands in
      let taken = commands
      commands = ConnectionCommands()
      commands.stop = taken.stop
      commands.mayClose = taken.mayClose
      return taken
    }
  }
}
