import Journal
import Logging
import Platform

/// How the journal thread waits for room.
extension JournalLoop {
  /// Holds a batch back while there is no space for it: nothing is acknowledged, and the broker stops at the prefetch
  /// count. What the runtime commits meanwhile is pruned and makes room. A capture that is to stop takes the one batch
  /// that it has in hand.
  func waitForSpace(_ writer: inout Writer) throws {
    guard let reason = writer.space.check(try space(writer)) else { return }
    var report = PauseReport()
    notify(reason, &report)
    while let reason = writer.space.check(try space(writer)) {
      notify(reason, &report)
      let (machine, began) = (writer.machine, Instant.now)
      switch capture.wait(
        as: CaptureMachine.journal, for: { machine.meanwhile($0.inbox, since: began, at: Instant.now) })
      {
      case .takeIt: return
      case .bookkeep: try bookkeep(&writer)
      case .tidyUp: try maintain(idle: true)
      }
    }
    log.info("intake goes on: there is space again")
    status.resumed(.intake)
  }

  /// Lets the journal tidy up. If there is no room for that now, the WAL holds what it would have moved, and the next write tells.
  func maintain(idle: Bool) throws(JournalError) {
    do throws(JournalError) {
      try status.waiting(for: .journal) { () throws(JournalError) in _ = try journal.maintain(idle: idle) }
    } catch {
      var shortage = ShortageMachine()
      switch shortage.failed(error.writeFailure) {
      case .end: throw error
      case .pause: log.debug("tidying up later: \(error)")
      }
    }
  }

  private func space(_ writer: Writer) throws(JournalError) -> SpaceGate.Space {
    let disk = try journal.disk()
    return SpaceGate.Space(
      inUse: journal.boundedBytes, held: journal.heldWALBytes,
      isShrinking: journal.pendingRows > 0 || writer.machine.written.toPrune > 0, free: disk.free, disk: disk.size)
  }

  /// Runs `body` again while the disk is full or an outside connection holds the journal: nothing was changed.
  func retrying<Result>(_ body: () throws -> Result) throws -> Result {
    var shortage = ShortageMachine()
    while true {
      do {
        let result = try status.waiting(for: .journal) { try body() }
        if shortage.succeeded() { status.resumed(.writing) }
        return result
      } catch let error as JournalError {
        switch shortage.failed(error.writeFailure) {
        case .end: throw error
        case .pause(let isNews, let tidiesUp):
          if isNews { status.paused(.writing, reason: "\(error)") }
          guard capture.waitForRoom(as: CaptureMachine.journal) else { throw error }
          // What this throws, the next attempt throws too.
          if tidiesUp { try maintain(idle: true) }
        }
      }
    }
  }
}
