// What is looked at before a frame is believed, and how it is named if it is not.

extension Connection {
  /// Whether a method is `basic.deliver`: class 60, method 60.
  @inline(__always) static func isDelivery(_ payload: Span<UInt8>) -> Bool {
    payload.count >= 4 && payload[0] == 0 && payload[1] == 60 && payload[2] == 0 && payload[3] == 60
  }

  /// What concerns the connection goes over channel 0, all else over a channel that was opened here.
  ///
  /// - Parameter isOfConsumer: The frame's channel is one for a consumer.
  func checkChannel(
    of frame: FrameBuffer.Frame, _ payload: Span<UInt8>, isOfConsumer: Bool
  ) throws(AMQPError) {
    let isOfConnection: Bool
    switch frame.type {
    case .heartbeat: isOfConnection = true
    case .header, .body: isOfConnection = false
    case .method:
      isOfConnection = payload.count >= 2 && payload[0] == 0 && payload[1] == 10
      // Opened by us alone, and then nothing but its own methods is taken there.
      if !isOfConnection, !isOfConsumer, !Self.isDelivery(payload), isProbe(frame.channel) { return }
    }
    guard isOfConnection ? frame.channel != 0 : !isOfConsumer else { return }
    var what = "a \(frame.type) frame"
    if frame.type == .method, payload.count >= 4 {
      what = MethodCodec.name((0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(payload[$1]) })
    }
    let place = isOfConnection ? " instead of 0" : ", which is not open"
    throw AMQPError(
      .malformed(text: "\(what) on channel \(frame.channel)\(place)"), during: "reading a frame")
  }

  /// A method in an error's text, which is of bounded length whatever a broker wrote into it.
  static func text(_ method: ServerMethod) -> String {
    if case .other(let id) = method { return MethodCodec.name(id) }
    return String("\(method)".prefix(300))
  }
}
