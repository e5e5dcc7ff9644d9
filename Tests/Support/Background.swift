import Platform

/// Runs `body` on a thread of its own; `join` waits for it and throws its error.
public final class Background: Sendable {
  private let result = Monitor<Result<Void, any Error>?>(nil)

  public init(_ body: @escaping @Sendable () throws -> Void) {
    let result = result
    startThread {
      let outcome = Result { try body() }
      result.update { $0 = outcome }
    }
  }

  public func join() throws {
    guard let outcome = result.wait(atMost: .seconds(300), until: { $0 }) else {
      throw SupportError("the other thread did not end")
    }
    try outcome.get()
  }
}
