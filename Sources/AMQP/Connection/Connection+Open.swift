internal import Platform

extension Connection {
  /// Connects to the first node that answers, authenticates, opens the virtual host and a channel, all within
  /// ``ConnectionSettings/timeout``. A node that fails on the way is followed by the others.
  ///
  /// - Throws: What the only node failed with, or `.everyNode`; `.abandoned`.
  public static func open(_ settings: ConnectionSettings) throws(AMQPError) -> Connection {
    let deadline = Instant.now + settings.timeout
    var walk = NodeWalk(settings.nodes)
    let isAbandoned = settings.isAbandoned
    let (candidates, unknown) = Resolver.candidates(for: settings.nodes, deadline: deadline, isAbandoned: isAbandoned)
    for (index, error) in unknown { _ = walk.failed(index, error) }
    while !walk.left.isEmpty {
      let dialer = Dialer(candidates: candidates.filter { walk.left.contains($0.index) })
      if isAbandoned() { break }
      switch dialer.dial(deadline: deadline, isAbandoned: isAbandoned) {
      case .failure(let failure):
        for (index, text) in failure.texts {
          let operation = "connecting to \(settings.nodes[index].text)"
          _ = walk.failed(index, AMQPError(.notConnected(text: text), during: operation))
        }
      case .success(let dialled):
        do throws(AMQPError) {
          let share = walk.share(until: deadline, at: Instant.now)
          return try Connection(settings, over: dialled.socket, to: settings.nodes[dialled.index], deadline: share)
        } catch {
          guard walk.failed(dialled.index, error), !isAbandoned() else {
            throw isAbandoned() ? AMQPError(.abandoned, during: error.operation) : walk.error
          }
        }
      }
    }
    if isAbandoned() { throw AMQPError(.abandoned, during: "connecting to \(settings.nodes[0].text)") }
    throw walk.error
  }
}
