/// What the runtime said does not follow the protocol.
struct FlowProtocolError: Error, Equatable, CustomStringConvertible {
  var reason: String
  init(_ reason: String) { self.reason = reason }
  var description: String { "protocol error: \(reason)" }
}
