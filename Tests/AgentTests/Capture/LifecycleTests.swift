import AMQP
import Journal
import Platform
import Support
import Testing

@testable import Agent

/// How a capture ends: in order, and in time even if one hangs.
struct LifecycleTests {
  private static let failure = CaptureFailure(cause: "test", description: "of a test", needsUser: false)
  private static let last = Position(rawValue: 7)

  /// What it does until it waits, and in which state.
  private static func actions(_ lifecycle: inout Lifecycle, at now: Instant) -> [Lifecycle.Action] {
    var found: [Lifecycle.Action] = []
    while case .now(let action) = lifecycle.next(at: now) { found.append(action) }
    return found
  }

  @Test func `a capture that runs does nothing, whatever the time`() {
    var lifecycle = Lifecycle()
    lifecycle.ended(.connection, nil)
    #expect(Self.actions(&lifecycle, at: 1e9) == [] && lifecycle.state == .running)
  }

  @Test(arguments: [false, true])
  func `each step follows on the one before`(awaitsCommit: Bool) {
    var lifecycle = Lifecycle(awaitsCommit: awaitsCommit)
    lifecycle.requestStop()
    #expect(Self.actions(&lifecycle, at: 0) == [.stop(failed: false)] && lifecycle.state == .draining)
    lifecycle.drained()
    #expect(Self.actions(&lifecycle, at: 1) == [] && lifecycle.state == .emitting)
    lifecycle.emitted(through: Self.last, [])
    lifecycle.ended(.emitter, nil)
    if awaitsCommit {
      #expect(Self.actions(&lifecycle, at: 1) == [] && lifecycle.state == .awaitingCommit)
      lifecycle.committed(Checkpoint(through: Position(rawValue: 6), releasable: .origin))
      #expect(Self.actions(&lifecycle, at: 2) == [])
      lifecycle.committed(Checkpoint(through: Self.last, releasable: .origin))
    }
    #expect(
      Self.actions(&lifecycle, at: 2) == [.closeReaders(isUncommitted: false)] && lifecycle.state == .closingReaders)
    lifecycle.readersClosed()
    #expect(Self.actions(&lifecycle, at: 2) == [.closeJournal] && lifecycle.state == .closingJournal)
    lifecycle.ended(.journal, nil)
    #expect(
      Self.actions(&lifecycle, at: 2) == [.disconnect(isUnclosed: false)] && lifecycle.state == .disconnecting)
    lifecycle.ended(.connection, nil)
    #expect(Self.actions(&lifecycle, at: 2) == [.end] && lifecycle.state == .ended)
    #expect(Self.actions(&lifecycle, at: 1e9) == [] && lifecycle.failure == nil)
  }

  /// The anchor's release is a checkpoint of its own, after that of the last document.
  @Test func `a settling is waited for, but not one that something followed`() {
    for holds in [true, false] {
      var lifecycle = Lifecycle(awaitsCommit: true)
      lifecycle.requestStop()
      _ = Self.actions(&lifecycle, at: 0)
      lifecycle.drained()
      lifecycle.emitted(
        through: Self.last,
        holds
          ? [Settlement(position: Self.last, captured: Self.last, step: .settling, isCarried: true, number: 1)] : [])
      lifecycle.ended(.emitter, nil)
      lifecycle.committed(Checkpoint(through: Self.last, releasable: Position(rawValue: 3)))
      #expect(Self.actions(&lifecycle, at: 1) == (holds ? [] : [.closeReaders(isUncommitted: false)]))
      lifecycle.committed(Checkpoint(through: Self.last, releasable: Self.last))
      #expect(Self.actions(&lifecycle, at: 1) == (holds ? [.closeReaders(isUncommitted: false)] : []))
    }
  }

  @Test func `a runtime that is gone is not waited for, nor one that says nothing`() {
    for isGone in [true, false] {
      var lifecycle = Lifecycle(awaitsCommit: true)
      lifecycle.requestStop()
      _ = Self.actions(&lifecycle, at: 0)
      lifecycle.drained()
      lifecycle.emitted(through: Self.last, [])
      lifecycle.ended(.emitter, nil)
      _ = Self.actions(&lifecycle, at: 1)
      if isGone { lifecycle.acknowledgementsAreOver() }
      #expect(Self.actions(&lifecycle, at: 3.9) == (isGone ? [.closeReaders(isUncommitted: true)] : []))
      #expect(Self.actions(&lifecycle, at: 4) == (isGone ? [] : [.closeReaders(isUncommitted: true)]))
    }
  }

  @Test func `whoever hangs is given up, and the end comes in time`() {
    var lifecycle = Lifecycle(awaitsCommit: true)
    lifecycle.requestStop()
    #expect(Self.actions(&lifecycle, at: 100) == [.stop(failed: false)])
    #expect(lifecycle.next(at: 107) == .later(108))
    // What no one has emitted no one commits.
    #expect(Self.actions(&lifecycle, at: 108) == [.closeReaders(isUncommitted: false)])
    #expect(Self.actions(&lifecycle, at: 108.4) == [])
    #expect(Self.actions(&lifecycle, at: 108.5) == [.closeJournal])
    #expect(Self.actions(&lifecycle, at: 109.5) == [.disconnect(isUnclosed: true), .end])
  }

  @Test func `a failure keeps its cause, and waits for no commit`() {
    var lifecycle = Lifecycle(awaitsCommit: true)
    lifecycle.ended(.emitter, Self.failure)
    lifecycle.fail(CaptureFailure(cause: "other", description: "that follows", needsUser: false))
    #expect(Self.actions(&lifecycle, at: 0) == [.stop(failed: true)])
    lifecycle.drained()
    #expect(Self.actions(&lifecycle, at: 0) == [.closeReaders(isUncommitted: false)])
    #expect(lifecycle.failure?.cause == "test")
  }

  @Test func `after a journal that failed there is only a goodbye to wait for`() {
    var lifecycle = Lifecycle()
    lifecycle.ended(.journal, Self.failure)
    #expect(Self.actions(&lifecycle, at: 10) == [.stop(failed: true), .disconnect(isUnclosed: false)])
    #expect(lifecycle.next(at: 10) == .later(12))
    #expect(Self.actions(&lifecycle, at: 12) == [.end])
  }

  /// What it had acknowledged by then is in the journal, and is emitted.
  @Test func `a journal that ends while it drains does not keep the emitter from its end`() {
    var lifecycle = Lifecycle()
    lifecycle.requestStop()
    _ = Self.actions(&lifecycle, at: 0)
    lifecycle.ended(.journal, nil)
    #expect(Self.actions(&lifecycle, at: 0) == [] && lifecycle.state == .emitting)
    lifecycle.ended(.emitter, nil)
    #expect(Self.actions(&lifecycle, at: 0) == [.closeReaders(isUncommitted: false)])
    lifecycle.readersClosed()
    #expect(Self.actions(&lifecycle, at: 0) == [.closeJournal, .disconnect(isUnclosed: false)])
  }

  @Test func `a want of room fails a capture that runs, and not one that is to stop anyway`() {
    var full = CaptureFailure(cause: "journal", description: "no room", needsUser: true)
    full.kind = .shortage
    for (stops, keeps) in [(false, true), (true, true), (true, false)] {
      var lifecycle = Lifecycle(brokerKeeps: keeps)
      if stops { lifecycle.requestStop() }
      lifecycle.ended(.emitter, full)
      #expect((lifecycle.failure != nil) == !(stops && keeps))
      // Told before anything else, so that it is in the log before the end.
      #expect(
        Self.actions(&lifecycle, at: 0) == (stops && keeps ? [.notify(full)] : []) + [.stop(failed: !(stops && keeps))])
    }
  }
}
