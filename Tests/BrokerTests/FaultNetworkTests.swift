import Foundation
import Support
import Testing

/// The connector runs in a network name space of its own, and the way between it and the broker fails.
extension FaultTests {
  @Suite(.tags(.root), .enabled(if: isRoot, "network name spaces need root")) struct NetworkFaultTests {
    /// What happens to packets.
    enum Failure: String, CaseIterable {
      /// They are sent and arrive nowhere, in both directions, and no error comes back: each side has the other's
      /// hardware address wrong.
      case blackhole
      /// The link has no carrier.
      case unplugged

      /// Makes it so, and undoes it; `$1` name space, `$2` our end of the link.
      var script: String {
        switch self {
        case .blackhole:
          """
          ip -n "$1" neigh replace 10.213.7.1 lladdr 02:00:00:00:00:99 nud permanent dev inside
          ip neigh replace 10.213.7.2 lladdr 02:00:00:00:00:99 nud permanent dev "$2"
          ready
          ip -n "$1" neigh del 10.213.7.1 dev inside; ip neigh del 10.213.7.2 dev "$2"
          """
        case .unplugged: #"ip link set "$2" down; ready; ip link set "$2" up"#
        }
      }
    }

    @Test(arguments: Failure.allCases)
    func `a network that fails without a word is noticed, and captured over once it is back`(failure: Failure) throws {
      let broker = try FaultTests.hurtBroker.get()
      let space = "source-amqp-\(getpid())"
      let link = "amqp\(getpid() % 1_000_000)"
      let network = try Arrangement(
        """
        space=$1 link=$2
        undo() { ip link del "$link" 2>/dev/null || true; ip netns del "$space" 2>/dev/null || true; }
        trap undo EXIT
        ip netns add "$1"; ip link add "$2" type veth peer name inside netns "$1"
        ip addr add 10.213.7.1/30 dev "$2"; ip link set "$2" up
        ip -n "$1" addr add 10.213.7.2/30 dev inside; ip -n "$1" link set inside up
        ready
        """, space, link)
      // The broker listens on loopback only, where alone guest may log in; for this test also at our end of the link.
      let endpoint = #"{"10.213.7.1", \#(broker.port)}"#
      try broker.ctl(
        "eval",
        "application:set_env(rabbit, loopback_users, []), ok = rabbit_networking:start_tcp_listener(\(endpoint), 1).")
      defer { _ = try? broker.ctl("eval", "rabbit_networking:stop_tcp_listener(\(endpoint)).") }

      let capture = try FaultyCapture(broker, ["host": "10.213.7.1"], binary: try connector(in: space))
      try capture.runtime.start()
      try capture.publish()
      try capture.captureAll()
      let outage = try Arrangement(failure.script, space, link)
      let begin = Date.now
      try capture.publish()
      capture.expectNoticed(try capture.awaitFailure("heartbeats_missed"), since: begin, "\(failure) network")
      try capture.awaitFailure("not_connected")
      // Whom the broker still believes to be there would get the messages, so it has to notice as well.
      var believed = try capture.brokerConnection()
      for _ in 0..<60 where believed != nil { believed = try capture.brokerConnection() }
      try #require(believed == nil)
      try outage.undo()
      let reachable = Date.now
      try capture.publish()
      try capture.captureAll()
      try capture.expectRecovery(since: reachable, failure.rawValue)
      #expect(try capture.runtime.closeInput() == .exited(0))
      try network.undo()
    }

    /// A program that runs the connector in the name space. It becomes the connector, so signals reach it.
    private func connector(in space: String) throws -> String {
      let path = String(try run("/bin/mktemp", ["-t", "connector.XXXXXX"]).split(separator: "\n")[0])
      try run(
        "/bin/sh",
        [
          "-c", #"printf '#!/bin/sh\nexec ip netns exec %s %s "$@"\n' "$2" "$3" >"$1"; chmod 755 "$1""#, "sh", path,
          space, try connectorBinary(),
        ])
      return path
    }
  }

  /// Random faults, many a run: scripts/chaos, in short.
  @Suite struct ChaosTests {
    @Test func `random faults lose nothing and leave the connector consuming`() throws {
      let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
      let output = try run(
        "/usr/bin/env",
        [
          "SOURCE_AMQP_BINARY=\(try connectorBinary())", root + "/scripts/chaos", "--around", "--flow", "--steps", "5",
          "--seed", "5",
        ], atMost: .seconds(240))
      print(output)
      #expect(output.contains("       0 lost\n"))
    }
  }
}
