import Journal
import Platform
import Support
import Testing

@testable import Agent

/// What the threads of a capture hear of one another, and what the emitter does with it.
struct CaptureMachineTests {
  private static func position(_ value: Int64) -> Position { Position(rawValue: value) }

  private static func checkpoint(_ through: Int64, releasable: Int64) -> Checkpoint {
    Checkpoint(through: position(through), releasable: position(releasable))
  }

  @Test func `what the runtime has committed reaches the journal, and the end once it waits for that`() {
    var capture = CaptureMachine(Lifecycle(awaitsCommit: true))
    #expect(capture.committed(Self.checkpoint(3, releasable: 1)) == CaptureMachine.journal)
    #expect(
      capture.inbox.committed == Self.position(3) && capture.inbox.subscriptions[0].releasable == Self.position(1))
    #expect(capture.requestStop() == CaptureMachine.end)
    #expect(capture.next(at: 0) == .now(.stop(failed: false)))
    _ = capture.rowsEnded(of: 0, isSettled: false)
    _ = capture.journaled(through: Self.position(5), [(0, 1)])
    _ = capture.emissionEnded()
    _ = capture.ended(.emitter, nil)
    guard case .later = capture.next(at: 0) else {
      Issue.record("not waited for")
      return
    }
    #expect(capture.lifecycle.state == .awaitingCommit)
    #expect(capture.committed(Self.checkpoint(5, releasable: 5)) == [CaptureMachine.journal, CaptureMachine.end])
    #expect(capture.next(at: 0) == .now(.closeReaders(isUncommitted: false)))
  }

  @Test func `a commit before everything was emitted counts as well`() {
    var capture = CaptureMachine(Lifecycle(awaitsCommit: true))
    _ = capture.requestStop()
    _ = capture.next(at: 0)
    _ = capture.journaled(through: Self.position(5), [(0, 1)])
    _ = capture.rowsEnded(of: 0, isSettled: false)
    _ = capture.committed(Self.checkpoint(5, releasable: 5))
    _ = capture.emissionEnded()
    _ = capture.ended(.emitter, nil)
    #expect(capture.next(at: 0) == .now(.closeReaders(isUncommitted: false)))
  }

  @Test(arguments: [false, true]) func `the journal hears of an end in the moment in which it begins`(failed: Bool) {
    var capture = CaptureMachine(Lifecycle())
    if failed { _ = capture.fail(CaptureFailure(cause: "c", description: "d", needsUser: false)) }
    _ = capture.requestStop()
    #expect(capture.isEnding && !capture.inbox.stopping)
    #expect(capture.next(at: 0) == .now(.stop(failed: failed)))
    #expect(capture.inbox.stopping && capture.inbox.failed == failed)
  }

  @Test func `a thread that ends leaves nobody waiting for its last word`() {
    var capture = CaptureMachine(Lifecycle())
    #expect(capture.ended(.connection, nil) == .all && capture.inbox.intakeEnded)
    #expect(capture.ended(.journal, nil) == .all && capture.progress.ended)
    var emission = EmissionMachine(start: .origin, tellsLast: true)
    guard case .end = emission.next(&capture) else {
      Issue.record("not ended")
      return
    }
  }

  // MARK: - The emitter

  /// What it does until it has nothing to do: positions of rows, checkpoints, the end.
  private static func work(_ emission: inout EmissionMachine, _ capture: inout CaptureMachine) -> [String] {
    var done: [String] = []
    while let work = emission.next(&capture) {
      switch work {
      case .rows(.journal(let last)):
        done.append("rows to \(last)")
        emission.wrote(through: last)
      case .rows(.memory(let batch)):
        done.append("rows to \(batch.last)")
        emission.wrote(through: batch.last)
      case .checkpoint(let settlement, let isLast):
        done.append("\(settlement.map { "\($0.step)" } ?? "none")\(isLast ? ", last" : "")")
      case .end: return done + ["end"]
      }
    }
    return done
  }

  /// In `journaled` mode only a sink that wants to know when nothing is left is told.
  @Test(arguments: [(false, false), (true, false), (false, true)])
  func `a settling is carried after everything before it is emitted`(isCarried: Bool, tellsLast: Bool) {
    var capture = CaptureMachine(Lifecycle())
    var emission = EmissionMachine(start: .origin, tellsLast: tellsLast)
    func settlement(_ step: Settlement.Step, _ number: Int) -> Settlement {
      Settlement(
        position: Self.position(5), captured: Self.position(5), step: step, isCarried: isCarried, number: number)
    }
    _ = capture.journaled(through: Self.position(5), [(0, 1)])
    #expect(capture.carries(settlement(.settling, 1)) == CaptureMachine.emitter)
    let isTold = isCarried || tellsLast
    #expect(Self.work(&emission, &capture) == ["rows to 5"] + (isTold ? ["settling"] : []))
    #expect(Self.work(&emission, &capture) == [], "once")
    _ = capture.carries(settlement(.settled, 2))
    #expect(Self.work(&emission, &capture) == (isTold ? ["settled, last"] : []))
    _ = capture.journaled(through: Self.position(6), [(0, 1)])
    _ = capture.rowsEnded(of: 0, isSettled: true)
    #expect(Self.work(&emission, &capture) == ["rows to 6"] + (tellsLast ? ["none, last"] : []) + ["end"])
  }

  @Test func `a capture that failed does not say that nothing is left`() {
    var capture = CaptureMachine(Lifecycle())
    _ = capture.fail(CaptureFailure(cause: "c", description: "d", needsUser: false))
    _ = capture.next(at: 0)
    _ = capture.rowsEnded(of: 0, isSettled: true)
    var emission = EmissionMachine(start: .origin, tellsLast: true)
    #expect(Self.work(&emission, &capture) == ["end"])
  }
}
