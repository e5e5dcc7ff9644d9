/// The order of requests in one process (facts: a `spec` may come first, then one unary request or an `open`; after an
/// `open` only acknowledgements follow).
///
/// A value without I/O: lines in, what to do out.
struct FlowMachine {
  enum Action: Equatable {
    case replySpec
    case discover(config: JSONValue)
    case validate(FlowRequest.Validation)
    case apply(FlowRequest.Capture)
    case open(FlowRequest.Capture, range: KeyRange, state: JSONValue)
    case acknowledge(checkpoints: Int)
    /// The runtime broke the protocol; nothing sensible can follow.
    case fail(FlowProtocolError)
  }

  private enum State {
    /// Unary requests may come, any number of them. Leaves by `open`.
    case unary
    /// A capture runs. Final.
    case capturing
    /// After a failure. Final.
    case failed
  }
  private var state = State.unary

  /// The next whole line of the runtime.
  mutating func received(_ line: [UInt8]) -> Action {
    let action = next(line)
    switch action {
    case .open: state = .capturing
    case .fail: state = .failed
    case .replySpec, .discover, .validate, .apply, .acknowledge: break
    }
    return action
  }

  /// The runtime closed its side; `remainder` is what came after the last newline.
  func ended(remainder: [UInt8]) -> FlowProtocolError? {
    remainder.isEmpty ? nil : FlowProtocolError("the input ended inside a request (\(remainder.count) bytes of it)")
  }

  private func next(_ line: [UInt8]) -> Action {
    let request: FlowRequest
    do throws(FlowProtocolError) {
      request = try FlowRequest(line: line)
    } catch {
      return .fail(error)
    }
    switch (state, request) {
    case (.unary, .spec): return .replySpec
    case (.unary, .discover(let config)): return .discover(config: config)
    case (.unary, .validate(let request)): return .validate(request)
    case (.unary, .apply(let capture)): return .apply(capture)
    case (.unary, .open(let capture, let range, let state)): return .open(capture, range: range, state: state)
    case (.unary, .acknowledge): return .fail(FlowProtocolError("acknowledge came before open"))
    case (.capturing, .acknowledge(let checkpoints)): return .acknowledge(checkpoints: checkpoints)
    case (.capturing, .spec), (.capturing, .discover), (.capturing, .validate), (.capturing, .apply),
      (.capturing, .open):
      return .fail(FlowProtocolError("only acknowledge may follow open"))
    case (.failed, _): return .fail(FlowProtocolError("a request after a failure"))
    }
  }
}
