import AMQP
import Synchronization

/// How other threads reach the connection thread, which waits in `poll` and for nothing else.
final class ConnectionMailbox: Sendable {
  private let commands = Mutex(ConnectionCommands())
  /// Polled by the connection thread together with its socket.
  let wakeup = Wakeup()

  /// Adds to what the connection thread is to do, and wakes it.
  func post(_ change: (inout ConnectionCommands) -> Void) {
    commands.withLock { change(&$0) }
    wakeup.signal()
  }

  /// True once it was told to stop.
  var isStopping: Bool { commands.withLock { $0.stop } }

  /// Takes what there is to do; `stop` and `settled` stay set.
  func take() -> ConnectionCommands {
    commands.withLock { commands in
      let taken = commands
      commands = ConnectionCommands()
      commands.stop = taken.stop
      commands.settled = taken.settled
      return taken
    }
  }
}
