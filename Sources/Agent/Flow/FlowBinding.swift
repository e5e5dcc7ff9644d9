/// A binding of a running capture.
struct FlowBinding: Equatable, Sendable {
  /// Under which the runtime keeps its state.
  var stateKey: String
  /// ``FlowState/stale``.
  var stale: [String] = []
  /// What stands before its documents.
  var prefix: [UInt8]

  init(_ number: Int = 0, stateKey: String, stale: [String] = []) {
    self.stateKey = stateKey
    self.stale = stale
    prefix = Array(#"{"captured":{"binding":\#(number),"doc":"#.utf8)
  }
}
