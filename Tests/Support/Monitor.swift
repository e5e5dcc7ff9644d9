import Foundation

/// A value that threads change and wait for.
///
/// `@unchecked` because the compiler does not see that `value` is touched only between `lock` and `unlock`.
public final class Monitor<Value>: @unchecked Sendable {
  private let condition = NSCondition()
  private var value: Value

  public init(_ value: Value) {
    self.value = value
  }

  /// Reads or changes the value and wakes everybody who waits for it.
  public func update<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
    condition.lock()
    defer {
      condition.broadcast()
      condition.unlock()
    }
    return try body(&value)
  }

  /// Waits until `body` returns something, which it is asked anew after every update.
  ///
  /// - Returns: What `body` returned; nil where `limit` passed first.
  public func wait<Result>(
    atMost limit: Duration, until body: (inout Value) throws -> Result?
  ) rethrows -> Result? {
    let deadline = Date(timeIntervalSinceNow: limit / .seconds(1))
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let result = try body(&value) {
        condition.broadcast()
        return result
      }
      guard condition.wait(until: deadline) else { return try body(&value) }
    }
  }
}
