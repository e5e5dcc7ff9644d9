import Foundation
import Support
import Testing

extension FaultTests {
  /// The broker itself is hurt, or reconfigured.
  @Suite struct BrokerFaultTests {
    let broker: TestBroker

    init() throws { broker = try FaultTests.hurtBroker.get() }

    @Test func `a broker that was killed is captured from again once it is back`() throws {
      let capture = try FaultyCapture(broker)
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      // The broker's own catalogue is not synced at a declaration; a queue that it forgets takes its messages along.
      try broker.ctl("eval", "mnesia:sync_log().")
      try broker.kill()
      var isBack = false
      defer { if !isBack { try? broker.start() } }
      try capture.awaitFailure("not_connected")
      try broker.start()
      isBack = true
      let reachable = Date.now
      try capture.publish()
      try capture.captureAll()
      try capture.expectRecovery(since: reachable, "killed")
      #expect(try capture.runtime.closeInput() == .exited(0))
    }

    @Test func `a broker that is not there yet is waited for`() throws {
      let capture = try FaultyCapture(broker)
      try capture.publish()
      // A stopping broker says goodbye to its clients, and the publisher listens only while it is called.
      try capture.publisher.closeConnection()
      try broker.stop()
      var isBack = false
      defer { if !isBack { try? broker.start() } }
      try capture.runtime.start()
      try capture.awaitFailure("not_connected")
      try broker.start()
      isBack = true
      let reachable = Date.now
      try capture.publish()
      try capture.captureAll()
      try capture.expectRecovery(since: reachable, "refused at first")
    }

    /// SIGSTOP: TCP stays open, the kernel goes on accepting connections, and no one answers on them.
    @Test func `a broker that hangs is noticed within two heartbeats, and captured from once it goes on`() throws {
      let capture = try FaultyCapture(broker)
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      try broker.freeze()
      var isFrozen = true
      defer { if isFrozen { try? broker.thaw() } }
      let frozen = Date.now
      capture.expectNoticed(try capture.awaitFailure("heartbeats_missed"), since: frozen, "hanging broker")
      // The attempts to come back hang as well, and end by connection_timeout.
      try capture.awaitFailure("timed_out")
      let reachable = Date.now
      try broker.thaw()
      isFrozen = false
      try capture.publish()
      try capture.captureAll()
      try capture.expectRecovery(since: reachable, "hanging")
      #expect(try capture.runtime.closeInput() == .exited(0))
    }

    /// In committed mode, acknowledgements wait for the runtime. When that takes too long, RabbitMQ closes the channel; from
    /// 4.3 on it cancels the consumer of a quorum queue instead, and leaves those of other queues alone.
    /// https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
    @Test func `a delivery acknowledgement timeout costs the channel or the consumer, not a message`() throws {
      try set("consumer_timeout", to: 1000)
      // How often a channel looks at the time; a minute by default.
      try set("channel_tick_interval", to: 500)
      defer {
        try? set("consumer_timeout", to: 1_800_000)
        try? set("channel_tick_interval", to: 60_000)
      }
      let cancels = broker.release >= .v43
      let capture = try FaultyCapture(
        broker, ["journal": ["acknowledge": "committed"]], arguments: cancels ? ["x-queue-type": "quorum"] : [:])
      capture.runtime.policy.holdAcknowledgements = true
      try capture.runtime.start()
      try capture.publish()
      if cancels {
        try capture.awaitFailure("consumer_cancelled")
      } else {
        try capture.awaitFailure("channel_closed_406")
        #expect(capture.runtime.log.contains { $0.message?.contains("the broker's consumer_timeout") == true })
      }
      try capture.publish()
      capture.runtime.policy.holdAcknowledgements = false
      try capture.publish()
      try capture.captureAll()
      // Nothing is left, so the acknowledgements were those of a new channel. If this machine is too slow for a second,
      // that is one which opens from now on.
      try set("consumer_timeout", to: 1_800_000)
      try broker.waitForDepth(capture.queue, ready: 0, unacknowledged: 0)
      #expect(try capture.runtime.closeInput() == .exited(0))
    }

    private func set(_ name: String, to milliseconds: Int) throws {
      try broker.ctl("eval", "application:set_env(rabbit, \(name), \(milliseconds)).")
    }

    @Test func `credentials that stop being valid are tried again until they are`() throws {
      let user = TestBroker.uniqueName("user")
      try broker.ctl("add_user", user, "right")
      try broker.ctl("set_permissions", user, ".*", ".*", ".*")
      let capture = try FaultyCapture(broker, ["username": .string(user), "password": "right"])
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      try broker.ctl("change_password", user, "wrong")
      try broker.ctl("close_all_user_connections", user, "test")
      try capture.awaitFailure("connection_closed_403")
      try capture.publish()
      try broker.ctl("change_password", user, "right")
      let reachable = Date.now
      try capture.publish()
      try capture.captureAll()
      try capture.expectRecovery(since: reachable, "credentials")
      #expect(capture.runtime.log.allSatisfy { !$0.text.contains("right") })
    }

    /// A memory alarm blocks connections that publish. One that only consumes is not told, so there is nothing to
    /// report: it goes on. https://www.rabbitmq.com/docs/connection-blocked
    @Test func `a memory alarm does not stop the capture`() throws {
      let capture = try FaultyCapture(broker)
      try capture.publish()
      try broker.ctl("set_vm_memory_high_watermark", "0")
      defer { _ = try? broker.ctl("set_vm_memory_high_watermark", "0.95") }
      try capture.runtime.start()
      try capture.captureAll()
      try capture.expectHeartbeatsForThreeIntervals()
      try broker.ctl("set_vm_memory_high_watermark", "0.95")
      try capture.publish()
      try capture.captureAll()
      #expect(capture.consumersStarted == 1)
    }
  }

  /// Heartbeats while something else stands still: the connection has to be the same before and after.
  @Suite struct HeartbeatFaultTests {
    let broker: TestBroker

    init() throws { broker = try TestBroker() }

    @Test func `heartbeats go out while the runtime reads nothing`() throws {
      let capture = try FaultyCapture(broker)
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      capture.runtime.policy.pauseReading = true
      // Some megabytes: far more than the pipe takes.
      try capture.publish(2000, bytes: 2000)
      try capture.expectHeartbeatsForThreeIntervals()
      capture.runtime.policy.pauseReading = false
      try capture.publish()
      try capture.captureAll()
      #expect(capture.consumersStarted == 1)
    }

    @Test func `heartbeats go out while the journal is locked`() throws {
      let directory = try run("/bin/mktemp", ["-d", "-t", "journal.XXXXXX"]).split(separator: "\n")[0]
      defer { _ = try? run("/bin/rm", ["-rf", String(directory)]) }
      let path = "\(directory)/journal.db"
      let capture = try FaultyCapture(broker, ["journal": ["path": .string(path)]])
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      let lock = try Arrangement(
        #"{ printf '.timeout 60000\nBEGIN IMMEDIATE;\n.print ready\n'; cat; } | sqlite3 "$1""#, path)
      try capture.publish()
      try capture.expectHeartbeatsForThreeIntervals()
      try lock.undo()
      try capture.publish()
      try capture.captureAll()
      #expect(capture.consumersStarted == 1)
    }

    /// A frozen file system lets every write wait, as a disk does that is gone for a while.
    @Test(.tags(.root), .enabled(if: isRoot, "mounting a file system needs root"))
    func `heartbeats go out while the journal's disk stands still`() throws {
      let directory = String(try run("/bin/mktemp", ["-d", "-t", "disk.XXXXXX"]).split(separator: "\n")[0])
      let disk = try Arrangement(
        """
        truncate -s 64M "$1/image"; mkfs.ext4 -q "$1/image"; mkdir "$1/disk"; mount -o loop "$1/image" "$1/disk"
        ready
        fsfreeze -u "$1/disk" 2>/dev/null || true; umount "$1/disk"; rm -r "$1"
        """, directory)
      let capture = try FaultyCapture(broker, ["journal": ["path": .string("\(directory)/disk/journal.db")]])
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      let frozen = try Arrangement(#"fsfreeze -f "$1"; ready; fsfreeze -u "$1""#, "\(directory)/disk")
      try capture.publish()
      try capture.expectHeartbeatsForThreeIntervals()
      try frozen.undo()
      try capture.publish()
      try capture.captureAll()
      #expect(capture.consumersStarted == 1)
      #expect(try capture.runtime.closeInput() == .exited(0))
      try disk.undo()
    }
  }
}
