internal import Platform

/// One attempt to connect to a broker of several nodes: which of them are still to be tried, and what became of the
/// others.
///
/// The attempt has failed when every node has, or when one has given a verdict that is the whole cluster's: a login that
/// one node refuses is refused by all, and asking them all could lock the account.
struct NodeWalk {
  private let nodes: [BrokerNode]
  private var failures: [AMQPError?]

  /// - Parameter nodes: Not empty, in the order to try.
  init(_ nodes: [BrokerNode]) {
    self.nodes = nodes
    failures = nodes.map { _ in nil }
  }

  /// The nodes that are still to be tried, by their index.
  var left: [Int] { nodes.indices.filter { failures[$0] == nil } }

  /// Until when one of those nodes may take for its handshake, so that each of the others has as much: one that accepts
  /// connections and says nothing must not use up the time of all.
  func share(until deadline: Instant, at now: Instant) -> Instant {
    now + (deadline - now) / max(left.count, 1)
  }

  /// Notes why a node is out.
  ///
  /// - Returns: Whether the attempt goes on with others.
  mutating func failed(_ node: Int, _ error: AMQPError) -> Bool {
    failures[node] = error
    if case .connectionClosed(403, _) = error.kind { return false }
    return !left.isEmpty
  }

  /// The whole attempt's failure. That of the only node is its own; of several, each names its node.
  ///
  /// - Precondition: A node has failed.
  var error: AMQPError {
    let found = zip(nodes, failures).compactMap { node, error -> AMQPError? in
      guard let error, nodes.count > 1, !error.operation.contains(node.host) else { return error }
      return AMQPError(error.kind, during: "\(error.operation) at \(node.text)")
    }
    precondition(!found.isEmpty, "a walk without a failure has no error")
    if found.count == 1 { return found[0] }
    return AMQPError(.everyNode(found), during: "connecting to any of \(nodes.map(\.text).joined(separator: ", "))")
  }
}
