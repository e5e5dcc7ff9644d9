/// How long to wait before what a broker could not send is tried again. Connecting works, so it is no failed attempt to connect; but
/// each try is an error in the broker's log.
///
/// A value without I/O.
struct UndeliverablePacing: Equatable, Sendable {
  /// At first, and at the most.
  private static let waits = (least: Duration.seconds(1), most: Duration.seconds(60))
  private var wait = Self.waits.least

  /// Nil for other failures, which begin anew.
  mutating func next(_ failure: CaptureFailure) -> ReconnectMachine.Action? {
    guard failure.kind == .undeliverable else {
      wait = Self.waits.least
      return nil
    }
    defer { wait = min(wait * 2, Self.waits.most) }
    return .wait(wait)
  }
}
